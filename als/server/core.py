"""The server without its sockets: a turn takes the requests that have come, gives the replies, and commits between.

One write transaction a turn: every request applied, some of what is due swept, one commit, and only then the replies.
The core reads no clock; a turn's time comes from the clock guard.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from als.clock import Reading
from als.guard import OK, ClockGuard, Jump
from als.ledger import Ledger, mercy, seats
from als.ledger.journal import Journal
from als.ledger.quick.repeats import Repeats
from als.ledger.tally import Tally
from als.records import Event, pack_value, unpack_value
from als.server.applying import Applying
from als.server.letters import Letter
from als.server.rates import Rates
from als.store import schema
from als.store.transaction import Store, StoreFullError, Table, Transaction

# A storm of lapses must not be felt by those who renew: a lapse costs as much as ten renewals, so a turn is lengthened
# by about a third at most; one that serves nobody may do more.
SWEPT_PER_TURN_LEAST = 4
SWEPT_PER_REQUEST = 0.04
SWEPT_PER_IDLE_TURN = 100
SWEEP_EVERY_S = 1.0
MARK_EVERY_S = 10.0
TIDY_EVERY_S = 60.0
# One commit for so many. With more, those whose replies leave together would all be idle while the next turn waits.
LETTERS_MAX = 1_000
_CLOCK = b"clock"
_JUMP = b"clock jump"
_T = TypeVar("_T")
SERVER_ID = b"server_id"

log = logging.getLogger("als")


class Turns(Protocol):
    """What the loop asks of a server without its sockets; Core says what each does."""

    replies_dropped: int
    letters_max: int  # in a turn, as long as none have to queue

    @property
    def guard(self) -> ClockGuard:
        """The time."""
        ...

    def turn(
        self,
        letters: Sequence[Letter],
        reading: Reading,
        has_time: Callable[[], bool] = ...,
    ) -> list[bytes]:
        """Serve what has come."""
        ...

    def needs_turn(self, reading: Reading) -> bool:
        """Say whether there is something to do although nothing has come."""
        ...

    def accept_clock(self) -> None:
        """Believe the wall clock."""
        ...

    def read_status(self) -> dict[str, Any] | None:
        """Tell what the operation `status` would; None when there is nothing to tell."""
        ...

    def stop(self, reading: Reading) -> None:
        """Write that the server stops."""
        ...


class Core:
    """The turns of one server over its store."""

    def __init__(
        self, store: Store, ledger: Ledger, reading: Reading, reload: Callable[[], None], secret: bytes = b""
    ) -> None:
        """Open the store's books: mark the outage since the last alive mark and say that the server started.

        `secret` are random bytes that nobody else knows.
        """
        self.store = store
        self.ledger = ledger
        self.rates = Rates()
        self.replies_dropped = 0
        self.letters_max = LETTERS_MAX
        self._reload = reload
        self._known = Repeats(secret)
        self._reading = reading
        self._swept_at = self._marked_at = self._tidied_at = reading.monotonic_s
        self._more_to_sweep = True
        ledger.status_of_server = self._status
        self.guard = self._commit(self._start)
        self.guard.take_notices()
        self.started_at = self.guard.now

    def _start(self, tx: Transaction) -> ClockGuard:
        self.guard = guard = ClockGuard(read_mark(tx), self._reading, read_jump(tx))
        self._write_notices(tx)
        self.ledger.log(tx, guard.now, "started", {"version": self.ledger.version, "name": self.ledger.name})
        if taken := self.ledger.take_up_key(tx, guard.now):
            log.warning("locked to another server's key than this one's, so they count no more: serials: %d", taken)
        self._mark(tx)
        return guard

    def _commit(self, work: Callable[[Transaction], _T]) -> _T:
        """Have `work` done in a transaction and commit it; once more, where the store had to grow for it."""
        while True:
            tx = self.store.begin()
            self._known.attend(tx)
            try:
                done = work(tx)
                self.store.submit(tx)
            except StoreFullError:
                tx.abort()
                self._known.forget_all()
                self.store.grow()
                continue
            return done

    def turn(
        self,
        letters: Sequence[Letter],
        reading: Reading,
        has_time: Callable[[], bool] = lambda: True,
    ) -> list[bytes]:
        """Serve what has come; give one reply for each letter, in their order, all of them durable.

        Once `has_time` says no, the rest of the letters stay unserved, and there are fewer replies.
        """
        self._reading = reading
        now = self.guard.tick(reading)
        before = self._more_to_sweep, self._swept_at, self._marked_at

        def apply(tx: Transaction) -> Applying:
            self._more_to_sweep, self._swept_at, self._marked_at = before  # in case that it is done once more
            self._write_notices(tx)
            applying = Applying(tx, self.ledger, self._known, now, reading.monotonic_s, self._reload)
            applying.run(letters, has_time)
            self._do_housekeeping(tx, now, len(applying.replies))
            return applying

        applied = self._commit(apply)
        for notice in self.guard.take_notices():
            if notice.kind == "clock_accepted":
                self.started_at += notice.end - notice.start  # else it would have run since before it was started
        if reading.monotonic_s - self._tidied_at >= TIDY_EVERY_S:
            self._tidied_at = reading.monotonic_s
            self.store.tidy()
        if applied.replies:
            self.rates.count(reading.monotonic_s, len(applied.replies), applied.renewals)
        return applied.replies

    def needs_turn(self, reading: Reading) -> bool:
        """Say whether there is something to do although nothing has come."""
        return self._more_to_sweep or reading.monotonic_s - self._swept_at >= SWEEP_EVERY_S

    def _do_housekeeping(self, tx: Transaction, now: int, served: int) -> None:
        """Sweep when a second is over or more is left, less in a turn that serves; set the alive mark."""
        monotonic_s = self._reading.monotonic_s
        if self.needs_turn(self._reading):
            most = SWEPT_PER_TURN_LEAST + int(served * SWEPT_PER_REQUEST) if served else SWEPT_PER_IDLE_TURN
            self._more_to_sweep = self.ledger.sweep(tx, now, most) > 0
            self._swept_at = monotonic_s
        if monotonic_s - self._marked_at >= MARK_EVERY_S:
            self._mark(tx)

    def _mark(self, tx: Transaction) -> None:
        """Store the highest time, which is also when the server was last alive (R12, R13)."""
        write_mark(tx, self.guard.now)
        write_jump(tx, self.guard.jump)
        self._marked_at = self._reading.monotonic_s

    def _write_notices(self, tx: Transaction) -> None:
        if not self.guard.notices:
            return
        write_notices(tx, self.guard, self.ledger.server)
        revive_all(tx, self.guard, self.ledger.server)
        self._mark(tx)
        for notice in self.guard.notices:
            if notice.kind != "outage":
                times = (datetime.fromtimestamp(moment, UTC).isoformat(" ") for moment in notice[1:])
                log.warning("%s: the server's time is %s, the wall clock says %s", notice.kind, *times)

    def accept_clock(self) -> None:
        """Believe the wall clock on an administrator's word; written with the next turn."""
        if self.guard.accept():
            self._more_to_sweep = True

    def read_status(self) -> dict[str, Any]:
        """Tell what the operation `status` would."""
        tx = self.store.begin()
        try:
            return self.ledger.status(tx, self.guard.now)
        finally:
            tx.abort()

    def stop(self, reading: Reading) -> None:
        """Write that the server stops, with the last alive mark."""
        self._reading = reading
        now = self.guard.tick(reading)

        def stop(tx: Transaction) -> None:
            self._write_notices(tx)
            self.ledger.log(tx, now, "stopped")
            self._mark(tx)

        self._commit(stop)

    def _status(self, tx: Transaction) -> dict[str, Any]:
        return {
            "server": {
                "server_id": self.ledger.server_id,
                "name": self.ledger.name,
                "version": self.ledger.version,
                "started_at": self.started_at,
                "engine": type(self.store).__name__.removesuffix("Store").lower(),
                "clock": {
                    "state": self.guard.state,
                    "behind_s": self.guard.behind_s if self.guard.state != OK else 0,
                },
                "outages": [{"from": outage.start, "to": outage.end} for outage in mercy.outages(tx)],
                "replies_dropped": self.replies_dropped,
                "cluster": None,
            },
            "rates": self.rates.per_second(self._reading.monotonic_s),
        }


def set_back_to(guard: ClockGuard) -> int | None:
    """Give the time that an administrator set a wrong clock back to, if he has: it revives what had ended by it."""
    times = [note.end for note in guard.notices if note.kind == "clock_accepted" and note.end < note.start]
    return min(times, default=None)


def write_notices(tx: Transaction, guard: ClockGuard, server: int = 0) -> None:
    """Write what the clock guard has noticed: outages for R12, and their events."""
    journal = Journal.of(tx, server)
    for notice in guard.notices:
        if notice.kind == "outage":
            mercy.add_outage(tx, notice.start, notice.end)
            detail = {"from": notice.start, "to": notice.end}
        else:
            detail = {"time": notice.start, "wall_clock": notice.end}
            if notice.kind == "clock_accepted" and notice.end < notice.start:
                mercy.cut_outages(tx, notice.end)
        journal.write(Event(guard.now, notice.kind, detail=detail))


def revive_all(tx: Transaction, guard: ClockGuard, server: int = 0) -> None:
    """Revive the serials that a wrong clock had ended, if it has been set right."""
    right_now = set_back_to(guard)
    start: bytes | None = None if right_now is None else b""
    while start is not None and right_now is not None:
        start = seats.revive_serials(tx, Tally.of(tx, server), right_now, start)


def take_up_clock(tx: Transaction, take_up: Callable[[int | None], ClockGuard]) -> ClockGuard:
    """Have `take_up` make a guard from the stored mark, and write what it noticed; for a server that does not run."""
    guard = take_up(read_mark(tx))
    write_notices(tx, guard)
    revive_all(tx, guard)
    write_mark(tx, guard.now)
    write_jump(tx, guard.jump)
    return guard


def read_mark(tx: Transaction) -> int | None:
    """Give the highest time that was stored, which is also when a server was last alive."""
    raw = tx.get(Table.META, _CLOCK)
    return int(unpack_value(raw)) if raw is not None else None


def write_mark(tx: Transaction, now: int) -> None:
    """Store the highest time."""
    tx.put(Table.META, _CLOCK, pack_value(now))


def read_jump(tx: Transaction) -> Jump | None:
    """Give the leap of the wall clock that a server has seen and not believed."""
    raw = tx.get(Table.META, _JUMP)
    return Jump(*unpack_value(raw)) if raw is not None else None


def write_jump(tx: Transaction, jump: Jump | None) -> None:
    """Store it, or that there is none any more."""
    if jump is not None:
        tx.put(Table.META, _JUMP, pack_value(jump))
    elif tx.get(Table.META, _JUMP) is not None:
        tx.delete(Table.META, _JUMP)


def store_new_server_id(tx: Transaction, server_id: str) -> None:
    """Make a copied store another server's."""
    tx.put(Table.META, SERVER_ID, pack_value(server_id))


def read_server_id(tx: Transaction, new: Callable[[], str]) -> str:
    """Give the store's server_id, made with `new` when the store is new. Raises StoreError for a newer schema."""
    schema.bring_up_to_date(tx)
    raw = tx.get(Table.META, SERVER_ID)
    if raw is not None:
        return str(unpack_value(raw))
    server_id = new()
    tx.put(Table.META, SERVER_ID, pack_value(server_id))
    return server_id
