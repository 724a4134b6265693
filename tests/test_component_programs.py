"""The SDK in programs of their own: how they end, what a fork's child has, what an import costs."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from als_agents.testing import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server with one seat of ATIES, a heartbeat of a second and leases of a month."""
    with FakeServer({"ATIES": 1}, heartbeat_s=1) as fake:
        yield fake


def run_program(text: str, server: FakeServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of its own with a component in it, warnings being errors."""
    head = f"""
        import os, sys, threading
        from pathlib import Path
        from als_agents import InvalidLicense, LicensedComponent

        def make(**options):
            where = {{"server": {server.address!r}, "client_dir": Path({str(folder)!r})}}
            return LicensedComponent("ATIES", "agent", **where, **options)
    """
    program = textwrap.dedent(head) + textwrap.dedent(text)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
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
