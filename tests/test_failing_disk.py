"""Disks that fail: full, too small, and broken. The server stops with one clear line and has promised nothing.

After the disk is mended it serves what it had acknowledged.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import failing_server
from als.ledger.audit import Audit
from als.store.lmdb.store import LmdbStore
from contract_client import Client
from server_process import ServerProcess, Site, start_failure

PROGRAM = str(Path(sys.executable).with_name("als-server"))
COMMIT_FAILED = 6
SILENCE_MS = 200


def fill(site: Site, limit: int = 50_000) -> set[bytes]:
    """Take licenses until the server stops; give the addresses of the computers that have been told of one."""
    product, agent = site.product(1_000_000), site.client()
    granted: set[bytes] = set()
    sent = 0
    while sent < limit:
        for _ in range(100):
            agent.send("acquire", product=product.code, component="agent", computer=site.computer(host="h" * 250))
            sent += 1
        for _ in range(100):
            reply = next_reply(site, agent)
            if reply is None:
                return granted
            assert reply["ok"], reply
            granted.add(reply["lease"]["mac"])
    raise AssertionError("the disk did not fill up")


def next_reply(site: Site, client: Client) -> dict[str, Any] | None:
    """Take the next reply; None when the server has ended and none is left."""
    while not client.socket.poll(SILENCE_MS):
        if site.server.exited() is not None and not client.socket.poll(SILENCE_MS):
            return None
    return client.receive()


def last_line(site: Site) -> str:
    """Give the one line that the server has said at its end; it said no more."""
    assert "Traceback" not in site.server.stderr()
    lines = [line for line in site.server.stderr().splitlines() if line.startswith("als-server: ")]
    assert len(lines) == 1, site.server.stderr()
    return lines[0]


def expect_all(site: Site, granted: set[bytes]) -> None:
    """Check that a server holds what it has acknowledged, and that its books agree."""
    assert granted
    rows = {row["mac"] for row in site.admin.rows("leases", limit=1_000)}
    assert granted <= rows
    assert site.server.stop() == 0
    store = LmdbStore(site.server.data_dir / "store")
    tx = store.snapshot()
    assert Audit(tx).run() == []
    tx.abort()
    store.close()


# A file that must not grow: EFBIG, from a limit on the process

_FILE_BYTES_MAX = 700_000
_LIMITED = f"""
import os, resource, sys
if not os.path.exists(os.environ["ROOMY"]):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({_FILE_BYTES_MAX}, resource.RLIM_INFINITY))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    """When the store's file may not grow, the server stops with 6; without the limit it has everything it promised."""
    roomy = tmp_path / "roomy"
    program = (sys.executable, "-c", _LIMITED, PROGRAM, "run")
    with Site(tmp_path, program=program, variables={"ROOMY": str(roomy)}) as site:
        granted = fill(site)
        assert site.server.wait() == COMMIT_FAILED
        assert "could not be written" in last_line(site) and str(site.server.data_dir) in last_line(site)
        roomy.touch()
        site.reconnect()
        expect_all(site, granted)


# A full device: ENOSPC, on a small file system in memory


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    options = ("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount is not permitted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_device(small_disk: Path) -> None:
    """On a full device the server stops with 6 and says so; with room it serves what it has promised."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    with Site(small_disk) as site:
        granted = fill(site)
        assert site.server.wait() == COMMIT_FAILED
        assert "the device is full" in last_line(site)
        with contextlib.suppress(OSError), (small_disk / "rest").open("wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4_096))
        new = start_failure(small_disk / "new")
        assert "No space left" in new or "the device is full" in new
        (small_disk / "rest").unlink()
        ballast.unlink()
        site.reconnect()
        expect_all(site, granted)


# A broken device: EIO, from the kernel


@pytest.mark.skipif(not failing_server.is_possible(), reason="needs Linux on x86-64 or aarch64")
@pytest.mark.parametrize("kind", ["pwrite", "sync"])
def test_a_broken_device(tmp_path: Path, kind: str) -> None:
    """When writing or syncing fails, the server stops with 6, has promised nothing of that turn, and lost nothing."""
    order = tmp_path / "order"
    program = (sys.executable, failing_server.__file__)
    with Site(tmp_path, program=program, variables={failing_server.ORDER_VARIABLE: str(order)}) as site:
        product, agent = site.product(100), site.client()
        wanted = [{"product": product.code, "component": "agent", "computer": site.computer()} for _ in range(20)]
        for fields in wanted[:10]:
            assert agent.ask("acquire", **fields)["result"] == "granted"
        order.write_text(kind, encoding="ascii")
        for fields in wanted[10:]:
            agent.send("acquire", **fields)
        agent.send("hello")
        assert next_reply(site, agent) is None
        assert site.server.wait() == COMMIT_FAILED
        assert "Input/output error" in last_line(site)
        site.reconnect()
        rows = {row["mac"] for row in site.admin.rows("leases", product=product.code)}
        assert rows >= {fields["computer"]["macs"][0] for fields in wanted[:10]}
        expect_all(site, rows)


@pytest.mark.skipif(not failing_server.is_possible(), reason="needs Linux on x86-64 or aarch64")
def test_a_device_that_breaks_when_nothing_is_asked(tmp_path: Path) -> None:
    """The alive mark's commit fails too, and stops a server that nobody talks to."""
    order = tmp_path / "order"
    variables = {failing_server.ORDER_VARIABLE: str(order)}
    with ServerProcess(
        tmp_path / "data", program=(sys.executable, failing_server.__file__), variables=variables
    ) as server:
        order.write_text("sync", encoding="ascii")
        assert server.wait() == COMMIT_FAILED
        assert "Input/output error" in server.stderr()
