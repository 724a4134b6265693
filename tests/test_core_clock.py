"""What a server's turns make of time: the alive mark, outages and wrong clocks as the store keeps them (R12, R13)."""

from typing import Any

from als import protocol
from als.clock import Reading
from als.ledger import Ledger
from als.protocol import Role
from als.server.core import MARK_EVERY_S, Core
from als.server.letters import Letter
from als.store.memory import MemoryStore
from press import SERVER_KEY, VENDORS, print_serial
from test_core import CATALOG, wish

START = 20_834 * 86_400  # a midnight in 2027: a serial's last day ends with a day of the test
DAY_ZERO = 10_957  # 2000-01-01, in days since 1970
HOUR_S = 3_600
DAY_S = 86_400
ROOT = b"root".ljust(32, b".")


class Machine:
    """A machine with two clocks and a disk, and the server that runs on it."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = float(START), 1_000.0
        self.store = MemoryStore()
        self.start()

    def read(self) -> Reading:
        """Look at both clocks."""
        return Reading(self.wall_s, self.monotonic_s)

    def start(self) -> None:
        """Start the server on what the disk has; what ran before is gone, as after a loss of power."""
        ledger = Ledger(CATALOG, server_id="0" * 32, server_key=SERVER_KEY, vendors=VENDORS)
        tx = self.store.begin()
        ledger.add_admin(tx, ROOT, "root", Role.ADMIN, START)
        self.store.submit(tx)
        self.core = Core(self.store, ledger, self.read(), lambda: None)

    def run(self, seconds: int) -> None:
        """Let time pass with a turn each second."""
        for _ in range(seconds):
            self.wait(1)
            self.core.turn([], self.read())

    def wait(self, seconds: int) -> None:
        """Let time pass in which nothing runs."""
        self.wall_s += seconds
        self.monotonic_s += seconds

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Make one request; give the reply."""
        letter = Letter((), protocol.encode_request(1, operation, fields), ROOT, {}, self.monotonic_s)
        (reply,) = self.core.turn([letter], self.read())
        return protocol.decode_reply(reply)

    @property
    def now(self) -> int:
        """The server's time."""
        return int(self.ask("hello")["time"])

    @property
    def outages(self) -> list[tuple[int, int]]:
        """The outages that the server tells of, from when to when since the start."""
        shown = self.ask("status")["server"]["outages"]
        return [(outage["from"] - START, outage["to"] - START) for outage in shown]

    def events(self) -> list[str]:
        """The kinds of all events."""
        return [row["kind"] for row in self.ask("events")["rows"]]

    def sell(self, days: int = 0) -> None:
        """Import a serial with one seat, which is good for so many days (0: for ever)."""
        last_day = START // DAY_S - DAY_ZERO + days - 1 if days else 0
        text, _ = print_serial(CATALOG.by_code["ATIES"], 1, 1, last_day=last_day)
        assert self.ask("import", serials=[text])["added"] == 1

    def state_of_serial(self) -> str:
        """The state of the only serial, once the sweep has seen it."""
        self.run(2)
        (row,) = self.ask("licenses")["rows"]
        return str(row["state"])


def test_the_alive_mark_says_when_an_outage_began() -> None:
    """After a loss of power the outage begins at the last mark, at most ten seconds early, and is an event."""
    machine = Machine()
    machine.sell()
    renew_by = machine.ask("acquire", **wish(1))["lease"]["renew_by"]
    machine.run(95)
    machine.wait(HOUR_S)
    machine.start()
    ((begun, ended),) = machine.outages
    assert 95 - MARK_EVERY_S <= begun <= 95 and ended == 95 + HOUR_S
    assert machine.events()[-2:] == ["outage", "started"]
    assert machine.ask("acquire", **wish(1))["result"] == "already_held"
    (row,) = machine.ask("leases")["rows"]
    assert row["renew_by"] > renew_by


def test_leases_live_longer_by_an_outage() -> None:
    """A lease ends later by what the server was away, and ends then."""
    machine = Machine()
    machine.sell()
    renew_by = machine.ask("acquire", **wish(1))["lease"]["renew_by"]
    machine.wait(12 * HOUR_S)
    machine.start()
    (row,) = machine.ask("leases")["rows"]
    assert row["renew_by"] == renew_by + 12 * HOUR_S


def test_a_stop_is_told_and_is_an_outage_from_then_on() -> None:
    """A server that is stopped says so; the outage begins with that very second."""
    machine = Machine()
    machine.run(25)
    machine.core.stop(machine.read())
    machine.wait(HOUR_S)
    machine.start()
    assert machine.outages == [(25, 25 + HOUR_S)]
    assert machine.events()[-3:] == ["stopped", "outage", "started"]


def test_a_suspended_machine_is_an_outage() -> None:
    """What a machine slept between two turns is stored, and still there after a restart."""
    machine = Machine()
    machine.run(5)
    machine.wait(2 * HOUR_S)
    machine.run(1)
    assert machine.outages == [(5, 6 + 2 * HOUR_S)]
    machine.start()
    assert machine.outages == [(5, 6 + 2 * HOUR_S)]
    assert machine.events().count("outage") == 1


def test_a_clock_set_back_while_the_server_was_down() -> None:
    """The highest time outlives the process: after a start it stands at the mark, whatever the wall clock says."""
    machine = Machine()
    machine.sell(days=1)
    machine.wait(DAY_S - 60)
    machine.run(120)
    assert machine.state_of_serial() == "expired"
    before = machine.now
    machine.wall_s -= 3 * DAY_S
    machine.start()
    assert before - MARK_EVERY_S <= machine.now <= before
    assert machine.state_of_serial() == "expired"
    assert machine.ask("status")["server"]["clock"]["state"] == "set_back"
    machine.start()
    assert machine.now >= before - MARK_EVERY_S


def test_an_accepted_leap_and_its_undoing() -> None:
    """A serial that ended by a clock that was wrong counts again once an administrator accepts the right one."""
    machine = Machine()
    machine.sell(days=3)
    machine.wall_s += 10 * DAY_S
    assert machine.state_of_serial() == "valid" and machine.now < START + HOUR_S
    machine.core.accept_clock()
    assert machine.state_of_serial() == "expired" and machine.now >= START + 10 * DAY_S
    machine.wall_s -= 10 * DAY_S
    assert machine.state_of_serial() == "expired"
    machine.core.accept_clock()
    assert machine.state_of_serial() == "valid" and machine.now < START + HOUR_S
    assert machine.ask("acquire", **wish(1))["result"] == "granted"
    told = [kind for kind in machine.events() if "clock" in kind or kind == "outage"]
    assert told == ["clock_jumped", "outage", "clock_accepted", "clock_set_back", "clock_accepted"]


def test_what_a_wrong_clock_called_an_outage_ends_when_it_is_set_right() -> None:
    """Else it would lie in the future, and every license would live for a second period until then."""
    machine = Machine()
    machine.sell()
    machine.wall_s += 300 * DAY_S
    machine.run(1)
    machine.core.accept_clock()
    machine.run(1)
    assert machine.outages[-1][1] >= 300 * DAY_S
    machine.wall_s -= 300 * DAY_S
    machine.run(1)
    machine.core.accept_clock()
    machine.run(1)
    assert all(end <= HOUR_S for _, end in machine.outages)
    assert machine.ask("acquire", **wish(1))["result"] == "granted"
    renewed = machine.ask("renew", **wish(1))
    (lease,) = machine.ask("leases")["rows"]
    assert renewed["renew_by"] == lease["renew_by"]


def test_a_leap_is_remembered_across_restarts() -> None:
    """A server that is off at night learns that its clock is right; the store keeps since when it is."""
    machine = Machine()
    machine.wait(3 * DAY_S)
    machine.start()
    machine.run(3_700)
    assert machine.ask("status")["server"]["clock"]["state"] == "jumped"
    machine.wait(DAY_S - 3_700)
    machine.start()
    machine.run(1)
    assert machine.ask("status")["server"]["clock"]["state"] == "ok" and machine.now == int(machine.wall_s)


def test_a_server_runs_since_it_was_started_whatever_clock_is_accepted() -> None:
    """Accepting another time moves the start of the server as well."""
    machine = Machine()
    machine.run(60)
    for change_s in (40 * DAY_S, -40 * DAY_S):
        machine.wall_s += change_s
        machine.run(1)
        machine.core.accept_clock()
        machine.run(1)
        assert machine.now - machine.ask("status")["server"]["started_at"] in range(60, 66)
