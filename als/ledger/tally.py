"""Numbers that many requests of one turn change: seats of a serial, sums of a pool, the hour's usage.

Each is read once a transaction and written once, just before its commit, however many requests change it.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from als.records import (
    PoolCounts,
    Seats,
    StoreCounts,
    Usage,
    counts_key,
    serial_key,
    usage_key,
)
from als.store.transaction import Table, Transaction

HOUR_S = 3600
_SERVERS_MAX = 0xFFFF
_ALL_PRODUCTS = 0


class _Record(Protocol):
    def pack(self) -> bytes: ...


_R = TypeVar("_R", bound=_Record)


class _Entry:
    """A record in hand, and the bytes that the store has of it."""

    __slots__ = ("key", "raw", "record", "table")

    def __init__(self, table: Table, key: bytes, record: _Record, raw: bytes | None) -> None:
        self.table = table
        self.key = key
        self.record = record
        self.raw = raw


class Tally:
    """The numbers of one transaction; `server` tells this server's rows from those of others in a cluster."""

    def __init__(self, tx: Transaction, server: int) -> None:
        self._tx = tx
        self._server = server
        self._entries: dict[tuple[Table, bytes], _Entry] = {}
        self._seats: dict[int, Seats] = {}
        self._pools: dict[int, PoolCounts] = {}
        self._others: dict[int, PoolCounts] = {}
        self._usage: dict[tuple[int, int], Usage] = {}
        self._store: StoreCounts | None = None
        tx.at_commit(self.flush)

    @classmethod
    def of(cls, tx: Transaction, server: int = 0) -> "Tally":
        """Give the tally of this transaction."""
        tally: Tally | None = tx.memo.get("tally")
        if tally is None:
            tally = tx.memo["tally"] = cls(tx, server)
        return tally

    def seats(self, number: int) -> Seats | None:
        """The seats of a serial, to read or to change; None when there is no such serial."""
        seats = self._seats.get(number)
        if seats is None:
            raw = self._tx.get(Table.SEATS, serial_key(number))
            if raw is None:
                return None
            seats = self._seats[number] = Seats.unpack(raw)
            self._hold(Table.SEATS, serial_key(number), seats, raw)
        return seats

    def add_seats(self, number: int, seats: Seats) -> None:
        """Enter a new serial."""
        self._seats[number] = seats
        self._hold(Table.SEATS, serial_key(number), seats, None)

    def drop_seats(self, number: int) -> None:
        """Forget a serial."""
        self._seats.pop(number, None)
        self._entries.pop((Table.SEATS, serial_key(number)), None)
        self._tx.delete(Table.SEATS, serial_key(number))

    def pool(self, product: int) -> PoolCounts:
        """This server's row of a pool's sums, to change."""
        pool = self._pools.get(product)
        if pool is None:
            pool = self._pools[product] = self._load(
                Table.COUNTS, counts_key(product, self._server), PoolCounts.unpack, PoolCounts()
            )
        return pool

    def pool_sum(self, product: int) -> PoolCounts:
        """A pool's sums over all servers."""
        others = self._others.get(product)
        if others is None:
            others = self._others[product] = PoolCounts()
            own_key = counts_key(product, self._server)
            for key, raw in self._rows_of_counts(product):
                if key != own_key:
                    others.add(PoolCounts.unpack(raw))
        own = self.pool(product)
        total = PoolCounts(own.total, own.used, own.lapsed, own.on_ended, own.ended)
        total.add(others)
        return total

    def store(self) -> StoreCounts:
        """This server's row of the store's counts, to change."""
        if self._store is None:
            self._store = self._load(
                Table.COUNTS, counts_key(_ALL_PRODUCTS, self._server), StoreCounts.unpack, StoreCounts()
            )
        return self._store

    def store_sum(self) -> StoreCounts:
        """The store's counts over all servers."""
        self.flush()
        total = StoreCounts()
        for _, raw in self._rows_of_counts(_ALL_PRODUCTS):
            total.add(StoreCounts.unpack(raw))
        return total

    def usage(self, product: int, now: int) -> Usage:
        """The current hour of a product, to change; a new hour begins with the seats used at its start."""
        hour = now // HOUR_S
        usage = self._usage.get((product, hour))
        if usage is None:
            key = usage_key(product, hour, self._server)
            raw = self._tx.get(Table.USAGE, key)
            if raw is None:
                pool = self.pool_sum(product)
                usage = Usage(max(pool.used, 0), max(pool.total, 0))
            else:
                usage = Usage.unpack(raw)
            self._usage[product, hour] = usage
            self._hold(Table.USAGE, key, usage, raw)
        return usage

    def open_hour(self, product: int, now: int) -> None:
        """Begin the hour's row with the seats used at its start; call it before a change of them."""
        self.usage(product, now)

    def note_used(self, product: int, now: int) -> None:
        """Bring the hour's most used seats and total up to now; call it after a change of them."""
        usage = self.usage(product, now)
        pool = self.pool_sum(product)
        if pool.used > usage.used_max:
            usage.used_max = pool.used
        usage.total = max(pool.total, 0)

    def flush(self) -> None:
        """Write what has changed into the transaction."""
        for entry in self._entries.values():
            packed = entry.record.pack()
            if packed != entry.raw and (entry.raw is not None or any(packed)):
                self._tx.put(entry.table, entry.key, packed)
                entry.raw = packed

    def _rows_of_counts(self, product: int) -> list[tuple[bytes, bytes]]:
        start = counts_key(product, 0)
        return self._tx.scan(Table.COUNTS, start, start[:2] + b"\xff\xff\xff", limit=_SERVERS_MAX)

    def _load(self, table: Table, key: bytes, unpack: Callable[[bytes], _R], default: _R) -> _R:
        raw = self._tx.get(table, key)
        record = default if raw is None else unpack(raw)
        self._hold(table, key, record, raw)
        return record

    def _hold(self, table: Table, key: bytes, record: _Record, raw: bytes | None) -> None:
        self._entries[table, key] = _Entry(table, key, record, raw)
