"""Licenses that move between a data folder and a cluster: all of them, or none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import etcd_nodes
from cluster_site import cluster_options
from contract_client import Client
from server_process import Product, ServerProcess, Site, counted, run_to_end

pytestmark = pytest.mark.skipif(bool(etcd_nodes.MISSING), reason=etcd_nodes.MISSING)

COMPUTERS = 30


class Move:
    """A data folder with licenses in use, and an empty cluster."""

    def __init__(self, folder: Path, endpoint: str, prefix: bytes) -> None:
        self.site = Site(folder)
        self.options = cluster_options(folder, [endpoint], prefix)
        self.data_dir = self.site.server.data_dir
        self.url = f"etcd://{endpoint}"
        self.product: Product

    def fill(self) -> None:
        """Have the server grant, refuse and take back."""
        with self.site as site:
            self.product = site.product(COMPUTERS)
            computers = [site.computer() for _ in range(COMPUTERS + 5)]
            agent = site.client()
            asked = {"product": self.product.code, "component": "agent"}
            agent.replies_to([agent.send("acquire", computer=computer, **asked) for computer in computers])
            agent.ask("release", computer=computers[0], **asked)

    def run(self, source: str, target: str, *more: str) -> Any:
        """Run als-server migrate."""
        flags = self.options[2:]  # all but the store
        return run_to_end("migrate", "--from", source, "--to", target, *flags, *more)


@pytest.fixture
def move(tmp_path: Path, etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[Move]:
    """A move that has not begun."""
    move = Move(tmp_path, etcd_endpoint, etcd_prefix)
    move.fill()
    yield move


def seen(server: ServerProcess, product: Product) -> tuple[Any, ...]:
    """Give what an administrator sees of a product."""
    with Client(server.port, server.server_key, server.admin_keys) as admin:
        rows = [(row["mac"], row["serial_id"], row["acquired_at"]) for row in admin.rows("leases")]
        denied = [event["seq"] for event in admin.rows("events") if event["kind"] == "denied"]
        return counted(admin, product), rows, denied, admin.ask("hello")["server_id"]


def test_there_and_back(move: Move, tmp_path: Path) -> None:
    """Licenses, log, administrators and the server's key move into a cluster and back; each source is closed."""
    with ServerProcess(move.data_dir) as server:
        before = seen(server, move.product)
        key = server.server_key
        assert "another als-server" in move.run(f"lmdb:{move.data_dir}", move.url).stderr
        server.stop()
    done = move.run(f"lmdb:{move.data_dir}", move.url)
    assert done.returncode == 0, done
    assert "moved and compared" in done.stdout
    assert not (move.data_dir / "store").exists()
    assert "no licenses" in move.run(f"lmdb:{move.data_dir}", move.url).stderr
    twin = run_to_end("run", "--data-dir", str(move.data_dir), "--port", "0", "--discovery-port", "0")
    assert (twin.returncode, "were moved into a cluster" in twin.stderr) == (5, True), twin

    back = tmp_path / "back"
    with ServerProcess(move.data_dir, *move.options) as server:
        assert (seen(server, move.product), server.server_key) == (before, key)
        refused = move.run(move.url, f"lmdb:{back}")
        assert (refused.returncode, "of the cluster runs" in refused.stderr) == (1, True), refused
        copied = move.run(move.url, f"lmdb:{tmp_path / 'copy'}", "--copy")
        assert copied.returncode == 0, copied
        assert run_to_end("check", "--data-dir", str(tmp_path / "copy")).returncode == 0
        server.stop()
    done = move.run(move.url, f"lmdb:{back}")
    assert done.returncode == 0, done
    for name in ("catalog.d", "vendors"):
        for path in (move.data_dir / name).iterdir():
            (back / name / path.name).write_bytes(path.read_bytes())
    with ServerProcess(back) as server:
        assert (seen(server, move.product), server.server_key) == (before, key)
    late = run_to_end("run", "--data-dir", str(move.data_dir), "--port", "0", *move.options)
    assert (late.returncode, "the licenses were moved to" in late.stderr) == (5, True), late


def test_a_move_that_cannot_be(move: Move, tmp_path: Path, etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """A cluster that is not empty, a folder with licenses and the wrong secret are refused; nothing is changed."""
    source = f"lmdb:{move.data_dir}"
    with ServerProcess(tmp_path / "other", *move.options) as server:
        server.stop()
    refused = move.run(source, move.url)
    assert (refused.returncode, "not empty" in refused.stderr) == (1, True), refused
    into_full = move.run(move.url, source)
    assert (into_full.returncode, "holds licenses already" in into_full.stderr) == (1, True), into_full
    wrong = cluster_options(tmp_path / "wrong", [etcd_endpoint], etcd_prefix)
    done = run_to_end("migrate", "--from", move.url, "--to", f"lmdb:{tmp_path / 'new'}", *wrong[2:])
    assert (done.returncode, "secret is another" in done.stderr) == (1, True), done
    assert run_to_end("migrate", "--from", source, "--to", source, *move.options[2:]).returncode == 2
    with ServerProcess(move.data_dir) as server:
        assert seen(server, move.product)[0] == (COMPUTERS, COMPUTERS - 1, 1)
