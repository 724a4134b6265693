"""What stands in the tables: every record with its bytes, and every key's layout.

Bytes laid out by hand for what there is much of, msgpack for the rest. Times are whole seconds since 1970 UTC in four
bytes (good to the year 2106), 0 means "never". Whatever changes here needs a new SCHEMA_VERSION, and a migration in
als/store/layouts.py. Knows no rule.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from als.computer import Computer as Computer
from als.event import EVENT_KINDS as EVENT_KINDS
from als.event import SERVER_BITS as SERVER_BITS
from als.event import Event as Event
from als.event import EventForm as EventForm
from als.event import event_number as event_number
from als.event import event_time as event_time
from als.fields import NEVER as NEVER
from als.fields import TIME as TIME
from als.fields import TIME_BYTES as TIME_BYTES
from als.fields import TIME_MAX as TIME_MAX

HOLDER_BYTES = 8  # of a CURVE key: to be taken for a holder, somebody would have to make some 2^64 key pairs
COMPUTER_BYTES = 6
SERVER_SHIFT = 32  # the upper 16 bits of a computer's number are the server that met it first
COMPUTERS_MAX = 2 ** (8 * COMPUTER_BYTES) - 1

# Keys

_PRODUCT = struct.Struct(">H")
_NUMBER = struct.Struct(">I")
_POOL = struct.Struct(">HII")
_SEQUENCE = struct.Struct(">Q")
_DUE = struct.Struct(">QI")
_USAGE_KEY = struct.Struct(">HIH")
_COUNTS_KEY = struct.Struct(">HH")
_HOUR = struct.Struct(">I")

product_key = _PRODUCT.pack
serial_key = _NUMBER.pack
event_key = _SEQUENCE.pack
usage_key = _USAGE_KEY.pack
counts_key = _COUNTS_KEY.pack
hour_key = _HOUR.pack

split_pool_key = _POOL.unpack
split_usage_key = _USAGE_KEY.unpack

LEASE_KEY_BYTES = 2 + COMPUTER_BYTES
_PRODUCT_SHIFT = 8 * COMPUTER_BYTES
_DUE_SHIFT = _PRODUCT_SHIFT - 32
_pack_8, _unpack_8, _pack_due, _unpack_due = _SEQUENCE.pack, _SEQUENCE.unpack, _DUE.pack, _DUE.unpack


def computer_key(computer: int) -> bytes:
    """A computer's number as 6 bytes."""
    return computer.to_bytes(COMPUTER_BYTES, "big")


def lease_key(product: int, computer: int) -> bytes:
    """The product in 2 bytes, the computer in 6."""
    return _pack_8(product << _PRODUCT_SHIFT | computer)


def split_lease_key(key: bytes) -> tuple[int, int]:
    """Give a lease key's product and computer."""
    number: int = _unpack_8(key)[0]
    return number >> _PRODUCT_SHIFT, number & COMPUTERS_MAX


def due_key(product: int, due_at: int, computer: int) -> bytes:
    """The product in 2 bytes, the second in 4, the computer in 6."""
    return _pack_due(product << _PRODUCT_SHIFT | due_at << _DUE_SHIFT | computer >> 32, computer & 0xFFFFFFFF)


DUE_PREFIX_BYTES = 6  # of a due key: all but the computer


def split_due_key(key: bytes) -> tuple[int, int, int]:
    """Give a due key's product, second and computer."""
    upper, lower = _unpack_due(key)
    return upper >> _PRODUCT_SHIFT, upper >> _DUE_SHIFT & TIME_MAX, (upper & 0xFFFF) << 32 | lower


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
    """Who acquired a component: the first 8 bytes of the key, and when it was last heard."""

    key: bytes
    seen_at: int


LEASE_STATE_SHIFT = 6  # a lease's first byte: the state in the upper two bits, so never 0xff
LEASE_ENDS = 0x20  # its serial ends: `expires_at` follows the head
LEASE_LONE = 0x1F  # the length of the code of its only component, if that was last heard when the lease was renewed:
#                    neither this length nor `seen_at` are written then; 0: the number of components follows
LEASE_HEAD = struct.Struct(">BIIIII")  # what was said just now, serial, acquired, renewed, period, due
LEASE_HEAD_BYTES = LEASE_HEAD.size
RENEWED = slice(9, 13)  # where the head has `renewed_at`


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
        """Write the head, each component (length, code, holder, seen), then the version's text."""
        components, renewed_at, expires_at = self.components, self.renewed_at, self.expires_at
        what = self.state << LEASE_STATE_SHIFT
        parts = [b""]
        if expires_at:
            what |= LEASE_ENDS
            parts.append(TIME.pack(expires_at))
        lone = next(iter(components)) if len(components) == 1 else ""
        if 0 < len(lone) <= LEASE_LONE and components[lone].seen_at == renewed_at:
            what |= len(lone)
            parts += (lone.encode("ascii"), components[lone].key)
        else:
            parts.append(bytes((len(components),)))
            for code, holder in components.items():
                parts += (bytes((len(code),)), code.encode("ascii"), holder.key, TIME.pack(holder.seen_at))
        parts[0] = LEASE_HEAD.pack(what, self.serial, self.acquired_at, renewed_at, self.period_s, self.due_at)
        parts.append(self.version.encode())
        return b"".join(parts)

    @classmethod
    def unpack(cls, raw: bytes) -> "Lease":
        """Read what `pack` wrote."""
        what, serial, acquired_at, renewed_at, period_s, due_at = LEASE_HEAD.unpack_from(raw)
        place = LEASE_HEAD_BYTES
        expires_at = NEVER
        if what & LEASE_ENDS:
            expires_at = TIME.unpack_from(raw, place)[0]
            place += TIME_BYTES
        components = {}
        if what & LEASE_LONE:
            code_end = place + (what & LEASE_LONE)
            holder_end = code_end + HOLDER_BYTES
            components[raw[place:code_end].decode("ascii")] = Holder(raw[code_end:holder_end], renewed_at)
            place = holder_end
        else:
            count = raw[place]
            place += 1
            for _ in range(count):
                code_end = place + 1 + raw[place]
                holder_end = code_end + HOLDER_BYTES
                code = raw[place + 1 : code_end].decode("ascii")
                components[code] = Holder(raw[code_end:holder_end], TIME.unpack_from(raw, holder_end)[0])
                place = holder_end + TIME_BYTES
        version = raw[place:].decode()
        state = LeaseState(what >> LEASE_STATE_SHIFT)
        return cls(serial, acquired_at, renewed_at, period_s, due_at, expires_at, state, components, version)


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
