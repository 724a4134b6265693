"""The administrators' operations over a real server, key by key as the protocol document has them."""

from collections.abc import Iterator
from typing import Any

import pytest

from cluster_site import ENGINES, ClusterSite, site_on
from contract_client import (
    ADMIN,
    DAY_S,
    DAY_ZERO_S,
    EVENT,
    LEASE,
    LICENSE,
    POOL,
    USAGE,
    Client,
    day_number,
    new_keys,
)
from server_process import Product, Site, counted, kinds_of

ROLES = ["agent", "deployer", "viewer", "operator", "admin"]


@pytest.fixture(scope="module", params=ENGINES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module, and two that share an etcd."""
    with site_on(request.param, tmp_path_factory.mktemp("site"), request) as site:
        yield site


def acquire(site: Site, product: Product, **computer: Any) -> dict[str, Any]:
    """Engage a seat on a new computer; give the lease."""
    wanted = {"product": product.code, "component": "agent", "computer": site.computer(**computer)}
    lease: dict[str, Any] = site.admin.ask("acquire", **wanted)["lease"]
    return lease


# What each operation takes, and the least role that may ask for it.
NEEDED: list[tuple[str, str, dict[str, Any]]] = [
    ("status", "viewer", {}),
    ("licenses", "viewer", {}),
    ("leases", "viewer", {}),
    ("events", "viewer", {}),
    ("usage", "viewer", {"product": "ATIES", "since": 0, "until": 1}),
    ("import", "operator", {"serials": ["x"]}),
    ("revoke", "operator", {"product": "ATIES", "mac": bytes(6)}),
    ("remove", "admin", {"serial_id": "ATIES-0000000000000"}),
    ("admins", "admin", {}),
    ("admin_add", "admin", {"key": bytes(32), "name": "nobody", "role": "viewer"}),
    ("admin_remove", "admin", {"key": bytes(32)}),
]


@pytest.mark.parametrize(("operation", "needed", "fields"), NEEDED)
def test_roles(site: Site, operation: str, needed: str, fields: dict[str, Any]) -> None:
    """Every role below the needed one is refused with its name, and from the needed one on it is not."""
    for role in ROLES:
        if operation in ("admin_add", "admin_remove") and role == "admin":
            continue  # tested where they change something on purpose
        client = site.with_role(role)
        reply = client.reply_to(client.send(operation, **fields))
        if ROLES.index(role) < ROLES.index(needed):
            assert (reply["code"], reply["detail"]) == ("not_authorized", {"role": needed})
            assert needed in reply["message"]
        else:
            assert reply["ok"] or reply["code"] in ("unknown_lease", "unknown_serial")


def test_unknown_key_is_an_agent(site: Site) -> None:
    """A key that is in no table is refused what a viewer may see."""
    refused = site.client().refused("status")
    assert (refused.code, refused.detail) == ("not_authorized", {"role": "viewer"})


def test_status(site: Site) -> None:
    """Status has exactly the document's keys, and counts what was done."""
    product = site.product(2, 3)
    acquire(site, product)
    reply = site.with_role("viewer").ask("status")
    assert set(reply) == {"server", "pools", "counts", "rates"}
    server = reply["server"]
    assert set(server) == {
        *("server_id", "name", "version", "started_at", "engine", "clock", "outages", "replies_dropped"),
        "cluster",
    }
    hello = site.admin.ask("hello")
    assert [server[key] for key in ("server_id", "name", "version")] == [
        hello[key] for key in ("server_id", "name", "version")
    ]
    assert server["clock"] == {"state": "ok", "behind_s": 0}
    assert (server["outages"], server["replies_dropped"]) == ([], 0)
    assert (server["cluster"] is None) == (not isinstance(site, ClusterSite))
    assert type(server["engine"]) is str
    assert 0 <= site.now_s() - server["started_at"] < 600
    assert set(reply["counts"]) == {"serials", "leases", "computers", "events"}
    assert all(type(count) is int and count > 0 for count in reply["counts"].values())
    assert set(reply["rates"]) == {"requests_per_s", "renewals_per_s"}
    assert all(type(rate) in (int, float) and rate >= 0 for rate in reply["rates"].values())
    assert all(set(pool) == POOL for pool in reply["pools"])
    assert pool_of(site, product) == {
        "product": product.code,
        "product_name": f"Product {product.code}",
        **{"total": 5, "free": 4, "used": 1, "lapsed": 0, "on_expired": 0, "denied_24h": 0},
        **{"expiring_30d": 0, "next_expiry": None},
    }


def pool_of(site: Site, product: Product) -> dict[str, Any]:
    """Give the product's row of status."""
    pools = site.admin.ask("status")["pools"]
    found: list[dict[str, Any]] = [pool for pool in pools if pool["product"] == product.code]
    assert len(found) == 1
    return found[0]


def test_status_of_denials_and_endings(site: Site) -> None:
    """A pool tells of denials and of seats that end within 30 days."""
    product = site.product(1)
    today = day_number(site.now_s())
    assert site.import_one(site.vendor.issue(product.number, 4, last_day=today + 9))[0] == "added"
    assert site.import_one(site.vendor.issue(product.number, 7, last_day=today + 60))[0] == "added"
    pool = pool_of(site, product)
    assert (pool["total"], pool["expiring_30d"]) == (12, 4)
    assert pool["next_expiry"] == DAY_ZERO_S + (today + 10) * DAY_S
    empty = site.product()
    wanted = {"product": empty.code, "component": "agent", "computer": site.computer()}
    assert site.admin.refused("acquire", **wanted).code == "no_free_license"
    assert pool_of(site, empty)["denied_24h"] == 1


def test_licenses(site: Site) -> None:
    """A license row has exactly the document's keys and tells a serial's seats."""
    product = site.product(3)
    acquire(site, product)
    rows = site.with_role("viewer").rows("licenses", product=product.code)
    assert [set(row) for row in rows] == [LICENSE]
    row = rows[0]
    assert 0 <= site.now_s() - row["imported_at"] < 600
    assert row == {
        "product": product.code,
        "product_name": f"Product {product.code}",
        "serial": product.serials[0],
        "serial_id": product.serial_ids[0],
        "imported_at": row["imported_at"],
        **{"expires_at": None, "trial": False, "total": 3, "free": 2, "used": 1, "state": "valid"},
    }


def test_seats_without_end_go_first(site: Site) -> None:
    """A seat comes from the serial without an end, then from the one that ends last."""
    product, today = site.product(), day_number(site.now_s())
    serials = [site.vendor.issue(product.number, last_day=last_day) for last_day in (today + 9, today + 90, 0)]
    assert [site.import_one(serial)[0] for serial in serials] == ["added"] * 3
    assert [acquire(site, product)["serial"] for _ in range(3)] == serials[::-1]


def test_pages(site: Site) -> None:
    """Paging through licenses and leases gives every row once, whatever the page's size."""
    product = site.product(*[1] * 5)
    hosts = {acquire(site, product)["host"] for _ in range(5)}
    for limit in (1, 2, 5, 1000, None):
        rows = site.admin.rows("licenses", product=product.code, limit=limit)
        assert sorted(row["serial_id"] for row in rows) == sorted(product.serial_ids)
        rows = site.admin.rows("leases", product=product.code, limit=limit)
        assert sorted(row["host"] for row in rows) == sorted(hosts)
    for operation in ("licenses", "leases", "events", "admins"):
        page = site.admin.ask(operation, limit=1)
        assert len(page["rows"]) <= 1
        whole = site.admin.rows(operation, limit=1000)
        assert site.admin.rows(operation, limit=7)[: len(whole)] == whole


def test_leases_filters(site: Site) -> None:
    """Leases can be listed by product, host, serial and state, singly and together."""
    product = site.product(1, 1)
    first, second = acquire(site, product, kind="workstation"), acquire(site, product)
    viewer = site.with_role("viewer")
    assert [set(row) for row in viewer.rows("leases", product=product.code)] == [LEASE, LEASE]
    for fields, expected in (
        ({"host": first["host"]}, [first]),
        ({"serial_id": second["serial_id"]}, [second]),
        ({"product": product.code, "state": "lapsed"}, []),
        ({"product": product.code, "state": "expired"}, []),
        ({"product": product.code, "host": second["host"], "state": "active"}, [second]),
        ({"serial_id": first["serial_id"], "host": second["host"]}, []),
    ):
        assert viewer.rows("leases", **fields) == expected


def test_revoke(site: Site) -> None:
    """An operator frees a computer's seat; there is nothing to revoke a second time."""
    product, kept = site.product(1), site.product(1, kind="KEEP")
    lease, kept_lease = acquire(site, product), acquire(site, kept)
    operator = site.with_role("operator")
    assert operator.ask("revoke", product=product.code, mac=lease["mac"]) == {"result": "freed"}
    assert counted(operator, product) == (1, 0, 1)
    assert operator.refused("revoke", product=product.code, mac=lease["mac"]).code == "unknown_lease"
    assert operator.refused("revoke", product=product.code, mac=b"nobody").code == "unknown_lease"
    assert operator.refused("revoke", product=kept.code, mac=kept_lease["mac"]).code == "not_reusable"
    assert counted(operator, kept) == (1, 1, 0)


def test_remove(site: Site) -> None:
    """A serial in use is taken out only by force, with its leases, and can be imported again."""
    product = site.product(2)
    serial_id = product.serial_ids[0]
    leases = [acquire(site, product) for _ in range(2)]
    refused = site.admin.refused("remove", serial_id=serial_id)
    assert (refused.code, refused.detail) == ("serial_in_use", {"leases": 2})
    assert site.admin.refused("remove", serial_id=serial_id, force=False).code == "serial_in_use"
    site.admin.ask("remove", serial_id=serial_id, force=True)
    assert counted(site.admin, product) == (0, 0, 0)
    for operation in ("licenses", "leases"):
        site.admin.wait_until(lambda reply: not reply["rows"], operation, product=product.code)
    assert site.admin.refused("remove", serial_id=serial_id, force=True).code == "unknown_serial"
    computer = {"macs": [leases[0]["mac"]], "host": "h", "address": ""}
    refused = site.admin.refused("renew", product=product.code, component="agent", computer=computer)
    assert refused.code == "no_free_license"
    assert site.import_one(product.serials[0]) == ("added", serial_id)
    assert counted(site.admin, product) == (2, 0, 2)
    site.admin.ask("remove", serial_id=serial_id)
    assert counted(site.admin, product) == (0, 0, 0)
    site.admin.wait_until(lambda reply: not reply["rows"], "licenses", product=product.code)


def test_removed_serial_of_kept_product_comes_back_engaged(site: Site) -> None:
    """A product that never gives seats back remembers its computers through removal and new import."""
    product = site.product(3, kind="KEEP")
    leases = [acquire(site, product) for _ in range(2)]
    site.admin.ask("remove", serial_id=product.serial_ids[0], force=True)
    site.admin.wait_until(lambda reply: not reply["rows"], "licenses", product=product.code)
    assert counted(site.admin, product) == (0, 0, 0)
    assert site.import_one(product.serials[0])[0] == "added"
    site.admin.wait_until(lambda reply: reply["used"] == 2, "check", product=product.code)
    rows = site.admin.rows("leases", product=product.code, state="active")
    assert sorted(row["mac"] for row in rows) == sorted(lease["mac"] for lease in leases)


def test_events(site: Site) -> None:
    """The log tells of every change of a product, in order, with exactly the document's keys."""
    product, operator = site.product(1), site.with_role("operator")
    wanted: dict[str, Any] = {"product": product.code, "computer": site.computer()}
    agent = site.client()
    agent.ask("acquire", component="agent", **wanted)
    agent.ask("acquire", component="shield", **wanted)
    agent.ask("release", component="shield", **wanted)
    other = wanted | {"computer": site.computer()}
    agent.refused("acquire", component="agent", **other)
    agent.ask("release", component="agent", **wanted)
    lease = agent.ask("acquire", component="agent", **other)["lease"]
    operator.ask("revoke", product=product.code, mac=lease["mac"])
    site.admin.ask("remove", serial_id=product.serial_ids[0])
    rows = site.with_role("viewer").rows("events", product=product.code)
    assert all(set(row) == EVENT for row in rows)
    assert [row["kind"] for row in rows] == [
        *("imported", "granted", "component_added", "component_removed", "denied", "freed", "granted"),
        *("revoked", "removed"),
    ]
    numbers = [row["seq"] for row in rows]
    assert numbers == sorted(set(numbers))
    granted, denied, revoked = rows[1], rows[4], rows[7]
    assert (granted["mac"], granted["host"]) == (wanted["computer"]["macs"][0], wanted["computer"]["host"])
    assert (granted["component"], granted["serial_id"]) == ("agent", product.serial_ids[0])
    assert granted["actor"] is None
    assert (denied["count"], denied["mac"]) == (1, other["computer"]["macs"][0])
    assert (revoked["actor"], revoked["mac"]) == ("the operator", lease["mac"])
    only = site.admin.rows("events", product=product.code, kind="granted")
    assert [row["seq"] for row in only] == [rows[1]["seq"], rows[6]["seq"]]
    assert site.admin.rows("events", kind="no-such-kind") == []


def test_events_of_two_computers_in_one_request(site: Site) -> None:
    """A request with the addresses of two known computers leaves an event and takes the first one's lease."""
    product = site.product(3)
    first, second = acquire(site, product), acquire(site, product)
    both = site.computer(macs=[first["mac"], second["mac"]])
    wanted = {"product": product.code, "component": "agent", "computer": both}
    assert site.admin.ask("acquire", **wanted)["result"] == "already_held"
    events = site.admin.rows("events", kind="computers_conflict")
    assert first["mac"] in [event["mac"] for event in events]


def test_events_of_the_server(site: Site) -> None:
    """The server's own start is in the log."""
    assert site.admin.rows("events", kind="started")


def test_usage(site: Site) -> None:
    """The history of a product has a row for each hour with the seats used and what happened."""
    product = site.product(1)
    acquire(site, product)
    wanted = {"product": product.code, "component": "agent", "computer": site.computer()}
    site.admin.refused("acquire", **wanted)
    now = site.now_s()
    viewer = site.with_role("viewer")
    rows = viewer.rows("usage", product=product.code, since=now - 7200, until=now + 7200)
    assert rows
    assert all(set(row) == USAGE for row in rows)
    assert all(row["hour"] % 3600 == 0 for row in rows)
    assert (max(row["used_max"] for row in rows), rows[-1]["total"]) == (1, 1)
    assert (sum(row["granted"] for row in rows), sum(row["denied"] for row in rows)) == (1, 1)
    assert sum(row["lapsed"] for row in rows) == 0
    assert viewer.rows("usage", product=product.code, since=0, until=7200) == []


def events_of_admin(site: Site, name: str) -> list[str]:
    """Give the kinds of the events about the administrator with this name."""
    return kinds_of(site.admin.rows("events"), lambda event: name in str(event))


def test_admins(site: Site) -> None:
    """Administrators are listed, added, changed and removed, each with its event; repeats change nothing."""
    keys, name = new_keys(), "somebody new"
    fields = {"key": keys.raw, "name": name}
    assert site.admin.ask("admin_add", role="viewer", **fields) == {"result": "added"}
    assert site.admin.ask("admin_add", role="viewer", **fields) == {"result": "already_present"}
    assert site.admin.ask("admin_add", role="operator", **fields) == {"result": "changed"}
    rows = site.admin.rows("admins")
    assert all(set(row) == ADMIN for row in rows)
    by_key = {row["key"]: row for row in rows}
    own, new = by_key[site.admin.keys.raw], by_key[keys.raw]
    assert own["role"] == "admin"
    assert (new["name"], new["role"], new["added_by"]) == (name, "operator", own["name"])
    assert 0 <= site.now_s() - new["added_at"] < 600
    assert site.admin.ask("admin_remove", key=keys.raw) == {"result": "removed"}
    assert site.admin.ask("admin_remove", key=keys.raw) == {"result": "not_present"}
    assert keys.raw not in {row["key"] for row in site.admin.rows("admins")}
    assert events_of_admin(site, name) == ["admin_added", "admin_changed", "admin_removed"]


def test_roles_change_at_once(site: Site) -> None:
    """A role given or taken away holds from the next request on a connection that is already open."""
    client: Client = site.client()
    assert client.refused("status").code == "not_authorized"
    site.admin.ask("admin_add", key=client.keys.raw, name="x", role="viewer")
    client.ask("status")
    site.admin.ask("admin_add", key=client.keys.raw, name="x", role="deployer")
    assert client.refused("status").code == "not_authorized"
    site.admin.ask("admin_remove", key=client.keys.raw)
    assert client.ask("hello")["your_role"] == "agent"
