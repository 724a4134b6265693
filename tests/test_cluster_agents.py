"""Agents and two real servers of one name and key: `als --list`, a search, and what happens when one of them dies.

Each server has a store of its own here: what counts is how clients find and change addresses, not who counts the seats.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from als import clock, keyfile
from als_agents import LicensedComponent, discovery
from als_agents.discovery import EVERYBODY_HERE
from contract_client import Client
from server_process import Product, ServerProcess, Site, environment, free_udp_port, product_text

ALS = Path(sys.executable).with_name("als")
MAC = bytes.fromhex("020000000001")
COMPUTER = {"macs": [MAC], "host": "pc-1", "address": "192.0.2.1"}
HEARTBEAT_S = 1
HEARTBEAT_S_MAX = HEARTBEAT_S * 1.1
MOVED_S_MAX = 3.0
WAIT_S = 30.0
PAUSE_S = 0.02
LISTINGS_MAX = 5

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSTOP")


class Cluster:
    """Two servers on copies of one data folder, with a product whose licenses are renewed each second."""

    def __init__(self, folder: Path, discovery_port: int) -> None:
        options = ("--discovery-port", str(discovery_port), "--name", "office")
        self._site = Site(folder)
        data_dir = self._site.server.data_dir
        text = product_text("BEAT", 9_001, "30d", f"{HEARTBEAT_S}s", "true")
        (data_dir / "catalog.d" / "beat.toml").write_text(text)
        with self._site as site:
            self.product = Product("BEAT", 9_001, (site.vendor.issue(9_001, 5),))
            assert site.import_one(self.product.serials[0])[0] == "added"
            site.server.stop()
            shutil.copytree(data_dir, folder / "copy")
        self.servers = [ServerProcess(path, *options) for path in (data_dir, folder / "copy")]

    def __enter__(self) -> "Cluster":
        for server in self.servers:
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.close()

    @property
    def addresses(self) -> list[str]:
        """Where they are, as agents are told."""
        return [f"127.0.0.1:{server.port}" for server in self.servers]


@pytest.fixture
def discovery_port() -> int:
    """The port on which both servers hear searches."""
    return free_udp_port()


@pytest.fixture
def cluster(tmp_path: Path, discovery_port: int) -> Iterator[Cluster]:
    """Two servers that run."""
    with Cluster(tmp_path, discovery_port) as both:
        yield both


class Watch:
    """Sees at one server when the computer's license was renewed there last, by the server's own clock."""

    def __init__(self, server: ServerProcess) -> None:
        self._client = Client(server.port, server.server_key, server.admin_keys)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def engaged(self) -> bool:
        """Whether the computer holds a license there."""
        return bool(self._client.ask("check", product="BEAT", computer=COMPUTER)["engaged"])

    @property
    def renewed_at(self) -> int:
        """When the computer's license was renewed, 0 without one."""
        rows = self._client.rows("leases", product="BEAT")
        return int(rows[0]["renewed_at"]) if rows else 0

    def wait_for(self, happened: Callable[[], bool]) -> float:
        """Ask until something has happened; give the seconds that it took."""
        begin_s, pause = clock.monotonic_s(), threading.Event()
        while not happened():
            assert clock.monotonic_s() < begin_s + WAIT_S, "it did not happen"
            pause.wait(PAUSE_S)
        return clock.monotonic_s() - begin_s


def test_a_search_finds_one_name_with_two_addresses(cluster: Cluster, discovery_port: int) -> None:
    """Servers with one id and key are one server, at the address that each answers from."""
    (found,) = discovery.discover(1.0, discovery_port, [EVERYBODY_HERE])
    assert found.name == "office"
    assert found.key == keyfile.read_public(cluster.servers[0].data_dir / "server.key")
    assert {port for _, port in found.addresses} == {server.port for server in cluster.servers}


def listings(discovery_port: int) -> list[str]:
    """Give what `als --list` says in each of its forms, on networks that stay what they are (other tests make some)."""

    def listed(*forms: str) -> str:
        line = [str(ALS), "--list", "--discovery-port", str(discovery_port), *forms]
        done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    for _ in range(LISTINGS_MAX):
        networks = discovery.broadcast_addresses()
        found = [listed(), listed("--plain"), listed("--json")]
        if networks == discovery.broadcast_addresses():
            return found
    raise AssertionError("this machine's networks come and go")


def test_programs_do_not_know_the_width_of_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test's programs write to a pipe is not folded for the screen of whoever runs the tests."""
    monkeypatch.setenv("COLUMNS", "80")
    assert "COLUMNS" not in environment() and environment(COLUMNS="120")["COLUMNS"] == "120"


def test_the_list_names_a_cluster_once(cluster: Cluster, discovery_port: int) -> None:
    """`als --list` shows the name beside the first address and the others below; programs get full lines."""

    table, tabbed, text = listings(discovery_port)
    rows = [line.split() for line in table.splitlines()[1:]]
    assert sum("office" in row for row in rows) == 1
    assert rows[0][0] == "office" and len(rows) >= 2
    assert all(len(row) == 2 for row in rows[1:])
    plain = [line.split("\t") for line in tabbed.splitlines()]
    assert {row[0] for row in plain} == {"office"} and len(plain) == len(rows)
    (document,) = json.loads(text)["rows"]
    assert len(document["addresses"]) == len(rows)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_program_moves_within_three_seconds(end: signal.Signals, cluster: Cluster, tmp_path: Path) -> None:
    """Killed or hanging: the license is renewed at the other server within 3 s of the heartbeat that found out."""
    where = {"server": cluster.addresses, "client_dir": tmp_path / "client", "computer": COMPUTER}
    with (
        Watch(cluster.servers[0]) as first,
        Watch(cluster.servers[1]) as second,
        LicensedComponent("BEAT", "agent", **where) as component,  # type: ignore[arg-type]  # a dict of several types
    ):
        using, other = (first, second) if first.engaged else (second, first)
        assert using.engaged and not other.engaged
        dying = cluster.servers[0 if using is first else 1]
        dying.signal(end)
        took_s = other.wait_for(lambda: other.engaged)
        assert took_s < HEARTBEAT_S_MAX + MOVED_S_MAX
        assert component.is_held and component.lost is None
        seen = other.renewed_at
        other.wait_for(lambda: other.renewed_at > seen + 1)  # and there it stays
        assert component.is_held
        dying.kill()


def test_an_agent_that_searched_moves_too(cluster: Cluster, discovery_port: int, tmp_path: Path) -> None:
    """`als-agent run` that was told no server finds both by one search, and goes on with the one that is left."""
    program = str(ALS.with_name("als-agent"))
    licence = ["--product", "BEAT", "--component", "agent", "--mac", "02:00:00:00:00:01", "--host", "pc-1"]
    variables = environment(ALS_CLIENT_DIR=str(tmp_path / "client"), ALS_DISCOVERY_PORT=str(discovery_port))
    variables["ALS_DATA_DIR"] = str(tmp_path / "none")
    with (
        subprocess.Popen([program, "run", *licence], env=variables, stdout=-1, stderr=-1, text=True) as agent,
        Watch(cluster.servers[0]) as first,
        Watch(cluster.servers[1]) as second,
    ):
        assert agent.stderr is not None and agent.stdout is not None
        assert "licensed by office" in agent.stderr.readline()
        using, other = (first, second) if first.engaged else (second, first)
        cluster.servers[0 if using is first else 1].kill()
        assert other.wait_for(lambda: other.engaged) < HEARTBEAT_S_MAX + MOVED_S_MAX
        agent.terminate()
        assert agent.wait(WAIT_S) == 0
        assert agent.stderr.read() == ""  # not a word: nothing was ever late
