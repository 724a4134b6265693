"""A vendor for tests: prints serial numbers that really verify, from a key that is the same in every run.

Knows the format (als/serial.py) and no server. What it prints is also told as a `Slip`, for the model.
"""

import random
import zlib
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from als import serial
from als.catalog import Product

VENDOR = "testvendor"
SERVER_KEY = bytes(range(1, 33))
OTHER_SERVER_KEY = bytes(range(2, 34))


class Slip(NamedTuple):
    """What is printed in a serial number.

    `ends` is the first second after its last valid day; `fault` what an import says of it at any time.
    """

    id: str
    product: str
    seats: int
    ends: int | None = None
    trial_days: int = 0
    fault: str = ""


def key_of(name: str) -> Ed25519PrivateKey:
    """Give the private key that belongs to a name; for tests alone."""
    return Ed25519PrivateKey.from_private_bytes(random.Random(name).randbytes(32))


def public_key_of(name: str) -> bytes:
    """Give the public half of `key_of`."""
    return key_of(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


VENDORS = {VENDOR: public_key_of(VENDOR)}


def print_serial(
    product: Product,
    number: int,
    seats: int,
    *,
    last_day: int = 0,
    trial_days: int = 0,
    fault: str = "",
    locked: bool = False,
) -> tuple[str, Slip]:
    """Print one serial with the id `number`: its text, and what is in it.

    `fault` is "" or the result that an import must give: mistyped, unsupported, unknown_vendor, forged,
    unknown_product or wrong_server.
    """
    issuer = "stranger" if fault == "unknown_vendor" else VENDOR
    lock = serial.lock_of(SERVER_KEY) if locked else serial.NO_LOCK
    content = serial.Serial(
        product_number=60_000 if fault == "unknown_product" else product.number,
        seats=seats,
        serial_id=number,
        last_day=last_day,
        trial_days=trial_days,
        issuer=serial.issuer_of(public_key_of(issuer)),
        lock=serial.lock_of(OTHER_SERVER_KEY) if fault == "wrong_server" else lock,
        trial=trial_days > 0,
    )
    raw = serial.sign(content, key_of("stranger" if fault == "forged" else issuer))
    text = serial.write(_with_unknown_flag(raw) if fault == "unsupported" else raw)
    if fault == "mistyped":
        text = text[:-1] + ("0" if text[-1] != "0" else "1")
    ends = serial.end_of_last_day(last_day)
    return text, Slip(serial.short_id(product.code, number), product.code, seats, ends, trial_days, fault)


def _with_unknown_flag(raw: bytes) -> bytes:
    """Set a flag that no version knows, with a right checksum; the signature is looked at later."""
    body = raw[:1] + b"\x80" + raw[2:-4]
    return body + zlib.crc32(body).to_bytes(4, "big")
