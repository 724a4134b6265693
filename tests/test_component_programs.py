"""The SDK in programs of their own: how they end, what a fork's child has, what an import costs."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from als_agents.license_thread import RELEASE_AT_END_S_MAX
from als_agents.testing import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server with one seat of ATIES, a heartbeat of a second and leases of a month."""
    with FakeServer({"ATIES": 1}, heartbeat_s=1) as fake:
        yield fake


def program(text: str, server: FakeServer, folder: Path) -> list[str]:
    """Give the command line of a program of its own with a component in it, warnings being errors."""
    head = f"""
        import os, sys, threading
        from pathlib import Path
        from als_agents import InvalidLicense, LicensedComponent

        def make(**options):
            where = {{"server": {server.address!r}, "client_dir": Path({str(folder)!r})}}
            return LicensedComponent("ATIES", "agent", **where, **options)
    """
    return [sys.executable, "-W", "error", "-c", textwrap.dedent(head) + textwrap.dedent(text)]


def run_program(text: str, server: FakeServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run such a program to its end."""
    return subprocess.run(
        program(text, server, folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_that_forgets_to_close_ends_cleanly(server: FakeServer, tmp_path: Path) -> None:
    """The end of a program with an open license takes no time and says nothing, by exit and by exception."""
    done = run_program("lease = make().open()\nprint(lease)", server, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "<LicensedComponent ATIES/agent held>\n", "")
    done = run_program("lease = make().open()\nsys.exit(7)", server, tmp_path)
    assert (done.returncode, done.stderr) == (7, "")


ENDINGS = {
    "falls off the end": ("", 0),
    "exits": ("sys.exit(7)", 7),
    "fails": ("raise LookupError", 1),
    "forgets the license": ("del lease", 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_release_on_close_gives_the_seat_back_without_a_close(ending: str, server: FakeServer, tmp_path: Path) -> None:
    """However a program ends by itself, and when nobody refers to its component any more."""
    last, code = ENDINGS[ending]
    done = run_program(f"lease = make(release_on_close=True).open()\n{last}", server, tmp_path)
    assert done.returncode == code
    assert done.stderr == "" or ending == "fails"
    assert server.used("ATIES") == 0


def test_a_program_that_kept_its_seat_keeps_it_at_its_end(server: FakeServer, tmp_path: Path) -> None:
    """Without release_on_close the end is no release, nor with it where a child of a fork ends."""
    run_program("lease = make().open()", server, tmp_path)
    assert server.requests_for("release") == []
    done = run_program(
        """
        lease = make(release_on_close=True).open()
        child = os.fork()
        if not child:
            sys.exit(0)
        os.waitpid(child, 0)
        os._exit(0)
        """,
        server,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (server.used("ATIES"), server.requests_for("release")) == (1, [])


def test_an_end_without_an_answer_is_short_and_silent(server: FakeServer, tmp_path: Path) -> None:
    """A server that does not answer the release holds the end up for some seconds, and no error is told."""
    text = "lease = make(release_on_close=True).open()\nprint(lease, flush=True)\nsys.stdin.read()"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program(text, server, tmp_path), text=True, **streams) as process:
        assert process.stdout is not None and process.stdin is not None and process.stderr is not None
        assert "held" in process.stdout.readline()
        server.fall_silent()
        process.stdin.close()
        server.await_requests("release")
        assert process.wait(2 * RELEASE_AT_END_S_MAX) == 0
        assert process.stderr.read() == ""


def test_a_child_of_a_fork_leaves_the_parents_connection_alone(server: FakeServer, tmp_path: Path) -> None:
    """The child knows the license without a thread, opens one of its own when asked, and the parent's goes on."""
    done = run_program(
        """
        lease = make().open()
        child = os.fork()
        if not child:
            names = [thread.name for thread in threading.enumerate()]
            known = lease.is_held
            lease.open()
            renewed = lease.is_held and threading.active_count() == len(names) + 1
            lease.close()
            print(names, known, renewed, flush=True)
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        threading.Event().wait(1.5)  # a heartbeat of the parent's
        print(code, lease.is_held)
        """,
        server,
        tmp_path,
    )
    assert done.stderr == ""
    assert done.stdout == "['MainThread'] True True\n0 True\n"
    server.await_requests("renew", 3)


def test_a_child_of_a_fork_does_not_trust_an_old_license_for_ever(server: FakeServer, tmp_path: Path) -> None:
    """In a child that does not open its own, the license ends when the parent's last renewal does."""
    server.period_s = 1
    done = run_program(
        """
        lease = make().open()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            threading.Event().wait(1.5)
            print(lease.is_held, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """,
        server,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_multiprocessing_children_open_their_own(server: FakeServer, tmp_path: Path) -> None:
    """A pool of forked workers, each with the component open, works beside the parent's."""
    done = run_program(
        """
        import multiprocessing
        lease = make().open()

        def work(number):
            with make() as own:
                return own.is_held and lease.is_held

        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(work, range(4)))
        """,
        server,
        tmp_path,
    )
    assert (done.stdout, done.stderr) == ("[True, True, True, True]\n", "")


def test_import_is_light() -> None:
    """`import als_agents` takes under 100 ms and loads none of the heavy libraries; the SDK needs no cryptography."""
    program = """
        import sys
        from als import clock
        before = clock.monotonic_s()
        import als_agents
        print(clock.monotonic_s() - before)
        als_agents.LicensedComponent
        heavy = {"lmdb", "rich", "textual", "typer", "cryptography", "prometheus_client"}
        print(sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    took_s, heavy = done.stdout.splitlines()
    assert float(took_s) < 0.1
    assert heavy == "[]"
