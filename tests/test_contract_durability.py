"""What a reply has acknowledged is there after the server was killed, at whatever moment."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from contract_client import Client, new_keys
from server_process import Product, Site

ROUNDS = 6
REQUESTS_PER_ROUND = 300
SEED = 20_070_401


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One data folder for this module, whose server is killed again and again."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


def restart(site: Site) -> None:
    """Kill the server and start it again, on the same port."""
    port, hello = site.server.port, site.admin.ask("hello")
    site.server.kill()
    site.reconnect()
    assert site.server.port == port
    assert site.admin.ask("hello") == hello


class Fleet:
    """Computers that take, renew and give back seats, and what the server has acknowledged of that."""

    def __init__(self, site: Site, product: Product, source: random.Random) -> None:
        self._site = site
        self._product = product
        self._source = source
        self._computers = [site.computer() for _ in range(120)]
        self._under_way: dict[int, tuple[str, bytes]] = {}
        self.acknowledged: dict[bytes, int | None] = {}  # MAC -> renew_by, None when given back
        self.unclear: set[bytes] = set()

    def send(self, client: Client, requests: int) -> list[int]:
        """Send requests of all kinds for different computers, without waiting."""
        chosen = self._source.choices(self._computers, k=requests)
        return [self._send_one(client, computer) for computer in chosen]

    def _send_one(self, client: Client, computer: dict[str, Any]) -> int:
        operation = self._source.choice(("acquire", "renew", "renew", "release"))
        fields = {"product": self._product.code, "component": "agent", "computer": computer}
        request_id = client.send(operation, **fields)
        self._under_way[request_id] = (operation, computer["macs"][0])
        return request_id

    def receive(self, client: Client, replies: int) -> None:
        """Take so many replies; what the rest did is unclear until asked."""
        for _ in range(replies):
            reply = client.receive()
            operation, mac = self._under_way.pop(reply["id"])
            assert reply["ok"], reply
            self.acknowledged[mac] = self._renew_by(operation, reply)
        self.unclear = {mac for _, mac in self._under_way.values()}
        self._under_way.clear()

    @staticmethod
    def _renew_by(operation: str, reply: dict[str, Any]) -> int | None:
        if operation == "release":
            return None
        if operation == "renew":
            renew_by: int = reply["renew_by"]
            return renew_by
        lease_renew_by: int = reply["lease"]["renew_by"]
        return lease_renew_by


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_acknowledged_changes_survive_a_kill(site: Site, round_number: int) -> None:
    """Grants, renewals and releases acknowledged before a kill at a random moment are there after it."""
    source = random.Random(SEED + round_number)
    product = site.product(200)
    fleet = Fleet(site, product, source)
    keys = new_keys()  # the holder of all these leases, before and after
    client = site.client(keys)
    fleet.send(client, REQUESTS_PER_ROUND)
    fleet.receive(client, source.randrange(REQUESTS_PER_ROUND))
    site.server.kill()
    client.close()
    site.reconnect()
    rows = {row["mac"]: row for row in site.admin.rows("leases", product=product.code, limit=50)}
    for mac, renew_by in fleet.acknowledged.items():
        if mac in fleet.unclear:
            continue
        if renew_by is None:
            assert mac not in rows, f"seed {SEED + round_number}"
        else:
            assert rows[mac]["renew_by"] >= renew_by, f"seed {SEED + round_number}"
    used = site.admin.ask("check", product=product.code)["used"]
    assert used == sum(row["state"] == "active" for row in rows.values())


def assert_kept(rows: list[dict[str, Any]], lease: dict[str, Any]) -> None:
    """Check that a lease is the only one, as it was told; the outage of the restart may only make it longer."""
    (row,) = rows
    assert row | {"renew_by": None} == lease | {"renew_by": None}
    assert row["renew_by"] >= lease["renew_by"]


def test_each_reply_is_durable(site: Site) -> None:
    """A kill right after one reply loses nothing of it, for each operation that changes something."""
    product, admin = site.product(), new_keys()
    serial = site.vendor.issue(product.number, 2)
    wanted = {"product": product.code, "component": "agent", "computer": site.computer()}
    keys = new_keys()

    site.admin.ask("import", serials=[serial])
    restart(site)
    (row,) = site.admin.rows("licenses", product=product.code)
    assert row["serial"] == serial

    lease = site.client(keys).ask("acquire", **wanted)["lease"]
    restart(site)
    assert_kept(site.admin.rows("leases", product=product.code), lease)

    later = site.client(keys).wait_until(
        lambda reply: reply["lease"]["renewed_at"] > lease["renewed_at"], "renew", want_lease=True, **wanted
    )
    restart(site)
    assert_kept(site.admin.rows("leases", product=product.code), later["lease"])

    site.client(keys).ask("acquire", **(wanted | {"component": "shield"}))
    restart(site)
    (row,) = site.admin.rows("leases", product=product.code)
    assert sorted(row["components"]) == ["agent", "shield"]

    site.admin.ask("revoke", product=product.code, mac=lease["mac"])
    site.admin.ask("admin_add", key=admin.raw, name="new", role="viewer")
    restart(site)
    assert site.admin.rows("leases", product=product.code, state="active") == []
    assert site.client(admin).ask("hello")["your_role"] == "viewer"

    site.admin.ask("remove", serial_id=row["serial_id"])
    site.admin.ask("admin_remove", key=admin.raw)
    restart(site)
    assert site.admin.rows("licenses", product=product.code) == []
    assert site.client(admin).ask("hello")["your_role"] == "agent"
    kinds = [event["kind"] for event in site.admin.rows("events", product=product.code)]
    assert kinds == ["imported", "granted", "component_added", "revoked", "removed"]


def test_stop_and_start_again(site: Site) -> None:
    """A clean stop keeps everything, the server's identity too."""
    before, key = site.admin.ask("hello"), site.server.server_key
    product = site.product(1)
    assert site.server.stop() == 0
    site.reconnect()
    assert site.admin.ask("hello") == before
    assert site.server.server_key == key
    assert [row["serial_id"] for row in site.admin.rows("licenses", product=product.code)] == list(product.serial_ids)
    assert site.admin.rows("events", kind="stopped")
