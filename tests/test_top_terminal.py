"""`als top` in a real terminal: it shows a real server, follows the terminal, and leaves it as it was."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from als import clock
from fleet import Company
from real_terminal import Pty, Tmux, environment, needs_terminal, needs_tmux
from server_process import ServerProcess

ALS = str(Path(sys.executable).with_name("als"))
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Place:
    """A server with a fleet, and the command that watches it."""

    def __init__(self, folder: Path) -> None:
        Company(folder / "data", clock.wall_s()).live()
        self.server = ServerProcess(folder / "data", "--name", "licenses")
        self.env = environment(folder / "client")

    def command(self, *options: str) -> list[str]:
        """Give the words of `als top`."""
        where = f"127.0.0.1:{self.server.port}"
        return [ALS, "top", where, "--data-dir", str(self.server.data_dir), "--interval", "0.2", *options]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A real server for this module."""
    found = Place(tmp_path_factory.mktemp("place"))
    with found.server:
        yield found


def test_without_a_terminal_one_picture_is_printed(place: Place) -> None:
    """In a pipe there is one picture, without colour, and the end."""
    done = subprocess.run(place.command(), env=place.env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[1].startswith("!! ATIES: NO FREE SEAT (40/40), 26 refused since ")
    assert "\x1b" not in done.stdout


def test_a_server_that_is_not_there_is_one_line_and_code_3(tmp_path: Path) -> None:
    """At the start an unreachable server is an ordinary error of the command line, on the ordinary screen."""
    words = [ALS, "top", "127.0.0.1:1", "--discovery-port", "1", "--timeout", "0.2", "--server-key", "ab" * 32]
    done = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("als: no license server answers at 127.0.0.1:1")


@needs_terminal
@pytest.mark.parametrize(("end", "code"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_terminal_is_left_as_it_was(place: Place, end: str | signal.Signals, code: int) -> None:
    """After q, ctrl-C or a signal the screen, the cursor and the settings are as before."""
    with Pty(place.command(), place.env) as terminal:
        terminal.read_until("NO FREE SEAT")
        assert ENTER_SCREEN in terminal.output
        assert terminal.settings != terminal.before
        if isinstance(end, str):
            terminal.send(end)
        else:
            terminal.process.send_signal(end)
        assert terminal.wait() == code
        assert terminal.settings == terminal.before
        _, after = terminal.output.split(LEAVE_SCREEN)
        assert terminal.output.rindex(SHOW_CURSOR) > terminal.output.rindex(HIDE_CURSOR)
        assert after.replace(SHOW_CURSOR, "").strip("\r\n^C") == "", "nothing is left on the screen"


@needs_terminal
def test_the_terminal_is_left_as_it_was_by_an_error(place: Place) -> None:
    """A programmer's error puts the terminal back before its traceback is written."""
    broken = (
        "from als_tools.top import dashboard\n"
        "def draw(*_): raise ZeroDivisionError('on purpose')\n"
        "dashboard.draw = draw\n"
        "from als_tools.main import main\n"
        f"main({place.command()[1:]!r})\n"
    )
    with Pty([sys.executable, "-c", broken], place.env) as terminal:
        assert terminal.wait() == 1
        assert terminal.settings == terminal.before
        assert "on purpose" in terminal.output.split(LEAVE_SCREEN)[1]


@needs_tmux
def test_what_is_seen(place: Place) -> None:
    """The screen shows what is wrong, follows keys and the window's size, and goes when the program does."""
    with Tmux(place.command(), place.env, (80, 26)) as screen:
        lines = screen.wait_for("NO FREE SEAT")
        assert lines[0].startswith(" licenses  127.0.0.1:")
        assert lines[1].startswith("!! ATIES: NO FREE SEAT (40/40), 26 refused since ")
        assert lines[2] == "!! APEC: 4 computers on ended serials"
        screen.send("7")
        screen.wait_for("1-19 of 269")
        screen.send("/")
        screen.write("lab-0")
        screen.wait_for("1-9 of 9")
        screen.send("Enter", "?")
        screen.wait_for("turn the order round")
        screen.send("Escape")
        screen.resize(60, 20)
        lines = screen.wait_for(lambda lines: lines[19].startswith(" 1  2  3  4  5  6  7 Leases"))
        assert max(len(line) for line in lines) <= 60
        screen.resize(150, 40)
        screen.wait_for(lambda lines: lines[39].startswith(" 1 Overview  2 Problems"))
        screen.send("q")
        screen.wait_for(lambda lines: [line for line in lines if line][-1] == "shell>")
        assert "NO FREE SEAT" not in "\n".join(screen.lines())


@needs_tmux
def test_ctrl_z_gives_the_terminal_back(place: Place) -> None:
    """ctrl-Z shows the shell's screen; fg brings the dashboard back."""
    with Tmux(place.command(), place.env, (80, 26)) as screen:
        screen.wait_for("NO FREE SEAT")
        screen.send("C-z")
        screen.wait_for(lambda lines: "NO FREE SEAT" not in "\n".join(lines) and "Stopped" in "\n".join(lines))
        screen.write("fg")
        screen.send("Enter")
        screen.wait_for("NO FREE SEAT")
        screen.send("C-c")
        screen.wait_for(lambda lines: "NO FREE SEAT" not in "\n".join(lines))


@needs_tmux
def test_a_server_that_goes_away_comes_back(place: Place) -> None:
    """A server that is killed is said to be unreachable since when; started again it is there by itself."""
    with Tmux(place.command("--timeout", "0.5"), place.env, (80, 26)) as screen:
        screen.wait_for("NO FREE SEAT")
        place.server.kill()
        lines = screen.wait_for("SERVER UNREACHABLE since ")
        assert lines[1].startswith("!! SERVER UNREACHABLE since ")
        screen.send("2")
        screen.wait_for("no license server answers at ")
        place.server.start()
        screen.wait_for(lambda lines: "UNREACHABLE" not in "\n".join(lines) and "NO FREE SEAT" in "\n".join(lines))
        screen.send("q")
        screen.wait_for(lambda lines: [line for line in lines if line][-1] == "shell>")
