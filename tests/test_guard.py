"""The clock guard, as a table: what the clocks say, and what time the ledger goes by (R12, R13)."""

from als.clock import Reading
from als.guard import BACK, HOLD_S, JUMP_S, JUMPED, OK, SET_BACK_S, STOPPED_S, WALL_S_MAX, ClockGuard

START = 1_790_000_000
HOUR = 3_600
DAY = 86_400


class Machine:
    """A machine with two clocks, and the guard that looks at them."""

    def __init__(self, mark: int | None = START, wall_s: int = START) -> None:
        self.wall_s = float(wall_s)
        self.monotonic_s = 1_000.0
        self.guard = ClockGuard(mark, self.read())
        self.kinds = [notice.kind for notice in self.guard.take_notices()]

    def read(self) -> Reading:
        return Reading(self.wall_s, self.monotonic_s)

    def run(self, seconds: int, *, step_s: int = 30) -> int:
        """Let both clocks run evenly, with turns in between; give the effective time."""
        for _ in range(seconds // step_s):
            self.pass_time(step_s)
        return self.pass_time(seconds % step_s)

    def pass_time(self, seconds: int) -> int:
        """Let both clocks run without a turn in between."""
        self.wall_s += seconds
        self.monotonic_s += seconds
        return self.look()

    def set_wall(self, change_s: int) -> int:
        """Set the wall clock, as an administrator or NTP does."""
        self.wall_s += change_s
        return self.look()

    def look(self) -> int:
        now = self.guard.tick(self.read())
        notices = self.guard.take_notices()
        self.kinds += [notice.kind for notice in notices]
        self.last = notices
        return now


def test_follows_a_good_clock() -> None:
    """While nothing is odd, the time is the wall clock's."""
    machine = Machine()
    assert machine.run(HOUR) == START + HOUR
    assert machine.set_wall(20) == START + HOUR + 20
    assert machine.guard.state == OK and machine.kinds == []


def test_first_start_takes_the_wall_clock() -> None:
    """A store without a mark begins with what the clock says."""
    machine = Machine(mark=None, wall_s=START + 5)
    assert machine.look() == START + 5
    assert machine.kinds == []


def test_a_little_behind_waits() -> None:
    """A clock that is set back by less than five minutes makes time stand, and is no news."""
    machine = Machine()
    assert machine.set_wall(-SET_BACK_S) == START
    assert machine.pass_time(30) == START
    assert machine.guard.state == OK and machine.kinds == []
    assert machine.run(SET_BACK_S) == START + 30


def test_a_second_more_is_set_back() -> None:
    """Five minutes are the border: a second more, and time goes on by the monotonic clock."""
    machine = Machine()
    assert machine.set_wall(-SET_BACK_S - 1) == START
    assert machine.pass_time(30) == START + 30
    assert machine.guard.state == BACK and machine.kinds == ["clock_set_back"]


def test_set_back_moves_on_by_the_monotonic_clock() -> None:
    """More than five minutes back: time goes on from the mark, and says so once."""
    machine = Machine()
    assert machine.set_wall(-10 * DAY) == START
    assert machine.run(2 * HOUR) == START + 2 * HOUR
    assert (machine.guard.state, machine.guard.behind_s) == (BACK, 10 * DAY)
    assert machine.kinds == ["clock_set_back"]
    assert machine.set_wall(10 * DAY) == START + 2 * HOUR
    assert machine.guard.state == OK


def test_set_back_is_seen_at_start() -> None:
    """A clock that was set back while the server was down does not bring back what has ended."""
    machine = Machine(wall_s=START - DAY)
    assert machine.look() == START
    assert machine.kinds == ["clock_set_back"]


def test_set_back_can_be_accepted() -> None:
    """An administrator may lower the mark; no outage comes of it."""
    machine = Machine()
    machine.set_wall(-DAY)
    assert machine.guard.accept()
    assert machine.look() == START - DAY
    assert machine.kinds == ["clock_set_back", "clock_accepted"]
    assert not machine.guard.accept()


def test_a_jump_is_not_believed() -> None:
    """A leap of more than a day moves no time until it has held for 24 hours; then it is an outage."""
    machine = Machine()
    assert machine.set_wall(JUMP_S + 10) == START
    assert machine.guard.state == JUMPED and machine.kinds == ["clock_jumped"]
    assert machine.run(HOLD_S - 30) == START + HOLD_S - 30
    assert machine.guard.behind_s == -JUMP_S - 10
    assert machine.run(60) == START + HOLD_S + 30 + JUMP_S + 10
    assert machine.guard.state == OK
    assert machine.kinds == ["clock_jumped", "outage", "clock_accepted"]


def test_a_jump_that_is_put_right_was_nothing() -> None:
    """A clock that comes back within the day leaves no trace but its event."""
    machine = Machine()
    machine.set_wall(365 * DAY)
    machine.run(HOUR)
    assert machine.set_wall(-365 * DAY) == START + HOUR
    assert machine.guard.state == OK and machine.kinds == ["clock_jumped"]


def test_a_jump_must_hold_evenly() -> None:
    """A clock that goes on leaping is not believed after a day."""
    machine = Machine()
    machine.set_wall(2 * DAY)
    machine.run(HOLD_S - HOUR)
    machine.set_wall(5 * DAY)
    assert machine.run(2 * HOUR) == START + HOLD_S + HOUR
    assert machine.guard.state == JUMPED


def test_a_jump_can_be_accepted_at_once() -> None:
    """An administrator may believe the clock; the time that did not pass is an outage."""
    machine = Machine()
    machine.set_wall(30 * DAY)
    machine.run(HOUR)
    assert machine.guard.accept()
    notices = machine.guard.take_notices()
    assert [(notice.kind, notice.start, notice.end) for notice in notices] == [
        ("outage", START + HOUR, START + HOUR + 30 * DAY),
        ("clock_accepted", START + HOUR, START + HOUR + 30 * DAY),
    ]


def test_a_restart_is_an_outage() -> None:
    """The time from the last alive mark to the next start is one outage, however short."""
    for seconds in (1, STOPPED_S, HOUR):
        machine = Machine(wall_s=START + seconds)
        assert machine.kinds == ["outage"]
        assert machine.look() == START + seconds
    assert Machine(wall_s=START).kinds == []


def test_a_long_absence_is_a_jump_at_start() -> None:
    """After more than a day nobody can tell an outage from a wrong clock: it is held, and then forgiven."""
    machine = Machine(wall_s=START + 3 * DAY)
    assert machine.kinds == ["clock_jumped"]
    assert machine.look() == START
    machine.run(HOLD_S + 60)
    assert machine.kinds == ["clock_jumped", "outage", "clock_accepted"]


def test_a_suspended_machine_is_an_outage() -> None:
    """A stop of more than a minute between two turns is stored; a shorter one is not."""
    machine = Machine()
    machine.pass_time(STOPPED_S)
    assert machine.kinds == []
    machine.pass_time(STOPPED_S + 1)
    assert [(notice.start, notice.end) for notice in machine.last] == [(START + STOPPED_S, START + 2 * STOPPED_S + 1)]


def test_time_never_moves_back() -> None:
    """Whatever the wall clock does, unless an administrator accepts it."""
    machine = Machine()
    before = START
    for change_s in (5, -7, 400, -900, 3 * DAY, -40 * DAY, 100 * DAY, -1, 86_399, -299):
        now = machine.set_wall(change_s)
        assert now >= before
        before = machine.run(90)
        assert before >= now


class Office(Machine):
    """A machine that is switched off now and then; the disk keeps mark and leap."""

    def restart(self, off_s: int, wrong_s: int = 0) -> None:
        """Be off for a time, after which the wall clock may show another one."""
        mark, jump = self.guard.now, self.guard.jump
        self.wall_s += off_s + wrong_s
        self.monotonic_s = 0.0
        self.guard = ClockGuard(mark, self.read(), jump)


def test_a_server_that_is_off_at_night_believes_its_clock_after_a_weekend() -> None:
    """A leap holds across restarts: else a machine that never runs for a whole day would fall behind for ever."""
    office = Office()
    office.run(10 * HOUR)
    office.restart(off_s=62 * HOUR)
    office.run(10 * HOUR)
    assert office.guard.state == JUMPED
    office.restart(off_s=14 * HOUR)
    office.run(HOUR)
    assert office.guard.state == OK and office.guard.now == int(office.wall_s)


def test_a_leap_that_was_hardly_seen_is_not_believed_at_the_next_start() -> None:
    """A clock that shows one wrong time, and a day later another, has not held."""
    office = Office()
    office.set_wall(100 * DAY)
    office.run(60)
    office.restart(off_s=60, wrong_s=2 * DAY)
    office.run(HOUR // 2)
    assert office.guard.state == JUMPED and office.guard.now < START + HOUR
    office.restart(off_s=60, wrong_s=-50 * DAY)
    office.run(2 * HOUR)
    assert office.guard.state == JUMPED, "it has gone back since: it is another leap"


def test_another_leap_while_one_is_waiting_has_to_hold_by_itself() -> None:
    """A clock that is right after a weekend says nothing for a board whose battery dies the day after."""
    office = Office()
    office.restart(off_s=62 * HOUR)
    office.run(2 * HOUR)
    before = office.guard.now
    office.restart(off_s=60, wrong_s=3_650 * DAY)
    office.run(2 * HOUR)
    assert office.guard.state == JUMPED and office.guard.now < before + 3 * HOUR


def test_a_leap_that_is_put_right_is_not_kept() -> None:
    """What was seen of a leap does not count for the next one."""
    office = Office()
    office.set_wall(100 * DAY)
    office.run(2 * HOUR)
    office.set_wall(-100 * DAY)
    assert office.guard.state == OK and office.guard.jump is None
    office.restart(off_s=60, wrong_s=101 * DAY)
    office.run(2 * HOUR)
    assert office.guard.state == JUMPED


def test_a_time_that_no_record_can_hold_is_never_gone_by() -> None:
    """Times are stored in four bytes, with ten years of a period to come: a clock beyond is taken for the last good."""
    machine = Machine()
    machine.set_wall(2**32 - START)
    machine.guard.accept()
    assert machine.look() == WALL_S_MAX
    assert machine.run(HOUR) <= WALL_S_MAX + HOUR
    assert ClockGuard(None, machine.read()).now == WALL_S_MAX
