"""What a server of a cluster does besides requests: its time, its card, the alive mark, the sweep, and being shut.

Shut is a server that had no answer from the store: for a moment it refuses everything without asking again.
"""

import logging
from collections.abc import Callable
from typing import Any

from als.clock import Clock, Reading
from als.guard import BACK, HOLD_S, JUMPED, OK, SET_BACK_S, ClockGuard
from als.ledger import Ledger, ahead, products, seats
from als.ledger.tally import Tally
from als.records import due_key
from als.server.cluster.peers import CARDS, READ_EVERY_S, TICK_S, Card, Peers, card_key
from als.server.cluster.writing import Writing
from als.server.core import MARK_EVERY_S, read_mark, set_back_to, write_mark, write_notices
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import StoreUnavailableError, Table

OUTAGE_S = 60  # in which no server of the cluster set the alive mark
SWEPT_MAX = 40
REVIVED_MAX = 500  # serials looked at in a message: some 300 KB if all are revived
SWEEP_EVERY_S = 1.0  # to twice as long, at random: two that sweep at once do it in vain
SLACK_S = 5  # clocks differ by less; requests go by their own time
SHUT_S = 0.5  # before the next look whether it answers again

log = logging.getLogger("als")


class House:
    """Everything of a server that goes by the time. `card` is filled in with the time whenever it is written."""

    def __init__(
        self,
        writing: Writing,
        ledger: Ledger,
        peers: Peers,
        card: Card,
        clock: Clock,
        chance: Callable[[], float],
        probe: Callable[[], bool],
    ) -> None:
        """`probe` says, soon, whether the store is likely to answer again."""
        self.writing = writing
        self.peers = peers
        self.shut_since: int | None = None
        self.shut_message = ""
        self.retry_after_s = 1
        self._ledger = ledger
        self._card = card
        self._chance = chance
        self._probe = probe
        self._clock = clock
        self._reading = self._raw = reading = clock.read()
        self._open_at_s = self._sweep_at_s = self._tick_at_s = reading.monotonic_s
        self._mark_at_s = self._look_at_s = self._jumped_at_s = reading.monotonic_s
        self._has_more = True
        self._must_accept = False
        self.guard: ClockGuard

    @property
    def card(self) -> Card:
        """This server's card as it was written last."""
        return self._card

    # Time.

    def tick(self, reading: Reading) -> int:
        """Take a look at the clocks; give the time that this server goes by."""
        self._raw = reading
        self._reading = self.peers.adjusted(reading)
        now = self.guard.tick(self._reading)
        if self.clock_state() != JUMPED:
            self._jumped_at_s = reading.monotonic_s
        elif reading.monotonic_s - self._jumped_at_s >= HOLD_S:
            self.accept_clock()
            now = self.guard.now
        return now

    def clock_state(self) -> str:
        """Say how the clock stands that this server goes by.

        Servers that hold each other's time each find their own clock in order; a leap of all clocks shows here.
        """
        behind_s = self.guard.now - self._raw.wall_s
        if self.guard.state != OK or abs(behind_s) <= SET_BACK_S or self.peers.is_apart():
            return self.guard.state
        return BACK if behind_s > 0 else JUMPED

    def clock_told(self) -> dict[str, Any]:
        """Give state and behind_s as status tells them."""
        state = self.clock_state()
        return {"state": state, "behind_s": round(self.guard.now - self._raw.wall_s) if state != OK else 0}

    def accept_clock(self) -> None:
        """Believe the wall clock, on an administrator's word; the other servers follow."""
        self.peers.era += 1
        self.guard.tick(self.peers.adjusted(self._raw))
        if self.guard.accept():
            self._tick_at_s = self._reading.monotonic_s
        else:
            self.peers.era -= 1  # it was believed already

    def _follow_era(self) -> None:
        """Accept the clock as others have done, and go by their time."""
        era = self.peers.newest_era()
        if era > self.peers.era:
            self.peers.era = era
            self._must_accept = True
        if self._must_accept:
            self.guard.tick(self.peers.adjusted(self._raw))
            self._must_accept = not self.guard.accept() and self.guard.behind_s > SLACK_S

    def needs_turn(self, reading: Reading) -> bool:
        """Say whether there is something to do although nothing has come."""
        monotonic_s = reading.monotonic_s
        if monotonic_s < self._open_at_s:
            return False
        return self._has_more or monotonic_s >= min(self._sweep_at_s, self._tick_at_s, self._look_at_s)

    # Whether the store answers.

    def is_open(self, monotonic_s: float) -> bool:
        """Say whether it is worth while to ask the store."""
        if self.shut_since is None:
            return True
        if monotonic_s < self._open_at_s:
            return False
        if self._probe():
            return True
        self._open_at_s = self._clock.read().monotonic_s + SHUT_S
        return False

    def shut(self, error: StoreUnavailableError) -> None:
        """The store gave no answer: ask it nothing for a moment."""
        self._open_at_s = self._clock.read().monotonic_s + max(SHUT_S, error.retry_after_s - 1)
        self.retry_after_s = error.retry_after_s
        self.shut_message = str(error)
        if self.shut_since is None:
            self.shut_since = self.guard.now
            log.error("no request can be served: %s", error)

    def reopen(self) -> None:
        """The store answered."""
        if self.shut_since is not None:
            log.warning("the store answers again, after %d s", self.guard.now - self.shut_since)
            self.shut_since = None

    # Work.

    def move_in(self) -> None:
        """Begin: take the time up from the store, and write that the server started."""

        self.peers.era = self.peers.newest_era()
        self._reading = self.peers.adjusted(self._raw)

        def work(tx: EtcdTransaction) -> None:
            self.guard = ClockGuard(read_mark(tx), self._reading)
            self._card = self._card._replace(started_at=self.guard.now)
            detail = {"version": self._ledger.version, "name": self._card.name, "server": self.peers.number}
            self._write_own(tx)
            self._ledger.log(tx, self.guard.now, "started", detail)

        self._insist(work)
        self.guard.take_notices()
        self.writing.time_s = lambda: self.guard.exact_s
        self._mark_at_s = self._reading.monotonic_s + MARK_EVERY_S

    def keep(self) -> None:
        """Look at the others' cards, write our own, and the alive mark: all that has to precede a request."""
        monotonic_s = self._reading.monotonic_s
        if monotonic_s >= self._look_at_s:
            self._look_at_s = monotonic_s + READ_EVERY_S
            self.look()
            self._follow_era()
        if monotonic_s >= self._tick_at_s or self.guard.notices:
            self._revive_serials()
            self._insist(self._write_own)
            self.guard.take_notices()
            if monotonic_s >= self._mark_at_s:
                self._mark_at_s = monotonic_s + MARK_EVERY_S
            self._tick_at_s = monotonic_s + TICK_S
        self.reopen()

    def _insist(self, work: Callable[[EtcdTransaction], None]) -> None:
        """Have something done without which no request may be served: after an outage, none may lapse by it."""
        if not self.writing.run(work):
            raise StoreUnavailableError("other servers change the store faster than this one can")

    def _revive_serials(self) -> None:
        """Revive what a wrong clock had ended, by as many as a message holds; done again if it does not come to an end.

        Before it is written that the clock was accepted, since nobody would go on with the rest.
        """
        right_now = set_back_to(self.guard)
        if right_now is None:
            return
        start, following = b"", None

        def work(tx: EtcdTransaction) -> None:
            nonlocal following
            tally = Tally.of(tx, self._ledger.server)
            following = seats.revive_serials(tx, tally, right_now, start, REVIVED_MAX)

        while True:
            self._insist(work)
            if following is None:
                return
            start = following

    def look(self) -> None:
        """Read the cards of all servers."""
        stop = CARDS[:-1] + bytes((CARDS[-1] + 1,))
        rows = self.writing.store.read(lambda tx: tx.scan(Table.META, CARDS, stop, limit=10_000))
        cards = {int(key[len(CARDS) :]): Card.unpack(raw) for key, raw in rows}
        self.peers.take(cards, self._clock.read())

    def _write_own(self, tx: EtcdTransaction) -> None:
        """Write our card, what the clock guard has noticed, and the alive mark when its time has come.

        An outage is a time in which no server wrote the mark: not the guard, which sees this server alone, finds it.
        """
        now = self.guard.now
        self._card = self._card._replace(
            time=now, wall_s=self._raw.wall_s, era=self.peers.era, is_held=self.peers.is_held
        )
        tx.put(Table.META, card_key(self.peers.number), self._card.pack())
        self.guard.notices = [notice for notice in self.guard.notices if notice.kind != "outage"]
        if self._reading.monotonic_s < self._mark_at_s and not self.guard.notices:
            return
        mark = read_mark(tx) or now
        if now - mark > OUTAGE_S:
            self._ledger.add_outage(tx, mark, now)
        write_notices(tx, self.guard, self._ledger.server)
        is_lowered = any(notice.kind == "clock_accepted" for notice in self.guard.notices)
        write_mark(tx, now if is_lowered else max(mark, now))

    def clean(self) -> None:
        """Sweep a little when its time has come, unless our clock is wrong; what rivals do first is left to them."""
        monotonic_s = self._reading.monotonic_s
        if not self._has_more and monotonic_s < self._sweep_at_s:
            return
        self._has_more = False
        self._sweep_at_s = monotonic_s + SWEEP_EVERY_S * (1 + self._chance())
        if not self.peers.is_apart():
            self._has_more = self.writing.run(self._sweep, tries_max=1) and self._has_more

    def _sweep(self, tx: EtcdTransaction) -> None:
        now = self.guard.now - SLACK_S
        self.writing.store.look_ahead(ahead.sweep(products.known(tx), now), SWEPT_MAX)
        rows = tx.scan(Table.DUE, b"", due_key(0, now + 1, 0), limit=SWEPT_MAX)
        for product in products.known(tx):
            if len(rows) < SWEPT_MAX:
                rows += tx.scan(Table.DUE, due_key(product, 0, 0), due_key(product, now + 1, 0), limit=SWEPT_MAX)
        self.writing.store.prefetch(ahead.due(rows))
        self._has_more = self._ledger.sweep(tx, now, SWEPT_MAX) > 0

    def move_out(self, reading: Reading) -> None:
        """Write that the server stops. Raises StoreError, StoreUnavailableError."""
        now = self.tick(reading)
        self._card = self._card._replace(stopped=True)
        self._mark_at_s = reading.monotonic_s
        self._revive_serials()

        def work(tx: EtcdTransaction) -> None:
            self._write_own(tx)
            self._ledger.log(tx, now, "stopped", {"name": self._card.name, "server": self.peers.number})

        self.writing.run(work)
