"""`als demo` from beginning to end: its story, told in plain lines and on a terminal, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from server_process import environment

ALS = str(Path(sys.executable).with_name("als"))
END_S_MAX = 120.0

# What must be told, in this order.
STORY = (
    "vendor makes a key, and sells 3 serials for 8 computers",
    "server a process of its own says: ready: demo on 127.0.0.1:",
    "admin imports the text file: 3 serials added, 8 licenses",
    "agents three computers start Example Studio and search by broadcast",
    "found demo (127.0.0.1:",
    "got a license of STUDIO and runs it",
    "david starts Example Studio too, but all its licenses are taken",
    "david invalid license: All 3 licenses of Example Studio are in use.",
    "heartbeats answered so far",
    "anna gave its license of STUDIO back",
    "david got a license of STUDIO and runs it",
    "bruno loses its power; its license lapses 6 s after its last sign of life",
    "server heard no more of bruno; its license is free for another",
    "server has written it all down: ",
    "demo ends, and its folder goes.",
)


def assert_told(text: str) -> None:
    """Check that the whole story is told, in its order."""
    words = re.sub(r"[ \n]+", " ", text)
    place = 0
    for sentence in STORY:
        place = words.find(sentence, place)
        assert place >= 0, f"{sentence!r} is missing in {text}"


def left_behind(folder: Path) -> list[str]:
    """Name the files in a folder, and the processes that were started with a path in it."""
    files = [str(path) for path in folder.iterdir()]
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return files + [line for line in lines if str(folder) in line]


@pytest.fixture(scope="module")
def plain_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator["tuple[subprocess.Popen[str], Path]"]:
    """A demo without a terminal, and the folder that it works in; it goes on while the one on a terminal is read."""
    folder = tmp_path_factory.mktemp("plain")
    variables = environment(TMPDIR=str(folder), TEMP=str(folder))
    words = [ALS, "demo", "--seconds", "12"]
    with subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, folder
        finally:
            process.terminate()  # and it stops its server


@pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")
@pytest.mark.usefixtures("plain_story")
def test_story_on_a_terminal(tmp_path: Path) -> None:
    """On a terminal the pools and computers are shown while the story is told, and the cursor is back at its end."""
    from terminal import Terminal

    with Terminal([ALS, "demo", "--seconds", "12"], environment(TMPDIR=str(tmp_path))) as terminal:
        assert terminal.read_to_end() == 0
        assert_told(re.sub(r"live status of demo.*?renewals/s", "", terminal.text, flags=re.DOTALL))
        assert re.search(r"STUDIO +█+ +FULL +3 +0 +3", terminal.text)
        assert re.search(r"david +00:00:5e:00:53:04 +refused STUDIO +0 +no license", terminal.text)
        assert re.search(r"bruno +00:00:5e:00:53:02 +no power +[0-9]+ +STUDIO lapsed", terminal.text)
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    assert left_behind(tmp_path) == []


def test_story_in_plain_lines(plain_story: "tuple[subprocess.Popen[str], Path]") -> None:
    """Where there is no terminal the story is told in plain lines; nothing is left behind."""
    process, folder = plain_story
    told, errors = process.communicate(timeout=END_S_MAX)
    assert (process.returncode, errors) == (0, "")
    assert "\x1b" not in told
    assert_told(told)
    assert "STUDIO [########] 3 of 3 used, VIEWER [#.......] 1 of 5 used" in told
    assert "STUDIO [#####...] 2 of 3 used, 1 lapsed" in told
    assert left_behind(folder) == []


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["vendor", "three computers", "got a license of VIEWER"])
def test_stopped_demo_leaves_nothing(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """Whenever the demo is stopped, its server stops too and its folder goes."""
    variables = environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1")
    with subprocess.Popen([ALS, "demo"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while moment.encode() not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate(timeout=END_S_MAX)
    assert (process.returncode, errors) == (130, b"")
    assert left_behind(tmp_path) == []
