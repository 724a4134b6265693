"""CURVE key pairs in files of the format of `zmq.auth.create_certificates`, written 0600 from the start.

Servers, administrators and agents all keep their keys this way. Keys are passed around as 32 raw bytes; Z85 text
(40 characters) is what ZeroMQ and people see.
"""

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth
from zmq.utils import z85

from als import files

KEY_BYTES = 32

_HEADER = """\
#   ZeroMQ CURVE {kind} Certificate
#   {advice}

metadata
curve
    public-key = "{public}"
"""


class KeyFileError(Exception):
    """A key file that is missing, damaged or unsafe; the message names it and says what to do."""


class KeyPair(NamedTuple):
    """A CURVE key pair, each half 32 raw bytes."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Show the public half alone: a secret never reaches a log."""
        return f"KeyPair({to_z85(self.public)})"


def generate() -> KeyPair:
    """Make a new key pair from the system's random source."""
    public, secret = zmq.curve_keypair()
    return KeyPair(z85.decode(public), z85.decode(secret))


def to_z85(key: bytes) -> str:
    """Write a 32-byte key as its 40 characters of Z85."""
    return z85.encode(key).decode("ascii")


def from_z85(text: str) -> bytes:
    """Read a key from Z85. Raises ValueError when `text` is not one of 32 bytes."""
    if len(text) != 40:
        raise ValueError("a key has 40 characters")
    try:
        key = z85.decode(text.encode("ascii"))
    except (KeyError, UnicodeEncodeError, OverflowError) as error:
        raise ValueError("not a key") from error
    if len(key) != KEY_BYTES:
        raise ValueError("not a key")
    return bytes(key)


def fingerprint(key: bytes) -> str:
    """Give a public key's fingerprint as people compare it: "SHA256:" and base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).rstrip(b"=").decode("ascii")


def write(folder: Path, name: str, pair: KeyPair) -> None:
    """Write `name.key` and `name.key_secret` into `folder`; the secret first, so that a public half never lacks it."""
    public = to_z85(pair.public)
    secret = _HEADER.format(
        kind="**Secret**",
        advice="DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.",
        public=public,
    )
    secret += f'    secret-key = "{to_z85(pair.secret)}"\n'
    files.write_atomically(folder / f"{name}.key_secret", secret.encode("ascii"))
    write_public(folder, name, pair.public)


def write_public(folder: Path, name: str, key: bytes) -> None:
    """Write `name.key` into `folder`. Raises OSError."""
    advice = "Exchange it securely, or compare its fingerprint."
    text = _HEADER.format(kind="Public", advice=advice, public=to_z85(key))
    files.write_atomically(folder / f"{name}.key", text.encode("ascii"), 0o644)


def move(folder: Path, name: str, new_name: str) -> None:
    """Give a pair that `write` has written another name, in the place of what is there. Raises OSError."""
    for suffix in (".key_secret", ".key"):
        (folder / f"{name}{suffix}").replace(folder / f"{new_name}{suffix}")
    files.sync_folder(folder)


def remove(folder: Path, name: str) -> None:
    """Delete a pair, as far as it is there. Raises OSError."""
    for suffix in (".key_secret", ".key"):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def is_pair(pair: KeyPair) -> bool:
    """Say whether the public half belongs to the secret one."""
    return bool(zmq.curve_public(to_z85(pair.secret).encode("ascii")) == to_z85(pair.public).encode("ascii"))


def read(path: Path) -> KeyPair:
    """Read a key pair from a `*.key_secret` file. Raises KeyFileError, for one that others can read too."""
    try:
        public, secret = zmq.auth.load_certificate(path)
        if secret is None:  # the public half, which may be read by others
            raise KeyFileError(f"{path} holds no secret key; name the file that ends in .key_secret")
        files.refuse_readable_secret(path)
    except files.UnsafeFileError as error:
        raise KeyFileError(str(error)) from None
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{path} cannot be read as a key file: {error}") from None
    try:
        return KeyPair(from_z85(public.decode("ascii")), from_z85(secret.decode("ascii")))
    except ValueError:
        raise KeyFileError(f"{path} is damaged: its keys are not Z85 of 32 bytes") from None


def read_public(path: Path) -> bytes:
    """Read the public key from a `*.key` file. Raises KeyFileError."""
    try:
        return from_z85(zmq.auth.load_certificate(path)[0].decode("ascii"))
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{path} cannot be read as a key file: {error}") from None


def read_or_make(folder: Path, name: str) -> KeyPair:
    """Read `name.key_secret` in `folder`, made with its folder when there is none. Raises KeyFileError, OSError.

    A public half that is missing, as a kill in the midst of `write` leaves it, is written again.
    """
    path = folder / f"{name}.key_secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write(folder, name, generate())
    pair = read(path)
    if not (folder / f"{name}.key").exists():
        write_public(folder, name, pair.public)
    return pair
