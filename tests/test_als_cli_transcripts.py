"""The command line as transcripts: what a person types, what then is on the screen, and the exit code."""

import os
from pathlib import Path

import pytest

import transcript

TRANSCRIPTS = sorted(transcript.FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path) -> None:
    """Every command of the transcript shows what stands under it."""
    with transcript.Scene(tmp_path) as scene:
        played = list(transcript.play(path, scene))
    steps, shown = [step for step, _ in played], [lines for _, lines in played]
    if os.environ.get(transcript.WRITE_VARIABLE):
        transcript.write(path, steps, shown)
        pytest.skip("written anew; read what has changed")
    for step, lines in played:
        assert lines == step.expected, step.line
