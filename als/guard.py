"""The clock guard (R13): from what the machine's clocks say to the time that the ledger goes by.

Pure: readings in, time and notices out. The time it gives never moves back by itself, survives a wall clock that was
set back, does not believe a leap of more than a day, and calls a stop of the process an outage (R12).
"""

from typing import NamedTuple

from als.clock import Reading

SET_BACK_S = 300  # below this, time stands until the wall clock has caught up
JUMP_S = 86_400  # a wall clock that leaps further is not believed at once
HOLD_S = 86_400  # ... until it has held for so long
OFF_S_MOST = 4 * 86_400  # for which a machine may be off meanwhile: a long weekend
HOLD_RUN_S = 3_600  # ... of which, across restarts, so much was seen: a machine may be off at night
WALL_S_MAX = 3_471_292_800  # 2080: what lies ahead of it, ten years of a period and all that is kept, fits in 32 bits
STOPPED_S = 60  # a longer stop between two turns is an outage: the machine slept

OK = "ok"
BACK = "set_back"
JUMPED = "jumped"


class Notice(NamedTuple):
    """Something to write into the log. An outage (kind "outage") is also stored for R12."""

    kind: str
    start: int
    end: int


class Jump(NamedTuple):
    """A leap: when it was first seen, by the wall clock and by the time that the server goes by, and what the wall
    clock showed last. Kept across restarts.
    """

    wall_s: int
    now: int
    last_wall_s: int


class ClockGuard:
    """Gives the effective time. `mark` is the stored highest time, None at the first start; `jump` the stored leap."""

    def __init__(self, mark: int | None, reading: Reading, jump: Jump | None = None) -> None:
        self.state = OK
        self.jump = jump  # to be stored with the mark; None while there is none
        self.notices: list[Notice] = []
        reading = _within(reading)
        self._now = reading.wall_s if mark is None else float(mark)
        self._reading = reading
        self._held_since = reading
        if mark is not None:
            self._follow(reading, mark)

    @property
    def now(self) -> int:
        """The effective time in whole seconds since 1970 UTC; also the mark to store."""
        return int(self._now)

    @property
    def exact_s(self) -> float:
        """The effective time, as finely as the clocks tell it."""
        return self._now

    @property
    def behind_s(self) -> int:
        """How far the wall clock is behind the effective time; negative when it is ahead."""
        return round(self._now - self._reading.wall_s)

    def tick(self, reading: Reading) -> int:
        """Take a look at the clocks and give the effective time; notices gather in `notices`."""
        reading = _within(reading)
        before = self.now
        elapsed_s = max(reading.monotonic_s - self._reading.monotonic_s, 0.0)
        self._now += elapsed_s
        if self.state == OK and -SET_BACK_S <= reading.wall_s - self._now <= 0:
            # A clock that runs a little slow: time may stand for a moment, so that it does not run away from it.
            self._now = max(self._now - elapsed_s, reading.wall_s)
        self._follow(reading, before if elapsed_s > STOPPED_S else None)
        return self.now

    def _follow(self, reading: Reading, stopped_at: int | None) -> None:
        """Decide whether the wall clock is to be believed; `stopped_at` is since when nobody was looking."""
        ahead_s = reading.wall_s - self._now
        if ahead_s <= JUMP_S:
            self.jump = None
        if ahead_s < -SET_BACK_S:
            self._change_state(BACK, "clock_set_back", reading)
        elif ahead_s > JUMP_S:
            if self.state == JUMPED and not self._holds(reading):
                self._held_since, self.jump = reading, None
            self._change_state(JUMPED, "clock_jumped", reading)
            if reading.monotonic_s - self._held_since.monotonic_s >= HOLD_S or self._held_across_restarts(reading):
                self._reading = reading
                self.accept()
                return
        else:
            self.state = OK
            if stopped_at is None and ahead_s > STOPPED_S:
                stopped_at = self.now  # the clock was set forward: nobody could renew in a time that did not pass
            self._now = max(self._now, reading.wall_s)
        self._reading = reading
        if stopped_at is not None and self.now > stopped_at:
            self.notices.append(Notice("outage", stopped_at, self.now))

    def _holds(self, reading: Reading) -> bool:
        """Say whether the wall clock has run evenly since it jumped."""
        wall_s = reading.wall_s - self._held_since.wall_s
        return abs(wall_s - (reading.monotonic_s - self._held_since.monotonic_s)) <= SET_BACK_S

    def _held_across_restarts(self, reading: Reading) -> bool:
        """Say whether the wall clock has held since the stored leap. Notes the leap, if it is a new one."""
        seen, wall_s = self.jump, int(reading.wall_s)
        if (
            seen is None
            or wall_s - seen.wall_s < self._now - seen.now - SET_BACK_S  # it has gone back since
            or wall_s - seen.last_wall_s > OFF_S_MOST  # or leapt again, while nobody was looking
        ):
            seen = Jump(wall_s, self.now, wall_s)
        self.jump = seen._replace(last_wall_s=wall_s)
        return reading.wall_s - seen.wall_s >= HOLD_S and self._now - seen.now >= HOLD_RUN_S

    def _change_state(self, state: str, kind: str, reading: Reading) -> None:
        if self.state != state:
            self.state = state
            self._held_since = reading
            self.notices.append(Notice(kind, self.now, int(reading.wall_s)))

    def accept(self) -> bool:
        """Believe the wall clock as it is, also when that lowers the mark. False when it was believed already.

        A leap forward is stored as an outage: nobody could renew in a time that did not pass.
        """
        if self.state == OK:
            return False
        before = self.now
        self._now = self._reading.wall_s
        self.state = OK
        self.jump = None
        if self.now > before:
            self.notices.append(Notice("outage", before, self.now))
        self.notices.append(Notice("clock_accepted", before, self.now))
        return True

    def take_notices(self) -> list[Notice]:
        """Give the notices since the last call."""
        notices, self.notices = self.notices, []
        return notices


def _within(reading: Reading) -> Reading:
    """Take a wall clock that shows a time which no record can hold for one that shows the last that can."""
    return reading if reading.wall_s <= WALL_S_MAX else reading._replace(wall_s=float(WALL_S_MAX))
