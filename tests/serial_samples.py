"""Serials for tests: signed with one fixed vendor key, so that each is the same at every run."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from als import serial
from als.serial import Serial

VENDOR_SECRET = bytes(range(32))
VENDOR_KEY = Ed25519PrivateKey.from_private_bytes(VENDOR_SECRET)
VENDOR_PUBLIC = VENDOR_KEY.public_key().public_bytes_raw()
ISSUER = serial.issuer_of(VENDOR_PUBLIC)

KNOWN = Serial(1, 100, 0x0123456789ABCDEF, issuer=ISSUER)
KNOWN_TEXT = (
    "04000080-00068093-8NKRKAYD-XW000000-AS3G0000-00000000-0001SVFS-5Q89DGFX-VNVWKZCG-6QKR5E7C-"
    "NHT9ATY3-0ABPHFZY-YQJ0NAMY-F7Q3P8E8-ACCBCGH7-HE15S2R5-MX1DW255-N4XEK592-W9TY79GT-1SEPS4RZ"
)
"""The text of KNOWN, fixed for good: serials that vendors have sold must stay readable."""


def make_text(number: int, **fields: int | bool | bytes) -> str:
    """Sign the serial number `number` of a row of different ones, and give its text."""
    content = Serial(
        product_number=1 + number % 4,
        seats=1 + number % 1000,
        serial_id=(number + 1) * 0x9E3779B97F4A7C15 % 2**64,
        last_day=9800 * (number % 2),
        issuer=ISSUER,
    )
    content = Serial(**{name: getattr(content, name) for name in Serial.__slots__} | fields)
    return serial.write(serial.sign(content, VENDOR_KEY))


def mistype(text: str, at: int = 100) -> str:
    """Exchange the symbol at `at`, or the one after a hyphen there, for another."""
    at += text[at] == "-"
    return text[:at] + ("7" if text[at] != "7" else "8") + text[at + 1 :]
