"""What time brings, over a real server with clocks that the test moves: ends, holders, denials, bad clocks."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shifted_server
from contract_client import DAY_S, LEASE, LICENSE, day_number, new_keys
from server_process import Product, Site, counted

HOUR_S = 3_600


class Clocks:
    """The clocks of the module's server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wall_s = self._monotonic_s = 0.0
        self.move()

    def move(self, wall_s: float = 0.0, monotonic_s: float = 0.0) -> None:
        """Set the clocks forward, or back."""
        self._wall_s += wall_s
        self._monotonic_s += monotonic_s
        new = self.path.with_suffix(".new")
        new.write_text(f"{self._wall_s} {self._monotonic_s}", encoding="ascii")
        new.replace(self.path)

    def pass_time(self, seconds: float) -> None:
        """Let time go by for both clocks."""
        self.move(seconds, seconds)


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Clocks:
    """The clocks of this module, which stand as the machine's until moved."""
    return Clocks(tmp_path_factory.mktemp("clocks") / "shift")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, clocks: Clocks) -> Iterator[Site]:
    """One server for this module."""
    program = (sys.executable, shifted_server.__file__)
    variables = {shifted_server.SHIFT_VARIABLE: str(clocks.path)}
    with Site(tmp_path_factory.mktemp("site"), program=program, variables=variables) as site:
        yield site


def import_until(site: Site, product: Product, seats: int, days: int) -> str:
    """Import a serial whose last valid day is so many days ahead; give its short id."""
    last_day = day_number(site.now_s()) + days
    result, serial_id = site.import_one(site.vendor.issue(product.number, seats, last_day=last_day))
    assert result == "added"
    assert serial_id is not None
    return serial_id


def wish(site: Site, product: Product) -> dict[str, Any]:
    """Give a request's fields for a new computer."""
    return {"product": product.code, "component": "agent", "computer": site.computer()}


def test_ended_serial(site: Site, clocks: Clocks) -> None:
    """When a serial ends its leases move at their next run as far as others have seats; the rest are refused."""
    product, agent = site.product(), site.client()
    ending = import_until(site, product, 2, days=4)
    first, second = wish(site, product), wish(site, product)
    for wanted in (first, second):
        assert agent.ask("acquire", **wanted)["lease"]["serial_id"] == ending
    lasting = import_until(site, product, 1, days=100)
    clocks.pass_time(10 * DAY_S)

    rows = {row["serial_id"]: row for row in site.admin.rows("licenses", product=product.code)}
    assert set(rows[ending]) == LICENSE
    assert [rows[ending][key] for key in ("state", "total", "used", "free")] == ["expired", 2, 2, 0]
    assert [rows[lasting][key] for key in ("state", "total", "used", "free")] == ["valid", 1, 0, 1]
    leases = site.admin.rows("leases", product=product.code)
    assert [row["state"] for row in leases] == ["expired", "expired"]
    assert site.admin.rows("leases", product=product.code, state="expired") == leases
    pool = next(row for row in site.admin.ask("status")["pools"] if row["product"] == product.code)
    assert [pool[key] for key in ("total", "used", "free", "on_expired")] == [1, 0, 1, 2]

    moved = agent.ask("renew", **first)
    assert moved["result"] == "renewed"
    assert set(moved["lease"]) == LEASE
    assert (moved["lease"]["serial_id"], moved["lease"]["state"]) == (lasting, "active")
    assert moved["lease"]["acquired_at"] == leases[0]["acquired_at"]
    assert agent.ask("renew", **first)["lease"] is None
    for operation in ("renew", "acquire"):
        assert agent.refused(operation, **second).code == "license_expired"
    assert agent.refused("acquire", **wish(site, product)).code == "no_free_license"
    kinds = [event["kind"] for event in site.admin.rows("events", product=product.code)]
    assert kinds == ["imported", "granted", "granted", "imported", "moved", "denied", "denied"]


def test_only_ended_serials(site: Site, clocks: Clocks) -> None:
    """A product with nothing but ended serials refuses new computers as expired."""
    product = site.product()
    import_until(site, product, 5, days=1)
    clocks.pass_time(3 * DAY_S)
    for operation in ("acquire", "renew"):
        assert site.admin.refused(operation, **wish(site, product)).code == "license_expired"
    assert counted(site.admin, product) == (0, 0, 0)


def test_last_valid_second(site: Site, clocks: Clocks) -> None:
    """A serial is good up to the second before its expires_at, and not at it."""
    product, agent = site.product(), site.client()
    import_until(site, product, 5, days=2)
    end = site.admin.rows("licenses", product=product.code)[0]["expires_at"]
    clocks.pass_time(end - site.now_s() - 30)
    wanted = wish(site, product)
    assert agent.ask("acquire", **wanted)["result"] == "granted"
    assert agent.ask("renew", **wanted)["result"] == "renewed"
    clocks.pass_time(31)
    assert site.now_s() < end + 60
    assert agent.refused("acquire", **wish(site, product)).code == "license_expired"
    assert agent.refused("renew", **wanted).code == "license_expired"


def test_ended_trial_is_not_imported_again(site: Site, clocks: Clocks) -> None:
    """A trial whose days are over stays so after it was removed."""
    product = site.product()
    serial = site.vendor.issue(product.number, trial=True, trial_days=3)
    serial_id = site.import_one(serial)[1]
    clocks.pass_time(4 * DAY_S)
    assert site.admin.rows("licenses", product=product.code)[0]["state"] == "expired"
    site.admin.ask("remove", serial_id=serial_id)
    assert site.import_one(serial) == ("expired", serial_id)


def test_silent_holder_is_replaced(site: Site, clocks: Clocks) -> None:
    """A component's holder changes to the key that renews it once the old one was silent for long."""
    product, old, new = site.product(1), site.client(), site.client(new_keys())
    wanted = wish(site, product)
    old.ask("acquire", **wanted)
    assert new.ask("renew", **wanted)["result"] == "renewed"
    assert new.refused("release", **wanted).code == "not_holder"
    clocks.pass_time(3 * HOUR_S)
    assert new.ask("renew", **wanted)["result"] == "renewed"
    assert old.refused("release", **wanted).code == "not_holder"
    assert new.ask("release", **wanted) == {"result": "freed"}
    kinds = [event["kind"] for event in site.admin.rows("events", product=product.code)]
    assert kinds == ["imported", "granted", "holder_changed", "freed"]


def test_repeated_denials_are_merged(site: Site, clocks: Clocks) -> None:
    """The first denial of a computer is an event at once, its repeats in the hour are one more with their count."""
    product = site.product()
    wanted = wish(site, product)
    for _ in range(5):
        assert site.admin.refused("acquire", **wanted).code == "no_free_license"
    events = site.admin.rows("events", product=product.code, kind="denied")
    assert [event["count"] for event in events] == [1]
    clocks.pass_time(2 * HOUR_S)
    merged = site.admin.wait_until(
        lambda reply: len(reply["rows"]) == 2, "events", product=product.code, kind="denied"
    )["rows"]
    assert [event["count"] for event in merged] == [1, 4]
    assert merged[1]["mac"] == wanted["computer"]["macs"][0]


def test_outage_does_not_count_against_leases(site: Site, clocks: Clocks) -> None:
    """Time in which the server did not run is an outage in the status, and leases live on for as long."""
    product, agent = site.product(1), site.client()
    wanted = wish(site, product)
    lease = agent.ask("acquire", **wanted)["lease"]
    clocks.pass_time(29 * DAY_S)
    site.admin.ask("hello")
    clocks.pass_time(25 * DAY_S)
    outages = site.admin.ask("status")["server"]["outages"]
    assert all(set(outage) == {"from", "to"} for outage in outages)
    assert outages[-1]["to"] - outages[-1]["from"] >= 25 * DAY_S
    (row,) = site.admin.rows("leases", product=product.code)
    assert (row["state"], row["acquired_at"]) == ("active", lease["acquired_at"])
    assert row["renew_by"] > lease["renew_by"] + 50 * DAY_S
    assert agent.ask("renew", **wanted)["result"] == "renewed"
    assert site.admin.rows("events", kind="outage")


def test_clock_set_forward(site: Site, clocks: Clocks) -> None:
    """A wall clock that leaps ahead is reported and not believed."""
    product = site.product()
    import_until(site, product, 1, days=2)
    before = site.now_s()
    clocks.move(wall_s=10 * DAY_S)
    try:
        assert site.now_s() - before < HOUR_S
        assert site.admin.ask("status")["server"]["clock"]["state"] == "jumped"
        assert site.admin.ask("acquire", **wish(site, product))["result"] == "granted"
    finally:
        clocks.move(wall_s=-10 * DAY_S)
    assert site.admin.ask("status")["server"]["clock"] == {"state": "ok", "behind_s": 0}
    assert site.admin.rows("events", kind="clock_jumped")


def test_clock_set_back(site: Site, clocks: Clocks) -> None:
    """A wall clock that is set back is reported, and the server's time goes on."""
    before = site.now_s()
    clocks.move(wall_s=-HOUR_S)
    try:
        assert site.now_s() >= before
        clock = site.admin.ask("status")["server"]["clock"]
        assert set(clock) == {"state", "behind_s"}
        assert clock["state"] == "set_back"
        assert HOUR_S - 60 <= clock["behind_s"] <= HOUR_S + 60
    finally:
        clocks.move(wall_s=HOUR_S)
    assert site.admin.ask("status")["server"]["clock"] == {"state": "ok", "behind_s": 0}
    assert site.admin.rows("events", kind="clock_set_back")
