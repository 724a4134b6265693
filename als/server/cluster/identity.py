"""What all servers of a cluster are to their clients: one id, one name, one key pair; kept in the store, sealed.

Whoever reads the store, or a copy of it, cannot pass for the server without the cluster's secret.
"""

import os
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from als import files
from als.keyfile import KEY_BYTES, KeyPair
from als.records import pack_value, unpack_value
from als.store.transaction import StoreError

SECRET_BYTES_LEAST = 16
SECRET_BYTES_MAX = 4_096
SALT_BYTES = 16
NONCE_BYTES = 12
WORK = (1 << 15, 8, 1)  # scrypt's n, r, p: 32 MiB and some 0.1 s, once a start; a good secret needs none
WORK_MAX = (1 << 20, 16, 4)
KEY = b"identity"  # in META
_PURPOSE = b"ALS cluster identity 1"


class Identity(NamedTuple):
    """One server, as clients see it."""

    server_id: str
    name: str
    keys: KeyPair


def read_secret(path: Path) -> bytes:
    """Read a cluster's secret. Raises StoreError with one line for the administrator."""
    try:
        files.refuse_readable_secret(path)
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except files.UnsafeFileError as error:
        raise StoreError(str(error)) from None
    except OSError as error:
        raise StoreError(f"the cluster's secret {path} cannot be read: {error.strerror or error}") from None
    if not SECRET_BYTES_LEAST <= len(secret) <= SECRET_BYTES_MAX:
        raise StoreError(f"the cluster's secret {path} must have {SECRET_BYTES_LEAST} to {SECRET_BYTES_MAX:,} bytes")
    return secret


def seal(identity: Identity, secret: bytes) -> bytes:
    """Write an identity so that only who has the secret can read it."""
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    plain = pack_value([identity.server_id, identity.name, identity.keys.public, identity.keys.secret])
    sealed = ChaCha20Poly1305(_stretched(secret, salt, WORK)).encrypt(nonce, plain, _PURPOSE)
    return pack_value([salt, list(WORK), nonce, sealed])


def unseal(raw: bytes, secret: bytes) -> Identity:
    """Read what `seal` wrote. Raises StoreError."""
    try:
        salt, work, nonce, sealed = unpack_value(raw)
        if any(not 0 < asked <= most for asked, most in zip(work, WORK_MAX, strict=True)):
            raise ValueError("too much work")
        plain = ChaCha20Poly1305(_stretched(secret, salt, tuple(work))).decrypt(nonce, sealed, _PURPOSE)
    except InvalidTag:
        raise StoreError("the cluster's secret is another than the one of its other servers") from None
    except (ValueError, TypeError) as error:
        raise StoreError(f"the cluster's identity in the store is damaged: {error}") from None
    server_id, name, public, private = unpack_value(plain)
    return Identity(server_id, name, KeyPair(public, private))


def _stretched(secret: bytes, salt: bytes, work: tuple[int, ...]) -> bytes:
    n, r, p = work
    return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=r, p=p).derive(secret)
