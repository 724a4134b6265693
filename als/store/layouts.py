"""How older versions wrote their rows, and how a row becomes one of the next version.

A row tells which version wrote it, by the length of its key or by its first byte. So rows can be rewritten page by
page, and again where that was cut off. What a step writes is frozen here once its version is no longer ours.
"""

import re
import struct
from collections.abc import Callable

import msgpack

from als.records import (
    EVENT_KINDS,
    NEVER,
    SERVER_SHIFT,
    Computer,
    Event,
    Holder,
    Lease,
    LeaseState,
    computer_key,
    due_key,
    lease_key,
    pack_value,
    unpack_value,
)
from als.store.transaction import StoreError, Table

Change = Callable[[bytes, bytes], tuple[bytes, bytes] | None]
"""From a row's key and value to those of the next version; None: it needs no change."""

_KINDS = (None, "server", "workstation")  # by position, in version 2 as in version 3
_MAC_BYTES = 6

# Version 1 to 2: computers were written with every text as it is.

_NUMBER_BYTES_2 = 8
_is_hex = re.compile(r"[0-9a-f]{32}\Z").match


def _shorten_computer(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    if len(key) != _NUMBER_BYTES_2:
        return None
    macs, host, address, machine_id, kind, *left_at = msgpack.unpackb(raw)
    if type(kind) is int:
        return None
    if machine_id is not None and _is_hex(machine_id):
        machine_id = bytes.fromhex(machine_id)
    return key, msgpack.packb((macs, host, address, machine_id, _KINDS.index(kind), *(left_at or [NEVER])))


# Version 2 to 3: numbers of computers had 8 bytes, holders 16, and computers and events were msgpack.

_SERVER_SHIFT_2 = 48
_HOLDER_BYTES_2 = 16
_HOLDER_BYTES_3 = 8
_LEASE_KEY_2 = struct.Struct(">HQ")
_DUE_KEY_2 = struct.Struct(">HIQ")
_OWNER_2 = struct.Struct(">QI")
_LEASE_HEAD_2 = struct.Struct(">BIIIIIIB")
_SEEN_2 = struct.Struct(">I")
_EVENT_LEAST_2 = 0x80  # msgpack's arrays begin above, the kinds of events of version 3 end below
_REMOVING = b"removing"


def _number(old: int) -> int:
    """Give a computer's number with the server in the bits where it is now. Raises StoreError."""
    server, number = old >> _SERVER_SHIFT_2, old & ((1 << _SERVER_SHIFT_2) - 1)
    if number >> SERVER_SHIFT:
        raise StoreError(f"the store cannot be brought up to date: there is a computer number {number:,}")
    return server << SERVER_SHIFT | number


def _change_removals(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    """Change the computers that removals under way have come to: a number without a server stays as it is."""
    if key != _REMOVING:
        return None
    jobs = unpack_value(raw)
    changed = [
        [product, serial, _number(after) if after >> _SERVER_SHIFT_2 else after] for product, serial, after in jobs
    ]
    return (key, pack_value(changed)) if changed != jobs else None


def _change_lease(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    if len(key) != _LEASE_KEY_2.size:
        return None
    product, computer = _LEASE_KEY_2.unpack(key)
    state, serial, acquired_at, renewed_at, period_s, due_at, expires_at, count = _LEASE_HEAD_2.unpack_from(raw)
    place = _LEASE_HEAD_2.size
    components = {}
    for _ in range(count):
        code_end = place + 1 + raw[place]
        holder_end = code_end + _HOLDER_BYTES_2
        holder = Holder(raw[code_end : code_end + _HOLDER_BYTES_3], _SEEN_2.unpack_from(raw, holder_end)[0])
        components[raw[place + 1 : code_end].decode("ascii")] = holder
        place = holder_end + _SEEN_2.size
    version = raw[place:].decode()
    lease = Lease(serial, acquired_at, renewed_at, period_s, due_at, expires_at, LeaseState(state), components, version)
    return lease_key(product, _number(computer)), lease.pack()


def _change_due(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    if len(key) != _DUE_KEY_2.size:
        return None
    product, due_at, computer = _DUE_KEY_2.unpack(key)
    return due_key(product, due_at, _number(computer)), raw


def _change_computer(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    if len(key) != _NUMBER_BYTES_2:
        return None
    macs, host, address, machine_id, kind, left_at = msgpack.unpackb(raw)
    if type(machine_id) is bytes:
        machine_id = machine_id.hex()
    own_macs = [macs[place : place + _MAC_BYTES] for place in range(0, len(macs), _MAC_BYTES)]
    computer = Computer(own_macs, host, address, machine_id, _KINDS[kind], left_at)
    return computer_key(_number(int.from_bytes(key, "big"))), computer.pack()


def _change_owner(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    if len(raw) != _OWNER_2.size:
        return None
    return key, computer_key(_number(_OWNER_2.unpack(raw)[0])) + raw[_NUMBER_BYTES_2:]


def _change_event(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    if raw[0] < _EVENT_LEAST_2:
        return None
    time, kind, *rest = msgpack.unpackb(raw)
    return key, Event(time, EVENT_KINDS[kind], *rest).pack(int.from_bytes(key, "big"))


CHANGES: dict[int, dict[Table, Change]] = {
    1: {Table.COMPUTERS: _shorten_computer},
    2: {
        Table.META: _change_removals,
        Table.LEASES: _change_lease,
        Table.DUE: _change_due,
        Table.COMPUTERS: _change_computer,
        Table.ADDRESSES: _change_owner,
        Table.EVENTS: _change_event,
    },
}
"""From version N to N + 1, by tables."""


def changes_from(version: int) -> dict[Table, Change]:
    """Give what makes a row of any version from this one on a row of ours, by tables."""
    tables: dict[Table, list[Change]] = {}
    for number in sorted(CHANGES):
        if number >= version:
            for table, change in CHANGES[number].items():
                tables.setdefault(table, []).append(change)
    return {table: _chained(steps) for table, steps in tables.items()}


def _chained(steps: list[Change]) -> Change:
    """Make one change of several, one after the other."""
    if len(steps) == 1:
        return steps[0]

    def change(key: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
        row = None
        for step in steps:
            found = step(key, raw)
            if found is not None:
                key, raw = row = found
        return row

    return change
