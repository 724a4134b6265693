"""A server's name stands in one line of everything that shows it: what would break the line is refused."""

from pathlib import Path

import pytest

from server_process import start_failure

NAMES = {
    "line break": "cellar\nready: other",
    "escape": "cellar\x1b[31m",
    "turned round": "cellar\u202ereversed",
    "no text": b"cellar\xff".decode(errors="surrogateescape"),
    "blanks": "  ",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_name_that_breaks_a_line_is_refused(tmp_path: Path, name: str) -> None:
    """A name with control characters is refused with one line that says so, before anything is made."""
    error = start_failure(tmp_path / "data", "--port", "0", "--name", name)
    assert error.startswith("als-server: name: must be 1 to 64 bytes of printable text")
    assert not (tmp_path / "data").exists()


def test_name_in_the_settings_file_is_refused_too(tmp_path: Path) -> None:
    """The same holds for a name in als.toml, and the file is named."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "als.toml").write_text('name = "cellar\\nother"\n', encoding="utf-8")
    assert f"{data_dir / 'als.toml'}:1: name: must be 1 to 64 bytes" in start_failure(data_dir)
