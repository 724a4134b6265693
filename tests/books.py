"""The auditor: reads a store's tables row by row and says what does not add up.

Knows the layout of the records and none of the ledger's code: sums are counted and indexes built anew.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from als.catalog import Catalog
from als.ledger.computers import split_owner
from als.records import (
    NEVER,
    Computer,
    Lease,
    LeaseState,
    Outage,
    PoolCounts,
    Seats,
    SerialRecord,
    SerialState,
    StoreCounts,
    due_key,
    end_key,
    lease_key,
    pool_key,
    split_lease_key,
    unpack_value,
)
from als.store.transaction import Rows, Table, Transaction

MACS_MAX = 32
PAGE_ROWS = 1_000
_T = TypeVar("_T")


@dataclass
class Books:
    """All tables that must agree, read."""

    serials: dict[int, SerialRecord]
    seats: dict[int, Seats]
    leases: dict[tuple[int, int], Lease]
    computers: dict[int, Computer]
    addresses: dict[bytes, int]
    pool: set[bytes]
    ends: set[bytes]
    ids: dict[bytes, int]
    due: set[bytes]


def rows(tx: Transaction, table: Table) -> Rows:
    """All rows of a table."""
    found: Rows = []
    start = b""
    while True:
        page = tx.scan(table, start, limit=PAGE_ROWS)
        found += page
        if len(page) < PAGE_ROWS:
            return found
        start = page[-1][0] + b"\0"


def read(tx: Transaction) -> Books:
    """Read the tables."""
    return Books(
        serials={_int(key): SerialRecord.unpack(raw) for key, raw in rows(tx, Table.SERIALS)},
        seats=seats_by_serial(tx),
        leases={_lease_key(key): Lease.unpack(raw) for key, raw in rows(tx, Table.LEASES)},
        computers={_int(key): Computer.unpack(raw) for key, raw in rows(tx, Table.COMPUTERS)},
        addresses={key: split_owner(raw)[0] for key, raw in rows(tx, Table.ADDRESSES)},
        pool={key for key, _ in rows(tx, Table.POOL)},
        ends={key for key, _ in rows(tx, Table.ENDS)},
        ids={key: _int(raw) for key, raw in rows(tx, Table.SERIAL_IDS)},
        due={key for key, _ in rows(tx, Table.DUE)},
    )


def _int(key: bytes) -> int:
    return int.from_bytes(key, "big")


def _lease_key(key: bytes) -> tuple[int, int]:
    product, computer = split_lease_key(key)
    return product, computer


def mistakes(tx: Transaction, catalog: Catalog) -> list[str]:
    """Say what is wrong in a store between two transactions; an empty list when all is well."""
    books = read(tx)
    return [
        *_seat_mistakes(books),
        *_pool_mistakes(books),
        *_due_mistakes(books, outages(tx), catalog),
        *_computer_mistakes(books),
        *_count_mistakes(tx, books),
    ]


def seats_by_serial(tx: Transaction) -> dict[int, Seats]:
    """The seats of every serial, by its number."""
    return {_int(key): Seats.unpack(raw) for key, raw in rows(tx, Table.SEATS)}


def lease_of(tx: Transaction, product: int, mac: bytes) -> Lease | None:
    """The lease of the computer with this address, by the tables alone."""
    known = tx.get(Table.ADDRESSES, mac)
    raw = None if known is None else tx.get(Table.LEASES, lease_key(product, split_owner(known)[0]))
    return None if raw is None else Lease.unpack(raw)


def outages(tx: Transaction) -> list[Outage]:
    """The times in which no server ran."""
    raw = tx.get(Table.META, b"outages")
    return [] if raw is None else [Outage(*item) for item in unpack_value(raw)]


def used_by_serial(books: Books) -> Counter[int]:
    """How many active leases are on each serial."""
    return Counter(lease.serial for lease in books.leases.values() if lease.state is LeaseState.ACTIVE)


def _seat_mistakes(books: Books) -> Iterable[str]:
    used = used_by_serial(books)
    if books.serials.keys() != books.seats.keys():
        yield f"serials {sorted(books.serials)} and their seats {sorted(books.seats)} are not the same"
    for number, seats in books.seats.items():
        if seats.used != used[number]:
            yield f"serial {number} says {seats.used} used, and {used[number]} leases are on it"
        if seats.used > seats.total:
            yield f"serial {number} has {seats.used} of {seats.total} seats used"
        if number in books.serials and seats.total != books.serials[number].seats:
            yield f"serial {number} has lost or won seats"
    for (product, computer), lease in books.leases.items():
        serial = books.serials.get(lease.serial)
        if serial is None and lease.state is LeaseState.ACTIVE:
            yield f"the lease {product, computer} is on serial {lease.serial}, which is not there"
        if serial is not None and serial.product != product:
            yield f"the lease {product, computer} is on a serial of product {serial.product}"
        if serial is not None and serial.expires_at != lease.expires_at:
            yield f"the lease {product, computer} believes in another end of its serial"


def _pool_mistakes(books: Books) -> Iterable[str]:
    pool, ends = set(), set()
    for number, seats in books.seats.items():
        serial = books.serials[number]
        if seats.state is SerialState.VALID:
            if seats.used < seats.total:
                pool.add(pool_key(serial.product, serial.expires_at, number))
            if serial.expires_at != NEVER:
                ends.add(end_key(serial.product, serial.expires_at, number))
    yield from _index_mistakes("pool", books.pool, pool)
    yield from _index_mistakes("ends", books.ends, ends)
    ids = {
        serial.identity(): number
        for number, serial in books.serials.items()
        if books.seats[number].state is not SerialState.REMOVING
    }
    yield from _index_mistakes("serial ids", set(books.ids) & set(ids), set(ids))
    for identity, number in ids.items():
        if books.ids.get(identity) != number:
            yield f"serial {number} is not found by its id"


def _index_mistakes(name: str, seen: set[bytes], expected: set[bytes]) -> Iterable[str]:
    if seen != expected:
        missing = [key.hex() for key in sorted(expected - seen)]
        extra = [key.hex() for key in sorted(seen - expected)]
        yield f"the index {name} misses {missing} and has too much {extra}"


def _due_mistakes(books: Books, away: list[Outage], catalog: Catalog) -> Iterable[str]:
    due = set()
    for (product, computer), lease in books.leases.items():
        if lease.due_at:
            due.add(due_key(product, lease.due_at, computer))
        if lease.state is LeaseState.ACTIVE and lease.period_s:
            if not lease.due_at:
                yield f"the lease {product, computer} will never be found by the sweep"
            elif lease.due_at > deadline(lease, away):
                yield f"the lease {product, computer} will be found by the sweep too late"
        if lease.state is LeaseState.LAPSED and not lease.due_at:
            yield f"the lapsed lease {product, computer} will never be forgotten"
    yield from _index_mistakes("due", {key for key in books.due if key[:2] != b"\0\0"}, due)
    for key in books.due:
        if key[:2] == b"\0\0" and _int(key[-6:]) not in books.computers:
            yield f"computer {_int(key[-6:])} is due to be forgotten, and nobody knows it"


def deadline(lease: Lease, away: list[Outage]) -> int:
    """The second at which an active lease lapses (R3, R12): in the due index it must not stand later."""
    end_at = lease.renewed_at + lease.period_s
    for start, end in sorted(away):
        if start < end_at:
            end_at += min(lease.period_s, max(0, end - max(start, lease.renewed_at)))
    return end_at


def _computer_mistakes(books: Books) -> Iterable[str]:
    owned = {mac: number for number, computer in books.computers.items() for mac in computer.macs}
    if owned != books.addresses:
        wrong = {mac.hex() for mac, number in owned.items() ^ books.addresses.items()}
        yield f"computers and addresses do not agree about {sorted(wrong)}"
    for number, computer in books.computers.items():
        if not 1 <= len(computer.macs) <= MACS_MAX or len(set(computer.macs)) != len(computer.macs):
            yield f"computer {number} has {len(computer.macs)} addresses, some perhaps twice"
    for product, number in books.leases:
        if number not in books.computers:
            yield f"the lease {product, number} is nobody's"


def _count_mistakes(tx: Transaction, books: Books) -> Iterable[str]:
    expected: dict[int, PoolCounts] = defaultdict(PoolCounts)
    for number, seats in books.seats.items():
        pool = expected[books.serials[number].product]
        if seats.state is SerialState.VALID:
            pool.total += seats.total
            pool.used += seats.used
        elif seats.state is SerialState.ENDED:
            pool.on_ended += seats.used
            pool.ended += 1
    for (product, _), lease in books.leases.items():
        if lease.state is LeaseState.LAPSED:
            expected[product].lapsed += 1
    seen: dict[int, PoolCounts] = defaultdict(PoolCounts)
    store = StoreCounts()
    for key, raw in rows(tx, Table.COUNTS):
        if key[:2] == b"\0\0":
            store.add(StoreCounts.unpack(raw))
        else:
            seen[_int(key[:2])].add(PoolCounts.unpack(raw))
    for product in expected.keys() | seen.keys():
        if expected[product] != seen[product]:
            yield f"product {product} counts {seen[product]}, and has {expected[product]}"
    leases, computers, events = len(books.leases), len(books.computers), len(rows(tx, Table.EVENTS))
    if (store.leases, store.computers, store.events) != (leases, computers, events):
        yield f"the store counts {store}, and has {leases} leases, {computers} computers, {events} events"
