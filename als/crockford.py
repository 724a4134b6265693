"""Bytes as Crockford base32: digits and capitals without I, L, O and U, so that people can read them aloud.

Knows nothing of what the bytes mean. Not on the base64 module, whose base32 takes ten times as long: a page of a
thousand leases holds a thousand serials.
"""

import re

SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENIENT = SYMBOLS + "abcdefghjkmnpqrstvwxyz" + "OoIiLl"
"""Every character that is read as a symbol. ASCII alone: upper() would turn a dotless i into I."""

_INT_DIGITS = "0123456789abcdefghijklmnopqrstuv"  # as int(text, 32) reads them
_FROM_LENIENT = str.maketrans(LENIENT, _INT_DIGITS + _INT_DIGITS[10:] + "001111")
_PAIRS = [first + second for first in SYMBOLS for second in SYMBOLS]
_PAIR_BITS = 10
_are_symbols = re.compile(f"[{LENIENT}]+").fullmatch


def encode(data: bytes) -> str:
    """Write `data` as the fewest whole symbols, the bits over being zeros in front (8 bytes: 13 symbols)."""
    count = -(-len(data) * 8 // 5)
    value = int.from_bytes(data, "big")
    shifts = range((count - 1) // 2 * _PAIR_BITS, -1, -_PAIR_BITS)
    text = "".join([_PAIRS[value >> shift & 1023] for shift in shifts])
    return text[len(text) - count :]


def decode(text: str) -> bytes:
    """Read symbols in any case, O as 0, I and L as 1. Raises ValueError for what `encode` never writes."""
    if not _are_symbols(text):
        raise ValueError("a character that is no Crockford symbol")
    size = len(text) * 5 // 8
    if -(-size * 8 // 5) != len(text):
        raise ValueError("no whole number of bytes has that many symbols")
    value = int(text.translate(_FROM_LENIENT), 32)
    if value >> size * 8:
        raise ValueError("the bits in front must be zero")
    return value.to_bytes(size, "big")
