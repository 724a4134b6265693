"""Kills at any moment: every change that was acknowledged is there afterwards, and the books agree.

Each computer, serial and key has at most one request under way, so that after a kill it is as acknowledged, or as the
one request under way would have it. The seed is printed when a test fails.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import books
from als.ledger.audit import Audit
from als.server.datadir import DataDir
from als.store.lmdb.store import LmdbStore
from contract_client import Client, new_keys
from server_process import ServerProcess, Site, environment

ROUNDS = 5
COMPUTERS = 150
SERIALS = 12
ADMINS = 6
WINDOW = 60  # requests under way
REPLIES_MAX = 900
SEED = random.SystemRandom().randrange(2**32)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One data folder for this module."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


def mistakes(data_dir: Path) -> list[str]:
    """Hold a stopped server's books against its leases, by the product's own check and by the tests' auditor."""
    store = LmdbStore(data_dir / "store")
    tx = store.snapshot()
    found = Audit(tx).run() + books.mistakes(tx, DataDir(data_dir).read_catalog(True))
    tx.abort()
    store.close()
    return found


class Thing:
    """Something that requests change: `state` is as acknowledged, `next` as the request under way would have it."""

    def __init__(self) -> None:
        self.state: Any = None
        self.next: Any = None
        self.waits = False

    @property
    def may_be(self) -> list[Any]:
        """The states in which it may be found after a kill."""
        return [self.state, self.next] if self.waits else [self.state]


class Load:
    """Sends requests of all kinds that change something, and knows what each reply acknowledged."""

    def __init__(self, site: Site, source: random.Random) -> None:
        self._site = site
        self._source = source
        self._product = site.product(COMPUTERS)  # the oldest serial: no lease is ever on another one
        self.code = self._product.code
        self._computers = [site.computer() for _ in range(COMPUTERS)]
        self._agent, self.admin_keys = new_keys(), site.admin.keys
        self.leases = {computer["macs"][0]: Thing() for computer in self._computers}
        self.serials = {site.vendor.issue(self._product.number, 1 + number): Thing() for number in range(SERIALS)}
        self.admins = {new_keys().raw: Thing() for _ in range(ADMINS)}
        self._under_way: dict[tuple[Client, int], tuple[Thing, Any]] = {}

    def run(self, replies: int) -> None:
        """Keep requests under way until so many replies have come, then kill the server."""
        agent, admin = self._site.client(self._agent), self._site.client(self.admin_keys)
        self._site.admin.close()
        for _ in range(replies):
            while len(self._under_way) < WINDOW:
                self._send(agent, admin)
            self._take(agent if agent.socket.poll(0) or not admin.socket.poll(0) else admin, agent, admin)
        self._site.server.kill()
        for client in (agent, admin):
            while client.socket.poll(0):  # what it had sent before
                self._take(client, agent, admin)
            client.close()

    def _take(self, client: Client, agent: Client, admin: Client) -> None:
        while not client.socket.poll(1):
            client = admin if client is agent else agent
        reply = client.receive()
        thing, after = self._under_way.pop((client, reply["id"]))
        thing.waits = False
        if reply["ok"]:
            thing.state = after(reply) if callable(after) else after
        else:
            assert reply["code"] in ("no_free_license", "unknown_lease", "serial_in_use", "unknown_serial"), reply

    def _send(self, agent: Client, admin: Client) -> None:
        kind = self._source.randrange(10)
        if kind < 8:
            computer = self._source.choice(self._computers)
            self._send_for(agent, admin, computer, self.leases[computer["macs"][0]])
        elif kind == 8:
            text, thing = self._source.choice(list(self.serials.items()))
            self._send_serial(admin, text, thing)
        else:
            key, thing = self._source.choice(list(self.admins.items()))
            if thing.state is None:
                self._post(admin, thing, "viewer", "admin_add", key=key, name="x", role="viewer")
            else:
                self._post(admin, thing, None, "admin_remove", key=key)

    def _send_for(self, agent: Client, admin: Client, computer: dict[str, Any], thing: Thing) -> None:
        fields = {"product": self.code, "component": "agent", "computer": computer}
        kind = self._source.randrange(6)
        if kind == 0 and thing.state:
            self._post(admin, thing, None, "revoke", product=self.code, mac=computer["macs"][0])
        elif kind == 1 and thing.state:
            self._post(agent, thing, None, "release", **fields)
        elif kind == 2:
            self._post(agent, thing, lambda reply: reply["lease"]["renew_by"], "acquire", **fields)
        else:
            self._post(agent, thing, lambda reply: reply["renew_by"], "renew", **fields)

    def _send_serial(self, admin: Client, text: str, thing: Thing) -> None:
        if thing.state is None:
            self._post(admin, thing, "valid", "import", serials=[text])
        else:
            serial_id = self._serial_id(text)
            self._post(admin, thing, None, "remove", serial_id=serial_id, force=self._source.random() < 0.5)

    def _serial_id(self, text: str) -> str:
        return self._product._replace(serials=(text,)).serial_ids[0]

    def _post(self, client: Client, thing: Thing, after: Any, operation: str, **fields: Any) -> None:
        if thing.waits:
            return
        thing.waits, thing.next = True, after
        self._under_way[client, client.send(operation, **fields)] = thing, after

    def check(self, admin: Client) -> None:
        """Hold what the restarted server has against what was acknowledged."""
        self._under_way.clear()
        rows = {row["mac"]: row for row in admin.rows("leases", product=self.code, state="active")}
        for mac, thing in self.leases.items():
            row = rows.get(mac)
            assert self._fits(row, thing), (row, vars(thing))
        found = {row["serial"] for row in admin.rows("licenses", product=self.code) if row["state"] == "valid"}
        for text, thing in self.serials.items():
            assert ("valid" if text in found else None) in thing.may_be, vars(thing)
        roles = {row["key"]: row["role"] for row in admin.rows("admins")}
        for key, thing in self.admins.items():
            assert roles.get(key) in thing.may_be, vars(thing)

    @staticmethod
    def _fits(row: dict[str, Any] | None, thing: Thing) -> bool:
        """Say whether a lease is as acknowledged, or as the request under way would have it."""
        if row is None:
            return None in thing.may_be
        known = [state for state in thing.may_be if state is not None]
        return any(callable(state) or row["renew_by"] >= state for state in known)


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_acknowledged_changes_and_books_survive(site: Site, round_number: int) -> None:
    """After a kill in the midst of all kinds of changes, each acknowledged one is there and the books agree."""
    print(f"seed {SEED}, round {round_number}")  # noqa: T201 - shown when the test fails
    source = random.Random(SEED + round_number)
    load = Load(site, source)
    load.run(source.randrange(REPLIES_MAX))
    assert mistakes(site.server.data_dir) == []
    site.reconnect()
    load.check(site.admin)


def test_a_removal_goes_on_after_a_kill(site: Site) -> None:
    """A serial whose leases are being removed step by step counts no more after a kill, and is removed to the end."""
    product, agent = site.product(600), site.client()
    agent.replies_to(
        [agent.send("acquire", product=product.code, component="agent", computer=site.computer()) for _ in range(600)]
    )
    site.admin.ask("remove", serial_id=product.serial_ids[0], force=True)
    site.server.kill()
    agent.close()
    assert mistakes(site.server.data_dir) == []
    site.reconnect()
    assert site.admin.ask("check", product=product.code)["total"] == 0
    site.admin.wait_until(lambda reply: not reply["rows"], "leases", product=product.code)
    assert site.server.stop() == 0
    assert mistakes(site.server.data_dir) == []
    site.reconnect()


def test_kills_at_the_first_start(tmp_path: Path) -> None:
    """A first start that is killed at any moment leaves a folder with which the next one works, identity and all."""
    print(f"seed {SEED}")  # noqa: T201 - shown when the test fails
    source = random.Random(SEED)
    data_dir = tmp_path / "data"
    identity: bytes | None = None
    for _ in range(5):
        start_and_kill(data_dir, source.uniform(0.2, 0.8))
        path = data_dir / "server.key_secret"
        if path.exists():
            assert identity in (None, path.read_bytes())
            identity = path.read_bytes()
    with ServerProcess(data_dir) as server:
        with Client(server.port, server.server_key, server.admin_keys) as admin:
            assert admin.ask("hello")["your_role"] == "admin"
        assert identity in (None, (data_dir / "server.key_secret").read_bytes())
        assert server.stop() == 0
    assert mistakes(data_dir) == []


def start_and_kill(data_dir: Path, after_s: float) -> None:
    """Start a server and kill it so many seconds later, ready or not."""
    program = str(Path(sys.executable).with_name("als-server"))
    options = ("--data-dir", str(data_dir), "--bind", "127.0.0.1", "--port", "0", "--discovery-port", "0")
    with subprocess.Popen(
        [program, "run", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        try:
            process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            raise AssertionError("the server ended by itself")


@pytest.mark.parametrize("name", ["server", "admin"])
def test_a_lost_public_key_file_is_written_again(tmp_path: Path, name: str) -> None:
    """A start that was killed between the two files of a key pair leaves no tool without the public one."""
    with ServerProcess(tmp_path) as server:
        path = tmp_path / f"{name}.key"
        public = path.read_bytes()
        assert server.stop() == 0
        path.unlink()
        server.start()
        assert path.read_bytes() == public
