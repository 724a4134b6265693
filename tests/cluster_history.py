"""A cluster's whole history, held against its rules and against what its clients were told.

At every revision of etcd no serial has more seats used than it has, and as many as there are active leases on it; the
sums of the books agree; and who changes a lease that another server relies on tells so. And whatever was acknowledged
to a computer stands in the history, in that order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgpack

from als.ledger.computers import split_owner
from als.records import (
    HOLDER_BYTES,
    SERVER_BITS,
    Lease,
    LeaseState,
    PoolCounts,
    Seats,
    SerialRecord,
    SerialState,
    lease_key,
)
from als.store.etcd.fence import row_key
from als.store.etcd.keys import Keys
from als.store.etcd.marks import bare, is_marked, mark_of
from als.store.etcd.moves import ROWS_HEAD
from als.store.transaction import Table
from etcd_watch import Revision

COMPONENT = "agent"
FAULTS_KEPT_MAX = 20
SERVERS_MAX = 1 << SERVER_BITS


class Deed(NamedTuple):
    """One request of a computer, and its reply; None: none came in time, so nobody knows what became of it."""

    product: int
    mac: bytes
    key: bytes
    operation: str
    server: int
    sent_s: float
    ended_s: float
    reply: dict[str, Any] | None

    @property
    def is_acknowledged(self) -> bool:
        """Say whether it was granted."""
        return self.reply is not None and bool(self.reply["ok"])

    @property
    def is_unclear(self) -> bool:
        """Say whether it may have been done, may be done yet, or neither."""
        return self.reply is None or self.reply.get("code") == "unavailable"

    def is_done_in(self, lease: Lease | None) -> bool:
        """Say whether a lease is as this deed, acknowledged, has left it."""
        assert self.reply is not None
        if self.operation == "release":
            return lease is None or (self.reply["result"] == "not_held" and lease.state is LeaseState.LAPSED)
        return self.could_have_left(lease) and lease is not None and lease.renewed_at == self.reply["time"]

    def could_have_left(self, lease: Lease | None) -> bool:
        """Say whether a lease is as this deed, done at some time, may have left it."""
        if self.operation == "release":
            return lease is None
        if lease is None or COMPONENT not in lease.components:
            return False
        return lease.components[COMPONENT].key == self.key[:HOLDER_BYTES]


class Replay:
    """The tables as they were at one revision after the other; `faults` tells what was wrong at which."""

    def __init__(self, prefix: bytes) -> None:
        self._keys = Keys(prefix)
        self.rows: dict[bytes, bytes] = {}
        self.revisions = 0
        self.faults: list[str] = []
        self.leases: dict[bytes, list[Lease | None]] = defaultdict(lambda: [None])  # every version of each
        self._seats: dict[int, Seats] = {}
        self._products: dict[int, int] = {}
        self._active: Counter[int] = Counter()
        self._servers = {self._keys.name(Table.META, row_key(server)): server for server in range(SERVERS_MAX)}
        self._counted: dict[int, dict[bytes, PoolCounts]] = defaultdict(dict)  # by product and key

    def run(self, revisions: Iterable[Revision]) -> None:
        """Go through a history."""
        number = 0
        for revision in revisions:
            assert revision.number > number, "a revision came in two parts"
            number = revision.number
            self.revisions += 1
            serials, products = self._apply(revision)
            self._check(revision.number, serials, products)

    def _apply(self, revision: Revision) -> tuple[set[int], set[int]]:
        """Take a revision's changes over; give the serials and products that they touch."""
        serials: set[int] = set()
        self._check_what_is_told(revision)
        for name, value in revision.changes:
            table, key = Table(name[self._keys.table_at]), self._keys.key_of(name)
            if value is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = value
            if table is Table.LEASES:
                serials |= self._take_lease(key, value)
            elif table is Table.SEATS:
                serials.add(number := int.from_bytes(key, "big"))
                if value is None:
                    del self._seats[number]
                else:
                    self._seats[number] = Seats.unpack(value)
            elif table is Table.SERIALS and value is not None:
                self._products[int.from_bytes(key, "big")] = SerialRecord.unpack(value).product
            elif table is Table.COUNTS and value is not None and key[:2] != b"\0\0":
                self._counted[int.from_bytes(key[:2], "big")][key] = PoolCounts.unpack(value)
        return serials, {self._products[serial] for serial in serials if serial in self._products}

    def _check_what_is_told(self, revision: Revision) -> None:
        """See that a server that changes leases which another wrote last has named them in its row of moves."""
        head, moved = self._keys.heads[Table.LEASES], self._keys.name(Table.META, ROWS_HEAD)
        old = {name: self.rows[name] for name, _ in revision.changes if name.startswith(head) and name in self.rows}
        told = {
            self._keys.prefix + key
            for name, value in revision.changes
            if value is not None and name.startswith(moved)
            for key in msgpack.unpackb(value)[1]
        }
        writers = [self._servers[name] for name, _ in revision.changes if name in self._servers]
        for name, raw in old.items():
            if is_marked(raw) and name not in told and not any(raw.startswith(mark_of(server)) for server in writers):
                self._say(f"revision {revision.number}: {name!r} was changed behind the back of who relied on it")

    def _take_lease(self, key: bytes, value: bytes | None) -> set[int]:
        """Enter a lease's new version; give the serials that it was on and is on."""
        versions = self.leases[key]
        old, new = versions[-1], None if value is None else Lease.unpack(bare(value))
        versions.append(new)
        touched = set()
        for lease, step in ((old, -1), (new, 1)):
            if lease is not None:
                touched.add(lease.serial)
                if lease.state is LeaseState.ACTIVE:
                    self._active[lease.serial] += step
        return touched

    def _check(self, number: int, serials: set[int], products: set[int]) -> None:
        for serial in serials:
            seats, active = self._seats.get(serial), self._active[serial]
            total, used = (seats.total, seats.used) if seats is not None else (0, 0)
            if used > total or active > total:
                self._say(f"revision {number}: {used} used, {active} leases on the {total} seats of serial {serial}")
            elif used != active:
                self._say(f"revision {number}: serial {serial} has {used} seats used and {active} active leases")
        for product in products:
            used = sum(
                seats.used
                for serial, seats in self._seats.items()
                if self._products.get(serial) == product and seats.state is SerialState.VALID
            )
            counted = sum(counts.used for counts in self._counted[product].values())
            if used != counted:
                self._say(f"revision {number}: the sums of product {product} say {counted} used, its serials {used}")

    def _say(self, fault: str) -> None:
        if len(self.faults) < FAULTS_KEPT_MAX:
            self.faults.append(fault)

    def most_used(self, product: int) -> tuple[int, int]:
        """Give the seats used and those there are of a product, at the end."""
        owned = [seats for serial, seats in self._seats.items() if self._products[serial] == product]
        return sum(seats.used for seats in owned), sum(seats.total for seats in owned)

    def versions_of(self, product: int, mac: bytes) -> list[Lease | None]:
        """Give every state that a computer's lease of a product has had."""
        owner = self.rows.get(self._keys.name(Table.ADDRESSES, mac))
        if owner is None:
            return [None]
        return self.leases.get(lease_key(product, split_owner(owner)[0]), [None])


def lost(replay: Replay, deeds: Sequence[Deed], lapses: bool) -> list[str]:
    """Say what of the deeds of one computer with one product, in their order, was acknowledged and is not there.

    Each acknowledged change must have been so at some time, in the order of the acknowledgements. At the end it must be
    as the last one has left it, unless a deed without an answer may have come after it, or its time is over (`lapses`).
    """
    versions = replay.versions_of(deeds[0].product, deeds[0].mac)
    missing = []
    place = 0
    for deed in deeds:
        if not deed.is_acknowledged:
            continue
        found = next((at for at in range(place, len(versions)) if deed.is_done_in(versions[at])), None)
        if found is None:
            missing.append(f"acknowledged and lost: {deed}; it was {versions[place]} and then {versions[place + 1 :]}")
        else:
            place = found
    end = versions[-1]
    last = next((deed for deed in reversed(deeds) if deed.is_acknowledged), None)
    if last is None or last.is_done_in(end) or (lapses and end is not None and end.state is LeaseState.LAPSED):
        return missing
    if not any(deed.is_unclear and deed.could_have_left(end) for deed in deeds):
        missing.append(f"the last thing acknowledged is not there: {last}; it is {end}")
    return missing
