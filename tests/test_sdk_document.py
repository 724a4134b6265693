"""The SDK's manual is true: its programs run as they stand there and print what it says."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from als_agents import flags, main
from als_agents.testing import FakeComponent, FakeServer
from serial_samples import make_text
from server_process import environment

MANUAL = (Path(__file__).parent.parent / "docs" / "sdk.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
PROGRAMS_MIN = 9


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    """The server that the manual's programs find in ALS_SERVER."""
    components = {"agent": FakeComponent(), "local-console": FakeComponent(works_offline=True)}
    with FakeServer({"ATIES": 25, "ASD": 100}, components=components, name="office") as fake:
        fake.serials["ATIES"] = make_text(0, last_day=0)
        yield fake


def test_every_program_of_the_manual_is_found() -> None:
    """Each python block is followed by what it prints, so none escapes these tests."""
    assert MANUAL.count("```python") == len(PROGRAMS) >= PROGRAMS_MIN


@pytest.mark.parametrize(("program", "output"), PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_prints_what_the_manual_says(program: str, output: str, server: FakeServer, tmp_path: Path) -> None:
    """Run as a file of its own, with warnings as errors, it prints its text block and nothing on stderr."""
    file = tmp_path / "program.py"
    file.write_text(program)
    variables = environment(
        ALS_SERVER=server.address, ALS_CLIENT_DIR=str(tmp_path / "client"), ALS_DATA_DIR=str(tmp_path / "none")
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)


def test_a_program_of_the_manual_ends_with_the_reason(tmp_path: Path) -> None:
    """The first program, without a free license, ends with 1 and the words of its comment."""
    with FakeServer({"ATIES": 0}) as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAMS[0][0]],
            env=environment(ALS_SERVER=full.address, ALS_CLIENT_DIR=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "invalid license: All 0 licenses of ATIES are in use.\n")


def test_what_a_vendor_copies_first_is_safe() -> None:
    """The first program checks whose serials it is shown: without that a customer can license himself."""
    assert "vendor_key=" in PROGRAMS[0][0] and "product_number=" in PROGRAMS[0][0]


def test_the_manuals_agent_toml_is_read(tmp_path: Path) -> None:
    """The example of agent.toml says what it seems to say."""
    (text,) = re.findall(r"^```toml\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
    (tmp_path / "agent.toml").write_text(text)
    settings = flags.resolve(main.parser().parse_args(["run", "--client-dir", str(tmp_path)]), {})
    assert settings.server == "licenses.example.net,licenses-2.example.net:9876"
    assert settings.release_at_end is False
    assert settings.licenses == [
        flags.License("ATIES", "agent", "9.1"),
        flags.License("APEC", "spyware-shield"),
    ]
    assert tomllib.loads(text).keys() <= flags.SETTINGS.keys()


def test_every_code_of_an_invalid_license_is_explained() -> None:
    """The codes that the SDK adds to the server's stand in the manual's table."""
    for code in ("no_server", "key_changed", "not_trusted", "not_genuine", "lapsed", "bad_settings", "closed"):
        assert f"`{code}`" in MANUAL
