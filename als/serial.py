"""What a serial number says: 100 bytes in, one `Serial` out, and back; its text, its signature, its end.

Knows nothing of catalogs, stores or the time of day; als/serialtext.py finds serials in a text.
`cryptography` is imported where it is used, because agents read serials without having it.
"""

import functools
import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from als import crockford

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FORMAT = 1
SERIAL_BYTES = 100
SYMBOLS = 160  # 100 bytes of 8 bits in symbols of 5
GROUP_SYMBOLS = 8  # what people can compare at a glance
SEATS_MAX = 1_000_000  # the protocol's; a mistake of the vendor shows before it is sold
PRODUCT_NUMBER_MAX = 0xFFFF
SERIAL_ID_MAX = 2**64 - 1
LAST_DAY_MAX = 0xFFFF  # 2179-06-06
TRIAL_DAYS_MAX = 0xFFFF
ISSUER_BYTES = 2
LOCK_BYTES = 10
SIGNATURE_BYTES = 64
VENDOR_KEYS_CACHED_MAX = 64  # a server has a handful of vendors

NO_LOCK = bytes(LOCK_BYTES)
"""The lock of a serial that counts on any server."""

DAY_S = 86_400
DAY_ZERO_S = 946_684_800  # 2000-01-01 UTC, in seconds since 1970

SEPARATOR = r"(?:[- ]|[ \t]*+-?[ \t]*+=?[ \t]*+(?:\r\n?|\n)[> \t]*+-?)"
"""What may lie between two symbols: a hyphen, a space, or a line break with what mail programs leave there.

Possessive throughout, so that no text makes the matching of it take more than one pass.
"""

TYPOGRAPHY = str.maketrans("\u00a0\u2010\u2011\u2012\u2013\u2212", " -----")
"""What word processors make of spaces and hyphens, back to what was typed."""

_FIELDS = struct.Struct(">BBHIQHH2s10s")
_SIGNED_BYTES = _FIELDS.size
_CRC = struct.Struct(">I")
_SIGNING_CONTEXT = b"ALS-SERIAL-1"  # so that a vendor's signature of something else is never a serial
_FLAG_TRIAL = 1
_separators = re.compile(f"(?<=[{crockford.LENIENT}]){SEPARATOR}(?=[{crockford.LENIENT}])")
_SHORT_ID = re.compile(rf"([A-Za-z0-9-]{{1,32}})-([{crockford.LENIENT}]{{13}})")


class SerialError(Exception):
    """A serial that is of no use: `result` is "mistyped" or "unsupported", str() a sentence for a person."""

    def __init__(self, result: str, message: str) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True)
class Serial:
    """What a serial grants.

    `last_day` counts days since 2000-01-01 UTC, `trial_days` days from the first import; 0 is none.
    `issuer` is `issuer_of` of the vendor's key, `lock` is `lock_of` of the server's key, or NO_LOCK.
    """

    product_number: int
    seats: int
    serial_id: int
    last_day: int = 0
    trial_days: int = 0
    issuer: bytes = bytes(ISSUER_BYTES)
    lock: bytes = NO_LOCK
    trial: bool = False


def read(text: str) -> bytes:
    """Read the text of one serial as its 100 bytes, symbols and CRC checked. Raises SerialError mistyped."""
    symbols = _separators.sub("", text.translate(TYPOGRAPHY).strip())
    raw = read_symbols(symbols)
    if raw is None:
        raise SerialError("mistyped", _why_mistyped(symbols))
    return raw


def read_symbols(symbols: str) -> bytes | None:
    """Read symbols with nothing between them as the 100 bytes, None when they or their CRC are wrong."""
    if len(symbols) != SYMBOLS:
        return None
    try:
        raw = crockford.decode(symbols)
    except ValueError:
        return None
    return raw if zlib.crc32(raw[: -_CRC.size]) == _CRC.unpack(raw[-_CRC.size :])[0] else None


def _why_mistyped(symbols: str) -> str:
    """Say what keeps `symbols` from being those of a serial."""
    for character in symbols:
        if character not in crockford.LENIENT:
            return f"The serial holds {character!r} where a letter or digit must be; copy it again."
    if len(symbols) != SYMBOLS:
        return f"The serial has {len(symbols)} letters and digits, not {SYMBOLS}; copy all of it."
    return "The serial has a wrong letter or digit somewhere; copy it again."


def decode(raw: bytes) -> Serial:
    """Read the fields of what `read` gave. Raises SerialError unsupported for what we cannot honor."""
    assert len(raw) == SERIAL_BYTES, "read() gives exactly one serial"
    version, flags, number, seats, serial_id, last_day, trial_days, issuer, lock = _FIELDS.unpack_from(raw)
    if version != FORMAT:
        raise SerialError("unsupported", f"The serial has format {version}, and this version reads only {FORMAT}.")
    if flags & ~_FLAG_TRIAL:
        raise SerialError("unsupported", "The serial has flags that this version does not know.")
    if not 1 <= seats <= SEATS_MAX:
        raise SerialError("unsupported", f"The serial is for {seats} seats, and 1 to {SEATS_MAX} are possible.")
    return Serial(number, seats, serial_id, last_day, trial_days, issuer, lock, bool(flags & _FLAG_TRIAL))


def write(raw: bytes) -> str:
    """Write 100 bytes as 20 groups of 8 symbols joined by hyphens."""
    assert len(raw) == SERIAL_BYTES, "a serial has 100 bytes"
    symbols = crockford.encode(raw)
    return "-".join(symbols[at : at + GROUP_SYMBOLS] for at in range(0, SYMBOLS, GROUP_SYMBOLS))


def sign(serial: Serial, private_key: "Ed25519PrivateKey") -> bytes:
    """Make the 100 bytes of `serial`, signed and with CRC. Raises ValueError for a field out of bounds.

    The fields are taken as they stand; that `issuer` is that of `private_key` is the caller's affair.
    """
    _refuse_out_of_bounds(serial)
    fields = _FIELDS.pack(
        FORMAT,
        _FLAG_TRIAL if serial.trial else 0,
        serial.product_number,
        serial.seats,
        serial.serial_id,
        serial.last_day,
        serial.trial_days,
        serial.issuer,
        serial.lock,
    )
    body = fields + private_key.sign(_SIGNING_CONTEXT + fields)
    return body + _CRC.pack(zlib.crc32(body))


def _refuse_out_of_bounds(serial: Serial) -> None:
    """Raise ValueError naming the first field that does not fit."""
    bounds = (
        ("product_number", serial.product_number, 0, PRODUCT_NUMBER_MAX),
        ("seats", serial.seats, 1, SEATS_MAX),
        ("serial_id", serial.serial_id, 0, SERIAL_ID_MAX),
        ("last_day", serial.last_day, 0, LAST_DAY_MAX),
        ("trial_days", serial.trial_days, 0, TRIAL_DAYS_MAX),
        ("issuer", len(serial.issuer), ISSUER_BYTES, ISSUER_BYTES),
        ("lock", len(serial.lock), LOCK_BYTES, LOCK_BYTES),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}, not {least} to {most}")


def verify(raw: bytes, public_key: bytes) -> bool:
    """Say whether the vendor with this 32-byte Ed25519 key signed the serial; needs `cryptography`."""
    from cryptography.exceptions import InvalidSignature

    signature = raw[_SIGNED_BYTES : _SIGNED_BYTES + SIGNATURE_BYTES]
    try:
        _load_public_key(public_key).verify(signature, _SIGNING_CONTEXT + raw[:_SIGNED_BYTES])
    except InvalidSignature:
        return False
    return True


@functools.lru_cache(maxsize=VENDOR_KEYS_CACHED_MAX)
def _load_public_key(public_key: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(public_key)


def issuer_of(public_key: bytes) -> bytes:
    """Give the 2 bytes by which a serial names the vendor with this 32-byte key; others may share them."""
    return hashlib.sha256(public_key).digest()[:ISSUER_BYTES]


def lock_of(server_key: bytes) -> bytes:
    """Give the 10 bytes that lock a serial to the server with this 32-byte CURVE public key."""
    return hashlib.sha256(server_key).digest()[:LOCK_BYTES]


def end_of_last_day(last_day: int) -> int | None:
    """Give the first second since 1970 UTC after the day `last_day`, or None for 0, which has no end."""
    return DAY_ZERO_S + (last_day + 1) * DAY_S if last_day else None


def expires_at(serial: Serial, first_import: int) -> int | None:
    """Give the first second since 1970 UTC at which `serial` is no longer valid, or None when it never ends.

    `first_import` is when this server first saw it, in the same seconds.
    """
    ends = [first_import + serial.trial_days * DAY_S] if serial.trial_days else []
    last_day_end = end_of_last_day(serial.last_day)
    if last_day_end is not None:
        ends.append(last_day_end)
    return min(ends, default=None)


def short_id(product_code: str, serial_id: int) -> str:
    """Write a serial's id as people see it: product code, hyphen, 13 symbols."""
    return f"{product_code}-{crockford.encode(serial_id.to_bytes(8, 'big'))}"


def parse_short_id(text: str) -> tuple[str, int]:
    """Read a full short id as product code (as it stands) and serial id. Raises ValueError."""
    found = _SHORT_ID.fullmatch(text.strip())
    if found is None:
        raise ValueError("a serial id is a product code, a hyphen and 13 letters and digits")
    try:
        return found[1], int.from_bytes(crockford.decode(found[2]), "big")
    except ValueError:
        raise ValueError("a serial id begins with a symbol from 0 to F after the product code") from None
