"""What stands in the tables: every record with its bytes, and every key's layout.

Fixed structs for what changes often, msgpack for the rest. Times are whole seconds since 1970 UTC in four bytes (good
to the year 2106), 0 means "never". Knows no rule.
"""

import re
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

NEVER = 0
HOLDER_BYTES = 16  # the first half of a CURVE key: as hard to hit as the key itself
TIME_MAX = 2**32 - 1

# Keys

_PRODUCT = struct.Struct(">H")
_NUMBER = struct.Struct(">I")
_POOL = struct.Struct(">HII")
_LEASE_KEY = struct.Struct(">HQ")
_DUE = struct.Struct(">HIQ")
_COMPUTER_KEY = struct.Struct(">Q")
_SEQUENCE = struct.Struct(">Q")
_USAGE_KEY = struct.Struct(">HIH")
_COUNTS_KEY = struct.Struct(">HH")
_HOUR = struct.Struct(">I")

product_key = _PRODUCT.pack
serial_key = _NUMBER.pack
lease_key = _LEASE_KEY.pack
due_key = _DUE.pack
computer_key = _COMPUTER_KEY.pack
event_key = _SEQUENCE.pack
usage_key = _USAGE_KEY.pack
counts_key = _COUNTS_KEY.pack
hour_key = _HOUR.pack

split_lease_key = _LEASE_KEY.unpack
split_due_key = _DUE.unpack
split_pool_key = _POOL.unpack
split_usage_key = _USAGE_KEY.unpack


def pool_key(product: int, expires_at: int, number: int) -> bytes:
    """Order of R2: no end first, then the latest end, then the oldest import. A seek finds the best serial."""
    return _POOL.pack(product, TIME_MAX - expires_at if expires_at else 0, number)


def pool_expires_at(key: bytes) -> tuple[int, int]:
    """Give a pool key's `expires_at` (0 = never) and serial number."""
    _, inverted, number = _POOL.unpack(key)
    return (TIME_MAX - inverted if inverted else 0), number


def end_key(product: int, expires_at: int, number: int) -> bytes:
    """The key of a serial's end; ordered by time within a product."""
    return _POOL.pack(product, expires_at, number)


# Serials


class SerialState(IntEnum):
    """Whether a serial counts. REMOVED is kept for products that never give a seat back (R4)."""

    VALID = 1
    ENDED = 2
    REMOVING = 3
    REMOVED = 4


_SEATS = struct.Struct(">IIB")


@dataclass(slots=True)
class Seats:
    """The changing part of a serial: its seats, how many are used, its state. used <= total, always."""

    total: int
    used: int
    state: SerialState

    def pack(self) -> bytes:
        """Write as 9 bytes."""
        return _SEATS.pack(self.total, self.used, self.state)

    @classmethod
    def unpack(cls, raw: bytes) -> "Seats":
        """Read what `pack` wrote."""
        total, used, state = _SEATS.unpack(raw)
        return cls(total, used, SerialState(state))


class SerialRecord(NamedTuple):
    """The lasting part of a serial. `raw` is its 100 bytes, `identity` is the vendor's key and the id."""

    raw: bytes
    product: int
    seats: int
    serial_id: int
    vendor_key: bytes
    imported_at: int
    expires_at: int
    trial: bool

    def pack(self) -> bytes:
        """Write as a msgpack array."""
        return _pack(tuple(self))

    @classmethod
    def unpack(cls, raw: bytes) -> "SerialRecord":
        """Read what `pack` wrote."""
        return cls(*msgpack.unpackb(raw))

    def identity(self) -> bytes:
        """The key in SERIAL_IDS and TRIALS: the id first, since people search by it."""
        return serial_identity(self.serial_id, self.vendor_key)


def serial_identity(serial_id: int, vendor_key: bytes) -> bytes:
    """The identity of a serial: (id, vendor key) as 40 bytes."""
    return serial_id.to_bytes(8, "big") + vendor_key


# Leases


class LeaseState(IntEnum):
    """Whether a lease holds its seat. "expired" is not stored: it is an active lease on an ended serial."""

    ACTIVE = 1
    LAPSED = 2


class Holder(NamedTuple):
    """Who acquired a component: the first 16 bytes of the key, and when it was last heard."""

    key: bytes
    seen_at: int


LEASE_HEAD = struct.Struct(">BIIIIII")  # state, serial, acquired, renewed, period, due, expires
LEASE_HEAD_BYTES = LEASE_HEAD.size
SEEN = struct.Struct(">I")


@dataclass(slots=True)
class Lease:
    """A computer's license of one product.

    `period_s` is the product's at the last renewal (0 = never lapses): what was told to the holder stays true when the
    catalog changes. `due_at` is where the lease stands in the due index; for a lapsed one, when it lapsed.
    `expires_at` is the serial's, copied so that a renewal need not read it.
    """

    serial: int
    acquired_at: int
    renewed_at: int
    period_s: int
    due_at: int
    expires_at: int
    state: LeaseState = LeaseState.ACTIVE
    components: dict[str, Holder] = field(default_factory=dict)
    version: str = ""

    def pack(self) -> bytes:
        """Write the head, then each component (length, code, holder, seen), then the version's text."""
        parts = [
            LEASE_HEAD.pack(
                self.state,
                self.serial,
                self.acquired_at,
                self.renewed_at,
                self.period_s,
                self.due_at,
                self.expires_at,
            ),
            bytes((len(self.components),)),
        ]
        for code, holder in self.components.items():
            parts += (bytes((len(code),)), code.encode("ascii"), holder.key, SEEN.pack(holder.seen_at))
        parts.append(self.version.encode())
        return b"".join(parts)

    @classmethod
    def unpack(cls, raw: bytes) -> "Lease":
        """Read what `pack` wrote."""
        state, serial, acquired_at, renewed_at, period_s, due_at, expires_at = LEASE_HEAD.unpack_from(raw)
        place = LEASE_HEAD_BYTES + 1
        components = {}
        for _ in range(raw[LEASE_HEAD_BYTES]):
            code_end = place + 1 + raw[place]
            holder_end = code_end + HOLDER_BYTES
            code = raw[place + 1 : code_end].decode("ascii")
            components[code] = Holder(raw[code_end:holder_end], SEEN.unpack_from(raw, holder_end)[0])
            place = holder_end + SEEN.size
        version = raw[place:].decode()
        return cls(
            serial,
            acquired_at,
            renewed_at,
            period_s,
            due_at,
            expires_at,
            LeaseState(state),
            components,
            version,
        )


# Computers

_KINDS = (None, "server", "workstation")  # stored by position: append, never reorder
_KIND_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_HEX_DIGITS = 32
_is_hex = re.compile(r"[0-9a-f]+\Z").match


class Computer(NamedTuple):
    """A known computer. `macs` is ordered: the addresses of its latest request first, the longest unseen last.

    `left_at` is when it last lost a lease (0: never), from which its retention counts.
    """

    macs: list[bytes]
    host: str
    address: str
    machine_id: str | None
    kind: str | None
    left_at: int = 0

    def pack(self) -> bytes:
        """Write as a msgpack array: the addresses as one string of bytes, the kind as a number.

        A machine_id of 32 hexadecimal digits, the usual one, is written as its 16 bytes.
        """
        text = self.machine_id
        is_usual = text is not None and len(text) == _HEX_DIGITS and _is_hex(text)
        machine_id = bytes.fromhex(text) if text is not None and is_usual else text
        kind = _KIND_NUMBERS[self.kind]
        return _pack((b"".join(self.macs), self.host, self.address, machine_id, kind, self.left_at))

    @classmethod
    def unpack(cls, raw: bytes) -> "Computer":
        """Read what `pack` wrote."""
        macs, host, address, machine_id, kind, left_at = msgpack.unpackb(raw)
        if type(machine_id) is bytes:
            machine_id = machine_id.hex()
        own_macs = [macs[place : place + 6] for place in range(0, len(macs), 6)]
        return cls(own_macs, host, address, machine_id, _KINDS[kind], left_at)


# The log

EVENT_KINDS = (  # stored by position: append, never reorder
    "imported",
    "removed",
    "restored",
    "granted",
    "component_added",
    "component_removed",
    "freed",
    "kept",
    "lapsed",
    "moved",
    "revoked",
    "denied",
    "holder_changed",
    "computers_conflict",
    "outage",
    "clock_set_back",
    "clock_jumped",
    "clock_accepted",
    "started",
    "stopped",
    "admin_added",
    "admin_changed",
    "admin_removed",
)
KIND_NUMBERS = {kind: number for number, kind in enumerate(EVENT_KINDS)}


class Event(NamedTuple):
    """One line of the log. `product` is its number (0: none), `amount` what the wire calls
    count, `detail` a small map or None."""

    time: int
    kind: str
    product: int = 0
    serial_id: int | None = None
    mac: bytes | None = None
    host: str | None = None
    component: str | None = None
    actor: str | None = None
    amount: int = 1
    detail: dict[str, Any] | None = None

    def pack(self) -> bytes:
        """Write as a msgpack array; absent values at the end are left out."""
        values = [self.time, KIND_NUMBERS[self.kind], *self[2:]]
        defaults = _EVENT_DEFAULTS
        while len(values) > 2 and values[-1] == defaults[len(values) - 1]:
            values.pop()
        return _pack(values)

    @classmethod
    def unpack(cls, raw: bytes) -> "Event":
        """Read what `pack` wrote."""
        time, kind, *rest = msgpack.unpackb(raw)
        return cls(time, EVENT_KINDS[kind], *rest)


_EVENT_DEFAULTS = (None, None, 0, None, None, None, None, None, 1, None)


# Numbers

_USAGE = struct.Struct(">IIIII")


@dataclass(slots=True)
class Usage:
    """One product's hour: the most seats used, the seats there were, and what happened."""

    used_max: int = 0
    total: int = 0
    denied: int = 0
    granted: int = 0
    lapsed: int = 0

    def pack(self) -> bytes:
        """Write as 20 bytes."""
        return _USAGE.pack(self.used_max, self.total, self.denied, self.granted, self.lapsed)

    @classmethod
    def unpack(cls, raw: bytes) -> "Usage":
        """Read what `pack` wrote."""
        return cls(*_USAGE.unpack(raw))


_POOL_COUNTS = struct.Struct(">qqqqq")
_STORE_COUNTS = struct.Struct(">qqqq")


@dataclass(slots=True)
class PoolCounts:
    """A product's sums, as this server has changed them: the truth is the sum over all servers' rows.

    `total` and `used` are of valid serials, `ended` counts the ended serials, `on_ended` the active leases on them,
    `lapsed` the lapsed leases.
    """

    total: int = 0
    used: int = 0
    lapsed: int = 0
    on_ended: int = 0
    ended: int = 0

    def pack(self) -> bytes:
        """Write as 40 bytes."""
        return _POOL_COUNTS.pack(self.total, self.used, self.lapsed, self.on_ended, self.ended)

    @classmethod
    def unpack(cls, raw: bytes) -> "PoolCounts":
        """Read what `pack` wrote."""
        return cls(*_POOL_COUNTS.unpack(raw))

    def add(self, other: "PoolCounts") -> None:
        """Add another server's row."""
        self.total += other.total
        self.used += other.used
        self.lapsed += other.lapsed
        self.on_ended += other.on_ended
        self.ended += other.ended


@dataclass(slots=True)
class StoreCounts:
    """How many of each thing the store holds (kept in COUNTS under product 0)."""

    serials: int = 0
    leases: int = 0
    computers: int = 0
    events: int = 0

    def pack(self) -> bytes:
        """Write as 32 bytes."""
        return _STORE_COUNTS.pack(self.serials, self.leases, self.computers, self.events)

    @classmethod
    def unpack(cls, raw: bytes) -> "StoreCounts":
        """Read what `pack` wrote."""
        return cls(*_STORE_COUNTS.unpack(raw))

    def add(self, other: "StoreCounts") -> None:
        """Add another server's row."""
        self.serials += other.serials
        self.leases += other.leases
        self.computers += other.computers
        self.events += other.events


class Admin(NamedTuple):
    """A row of the table of administrators; its key is the CURVE public key."""

    name: str
    role: str
    added_at: int
    added_by: str

    def pack(self) -> bytes:
        """Write as a msgpack array."""
        return _pack(tuple(self))

    @classmethod
    def unpack(cls, raw: bytes) -> "Admin":
        """Read what `pack` wrote."""
        return cls(*msgpack.unpackb(raw))


class Outage(NamedTuple):
    """A time in which no server was there to hear a renewal."""

    start: int
    end: int


def pack_value(value: Any) -> bytes:
    """Write a small value of META or PRODUCTS."""
    return _pack(value)


def unpack_value(raw: bytes) -> Any:
    """Read what `pack_value` wrote."""
    return msgpack.unpackb(raw)


def _pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
