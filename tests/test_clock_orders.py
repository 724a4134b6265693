"""Wrong clocks and outages of a real server: what status says, what leases live through, what accept-clock does."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shifted_server
from als.clock import monotonic_s
from contract_client import DAY_S, day_number
from server_process import Product, Site, kinds_of, run_to_end

HOUR_S = 3_600
SLACK_S = 30  # what a test may take, on machines that do much else
ROUNDED_S = 2  # two times in whole seconds
GOOD = {"state": "ok", "behind_s": 0}


class World:
    """A server, its machine's clocks, and its administrator."""

    def __init__(self, folder: Path) -> None:
        self._shift = folder / "shift"
        self._wall_s = self._monotonic_s = 0
        self.move()
        program = (sys.executable, shifted_server.__file__)
        self.site = Site(folder, program=program, variables={shifted_server.SHIFT_VARIABLE: str(self._shift)})

    def move(self, wall_s: int = 0, monotonic_s: int = 0) -> None:
        """Set the machine's clocks forward, or back."""
        self._wall_s += wall_s
        self._monotonic_s += monotonic_s
        new = self._shift.with_suffix(".new")
        new.write_text(f"{self._wall_s} {self._monotonic_s}", encoding="ascii")
        new.replace(self._shift)

    def pass_time(self, seconds: int) -> None:
        """Let time pass for both clocks."""
        self.move(seconds, seconds)

    def restart(self, wall_s: int, monotonic_s: int = 0) -> None:
        """Kill the server, and start it when the clocks have moved."""
        self.site.server.kill()
        self.move(wall_s, monotonic_s)
        self.site.reconnect()

    def accept_clock(self) -> str:
        """Run the command beside the running server; give what it says."""
        done = run_to_end("accept-clock", "--data-dir", str(self.site.server.data_dir))
        assert done.returncode == 0, done
        return done.stdout

    @property
    def clock(self) -> dict[str, Any]:
        """The clock as status shows it."""
        shown: dict[str, Any] = self.site.admin.ask("status")["server"]["clock"]
        return shown

    @property
    def outages(self) -> list[int]:
        """How long the outages were that status shows."""
        shown = self.site.admin.ask("status")["server"]["outages"]
        return [outage["to"] - outage["from"] for outage in shown]

    @property
    def clock_events(self) -> list[str]:
        """The kinds of the events about clocks and outages, in their order."""
        return kinds_of(
            self.site.admin.rows("events"), lambda event: "clock" in event["kind"] or event["kind"] == "outage"
        )

    def serial_of_days(self, days: int) -> Product:
        """Import a serial that is good for so many days."""
        product = self.site.product()
        last_day = day_number(self.site.now_s()) + days
        assert self.site.import_one(self.site.vendor.issue(product.number, 5, last_day=last_day))[0] == "added"
        return product

    def state_of(self, product: Product) -> str:
        """The state of a product's only serial."""
        (row,) = self.site.admin.rows("licenses", product=product.code)
        return str(row["state"])

    def take(self, product: Product) -> dict[str, Any]:
        """Have a new computer take a license; give the lease."""
        fields = {"product": product.code, "component": "agent", "computer": self.site.computer()}
        lease: dict[str, Any] = self.site.admin.ask("acquire", **fields)["lease"]
        return lease

    def lease_of(self, product: Product) -> dict[str, Any]:
        """The product's only lease."""
        (row,) = self.site.admin.rows("leases", product=product.code)
        return row


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server of its own, started with clocks that are right."""
    world = World(tmp_path)
    with world.site:
        yield world


def about(found: int, expected: int) -> bool:
    """Say whether a number of seconds is right but for what the test itself took."""
    return expected - SLACK_S <= found <= expected + SLACK_S


def test_accepting_a_clock_that_was_set_back(world: World) -> None:
    """A server whose clock was set back says so until an administrator accepts it, and then goes by the clock."""
    world.pass_time(HOUR_S // 2)
    before = world.site.now_s()
    world.move(wall_s=-HOUR_S // 2)
    assert about(world.site.now_s() - before, 0)
    assert world.clock["state"] == "set_back" and about(world.clock["behind_s"], HOUR_S // 2)
    assert "goes by the wall clock now" in world.accept_clock()
    assert about(world.site.now_s() - before, -HOUR_S // 2)
    assert world.clock == GOOD
    assert world.clock_events[-2:] == ["clock_set_back", "clock_accepted"]


def test_accepting_a_leap_and_its_undoing(world: World) -> None:
    """An accepted leap is an outage for leases and ends serials; accepting the way back brings those back to life."""
    short, long = world.serial_of_days(3), world.serial_of_days(300)
    lease = world.take(long)
    before = world.site.now_s()
    world.move(wall_s=10 * DAY_S)
    assert world.clock["state"] == "jumped" and about(world.clock["behind_s"], -10 * DAY_S)
    assert about(world.site.now_s() - before, 0)
    assert (world.state_of(short), world.lease_of(long)["state"]) == ("valid", "active")
    world.accept_clock()
    assert about(world.site.now_s() - before, 10 * DAY_S) and world.clock == GOOD
    assert world.state_of(short) == "expired"
    assert about(world.lease_of(long)["renew_by"] - lease["renew_by"], 10 * DAY_S)
    assert world.clock_events[-3:] == ["clock_jumped", "outage", "clock_accepted"]
    world.move(wall_s=-10 * DAY_S)
    assert world.clock["state"] == "set_back"
    assert world.state_of(short) == "expired"
    world.accept_clock()
    assert about(world.site.now_s() - before, 0) and world.clock == GOOD
    assert world.state_of(short) == "valid"
    assert world.take(short)["state"] == "active"


def test_a_leap_that_holds_is_believed(world: World) -> None:
    """A leap is not believed for a day; when it has held so long, it is, and counts against no lease."""
    product = world.serial_of_days(300)
    lease = world.take(product)
    before, begin_s = world.site.now_s(), monotonic_s()
    world.move(wall_s=2 * DAY_S)
    assert world.clock["state"] == "jumped"
    for _ in range(23):
        world.pass_time(HOUR_S)
        assert world.clock["state"] == "jumped"
    world.pass_time(HOUR_S)  # and the moments that the test itself took: a day is over
    assert world.clock == GOOD
    passed_s = world.site.now_s() - before
    assert 3 * DAY_S <= passed_s <= 3 * DAY_S + (monotonic_s() - begin_s) + ROUNDED_S
    assert "clock_accepted" in world.clock_events
    assert world.lease_of(product)["renew_by"] >= lease["renew_by"] + 2 * DAY_S


def test_a_start_with_a_clock_that_is_behind(world: World) -> None:
    """A server that starts with a clock behind its mark goes on from the mark; what has ended stays so."""
    product = world.serial_of_days(1)
    world.pass_time(3 * DAY_S)
    assert world.state_of(product) == "expired"
    before = world.site.now_s()
    world.restart(wall_s=-3 * DAY_S)
    assert world.site.now_s() >= before - SLACK_S
    assert world.clock["state"] == "set_back" and about(world.clock["behind_s"], 3 * DAY_S)
    assert world.state_of(product) == "expired"
    assert world.clock_events == ["outage", "clock_set_back"]


def test_a_start_after_hours(world: World) -> None:
    """The hours in which a server did not run are an outage, and every lease lives as much longer."""
    product = world.serial_of_days(300)
    lease = world.take(product)
    world.restart(wall_s=5 * HOUR_S, monotonic_s=5 * HOUR_S)
    (outage,) = world.outages
    assert about(outage, 5 * HOUR_S) and world.clock_events == ["outage"]
    assert world.clock == GOOD
    assert about(world.lease_of(product)["renew_by"] - lease["renew_by"], 5 * HOUR_S)


def test_a_start_after_days(world: World) -> None:
    """After more than a day nobody can tell an outage from a wrong clock: nothing ends until somebody says."""
    short, long = world.serial_of_days(10), world.serial_of_days(300)
    lease = world.take(long)
    before = world.site.now_s()
    world.restart(wall_s=40 * DAY_S)
    assert world.clock["state"] == "jumped"
    assert about(world.site.now_s() - before, 0)
    assert (world.state_of(short), world.lease_of(long)["state"]) == ("valid", "active")
    world.accept_clock()
    assert world.clock == GOOD and about(world.site.now_s() - before, 40 * DAY_S)
    assert (world.state_of(short), world.lease_of(long)["state"]) == ("expired", "active")
    assert about(world.outages[-1], 40 * DAY_S)
    assert world.clock_events == ["clock_jumped", "outage", "clock_accepted"]
    assert world.lease_of(long)["renew_by"] >= lease["renew_by"] + 30 * DAY_S
