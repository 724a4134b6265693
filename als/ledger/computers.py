"""Who a computer is (R10): known by its addresses, never by its machine_id alone.

An address belongs to one computer. Beside its owner the front address of a computer keeps a fingerprint of its latest
request, so that the usual renewal, in which nothing is new, needs no look at the computer's record.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple
from zlib import crc32

from als.ledger.journal import Journal
from als.ledger.quick import repeats
from als.ledger.tally import Tally
from als.protocol import MACS_MAX, encode
from als.records import COMPUTER_BYTES, SERVER_SHIFT, Computer, Event, computer_key
from als.store.transaction import Table, Transaction

MARK_BYTES = 4
_NO_FINGERPRINT = 0
_NO_MARK = bytes(MARK_BYTES)
_ENTRANCE = "entrance"  # in a transaction's memo


class Found(NamedTuple):
    """What a request's addresses say: the computer (None: a new one), and whether another known one turned up."""

    number: int | None
    conflict: int | None
    owners: dict[bytes, int]


def pack_owner(number: int, mark: int) -> bytes:
    """Write what an address's row says: the computer in 6 bytes as in its keys, the fingerprint in 4 (0: none)."""
    return computer_key(number) + mark.to_bytes(MARK_BYTES, "big")


def split_owner(raw: bytes) -> tuple[int, int]:
    """Read what `pack_owner` wrote."""
    return int.from_bytes(raw[:COMPUTER_BYTES], "big"), int.from_bytes(raw[COMPUTER_BYTES:], "big")


def fingerprint(computer: bytes) -> int:
    """Sum up the bytes of a request's `computer`; equal sums mean that nothing is new. Only displays rely on it."""
    return crc32(computer) or 1


def identify(tx: Transaction, computer: Mapping[str, Any]) -> Found:
    """Find whose request this is. Changes nothing."""
    owners: dict[bytes, int] = {}
    for mac in computer["macs"]:
        raw = tx.get(Table.ADDRESSES, mac)
        if raw is not None:
            owners[mac] = split_owner(raw)[0]
    number = owners.get(computer["macs"][0])
    machine_id = computer.get("machine_id")
    for owner in owners.values():
        if number is not None:
            break
        other = read(tx, owner).machine_id
        if not (machine_id and other and machine_id != other):
            number = owner
    conflict = next((owner for owner in owners.values() if owner != number), None)
    if number is None and len(set(owners.values())) < 2:
        conflict = None  # a new computer with what one other owns: only one known computer has turned up
    return Found(number, conflict, owners)


def owner_of(tx: Transaction, mac: bytes) -> int | None:
    """Give the computer that owns an address."""
    raw = tx.get(Table.ADDRESSES, mac)
    return split_owner(raw)[0] if raw is not None else None


def read(tx: Transaction, number: int) -> Computer:
    """Read a known computer."""
    raw = tx.get(Table.COMPUTERS, computer_key(number))
    assert raw is not None, "every owner of an address is a computer"
    return Computer.unpack(raw)


def remember(
    tx: Transaction, journal: Journal, found: Found, request: Mapping[str, Any], now: int, server: int
) -> tuple[int, Computer]:
    """Enter a new computer, or learn what is new of a known one; give its number and record."""
    number = found.number
    if number is None and not found.owners:
        get = request.get
        macs = list(dict.fromkeys(request["macs"]))
        new = Computer(macs, request["host"], request["address"], get("machine_id") or None, get("kind"))
        key = Entrance.of(tx, server).enter(macs, fingerprint(encode(request)), new.pack())
        Tally.of(tx, server).store().computers += 1
        return int.from_bytes(key, "big"), new
    if number is None:
        number = Entrance.of(tx, server).next_number()
        Tally.of(tx, server).store().computers += 1
        old = None
    else:
        old = read(tx, number)
    owners = found.owners
    macs = [mac for mac in dict.fromkeys(request["macs"]) if owners.get(mac, number) == number]
    old_macs: list[bytes] = []
    if old is not None:
        old_macs = old.macs
        macs += [mac for mac in old_macs if mac not in macs]
    new = Computer(
        macs[:MACS_MAX],
        request["host"],
        request["address"],
        request.get("machine_id") or (old.machine_id if old else None),
        request.get("kind") or (old.kind if old else None),
        old.left_at if old else 0,
    )
    mark = fingerprint(encode(request))
    is_repeated = found.conflict is not None and tx.get(Table.ADDRESSES, macs[0]) == pack_owner(number, mark)
    _own_addresses(tx, number, old_macs, macs, mark)
    if old is None:
        tx.insert(Table.COMPUTERS, computer_key(number), new.pack())
    elif new != old:
        tx.put(Table.COMPUTERS, computer_key(number), new.pack())
    if found.conflict is not None and not is_repeated:
        _tell_conflict(tx, journal, found.conflict, new, now)
    return number, new


class Entrance:
    """Where new computers come in, in one transaction; each number is one more than the highest of this server."""

    def __init__(self, tx: Transaction, server: int) -> None:
        start = server << SERVER_SHIFT
        stop = (server + 1) << SERVER_SHIFT
        last = tx.scan(Table.COMPUTERS, computer_key(start), computer_key(stop), limit=1, reverse=True)
        first = int.from_bytes(last[0][0], "big") + 1 if last else start + 1
        self.next_number: Callable[[], int] = count(first).__next__
        self._insert_address = tx.inserting(Table.ADDRESSES)
        self._insert_computer = tx.inserting(Table.COMPUTERS)

    @classmethod
    def of(cls, tx: Transaction, server: int) -> "Entrance":
        """Give this transaction's."""
        entrance: Entrance | None = tx.memo.get(_ENTRANCE)
        if entrance is None:
            entrance = tx.memo[_ENTRANCE] = cls(tx, server)
        return entrance

    def enter(self, macs: list[bytes], mark: int, packed: bytes) -> bytes:
        """Enter a computer of whose addresses, which all differ, none is known; give its number as in keys.

        `mark` is its request's fingerprint, `packed` its record. Who enters it counts it.
        """
        key = computer_key(self.next_number())
        insert_address = self._insert_address
        insert_address(macs[0], key + mark.to_bytes(MARK_BYTES, "big"))
        if len(macs) > 1:
            for mac in macs[1:]:
                insert_address(mac, key + _NO_MARK)
        self._insert_computer(key, packed)
        return key


def _own_addresses(tx: Transaction, number: int, old: list[bytes], new: list[bytes], mark: int) -> None:
    """Write who owns which address: the front one with the fingerprint, the longest unseen forgotten."""
    repeats.change(tx, number)
    for mac in new[MACS_MAX:]:
        tx.delete(Table.ADDRESSES, mac)
    for mac in new[1:MACS_MAX]:
        if mac not in old or mac == old[0]:
            tx.put(Table.ADDRESSES, mac, pack_owner(number, _NO_FINGERPRINT))
    tx.put(Table.ADDRESSES, new[0], pack_owner(number, mark))


def _tell_conflict(tx: Transaction, journal: Journal, other: int, computer: Computer, now: int) -> None:
    theirs = read(tx, other)
    journal.write(
        Event(
            now,
            "computers_conflict",
            mac=computer.macs[0],
            host=computer.host,
            detail={"other_mac": theirs.macs[0].hex(":"), "other_host": theirs.host},
        )
    )


def forget(tx: Transaction, tally: Tally, number: int, computer: Computer) -> None:
    """Remove a computer and its addresses."""
    repeats.change(tx, number)
    for mac in computer.macs:
        tx.delete(Table.ADDRESSES, mac)
    tx.delete(Table.COMPUTERS, computer_key(number))
    tally.store().computers -= 1
