"""An installation without extras: agents and the SDK work, other programs say what is missing."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

# Only what the package needs itself, with what that needs: all else is not there for this interpreter.
BARE = """
import sys
HAS = {"zmq", "msgpack", "psutil", "platformdirs", "als", "als_agents", "als_tools", "als_bench"}
class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in HAS and top not in sys.stdlib_module_names and not top.startswith(("_", "sitecustomize")):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
sys.meta_path.insert(0, Bare())
"""


def run(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in such an installation."""
    return subprocess.run(
        [sys.executable, "-c", BARE + code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [("--version",), ("identity",), ("configure", "--help"), ("run", "--help")])
def test_agents_need_no_extra(arguments: tuple[str, ...]) -> None:
    """The command line of a computer that only runs licensed programs."""
    done = run("from als_agents.main import main; sys.argv[0] = 'als-agent'; main()", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sdk_needs_no_extra() -> None:
    """All that a vendor's program imports, and a license that it takes from a server of the vendor's own tests."""
    done = run(
        "from als_agents import *\n"
        "from als_agents.testing import FakeServer\n"
        "import tempfile\n"
        "with FakeServer({'STUDIO': 1}) as server, tempfile.TemporaryDirectory() as folder:\n"
        "    place = {'server': f'{server.host}:{server.port}', 'server_key': server.key, 'client_dir': folder}\n"
        "    with LicensedComponent('STUDIO', 'editor', **place) as license:\n"
        "        print(license.is_held)\n"
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize(
    ("program", "place", "extra", "code"),
    [
        ("als-server", "als.server.start:main", "server", 5),
        ("als", "als_tools.start:als", "tools", 2),
        ("LicenseServerCmdLine", "als_tools.start:manual", "tools", 2),
        ("als-vendor", "als_tools.start:vendor", "tools", 2),
        ("als-bench", "als_bench.start:main", "bench", 2),
    ],
)
def test_other_programs_name_their_extra(program: str, place: str, extra: str, code: int) -> None:
    """One line that says what to install, and no traceback."""
    module, _, function = place.partition(":")
    done = run(f"from {module} import {function} as main; main()", "--version")
    assert done.returncode == code and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: ") and line.endswith(f"pip install 'als-license-server[{extra}]'")


def test_every_program_begins_where_this_is_said() -> None:
    """What `pip` installs are the functions above, and the agents' own."""
    ours = {point.name: point.value for point in entry_points(group="console_scripts") if point.value.startswith("als")}
    assert set(ours.values()) == {
        "als.server.start:main",
        "als_tools.start:als",
        "als_tools.start:manual",
        "als_tools.start:vendor",
        "als_bench.start:main",
        "als_agents.main:main",
    }
