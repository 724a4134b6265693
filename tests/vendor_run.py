"""als-vendor run in this process, for the tests of its commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from als import vendorkeys
from als_tools import vendor

CATALOG = """\
[products.PAINT]
number = 700
name = "Paint"
period = "7d"
heartbeat = "1h"
vendor = "acme"
[products.PAINT.components.editor]
"""


class Result(NamedTuple):
    """How a run of als-vendor ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give what runs als-vendor in this process, its keys in tmp_path/keys."""
    for name in [name for name in os.environ if name.startswith("ALS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALS_VENDOR_DIR", str(tmp_path / "keys"))

    def run_once(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as ended:
            vendor.main([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        out, err = capsys.readouterr()
        return Result(ended.value.code, out, err)

    return run_once


def refused(result: Result, code: int, words: str) -> None:
    """Check that a run ended with `code`, nothing on stdout and one line with `words` on stderr."""
    assert (result.code, result.out) == (code, ""), result
    assert result.err.count("\n") == 1
    assert result.err.startswith("als-vendor: ")
    assert words in result.err


def issue(run: Run, *arguments: object) -> list[str]:
    """Issue serials of ATIES and give their texts."""
    result = run("issue", "--product", "ATIES", "--seats", 5, *arguments)
    assert result.code == 0, result
    return result.out.splitlines()


def public_of(keys: Path, name: str = "vendor") -> bytes:
    """Read a public key that init wrote."""
    return vendorkeys.read(keys / f"{name}.pub")
