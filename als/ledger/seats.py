"""Seats: which serial gives the next one, and the books of how many are used (R2, R6).

The pool table holds the valid serials with a free seat in the order of R2, so finding one is one seek for any number
of serials. Every change of a pool's numbers happens here, and each brings the hour's history up to date.
"""

from typing import NamedTuple

from als.ledger.tally import Tally
from als.records import SerialRecord, SerialState, end_key, pool_expires_at, pool_key, product_key, serial_key
from als.store.transaction import Table, Transaction, prefix_stop


class Free(NamedTuple):
    """A serial with a free seat. `expires_at` 0: never."""

    number: int
    expires_at: int


def find_free(tx: Transaction, product: int, now: int) -> Free | None:
    """Give the serial that R2 takes next, None when no valid serial has a free seat. Changes nothing."""
    place = memo_of_first(product)
    first: bytes | None = tx.memo.get(place)
    if first is None:
        prefix = product_key(product)
        rows = tx.scan(Table.POOL, prefix, prefix_stop(prefix), limit=1)
        first = tx.memo[place] = rows[0][0] if rows else b""
    if not first:
        return None
    expires_at, number = pool_expires_at(first)
    if expires_at and expires_at <= now:
        return None  # the first has the latest end: all others have ended too
    return Free(number, expires_at)


def memo_of_first(product: int) -> tuple[str, int]:
    """Tell where a transaction's memo has what `find_free` found; it goes when that may have changed."""
    return "pool", product


def _enter_pool(tx: Transaction, product: int, expires_at: int, number: int) -> None:
    tx.put(Table.POOL, pool_key(product, expires_at, number), b"")
    tx.memo.pop(memo_of_first(product), None)


def _leave_pool(tx: Transaction, product: int, expires_at: int, number: int) -> None:
    tx.delete(Table.POOL, pool_key(product, expires_at, number))
    tx.memo.pop(memo_of_first(product), None)


def take(tx: Transaction, tally: Tally, product: int, free: Free, now: int, count: int = 1) -> None:
    """Count more seats used on a serial that `find_free` gave in this transaction."""
    hour = tally.hour(product, now)
    left = tally.take(free.number, count)
    hour.own.used += count
    if not left:
        _leave_pool(tx, product, free.expires_at, free.number)
    hour.note()


def give_back(tx: Transaction, tally: Tally, product: int, number: int, expires_at: int, now: int) -> None:
    """Count one seat less used on a serial."""
    hour = tally.hour(product, now)
    seats = tally.seats(number)
    assert seats is not None and seats.used > 0
    seats.used -= 1
    if seats.state is SerialState.VALID:
        hour.own.used -= 1
        if seats.used == seats.total - 1:
            _enter_pool(tx, product, expires_at, number)
    elif seats.state is SerialState.ENDED:
        hour.own.on_ended -= 1
    hour.note()


def open_serial(tx: Transaction, tally: Tally, product: int, number: int, expires_at: int, now: int) -> None:
    """Let a serial count: it enters its pool with the seats that are free."""
    tally.pin()
    hour = tally.hour(product, now)
    seats = tally.seats(number)
    assert seats is not None
    pool = hour.own
    if seats.state is SerialState.ENDED:
        pool.on_ended -= seats.used
        pool.ended -= 1
    seats.state = SerialState.VALID
    pool.total += seats.total
    pool.used += seats.used
    if seats.used < seats.total:
        _enter_pool(tx, product, expires_at, number)
    if expires_at:
        tx.put(Table.ENDS, end_key(product, expires_at, number), seats.total.to_bytes(4, "big"))
    hour.note()


def close_serial(
    tx: Transaction, tally: Tally, product: int, number: int, expires_at: int, state: SerialState, now: int
) -> None:
    """Let a serial count no longer: it has ended (its leases wait for a move) or is removed."""
    tally.pin()
    hour = tally.hour(product, now)
    seats = tally.seats(number)
    assert seats is not None and seats.state in (SerialState.VALID, SerialState.ENDED)
    pool = hour.own
    if seats.state is SerialState.VALID:
        pool.total -= seats.total
        pool.used -= seats.used
        _leave_pool(tx, product, expires_at, number)
        if expires_at:
            tx.delete(Table.ENDS, end_key(product, expires_at, number))
        if state is SerialState.ENDED:
            pool.on_ended += seats.used
            pool.ended += 1
    else:
        pool.on_ended -= seats.used
        pool.ended -= 1
    seats.state = state
    hour.note()


def end_serials(tx: Transaction, tally: Tally, product: int, now: int, bound: int) -> int:
    """Close the serials whose last second is over, at most `bound`; give their number."""
    rows = tx.scan(Table.ENDS, end_key(product, 0, 0), end_key(product, now + 1, 0), limit=bound)
    ended = [(int.from_bytes(key[2:6], "big"), int.from_bytes(key[6:10], "big")) for key, _ in rows]
    tx.expect((Table.SEATS, serial_key(number)) for _, number in ended)
    for expires_at, number in ended:
        close_serial(tx, tally, product, number, expires_at, SerialState.ENDED, now)
    return len(rows)


def revive_serials(tx: Transaction, tally: Tally, now: int, start: bytes = b"", limit: int = 1_000) -> bytes | None:
    """Let serials count again that ended by a clock which was wrong, and has been set right by an administrator.

    Looks at `limit` serials from the key `start` on; gives where to go on, None when there are no more.
    """
    rows = tx.scan(Table.SERIALS, start, None, limit)
    for key, raw in rows:
        record, number = SerialRecord.unpack(raw), int.from_bytes(key, "big")
        found = tally.seats(number)
        if found is not None and found.state is SerialState.ENDED and record.expires_at > now:
            open_serial(tx, tally, record.product, number, record.expires_at, now)
    return rows[-1][0] + b"\0" if len(rows) == limit else None
