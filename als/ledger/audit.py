"""The books held against the leases: every table walked, every index and sum compared, and mended when asked.

Leases, serials and computers are the truth; POOL, ENDS, DUE, ADDRESSES, SERIAL_IDS, SEATS.used and COUNTS follow from
them. Reads row by row, so that memory grows with the number of serials and products, not of leases.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterator

import msgpack

from als.ledger import lives
from als.ledger.computers import pack_owner, split_owner
from als.records import (
    Admin,
    Computer,
    Event,
    Lease,
    LeaseState,
    PoolCounts,
    Seats,
    SerialRecord,
    SerialState,
    StoreCounts,
    Usage,
    computer_key,
    counts_key,
    due_key,
    end_key,
    lease_key,
    pool_key,
    serial_key,
    split_due_key,
    split_lease_key,
)
from als.store.transaction import Table, Transaction

PAGE_ROWS = 10_000
REST_ROWS = 64

Mend = Callable[[], None]

_UNREADABLE = (ValueError, TypeError, IndexError, KeyError, struct.error, msgpack.UnpackException)


class Audit:
    """One walk over a store. `problems` gathers a line for each thing that does not agree.

    `rest` is called every REST_ROWS, for whoever shares the machine.
    """

    def __init__(self, tx: Transaction, repair: bool = False, rest: Callable[[], None] = lambda: None) -> None:
        self._tx = tx
        self._repair = repair
        self._rest = rest
        self.problems: list[str] = []
        self._used: dict[int, int] = defaultdict(int)
        self._pools: dict[int, PoolCounts] = defaultdict(PoolCounts)
        self._store = StoreCounts()

    def run(self) -> list[str]:
        """Walk everything; give the problems found (and mended, when repairing)."""
        for step in (
            self._walk_computers,
            self._walk_addresses,
            self._walk_leases,
            self._walk_due,
            self._walk_serials,
            self._walk_serial_indexes,
            self._walk_log,
            self._compare_counts,
        ):
            try:
                step()
            except _UNREADABLE as error:
                what = step.__name__.removeprefix("_walk_").replace("_", " ")
                self.problems.append(f"a record among the {what} cannot be read: {error or type(error).__name__}")
                return self.problems  # what follows would be compared with half of the truth
        return self.problems

    def _say(self, problem: str, mend: Mend | None = None) -> None:
        self.problems.append(problem)
        if self._repair and mend is not None:
            mend()

    def _rows(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """Read a table page by page; rows may be written or deleted meanwhile."""
        start = b""
        while True:
            rows = self._tx.scan(table, start, None, PAGE_ROWS)
            for place in range(0, len(rows), REST_ROWS):
                yield from rows[place : place + REST_ROWS]
                self._rest()
            if len(rows) < PAGE_ROWS:
                return
            start = rows[-1][0] + b"\0"

    def _put(self, table: Table, key: bytes, value: bytes) -> Mend:
        return lambda: self._tx.put(table, key, value)

    def _delete(self, table: Table, key: bytes) -> Mend:
        return lambda: self._tx.delete(table, key)

    def _walk_computers(self) -> None:
        for key, raw in self._rows(Table.COMPUTERS):
            self._store.computers += 1
            number = int.from_bytes(key, "big")
            for mac in Computer.unpack(raw).macs:
                owner = self._tx.get(Table.ADDRESSES, mac)
                if owner is None or split_owner(owner)[0] != number:
                    mend = self._put(Table.ADDRESSES, mac, pack_owner(number, 0)) if owner is None else None
                    self._say(f"the address {mac.hex(':')} of computer {number} does not lead to it", mend)

    def _walk_addresses(self) -> None:
        for mac, raw in self._rows(Table.ADDRESSES):
            number = split_owner(raw)[0]
            computer = self._tx.get(Table.COMPUTERS, computer_key(number))
            if computer is None or mac not in Computer.unpack(computer).macs:
                self._say(
                    f"the address {mac.hex(':')} leads to computer {number}, which does not have it",
                    self._delete(Table.ADDRESSES, mac),
                )

    def _walk_leases(self) -> None:
        for key, raw in self._rows(Table.LEASES):
            product, computer = split_lease_key(key)
            lease = Lease.unpack(raw)
            self._store.leases += 1
            if lease.state is LeaseState.ACTIVE:
                self._used[lease.serial] += 1
            else:
                self._pools[product].lapsed += 1
            name = f"the lease of computer {computer} on product {product}"
            if self._tx.get(Table.COMPUTERS, computer_key(computer)) is None:
                self._say(f"{name} has no computer")
            if lease.state is LeaseState.ACTIVE and self._tx.get(Table.SEATS, serial_key(lease.serial)) is None:
                self._say(f"{name} is on serial number {lease.serial}, which is not there")
            due = due_key(product, lease.due_at, computer)
            if lease.due_at and self._tx.get(Table.DUE, due) is None:
                self._say(f"{name} is missing in the due index", self._put(Table.DUE, due, b""))
            if not lease.due_at and lease.period_s:
                self._say(f"{name} can lapse and is not in the due index", self._place(product, computer, lease))

    def _place(self, product: int, computer: int, lease: Lease) -> Mend:
        def mend() -> None:
            lives.place(self._tx, product, computer, lease, lease.renewed_at + lease.period_s)
            lives.write(self._tx, product, computer, lease)

        return mend

    def _walk_due(self) -> None:
        for key, _ in self._rows(Table.DUE):
            product, due_at, computer = split_due_key(key)
            if product == lives.NO_PRODUCT:
                raw = self._tx.get(Table.COMPUTERS, computer_key(computer))
                agrees = raw is not None and Computer.unpack(raw).left_at + lives.RETENTION_S == due_at
            else:
                raw = self._tx.get(Table.LEASES, lease_key(product, computer))
                agrees = raw is not None and Lease.unpack(raw).due_at == due_at
            if not agrees:
                what = f"the due index has computer {computer}, product {product}, at {due_at}, which no record has"
                self._say(what, self._delete(Table.DUE, key))

    def _walk_serials(self) -> None:
        for key, raw in self._rows(Table.SERIALS):
            number, record = int.from_bytes(key, "big"), SerialRecord.unpack(raw)
            seats_raw = self._tx.get(Table.SEATS, key)
            name = f"serial number {number}"
            if seats_raw is None:
                self._say(f"{name} has no seats")
                continue
            seats = Seats.unpack(seats_raw)
            if seats.used != self._used[number]:
                self._say(f"{name} says {seats.used} seats used, and {self._used[number]} leases are on it")
                seats.used = self._used[number]
                if self._repair:
                    self._tx.put(Table.SEATS, key, seats.pack())
            if seats.used > seats.total:
                self._say(f"{name} has {seats.total} seats, and {seats.used} leases are on it")
            if seats.state is not SerialState.REMOVED:
                self._store.serials += 1
            self._sum(record.product, seats)
            if seats.state is not SerialState.REMOVING and self._tx.get(Table.SERIAL_IDS, record.identity()) != key:
                self._say(f"{name} is not found by its id", self._put(Table.SERIAL_IDS, record.identity(), key))
            self._expect(
                Table.POOL,
                pool_key(record.product, record.expires_at, number),
                seats.state is SerialState.VALID and seats.used < seats.total,
                b"",
                f"{name} in the index of free seats",
            )
            self._expect(
                Table.ENDS,
                end_key(record.product, record.expires_at, number),
                seats.state is SerialState.VALID and bool(record.expires_at),
                seats.total.to_bytes(4, "big"),
                f"{name} in the index of ends",
            )

    def _sum(self, product: int, seats: Seats) -> None:
        pool = self._pools[product]
        if seats.state is SerialState.VALID:
            pool.total += seats.total
            pool.used += seats.used
        elif seats.state is SerialState.ENDED:
            pool.ended += 1
            pool.on_ended += seats.used

    def _expect(self, table: Table, key: bytes, wanted: bool, value: bytes, name: str) -> None:
        there = self._tx.get(table, key) is not None
        if wanted and not there:
            self._say(f"{name}: missing", self._put(table, key, value))
        elif there and not wanted:
            self._say(f"{name}: does not belong there", self._delete(table, key))

    def _walk_serial_indexes(self) -> None:
        """Find rows of the indexes that no serial has. Both keys end in the serial's number."""
        for table, name in ((Table.POOL, "free seats"), (Table.ENDS, "ends")):
            for key, _ in self._rows(table):
                raw = self._tx.get(Table.SERIALS, key[6:])
                record = SerialRecord.unpack(raw) if raw is not None else None
                make = pool_key if table is Table.POOL else end_key
                number = int.from_bytes(key[6:], "big")
                if record is None or make(record.product, record.expires_at, number) != key:
                    self._say(f"the index of {name} has serial number {number} astray", self._delete(table, key))
        for identity, number_raw in self._rows(Table.SERIAL_IDS):
            raw = self._tx.get(Table.SERIALS, number_raw)
            if raw is None or SerialRecord.unpack(raw).identity() != identity:
                self._say("an id leads to no serial", self._delete(Table.SERIAL_IDS, identity))

    def _walk_log(self) -> None:
        """Read what nothing else refers to, so that damage shows."""
        for key, raw in self._rows(Table.EVENTS):
            Event.unpack(int.from_bytes(key, "big"), raw)
            self._store.events += 1
        for _, raw in self._rows(Table.USAGE):
            Usage.unpack(raw)
        for _, raw in self._rows(Table.ADMINS):
            Admin.unpack(raw)

    def _compare_counts(self) -> None:
        pools: dict[int, PoolCounts] = defaultdict(PoolCounts)
        store = StoreCounts()
        rows = list(self._rows(Table.COUNTS))
        for key, raw in rows:
            product = int.from_bytes(key[:2], "big")
            if product == lives.NO_PRODUCT:
                store.add(StoreCounts.unpack(raw))
            else:
                pools[product].add(PoolCounts.unpack(raw))
        wrong = [f"product {product}" for product in pools | self._pools if pools[product] != self._pools[product]]
        if store != self._store:
            wrong.append("the store")
        for name in wrong:
            self._say(f"the sums of {name} do not agree with the records")
        if wrong and self._repair:
            for key, _ in rows:
                self._tx.delete(Table.COUNTS, key)
            for product, pool in self._pools.items():
                self._tx.put(Table.COUNTS, counts_key(product, 0), pool.pack())
            self._tx.put(Table.COUNTS, counts_key(lives.NO_PRODUCT, 0), self._store.pack())
