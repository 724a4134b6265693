"""The console's windows as they look, on a terminal of 80x24, and once in a real one."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from als import clock, keyfile
from als_agents.client import Client
from als_tools.options import Access
from console_pilot import Desk, at_the_console
from fleet import Company
from real_terminal import Tmux, environment, needs_tmux
from server_process import ServerProcess

ALS = str(Path(sys.executable).with_name("als"))
SMALL = (80, 24)

START = """\
 ALS Management Console


          ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔
                     Manage Licenses on the Local Computer
          ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁

          ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔
                          Connect to a Remote Computer
          ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁

          ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔
                                      Quit"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server with a fleet."""
    folder = tmp_path_factory.mktemp("pictures")
    Company(folder / "data", clock.wall_s()).live()
    with ServerProcess(folder / "data", "--name", "licenses") as running:
        yield running


@pytest.fixture(autouse=True)
def client_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own for what the console remembers."""
    monkeypatch.setenv("ALS_CLIENT_DIR", str(tmp_path / "client"))


def where(server: ServerProcess) -> str:
    """Give where a server is, as it is typed."""
    return f"127.0.0.1:{server.port}"


def settled(lines: list[str], server: ServerProcess) -> str:
    """Put fixed words for what differs from run to run: the port and times."""
    text = "\n".join(lines).replace(where(server), "127.0.0.1:PORT")
    return re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?", lambda found: "DATE".ljust(len(found[0])), text)


def test_the_first_window(tmp_path: Path) -> None:
    """The manual's two ways to a server, and the way out."""

    async def scene(desk: Desk) -> None:
        await desk.see("Quit")
        assert "\n".join(desk.lines[:13]) == START
        assert desk.lines[-2] == " not connected"

    at_the_console(scene, Access(data_dir=tmp_path), size=SMALL)


LICENSES = """\
 Manage Available Licenses
  Add License  Remove  Available Licenses  Used Licenses  Choose Columns
 Available Licenses
only rows with this text (/)
 Serial               Expires (UTC)     Total  Free  Used  State
 ATIES-02081040G2081  never                20     0    20  valid
 ATIW-040G2081040G2   never               150     0   150  valid
 ATIW-060R30C1G60R3   DATE                 50    29    21  valid
 ASD-081040G208104    never               100    66    34  valid
 APEC-0A1850M2GA185   DATE                  4     0     4  expired
 ATIES-0C1G60R30C1G6  never                20     0    20  valid
 APEC-0E1R70W3GE1R7   DATE                 20     9    11  valid"""


def test_available_licenses_on_a_small_terminal(server: ServerProcess) -> None:
    """On 80x24 the tasks lie above the list, no column is cut off, and what is left out is said."""

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("m")
        await desk.see("7 rows, that is all; left out for room: Imported")
        assert settled(desk.lines[:12], server) == LICENSES
        assert settled(desk.lines[-2:-1], server) == " licenses  127.0.0.1:PORT   you are admin   ok connected"
        assert desk.lines[-1].endswith(" esc Back  f1 Help"), "all keys are there"

    at_the_console(scene, Access(data_dir=server.data_dir), where(server), SMALL)


def test_reasons_on_a_small_terminal(server: ServerProcess, tmp_path: Path) -> None:
    """Where the tasks lie in a line, a line below it says what the role does not allow."""
    pair = keyfile.read_or_make(tmp_path, "viewer")
    admin = keyfile.read(server.data_dir / "admin.key_secret")
    with Client("127.0.0.1", server.port, keyfile.read_public(server.data_dir / "server.key"), admin) as client:
        client.request("admin_add", key=pair.public, name="a viewer", role="viewer")

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("m", "v")
        await desk.see(" Add License, Remove: needs the role operator; you are viewer")

    access = Access(data_dir=server.data_dir, identity=tmp_path / "viewer.key_secret")
    at_the_console(scene, access, where(server), SMALL)


@pytest.mark.parametrize("size", [(80, 24), (80, 20), (140, 50)])
def test_dialogs_keep_their_buttons_in_sight(server: ServerProcess, size: tuple[int, int]) -> None:
    """However low the terminal is, the buttons of a dialog are on it, and a text that is too long can be scrolled."""

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("m", "v")
        await desk.see("more at the end")
        await desk.press("c")
        await desk.see("Show these")
        await desk.see("As at first")
        await desk.press("escape", "r")
        await desk.see("Free this seat")
        for _ in range(9):
            if "before it is done." not in desk.text:
                await desk.press("down")
        await desk.see("before it is done.")
        await desk.see("Cancel")

    at_the_console(scene, Access(data_dir=server.data_dir), where(server), size)


def test_columns_follow_the_terminals_width(server: ServerProcess) -> None:
    """A wider terminal brings back the columns that were left out, a narrower one leaves them out again."""

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("m")
        await desk.see("left out for room: Imported, Product name")
        await desk.pilot.resize_terminal(160, 24)
        await desk.until(lambda: "7 rows, that is all\n" in f"{desk.text}\n")
        await desk.see("Acronis True Image Enterprise Server")
        await desk.pilot.resize_terminal(112, 24)
        await desk.see("left out for room: Imported")
        await desk.see("Acronis True Imag…")
        await desk.pilot.resize_terminal(80, 24)
        await desk.see("left out for room: Imported, Product name")

    at_the_console(scene, Access(data_dir=server.data_dir), where(server), SMALL)


def test_all_of_a_server_can_be_read_on_a_low_terminal(server: ServerProcess) -> None:
    """What does not fit of a server's state is reached by the keys that move down, and back."""

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.see("ATIES has no free seat")
        assert "renewals/s" not in desk.text
        await desk.press("down", "down")
        await desk.see("renewals/s")
        await desk.press("up", "up")
        await desk.see("ATIES has no free seat")

    at_the_console(scene, Access(data_dir=server.data_dir), where(server), (80, 16))


QUESTION = """\
  Remove a serial completely

  The serial ATIES-02081040G2081 with its 20 seats of Acronis True Image
  Enterprise Server leaves this server for good.

  20 computers hold a license on it and will lose it. At the next run of
  the program each of them needs a free seat on another serial, or it
  will not run. (Where licenses of the product cannot be reused, the
  list of its computers is kept and comes back with the serial.)

  The same serial can be imported again; a trial does not start anew by
  that.

   ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔  ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔
    Remove serial and 20 licenses        Cancel
   ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁"""


def test_the_question_before_a_serial_is_removed(server: ServerProcess) -> None:
    """The question says what will be gone, and for how many computers."""

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("m")
        await desk.see("that is all")
        await desk.press("r")
        await desk.see("Remove a serial completely")
        first = next(n for n, line in enumerate(desk.lines) if "Remove a serial completely" in line)
        assert "\n".join(line[3:75].rstrip() for line in desk.lines[first : first + 16]) == QUESTION

    at_the_console(scene, Access(data_dir=server.data_dir), where(server), SMALL)


def test_without_a_terminal_there_is_no_console(tmp_path: Path) -> None:
    """In a pipe the console ends with one line and the code of wrong usage."""
    done = subprocess.run(
        [ALS, "console"], env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("als: the console needs a terminal")


@needs_tmux
def test_the_console_in_a_real_terminal(server: ServerProcess, tmp_path: Path) -> None:
    """Keys lead through the windows, the window's size is followed, and the terminal is left as it was."""
    command = [ALS, "console", where(server), "--data-dir", str(server.data_dir)]
    with Tmux(command, environment(tmp_path), (100, 30)) as screen:
        screen.wait_for("ATIES has no free seat")
        screen.send("m")
        screen.wait_for("7 rows, that is all")
        screen.send("v")
        screen.wait_for("200 rows, more at the end")
        screen.resize(70, 20)
        screen.wait_for(lambda lines: len(lines[-2]) <= 70 and any("you are admin" in line for line in lines))
        screen.send("Escape")
        screen.wait_for("Disconnect")
        screen.send("u")
        screen.wait_for("most seats used")
        screen.send("C-q")
        screen.wait_for(lambda lines: [line for line in lines if line][-1] == "shell>")
