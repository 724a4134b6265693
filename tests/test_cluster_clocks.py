"""Servers of a cluster whose machines' clocks are wrong, or whose machines stood still: the time that they keep."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shifted_server
from als import clock
from cluster_site import ClusterSite
from contract_client import DAY_S
from server_process import kinds_of, run_to_end

HOUR_S = 3_600
SLACK_S = 8  # two clocks may differ by 4 s, and machines that do much else take their time


class World:
    """Two servers, and their machines' clocks."""

    def __init__(self, folder: Path, endpoint: str, prefix: bytes) -> None:
        self._folder = folder
        self._shifts = [[0, 0], [0, 0]]
        self._events_seen = 0
        for place in (0, 1):
            self.move(place)
        program = (sys.executable, shifted_server.__file__)
        self.site = ClusterSite(folder, [endpoint], prefix, program=program, variables_of=self._variables)

    def _file(self, place: int) -> Path:
        return self._folder / f"shift{place}"

    def _variables(self, place: int) -> dict[str, str]:
        return {shifted_server.SHIFT_VARIABLE: str(self._file(place))}

    def move(self, place: int, wall_s: int = 0, monotonic_s: int = 0) -> None:
        """Set one machine's clocks forward, or back."""
        self._shifts[place][0] += wall_s
        self._shifts[place][1] += monotonic_s
        new = self._file(place).with_suffix(".new")
        new.write_text("{} {}".format(*self._shifts[place]), encoding="ascii")
        new.replace(self._file(place))

    def status(self, place: int) -> dict[str, Any]:
        """Give what one server says of itself."""
        shown: dict[str, Any] = self.site.admins[place].ask("status")["server"]
        return shown

    def ahead_s(self, place: int) -> int:
        """Give how far a server's time is ahead of the true time."""
        admin = self.site.admins[place]
        time_s: int = admin.reply_to(admin.send("hello"))["time"]
        return time_s - clock.wall_s()

    def wait_for_troubles(self, place: int, word: str, *, there: bool = True) -> dict[str, Any]:
        """Ask a server until it complains of something, or no longer; give its status."""

        def is_so(reply: dict[str, Any]) -> bool:
            return any(word in trouble for trouble in reply["server"]["cluster"]["troubles"]) == there

        return self.site.admins[place].wait_until(is_so, "status")

    def wait_for_ticks(self, place: int, number: int) -> None:
        """Wait until a server has written its card so many times."""

        def tick(reply: dict[str, Any]) -> Any:
            cluster = reply["server"]["cluster"]
            return max(row["last_tick"] for row in cluster["servers"] if row["number"] == cluster["number"])

        admin = self.site.admins[place]
        for _ in range(number):
            last = tick(admin.ask("status"))
            admin.wait_until(lambda reply, last=last: tick(reply) > last, "status")

    def _clock_events(self) -> list[str]:
        events = self.site.admins[0].rows("events")
        return kinds_of(events, lambda event: "clock" in event["kind"] or event["kind"] == "outage")

    def forget_events(self) -> None:
        """Begin with the list of events anew."""
        self._events_seen = len(self._clock_events())

    def clock_events(self) -> list[str]:
        """Give the kinds of the events about clocks and outages since then, in their order."""
        return self._clock_events()[self._events_seen :]

    def restart(self, *places: int) -> None:
        """Start servers that were killed, and connect anew."""
        for place in places:
            self.site.servers[place].start()
        self.site.connect_admins()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, etcd_endpoint: str) -> Iterator[World]:
    """Two servers for this module, whose clocks every test leaves alike."""
    world = World(tmp_path_factory.mktemp("clocks"), etcd_endpoint, b"clocks/")
    with world.site:
        yield world


@pytest.fixture
def world(servers: World) -> World:
    """The servers, with the events so far forgotten."""
    servers.forget_events()
    return servers


def about(seconds: float, wanted: float) -> bool:
    """Say whether a time is as wanted, but for what is not so certain."""
    return wanted - SLACK_S <= seconds <= wanted + SLACK_S


def test_one_wrong_clock_moves_nobody(world: World) -> None:
    """A server whose clock is set wrong says so and keeps to the others' time; no outage, no lapse comes of it."""
    before = world.ahead_s(0)
    for wrong_s in (20, -2 * HOUR_S):
        world.move(1, wall_s=wrong_s)
        cluster = world.wait_for_troubles(1, "clock differs")["server"]["cluster"]
        (other,) = [row for row in cluster["servers"] if row["number"] != cluster["number"]]
        assert about(other["clock_ahead_ms"] / 1_000, -wrong_s)
        world.wait_for_ticks(1, 2)
        for place in (0, 1):
            assert about(world.ahead_s(place) - before, 0)
            assert world.status(place)["clock"]["state"] == "ok"
        world.move(1, wall_s=-wrong_s)
        world.wait_for_troubles(1, "clock differs", there=False)
    assert world.clock_events() == []


def test_a_start_with_a_wrong_clock(world: World) -> None:
    """A server that starts with a wrong clock while others run takes over their time."""
    before = world.ahead_s(0)
    world.site.servers[1].kill()
    world.move(1, wall_s=5 * HOUR_S)
    world.restart(1)
    assert about(world.ahead_s(1) - before, 0)
    world.wait_for_troubles(1, "clock differs")
    assert about(world.ahead_s(0) - before, 0)
    world.move(1, wall_s=-5 * HOUR_S)
    world.wait_for_troubles(1, "clock differs", there=False)
    assert world.clock_events() == []


def test_a_machine_that_stood_still(world: World) -> None:
    """That one server stood still for minutes is no outage, since another was there."""
    before = world.ahead_s(0)
    world.site.servers[1].signal(signal.SIGSTOP)
    for _ in range(3):
        world.move(0, wall_s=40, monotonic_s=40)
        world.ahead_s(0)
    world.move(1, wall_s=120, monotonic_s=120)
    world.site.servers[1].signal(signal.SIGCONT)
    for place in (0, 1):
        assert about(world.ahead_s(place) - before, 120)
    assert world.status(1)["cluster"]["state"] == "ok"
    assert world.clock_events() == []


def test_all_servers_away(world: World) -> None:
    """Hours in which no server ran are one outage, written once, and every lease lives as much longer."""
    product, computer = world.site.product(1), world.site.computer()
    lease = world.site.client_of(0).ask("acquire", product=product.code, component="agent", computer=computer)["lease"]
    for server in world.site.servers:
        server.kill()
    for place in (0, 1):
        world.move(place, wall_s=5 * HOUR_S, monotonic_s=5 * HOUR_S)
    world.restart(0, 1)
    outage = world.status(1)["outages"][-1]
    assert about(outage["to"] - outage["from"], 5 * HOUR_S)
    assert world.clock_events() == ["outage"]
    (row,) = world.site.admins[1].rows("leases", product=product.code)
    assert about(row["renew_by"] - lease["renew_by"], 5 * HOUR_S)


def test_an_accepted_clock_is_all_servers(world: World) -> None:
    """After days away the time waits for a word; said to one server it counts for all, and can be taken back."""
    before = world.ahead_s(0)
    for days in (10, -10):
        for server in world.site.servers:
            server.kill()
        for place in (0, 1):
            world.move(place, wall_s=days * DAY_S)
        world.restart(0, 1)
        state = "jumped" if days > 0 else "set_back"
        assert [world.status(place)["clock"]["state"] for place in (0, 1)] == [state] * 2
        done = run_to_end("accept-clock", "--data-dir", str(world.site.servers[1].data_dir))
        assert done.returncode == 0, done
        for admin in world.site.admins:
            admin.wait_until(lambda reply: reply["server"]["clock"]["state"] == "ok", "status")
        for place in (0, 1):
            assert about(world.ahead_s(place) - before, max(days, 0) * DAY_S)
