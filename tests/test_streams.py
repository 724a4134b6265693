"""Standard streams that are full, closed, or of another encoding: no program of ours loses its head over them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server_process import Site, environment

FULL = Path("/dev/full")
BIN = Path(sys.executable).parent
NOT_WRITTEN = 74
FOREIGN = "日本語ホスト"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on which a computer with a name in another script holds a license."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        product = site.product(5)
        computer = site.computer(host=FOREIGN)
        site.client().ask("acquire", product=product.code, component="agent", computer=computer)
        yield site


def run(site: Site, redirected: str, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of ours with a stream as the shell makes it."""
    folder = str(site.server.data_dir)
    known = environment(ALS_DATA_DIR=folder, ALS_CLIENT_DIR=f"{folder}-client", **variables)
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", str(BIN / words[0]), *words[1:]],
        env=known,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def programs(site: Site) -> list[tuple[str, ...]]:
    """Some commands of each program."""
    place = f"127.0.0.1:{site.server.port}"
    return [
        ("als", "used", place),
        ("als", "events", place, "--plain"),
        ("als", "status", place, "--json"),
        ("als", "--help"),
        ("LicenseServerCmdLine", "--help"),
        ("als-vendor", "--help"),
        ("als-server", "check-config"),
        ("als-server", "check"),
        ("als-server", "--help"),
        ("als-agent", "identity"),
    ]


def test_a_disk_that_is_full(site: Site) -> None:
    """What was done is done: one line says that it could not be told, with a code that means no refusal."""
    for words in programs(site):
        done = run(site, ">/dev/full", *words)
        assert done.returncode == NOT_WRITTEN, (words, done)
        (line,) = done.stderr.splitlines()
        assert line == f"{words[0]}: the output could not be written: No space left on device"


def test_nothing_at_all_can_be_written(site: Site) -> None:
    """Where stderr is full as well the exit code is all that is left, and it is the right one."""
    assert run(site, ">/dev/full 2>&1", *programs(site)[0]).returncode == NOT_WRITTEN
    refused = ("als-server", "check", "--data-dir", "/nowhere"), ("als", "status", "127.0.0.1:1", "--timeout", "0.5")
    assert [run(site, "2>/dev/full", *words).returncode for words in refused] == [1, 3]


def test_a_stream_that_is_closed(site: Site) -> None:
    """A program that nobody listens to does its work, as one does whose output goes to /dev/null."""
    for words in programs(site):
        done = run(site, ">&-", *words)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_reader_that_has_seen_enough(site: Site) -> None:
    """A pipe that is closed by whoever reads is no failure."""
    for words in programs(site):
        done = run(site, "| true", *words)
        assert done.stderr == "", words


def test_a_name_that_the_encoding_does_not_have(site: Site) -> None:
    """One computer's name must not keep a listing of all from being shown: it is written with escapes."""
    for words in programs(site):
        done = run(site, "", *words, PYTHONUTF8="0", PYTHONIOENCODING="latin-1")
        assert (done.returncode, done.stderr) == (0, ""), words
    used = run(site, "", *programs(site)[0], PYTHONUTF8="0", PYTHONIOENCODING="latin-1")
    assert FOREIGN.encode("unicode_escape").decode() in used.stdout


def test_the_program_that_exec_runs_ends_as_it_does(site: Site) -> None:
    """Whatever becomes of our own output, the code is the program's."""
    product = site.product(5)
    words = ["als-agent", "exec", "--product", product.code, "--component", "agent"]
    place = ["--server", f"127.0.0.1:{site.server.port}", "--mac", "02:00:00:00:00:01", "--"]
    for redirected in (">&-", ">/dev/full"):
        assert run(site, redirected, *words, *place, "sh", "-c", "exit 7").returncode == 7


def test_a_server_that_cannot_say_that_it_is_ready(tmp_path: Path, site: Site) -> None:
    """Whoever started it waits for the line, so it does not run without having said it."""
    folder = str(tmp_path / "data")
    done = run(site, ">/dev/full", "als-server", "run", "--data-dir", folder, "--port", "0", "--discovery-port", "0")
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done
    assert "could not be written" in done.stderr


def test_a_name_that_the_locale_cannot_read(site: Site) -> None:
    """Bytes that are no text are wrong usage, and are found before anything is sent."""
    words = ("als-agent", "acquire", "--product", "X", "--component", "y", "--host", FOREIGN)
    done = run(site, "", *words, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "als-agent: --host: cannot be read in this locale; set LC_ALL to one with UTF-8\n"


def test_an_agent_goes_on_where_it_cannot_complain(site: Site) -> None:
    """A full disk under a service's log must not cost a license."""
    words = ("als-agent", "acquire", "--product", "NOTHING", "--component", "agent", "--mac", "02:00:00:00:00:02")
    done = run(site, "2>/dev/full", *words, "--server", f"127.0.0.1:{site.server.port}")
    assert (done.returncode, done.stderr) == (1, "")
