"""One line of the log, and its bytes: a byte that says what follows. An event's number is its key and tells its time.

Numbers are microseconds since 1970 << 10 | server number. Changes here are changes of the schema: see records.py.
"""

import struct
from typing import Any, NamedTuple

import msgpack

from als.fields import MAC_BYTES, TIME, TIME_BYTES, read_text, short_text

SERVER_BITS = 10  # the lowest of an event's number

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
_EVENT_HEAD = struct.Struct(">BBH")  # kind, what there is of it, product
_SERIAL_ID = struct.Struct(">Q")
_LENGTH = struct.Struct(">H")
_SERIAL = 0x01  # the bits of the second byte, in the order in which it follows
_MAC = 0x02
_COMPONENT = 0x04
_OWN_TIME = 0x08
_SELDOM = 0x10  # actor, amount and detail, with a length of 2 bytes
_HOST = 0x20
_SECOND_MICROS = 1_000_000


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

    def pack(self, number: int) -> bytes:
        """Write what is not absent, the host last; the time only where it is not that of the event's number."""
        time, kind, product, serial_id, mac, host, component, actor, amount, detail = self
        flags = 0
        parts = [b""]
        if serial_id is not None:
            flags |= _SERIAL
            parts.append(_SERIAL_ID.pack(serial_id))
        if mac is not None:
            flags |= _MAC
            parts.append(mac)
        if component is not None:
            flags |= _COMPONENT
            parts.append(short_text(component))
        if time != event_time(number):
            flags |= _OWN_TIME
            parts.append(TIME.pack(time))
        if actor is not None or amount != 1 or detail is not None:
            flags |= _SELDOM
            seldom = msgpack.packb((actor, amount, detail))
            parts += (_LENGTH.pack(len(seldom)), seldom)
        if host is not None:
            flags |= _HOST
            parts.append(host.encode())
        parts[0] = _EVENT_HEAD.pack(KIND_NUMBERS[kind], flags, product)
        return b"".join(parts)

    @classmethod
    def unpack(cls, number: int, raw: bytes) -> "Event":
        """Read what `pack` wrote under the same number."""
        kind, flags, product = _EVENT_HEAD.unpack_from(raw)
        place = _EVENT_HEAD.size
        serial_id = mac = component = actor = detail = None
        amount = 1
        if flags & _SERIAL:
            serial_id = _SERIAL_ID.unpack_from(raw, place)[0]
            place += _SERIAL_ID.size
        if flags & _MAC:
            mac = raw[place : place + MAC_BYTES]
            place += MAC_BYTES
        if flags & _COMPONENT:
            component, place = read_text(raw, place)
        if flags & _OWN_TIME:
            time = TIME.unpack_from(raw, place)[0]
            place += TIME_BYTES
        else:
            time = event_time(number)
        if flags & _SELDOM:
            end = place + 2 + _LENGTH.unpack_from(raw, place)[0]
            actor, amount, detail = msgpack.unpackb(raw[place + 2 : end])
            place = end
        host = raw[place:].decode() if flags & _HOST else None
        return cls(time, EVENT_KINDS[kind], product, serial_id, mac, host, component, actor, amount, detail)


class EventForm:
    """Events that differ in their computer's address and host alone: written once, and filled in for each."""

    __slots__ = ("_back", "_beyond", "_event", "_front", "time")

    def __init__(self, event: Event) -> None:
        """Take an event whose mac and host are empty, but not absent."""
        assert event.mac == b"" and event.host == ""
        raw = event.pack(event_number(event.time, 0))
        place = _EVENT_HEAD.size + (_SERIAL_ID.size if event.serial_id is not None else 0)
        self._front, self._back = raw[:place], raw[place:]
        self._event = event
        self.time = event.time
        self._beyond = event_number(event.time + 1, 0)

    def fill(self, number: int, mac: bytes, host: str) -> bytes:
        """Write what `pack` would of the event of this computer. Numbers are not below those of its time."""
        if number >= self._beyond:  # the clock was set back, so the number says another time
            return self._event._replace(mac=mac, host=host).pack(number)
        return self._front + mac + self._back + host.encode()


def event_number(time: int, server: int) -> int:
    """Give the lowest number of a server's event in this second."""
    return time * _SECOND_MICROS << SERVER_BITS | server


def event_time(number: int) -> int:
    """Give the second that an event's number says; the event is older where the clock was set back."""
    return (number >> SERVER_BITS) // _SECOND_MICROS
