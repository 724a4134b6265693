"""The log (R14): a change of state writes its event in the same transaction; repeated denials are merged by the hour.

Event numbers begin with the time and end in the server's number, so that servers of a cluster share no counter.
"""

from als.ledger.tally import HOUR_S, Tally
from als.records import (
    SERVER_BITS,
    Event,
    EventForm,
    event_key,
    event_number,
    hour_key,
    pack_value,
    product_key,
    unpack_value,
)
from als.store.transaction import Table, Transaction

DENIALS_DISTINCT_MAX = 1_000  # an hour and product: what a person could still read; the rest is summed
# Stored by position: append, never reorder.
REASONS = ("no_free_license", "license_expired", "too_many", "not_authorized")
LAST_EVENT = "last event"  # in a transaction's memo, for who knows it: in a cluster, the newest event is others' too
_SUMMED = 255
_DISTINCT = 254


class Journal:
    """Writes events of one transaction; numbers grow even when the clock stands or is set back."""

    def __init__(self, tx: Transaction, server: int) -> None:
        self._tx = tx
        self._server = server
        self._own_row = server.to_bytes(2, "big") if server else b""  # so servers do not disturb each other
        self._insert = tx.inserting(Table.EVENTS)
        last: int | None = tx.memo.get(LAST_EVENT)
        if last is None:
            newest = tx.scan(Table.EVENTS, limit=1, reverse=True)
            last = int.from_bytes(newest[0][0], "big") if newest else 0
        self._last = last
        self._second = self._first = -1  # of the event before: its second, and the lowest number in it
        self._counts = Tally.of(tx, server).store()

    @classmethod
    def of(cls, tx: Transaction, server: int = 0) -> "Journal":
        """Give the journal of this transaction."""
        journal: Journal | None = tx.memo.get("journal")
        if journal is None:
            journal = tx.memo["journal"] = cls(tx, server)
        return journal

    def write(self, event: Event) -> None:
        """Append one event."""
        number = self._next_number(event.time)
        self._insert(event_key(number), event.pack(number))
        self._counts.events += 1

    def fill_in(self, form: EventForm, mac: bytes, host: str) -> None:
        """Append one event of many that are alike; who does so counts them."""
        number = self._next_number(form.time)
        self._insert(event_key(number), form.fill(number, mac, host))

    def _next_number(self, time: int) -> int:
        if time != self._second:
            self._second, self._first = time, event_number(time, self._server)
        number = self._first
        if number <= self._last:
            number = ((self._last >> SERVER_BITS) + 1) << SERVER_BITS | self._server
        self._last = self._tx.memo[LAST_EVENT] = number
        return number

    def deny(self, event: Event, reason: str) -> None:
        """Write a first denial at once, count a repeat within the hour; `event` tells the computer."""
        assert event.mac is not None
        head = hour_key(event.time // HOUR_S) + product_key(event.product)
        key = head + bytes([REASONS.index(reason)]) + event.mac
        known = self._tx.get(Table.DENIALS, key)
        if known is not None:
            count, *rest = unpack_value(known)
            self._tx.put(Table.DENIALS, key, pack_value([count + 1, *rest]))
            return
        distinct_key = head + bytes([_DISTINCT]) + self._own_row
        distinct = self._count(distinct_key)
        if distinct >= DENIALS_DISTINCT_MAX:
            summed_key = head + bytes([_SUMMED]) + self._own_row
            self._tx.put(Table.DENIALS, summed_key, pack_value([self._count(summed_key) + 1]))
            return
        self._tx.put(Table.DENIALS, distinct_key, pack_value([distinct + 1]))
        self._tx.put(Table.DENIALS, key, pack_value([0, event.host, event.component]))
        self.write(event._replace(detail={"reason": reason, **(event.detail or {})}))

    def _count(self, key: bytes) -> int:
        raw = self._tx.get(Table.DENIALS, key)
        return int(unpack_value(raw)[0]) if raw is not None else 0

    def merge_denials(self, now: int, bound: int) -> int:
        """Write the repeats of hours that are over, at most `bound` rows; give the number of rows worked off."""
        rows = self._tx.scan(Table.DENIALS, b"", hour_key(now // HOUR_S), limit=bound)
        for key, raw in rows:
            count, *rest = unpack_value(raw)
            product, reason = int.from_bytes(key[4:6], "big"), key[6]
            if reason == _SUMMED:
                self.write(Event(now, "denied", product, amount=count, detail={"reason": "summed"}))
            elif reason != _DISTINCT and count:
                host, component = rest
                detail = {"reason": REASONS[reason] if reason < len(REASONS) else "other"}  # a newer server's
                self.write(
                    Event(
                        now,
                        "denied",
                        product,
                        mac=key[7:],
                        host=host,
                        component=component,
                        amount=count,
                        detail=detail,
                    )
                )
            self._tx.delete(Table.DENIALS, key)
        return len(rows)
