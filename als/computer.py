"""A known computer, and its bytes: a byte that says what follows, and the usual texts as what they stand for.

Whatever comes in by the protocol comes back as the same text. Changes here are changes of the schema: see records.py.
"""

import struct
from binascii import unhexlify
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
_ID_BYTES = 16  # of the usual machine_id, 32 hexadecimal digits
_OCTETS = {str(octet): octet for octet in range(256)}
_pack_head = struct.Struct("BB").pack


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
        """Write it; see `pack`."""
        return pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> "Computer":
        """Read what `pack` wrote."""
        what = raw[0]
        if raw[1] == 1:  # the usual number of addresses
            macs, place = [raw[2 : 2 + MAC_BYTES]], 2 + MAC_BYTES
        else:
            place = 2 + raw[1] * MAC_BYTES
            macs = [raw[start : start + MAC_BYTES] for start in range(2, place, MAC_BYTES)]
        if what & _IPV4:
            first, second, third, fourth = raw[place : place + _IPV4_BYTES]
            address = f"{first}.{second}.{third}.{fourth}"
            place += _IPV4_BYTES
        else:
            address, place = read_text(raw, place)
        machine_id = None
        if what & _ID_HEX:
            machine_id = raw[place : place + _ID_BYTES].hex()
            place += _ID_BYTES
        elif what & _ID_TEXT:
            machine_id, place = read_text(raw, place)
        left_at = NEVER
        if what & _LEFT:
            left_at = TIME.unpack_from(raw, place)[0]
            place += TIME_BYTES
        return cls(macs, raw[place:].decode(), address, machine_id, _KINDS[what & _KIND], left_at)


def pack(
    macs: list[bytes], host: str, address: str, machine_id: str | None, kind: str | None, left_at: int = NEVER
) -> bytes:
    """Write what there is of a computer, how many addresses, these, IP address, machine_id, `left_at`, and the host.

    A machine_id of 32 hexadecimal digits and an IPv4 address, the usual ones, are written as 16 and 4 bytes.
    """
    what = _KIND_NUMBERS[kind]
    where = _ipv4(address)
    if where is None:
        where = short_text(address)
    else:
        what |= _IPV4
    which = left = b""
    if machine_id is not None:
        digits = _hex_digits(machine_id) if len(machine_id) == 2 * _ID_BYTES else None
        what |= _ID_TEXT if digits is None else _ID_HEX
        which = short_text(machine_id) if digits is None else digits
    if left_at:
        what |= _LEFT
        left = TIME.pack(left_at)
    return b"".join((_pack_head(what, len(macs)), *macs, where, which, left, host.encode()))


def _ipv4(text: str) -> bytes | None:
    """Give an IPv4 address as 4 bytes; None for whatever would not come back as the same text."""
    try:
        first, second, third, fourth = text.split(".")
        return bytes((_OCTETS[first], _OCTETS[second], _OCTETS[third], _OCTETS[fourth]))
    except (ValueError, KeyError):
        return None


def _hex_digits(text: str) -> bytes | None:
    """Give hexadecimal digits as bytes; None for whatever would not come back as the same text."""
    try:
        digits = unhexlify(text)
    except ValueError:
        return None
    return digits if digits.hex() == text else None
