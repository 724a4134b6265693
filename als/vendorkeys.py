"""Vendors' public keys as files: `NAME.pub`, one line, the base64 of a 32-byte Ed25519 key.

Knows nothing of serials or of private keys. Every complaint names the file.
"""

import base64
import binascii
import re
from pathlib import Path

from als import files

SUFFIX = ".pub"
KEY_BYTES = 32
FILE_BYTES_MAX = 1_024  # a key takes 45; what is longer is another kind of file
PUBLIC_MODE = 0o644

_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch


class VendorKeyError(Exception):
    """A vendor's key file that cannot be used; the message names it and says what to do."""


def is_name(text: str) -> bool:
    """Say whether `text` can be a vendor's name, which is also its file's."""
    return _is_name(text) is not None


def name_of(path: Path) -> str:
    """Give the vendor's name that a file stands for. Raises VendorKeyError when it is none."""
    name = path.name.removesuffix(SUFFIX)
    if path.suffix != SUFFIX or not is_name(name):
        raise VendorKeyError(
            f"{path}: a vendor's key file is called NAME{SUFFIX}, NAME being up to 64 letters, digits, . _ -"
        )
    return name


def read(path: Path) -> bytes:
    """Read one vendor's key, 32 bytes. Raises VendorKeyError."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise VendorKeyError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        key = base64.b64decode(data.removeprefix(b"\xef\xbb\xbf").strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise VendorKeyError(
            f"{path}: is not a vendor's public key, one line with the base64 of {KEY_BYTES} bytes; "
            "ask the vendor for it again"
        )
    return key


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read all `*.pub` in `folder` (which may be absent) as name -> key. Raises VendorKeyError.

    One key under two names is refused, since a product may count the serials of one name alone.
    """
    keys: dict[str, bytes] = {}
    names: dict[bytes, str] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
        name, key = name_of(path), read(path)
        if key in names:
            raise VendorKeyError(f"{path}: holds the same key as {names[key]}{SUFFIX}; remove one of them")
        keys[name] = key
        names[key] = name
    return keys


def encode(key: bytes) -> bytes:
    """Write a key as the content of its file."""
    assert len(key) == KEY_BYTES, "an Ed25519 public key has 32 bytes"
    return base64.b64encode(key) + b"\n"


def write(path: Path, key: bytes) -> None:
    """Write one vendor's key file, over an old one if there is one. Raises VendorKeyError, OSError."""
    name_of(path)
    files.write_atomically(path, encode(key), PUBLIC_MODE)
