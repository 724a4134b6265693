"""A known computer, and its bytes: a byte that says what follows, and the usual texts as what they stand for.

Whatever comes in by the protocol comes back as the same text. Changes here are changes of the schema: see records.py.
"""

import re
import socket
from typing import NamedTuple

from als.fields import MAC_BYTES, NEVER, TIME, TIME_BYTES, read_text, short_text

_KINDS = (None, "server", "workstation")  # stored by position: append, never reorder
_KIND_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_KIND = 0x03  # the bits of a computer's first byte: the kind, and what there is of it
_ID_HEX = 0x04
_ID_TEXT = 0x08
_IPV4 = 0x10
_LEFT = 0x20
_IPV4_BYTES = 4
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
        """Write what there is of it, the number of addresses, these, IP address, machine_id, `left_at`, and the host.

        A machine_id of 32 hexadecimal digits and an IPv4 address, the usual ones, are written as 16 and 4 bytes.
        """
        macs, host, address, machine_id, kind, left_at = self
        flags = _KIND_NUMBERS[kind]
        where = _ipv4(address)
        if where is None:
            where = short_text(address)
        else:
            flags |= _IPV4
        if machine_id is None:
            which = b""
        elif len(machine_id) == _HEX_DIGITS and _is_hex(machine_id):
            flags |= _ID_HEX
            which = bytes.fromhex(machine_id)
        else:
            flags |= _ID_TEXT
            which = short_text(machine_id)
        left = b""
        if left_at:
            flags |= _LEFT
            left = TIME.pack(left_at)
        return b"".join((bytes((flags, len(macs))), *macs, where, which, left, host.encode()))

    @classmethod
    def unpack(cls, raw: bytes) -> "Computer":
        """Read what `pack` wrote."""
        flags = raw[0]
        place = 2 + raw[1] * MAC_BYTES
        macs = [raw[start : start + MAC_BYTES] for start in range(2, place, MAC_BYTES)]
        if flags & _IPV4:
            address = socket.inet_ntoa(raw[place : place + _IPV4_BYTES])
            place += _IPV4_BYTES
        else:
            address, place = read_text(raw, place)
        machine_id = None
        if flags & _ID_HEX:
            machine_id = raw[place : place + _HEX_DIGITS // 2].hex()
            place += _HEX_DIGITS // 2
        elif flags & _ID_TEXT:
            machine_id, place = read_text(raw, place)
        left_at = NEVER
        if flags & _LEFT:
            left_at = TIME.unpack_from(raw, place)[0]
            place += TIME_BYTES
        return cls(macs, raw[place:].decode(), address, machine_id, _KINDS[flags & _KIND], left_at)


def _ipv4(text: str) -> bytes | None:
    """Give an IPv4 address as 4 bytes; None for whatever would not come back as the same text."""
    if text.count(".") != _IPV4_BYTES - 1:
        return None
    try:
        packed = socket.inet_aton(text)
    except (OSError, UnicodeEncodeError):
        return None
    return packed if socket.inet_ntoa(packed) == text else None
