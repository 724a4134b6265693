"""Numbers that many requests of one turn change: seats of a serial, sums of a pool, the hour's usage.

Each is read once a transaction and written once, just before its commit, however many requests change it. Where servers
share a store they change these numbers all the time: as long as that would have decided nothing otherwise, it is enough
to take up the others' newest numbers and add one's own changes to them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from als.records import (
    PoolCounts,
    Seats,
    SerialState,
    StoreCounts,
    Usage,
    counts_key,
    serial_key,
    usage_key,
)
from als.store.transaction import COUNTED, Table, Transaction

HOUR_S = 3600
_SERVERS_MAX = 0xFFFF
_ALL_PRODUCTS = 0


class _Record(Protocol):
    def pack(self) -> bytes: ...


_R = TypeVar("_R", bound=_Record)


class _Entry:
    """A record in hand, the bytes that the transaction has of it, and those that it began with."""

    __slots__ = ("before", "key", "raw", "record", "table")

    def __init__(self, table: Table, key: bytes, record: _Record, raw: bytes | None) -> None:
        self.table = table
        self.key = key
        self.record = record
        self.raw = self.before = raw


class Hour:
    """A product's seats in the current hour, in one transaction: this server's, all others', and what the log has."""

    __slots__ = ("others", "own", "peak", "usage")

    def __init__(self, own: PoolCounts, others: PoolCounts, usage: Usage, peak: int | None) -> None:
        self.own = own
        self.others = others
        self.usage = usage
        self.peak = peak  # the most seats used by this server's row in this transaction, where others' count in

    def note(self) -> None:
        """Bring the most used seats and the total up to date; call it after each change of them."""
        own, others, usage = self.own, self.others, self.usage
        used = own.used
        if self.peak is None or used > self.peak:
            self.peak = used
        used += others.used
        if used > usage.used_max:
            usage.used_max = used
        total = own.total + others.total
        usage.total = total if total > 0 else 0


class Tally:
    """The numbers of one transaction; `server` tells this server's rows from those of others in a cluster."""

    def __init__(self, tx: Transaction, server: int) -> None:
        self._tx = tx
        self._server = server
        self._entries: dict[tuple[Table, bytes], _Entry] = {}
        self._seats: dict[int, Seats] = {}
        self._taken: Counter[int] = Counter()  # of each serial's seats, those given back since included
        self._pools: dict[int, PoolCounts] = {}
        self._others: dict[int, dict[bytes, PoolCounts]] = {}  # other servers' rows of a pool
        self._others_sum: dict[int, PoolCounts] = {}
        self._usage: dict[tuple[int, int], Usage] = {}
        self._hours: dict[tuple[int, int], Hour] = {}
        self._store: StoreCounts | None = None
        self._deferred: dict[int, Callable[[], None]] = {}  # by the serial whose seats are taken
        self._is_pinned = False
        tx.at_commit(self.flush)

    @classmethod
    def of(cls, tx: Transaction, server: int = 0) -> "Tally":
        """Give the tally of this transaction, with all that was deferred. To be asked for again by each request."""
        tally: Tally | None = tx.memo.get(COUNTED)
        if tally is None:
            tally = tx.memo[COUNTED] = cls(tx, server)
        elif tally._deferred:
            tally._settle_all()
        return tally

    def defer(self, number: int, settle: Callable[[], None]) -> None:
        """Have `settle` count what the caller takes of a serial's seats from now on, before anybody looks at numbers.

        Who has deferred taking of the same serial's seats settles now: nobody takes a seat that another has in mind.
        """
        self.settle(number)
        self._deferred[number] = settle

    def settle(self, number: int) -> None:
        """Count what was deferred of a serial."""
        settle = self._deferred.pop(number, None)
        if settle is not None:
            settle()

    def _settle_all(self) -> None:
        for number in list(self._deferred):
            self.settle(number)

    def pin(self) -> None:
        """Say that something depends on the numbers as they are here: a reply tells them, or they have decided."""
        self._is_pinned = True

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

    def take(self, number: int, count: int) -> int:
        """Count seats of a serial as used; give how many are left."""
        seats = self.seats(number)
        assert seats is not None and seats.state is SerialState.VALID
        left = seats.total - seats.used - count
        assert left >= 0
        seats.used += count
        self._taken[number] += count
        return left

    def add_seats(self, number: int, seats: Seats) -> None:
        """Enter a new serial."""
        self.pin()
        self._seats[number] = seats
        self._hold(Table.SEATS, serial_key(number), seats, None)

    def drop_seats(self, number: int) -> None:
        """Forget a serial."""
        self.pin()
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
        self.pin()
        total = PoolCounts()
        total.add(self.pool(product))
        total.add(self._sum_of_others(product))
        return total

    def _sum_of_others(self, product: int) -> PoolCounts:
        total = self._others_sum.get(product)
        if total is None:
            own_key = counts_key(product, self._server)
            rows = {key: PoolCounts.unpack(raw) for key, raw in self._rows_of_counts(product) if key != own_key}
            self._others[product] = rows
            total = self._others_sum[product] = PoolCounts()
            _become_sum(total, rows.values())
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
        self.pin()
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
                own, others = self.pool(product), self._sum_of_others(product)
                usage = Usage(max(own.used + others.used, 0), max(own.total + others.total, 0))
                self._hours[product, hour] = Hour(own, others, usage, own.used)
            else:
                usage = Usage.unpack(raw)
            self._usage[product, hour] = usage
            self._hold(Table.USAGE, key, usage, raw)
        return usage

    def hour(self, product: int, now: int) -> Hour:
        """A product's current hour, to change its seats: a new one begins with those used at its start."""
        key = (product, now // HOUR_S)
        hour = self._hours.get(key)
        if hour is None:
            usage = self.usage(product, now)
            hour = self._hours.get(key)
            if hour is None:
                hour = self._hours[key] = Hour(self.pool(product), self._sum_of_others(product), usage, None)
        return hour

    def flush(self) -> None:
        """Write what has changed into the transaction."""
        self._settle_all()
        for entry, packed in self._changed():
            self._tx.put(entry.table, entry.key, packed)

    def _changed(self) -> Iterator[tuple[_Entry, bytes]]:
        """Give what the transaction does not have yet, and take it for written."""
        for entry in self._entries.values():
            packed = entry.record.pack()
            if packed != entry.raw and (entry.raw is not None or any(packed)):
                entry.raw = packed
                yield entry, packed

    # Other servers' numbers.

    def shared(self) -> list[tuple[Table, bytes]]:
        """See als/store/transaction.py, as for `recount`."""
        if self._is_pinned:
            return []
        seats = [(Table.SEATS, serial_key(number)) for number in self._seats]
        return seats + [(Table.COUNTS, key) for rows in self._others.values() for key in rows]

    def recount(self, fresh: Mapping[tuple[Table, bytes], bytes | None]) -> dict[tuple[Table, bytes], bytes] | None:
        """Add this transaction's changes to other numbers than those that it began with."""
        for (table, key), raw in fresh.items():
            if raw is None:
                return None
            if table is Table.COUNTS:
                self._take_up_counts(key, PoolCounts.unpack(raw))
            elif not self._take_up_seats(key, raw):
                return None
        for (product, number), hour in self._hours.items():
            if hour.peak is not None:
                before = self._entries[Table.USAGE, usage_key(product, number, self._server)].before
                most = 0 if before is None else Usage.unpack(before).used_max
                hour.usage.used_max = max(hour.peak + hour.others.used, most)
                hour.usage.total = max(hour.own.total + hour.others.total, 0)
        return {(entry.table, entry.key): packed for entry, packed in self._changed()}

    def _take_up_seats(self, key: bytes, raw: bytes) -> bool:
        """Let a serial begin with other seats used; False when it would enter or leave the pool by that."""
        number = int.from_bytes(key, "big")
        entry, now = self._entries[Table.SEATS, key], self._seats[number]
        assert entry.before is not None
        old, new = Seats.unpack(entry.before), Seats.unpack(raw)
        if not (old.total == now.total == new.total and old.state is now.state is new.state):
            return False
        if max(old.used, new.used) + self._taken[number] >= new.total:
            return False
        now.used += new.used - old.used
        entry.before = raw
        return now.used >= 0

    def _take_up_counts(self, key: bytes, counts: PoolCounts) -> None:
        product = int.from_bytes(key[:2], "big")
        rows = self._others[product]
        rows[key] = counts
        _become_sum(self._others_sum[product], rows.values())

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


def _become_sum(total: PoolCounts, rows: Iterable[PoolCounts]) -> None:
    """Put the sum of rows where others may already look."""
    total.total = total.used = total.lapsed = total.on_ended = total.ended = 0
    for row in rows:
        total.add(row)
