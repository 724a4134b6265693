"""What records are written with: times, and short texts with their length before them. Knows no record."""

import struct

NEVER = 0
TIME = struct.Struct(">I")  # whole seconds since 1970 UTC, good to the year 2106; 0 is "never"
TIME_BYTES = TIME.size
TIME_MAX = 2**32 - 1
MAC_BYTES = 6


def short_text(text: str) -> bytes:
    """Write a text of at most 255 bytes, its length before it."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


def read_text(raw: bytes, place: int) -> tuple[str, int]:
    """Read what `short_text` wrote; give the place behind it too."""
    end = place + 1 + raw[place]
    return raw[place + 1 : end].decode(), end
