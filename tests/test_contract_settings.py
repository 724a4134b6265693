"""What als.toml changes on the wire: who may acquire, and how many new seats one address may engage."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from contract_client import Client, new_keys
from server_process import Product, Site, counted

SETTINGS = """\
agents = "listed"
new_seats_per_address_h = 3
"""


def own_address() -> str | None:
    """Find an IPv4 address of this machine that is not loopback."""
    addresses = [item.address for items in psutil.net_if_addrs().values() for item in items if item.family == 2]
    return next((address for address in addresses if not address.startswith("127.")), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module, on an address where R17 holds when the machine has one."""
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, settings=SETTINGS, bind=own_address() or "127.0.0.1") as site:
        yield site


def acquire(site: Site, client: Client, product: Product) -> dict[str, Any]:
    """Ask for a seat for a new computer; give the reply."""
    fields = {"product": product.code, "component": "agent", "computer": site.computer()}
    return client.reply_to(client.send("acquire", **fields))


def test_only_listed_agents_acquire(site: Site) -> None:
    """With agents = "listed" a key must be in the table to acquire, and may still ask what is free."""
    product, unlisted = site.product(1), site.client()
    key = unlisted.keys.raw.hex()
    for operation in ("acquire", "renew"):
        wanted = {"product": product.code, "component": "agent", "computer": site.computer()}
        refused = unlisted.refused(operation, **wanted)
        assert refused.code == "not_authorized" and key in refused.message
    denied = [row for row in site.admin.rows("events") if row["kind"] == "denied" and row["product"] == product.code]
    told = {"reason": "not_authorized", "key": key}
    assert [row["detail"] for row in denied] == [told, told], "each of the two computers, with the key to add"
    assert counted(unlisted, product) == (1, 0, 1)
    assert unlisted.ask("hello")["your_role"] == "agent"
    assert acquire(site, site.with_role("agent"), product)["result"] == "granted"


@pytest.mark.skipif(own_address() is None, reason="this machine has no address but the loopback's")
def test_new_seats_per_address(site: Site) -> None:
    """An address engages only so many new seats an hour, except on behalf of a deployment server."""
    product, agent = site.product(20), site.with_role("agent")
    replies = [acquire(site, agent, product) for _ in range(6)]
    codes = [reply.get("code") for reply in replies]
    assert "too_many" in codes
    assert codes.index("too_many") <= 3
    assert set(codes[codes.index("too_many") :]) == {"too_many"}
    deployer = site.with_role("deployer")
    assert [acquire(site, deployer, product)["ok"] for _ in range(6)] == [True] * 6


def test_last_admin_stays(site: Site) -> None:
    """The last administrator can neither be removed nor be given a lesser role."""
    own = site.admin.keys.raw
    other = new_keys()
    for fields in ({"name": "other", "role": "operator"}, {"name": "other", "role": "viewer"}):
        site.admin.ask("admin_add", key=other.raw, **fields)
        assert site.admin.refused("admin_remove", key=own).code == "last_admin"
    assert site.admin.refused("admin_add", key=own, name="me", role="viewer").code == "last_admin"
    assert site.admin.ask("hello")["your_role"] == "admin"
    site.admin.ask("admin_add", key=other.raw, name="other", role="admin")
    assert site.admin.ask("admin_remove", key=own) == {"result": "removed"}
    assert site.admin.refused("admins").code == "not_authorized"
    successor = site.client(other)
    assert [row["key"] for row in successor.rows("admins") if row["role"] == "admin"] == [other.raw]
    assert successor.refused("admin_remove", key=other.raw).code == "last_admin"
