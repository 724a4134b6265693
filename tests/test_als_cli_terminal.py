"""The command line beyond its words: help, completion, pipes, ctrl-C, and what needs a real terminal."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from als_tools.main import COMMANDS
from server_process import environment
from transcript import Scene

ALS = str(Path(sys.executable).with_name("als"))
END_S_MAX = 90.0

needs_terminal = pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One server for this module."""
    with Scene(tmp_path_factory.mktemp("scene")) as scene:
        yield scene


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run als to its end."""
    return subprocess.run(
        [ALS, *words],
        env=environment(COLUMNS="120", **variables),
        capture_output=True,
        text=True,
        timeout=END_S_MAX,
        check=False,
    )


@pytest.mark.parametrize(("variable", "option"), [("ALS_USED_LIMIT", "--limit"), ("ALS_TIMEOUT", "--timeout")])
def test_a_wrong_value_is_told_with_its_variable(variable: str, option: str, scene: Scene) -> None:
    """Whoever has typed no such option looks for it in vain."""
    done = run("used", f"127.0.0.1:{scene.server.port}", **{variable: "nonsense"})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert variable in line and option in line
    done = run("used", option, "nonsense")
    assert done.returncode == 2 and "ALS_USED" not in done.stderr


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_help_names_every_variable(name: str) -> None:
    """The help of a command shows for each option its environment variable."""
    shown = run(name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    # An option is a line that begins with two dashes; what belongs to it goes on to the next one.
    text = re.sub(r"[│\s]+", " ", shown.stdout)
    options = [option for option in re.split(r" (?=--[a-z])", text)[1:] if not option.startswith("--help")]
    assert all("[env var: ALS_" in option for option in options), options
    for option in options:
        word = re.split(r"[ ,]", option.removeprefix("--"))[0]
        variables = [part.replace("-", "_").upper() for part in (f"ALS_{word}", f"ALS_{name}_{word}")]
        assert re.findall(r"\[env var: (\w+)\]", option)[0] in variables, option


def test_help_lists_every_command() -> None:
    """The help lists every command, and is also there for the word alone and for its dashed form."""
    for words in ((), ("--help",), ("help",), ("-h",)):
        shown = run(*words)
        assert shown.returncode == 0
        assert all(f" {command.name} " in shown.stdout for command in COMMANDS)
    assert run("help", "used").stdout == run("used", "--help").stdout == run("--used", "--help").stdout


def test_variables_stand_for_options(scene: Scene) -> None:
    """An option's environment variable does what the option does, and the option wins over it."""
    variables = scene.variables() | {"ALS_LICENSES_JSON": "1"}
    address = f"127.0.0.1:{scene.server.port}"
    done = subprocess.run([ALS, "licenses", address], env=variables, capture_output=True, text=True, check=False)
    assert done.stdout == '{"rows": [], "next": null}\n'
    variables = scene.variables() | {"ALS_SERVER": address, "ALS_STATUS_PLAIN": "1"}
    done = subprocess.run([ALS, "status"], env=variables, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"server\tcellar\t{address}\t")


def test_completion() -> None:
    """A shell can ask which commands begin so."""
    shown = run(_ALS_COMPLETE="complete_bash", COMP_WORDS="als li", COMP_CWORD="1")
    assert shown.stdout.split() == ["list", "licenses"]


def import_many(scene: Scene) -> Path:
    """Write a file of more serials than a page has rows, and give its path."""
    path = scene.folder / "many.txt"
    path.write_text("\n".join(scene.vendor.issue(4) for _ in range(1_200)) + "\n", encoding="ascii")
    return path


@needs_terminal
def test_import_progress_and_closed_pipe(scene: Scene) -> None:
    """A long import shows its progress on a terminal; a listing whose reader has seen enough ends with 0."""
    from terminal import Terminal

    words = [ALS, "import-file", f"127.0.0.1:{scene.server.port}", str(import_many(scene))]
    with Terminal(words, scene.variables()) as terminal:
        assert terminal.read_to_end() == 0
        assert "Importing" in terminal.text
        assert "1200/1200" in terminal.text
        assert terminal.text.rstrip().endswith("1,200 serials added, 1,200 licenses.")
    for form in ((), ("--json",), ("--plain",)):
        listing = [ALS, "licenses", f"127.0.0.1:{scene.server.port}", *form]
        with subprocess.Popen(
            listing, env=scene.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert (process.stderr.read(), process.wait(END_S_MAX)) == (b"", 0)


@needs_terminal
@pytest.mark.parametrize(("answer", "code"), [("y\n", 1), ("n\n", 4), ("\n", 4), ("\x04", 4), ("\x03", 130)])
def test_question_of_trust(scene: Scene, tmp_path: Path, answer: str, code: int) -> None:
    """Before a command changes something on a server it never saw, a person at a terminal is asked about the key."""
    from terminal import Terminal

    variables = scene.variables() | {"ALS_CLIENT_DIR": str(tmp_path), "ALS_DATA_DIR": str(tmp_path / "none")}
    words = [ALS, "revoke", f"127.0.0.1:{scene.server.port}", "--product", "ATIES", "--mac", "001122334455"]
    with Terminal(words, variables, columns=100) as terminal:
        terminal.read_until("Is it the same? [y/N]")
        assert re.search(r"\n  SHA256:[0-9A-Za-z+/]{43}\n", terminal.text)
        terminal.type(answer)
        assert terminal.read_to_end() == code
        end = terminal.text.rpartition("[y/N]")[2]
        assert ("needs the role operator" in end) == (code == 1)
        assert ("was never confirmed" in end) == (code == 4)


@needs_terminal
def test_colour_is_for_terminals(scene: Scene) -> None:
    """On a terminal the status has colour and fits it; in a pipe there is none, not even when it is asked for."""
    from terminal import Terminal

    words = [ALS, "status", f"127.0.0.1:{scene.server.port}"]
    with Terminal(words, scene.variables(), columns=60) as terminal:
        assert terminal.read_to_end() == 0
        assert "\x1b[1m" in terminal.raw
        assert max(map(len, terminal.text.splitlines())) <= 60
    with Terminal(words, scene.variables() | {"TERM": "dumb"}) as terminal:
        assert terminal.read_to_end() == 0
    variables = scene.variables() | {"FORCE_COLOR": "1"}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, "\x1b" in done.stdout) == (0, False)


def test_interrupt() -> None:
    """Ctrl-C ends a command with 130 and without a word."""
    words = [ALS, "list", "--wait", "60", "--discovery-port", "1", "--json"]
    with subprocess.Popen(
        words,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        wait_until_it_waits(process.pid)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=END_S_MAX)
    assert (process.returncode, output, errors) == (130, b"", b"")


def wait_until_it_waits(pid: int) -> None:
    """Wait until a process has opened its sockets, so that it is past its start."""
    import psutil

    process = psutil.Process(pid)
    while not process.net_connections(kind="udp"):
        assert process.is_running()
