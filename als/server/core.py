"""The server without its sockets: a turn takes the requests that have come, gives the replies, and commits between.

One write transaction a turn: every request applied, some of what is due swept, one commit, and only then the replies.
The core reads no clock; a turn's time comes from the clock guard.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from als import protocol
from als.clock import Reading
from als.guard import OK, ClockGuard, Notice
from als.ledger import Ledger, Sender
from als.ledger.mercy import outages
from als.protocol import MalformedError, Refusal
from als.records import pack_value, unpack_value
from als.server.rates import Rates
from als.store import schema
from als.store.transaction import Store, StoreFullError, Table, Transaction

SWEPT_PER_TURN_MAX = 100  # about 2 ms: a storm of lapses must not be felt by those who renew
SWEEP_EVERY_S = 1.0
MARK_EVERY_S = 10.0
_CLOCK = b"clock"
_SERVER_ID = b"server_id"

log = logging.getLogger("als")


class Arrival(NamedTuple):
    """One message as it came: `sender` is its proven key, `peer` tells where from when it is asked."""

    body: bytes
    sender: bytes
    peer: Callable[[], str]


class Core:
    """The turns of one server over its store."""

    def __init__(self, store: Store, ledger: Ledger, reading: Reading, reload: Callable[[], None]) -> None:
        """Open the store's books: mark the outage since the last alive mark and say that the server started."""
        self.store = store
        self.ledger = ledger
        self.rates = Rates()
        self.replies_dropped = 0
        self._reload = reload
        self._reading = reading
        self._swept_at = self._marked_at = reading.monotonic_s
        self._more_to_sweep = True
        tx = store.begin()
        raw = tx.get(Table.META, _CLOCK)
        self.guard = ClockGuard(unpack_value(raw) if raw is not None else None, reading)
        self.started_at = self.guard.now
        ledger.status_of_server = self._status
        self._write_notices(tx)
        ledger.log(tx, self.guard.now, "started", {"version": ledger.version, "name": ledger.name})
        self._mark(tx)
        store.submit(tx)

    def turn(self, arrivals: Iterable[Arrival], reading: Reading) -> list[bytes | None]:
        """Serve what has come; give one reply for each arrival, in their order, all of them durable."""
        self._reading = reading
        now = self.guard.tick(reading)
        while True:
            tx = self.store.begin()
            try:
                replies, renewals = self._apply_all(tx, arrivals, now)
                self._do_housekeeping(tx, now)
                self.store.submit(tx)
            except StoreFullError:
                tx.abort()
                self.store.grow()
                continue
            break
        self.guard.take_notices()
        if replies:
            self.rates.count(reading.monotonic_s, len(replies), renewals)
        return replies

    def needs_turn(self, reading: Reading) -> bool:
        """Say whether there is something to do although nothing has come."""
        return self._more_to_sweep or reading.monotonic_s - self._swept_at >= SWEEP_EVERY_S

    def _apply_all(self, tx: Transaction, arrivals: Iterable[Arrival], now: int) -> tuple[list[bytes | None], int]:
        self._write_notices(tx)
        replies: list[bytes | None] = []
        renewals = 0
        for arrival in arrivals:
            try:
                request = protocol.decode(arrival.body)
            except MalformedError as error:
                replies.append(protocol.encode_refusal(error.request_id, now, error.refusal))
                continue
            if request["op"] == "renew":
                renewals += 1
            elif request["op"] == "import":
                self._reload()
            answer = self.ledger.apply(tx, request, Sender(arrival.sender, arrival.peer()), now)
            if isinstance(answer, Refusal):
                replies.append(protocol.encode_refusal(request["id"], now, answer))
            else:
                replies.append(protocol.encode_reply(request["id"], now, answer))
        return replies, renewals

    def _do_housekeeping(self, tx: Transaction, now: int) -> None:
        """Sweep when a second is over or more is left; set the alive mark."""
        monotonic_s = self._reading.monotonic_s
        if self.needs_turn(self._reading):
            self._more_to_sweep = self.ledger.sweep(tx, now, SWEPT_PER_TURN_MAX) > 0
            self._swept_at = monotonic_s
        if monotonic_s - self._marked_at >= MARK_EVERY_S:
            self._mark(tx)

    def _mark(self, tx: Transaction) -> None:
        """Store the highest time, which is also when the server was last alive (R12, R13)."""
        tx.put(Table.META, _CLOCK, pack_value(self.guard.now))
        self._marked_at = self._reading.monotonic_s

    def _write_notices(self, tx: Transaction) -> None:
        for notice in self.guard.notices:
            self._write_notice(tx, notice)
        if self.guard.notices:
            self._mark(tx)

    def _write_notice(self, tx: Transaction, notice: Notice) -> None:
        if notice.kind == "outage":
            self.ledger.add_outage(tx, notice.start, notice.end)
        else:
            self.ledger.log(tx, notice.end, notice.kind, {"time": notice.start, "wall_clock": notice.end})
            log.warning("%s: the server's time is %d, the wall clock says %d", *notice)

    def accept_clock(self) -> None:
        """Believe the wall clock on an administrator's word; written with the next turn."""
        if self.guard.accept():
            self._more_to_sweep = True

    def stop(self, reading: Reading) -> None:
        """Write that the server stops, with the last alive mark."""
        self._reading = reading
        now = self.guard.tick(reading)
        tx = self.store.begin()
        self._write_notices(tx)
        self.ledger.log(tx, now, "stopped")
        self._mark(tx)
        self.store.submit(tx)

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
                "outages": [{"from": outage.start, "to": outage.end} for outage in outages(tx)],
                "replies_dropped": self.replies_dropped,
                "cluster": None,
            },
            "rates": self.rates.per_second(self._reading.monotonic_s),
        }


def read_server_id(tx: Transaction, new: Callable[[], str]) -> str:
    """Give the store's server_id, made with `new` when the store is new. Raises StoreError for a newer schema."""
    schema.bring_up_to_date(tx)
    raw = tx.get(Table.META, _SERVER_ID)
    if raw is not None:
        return str(unpack_value(raw))
    server_id = new()
    tx.put(Table.META, _SERVER_ID, pack_value(server_id))
    return server_id
