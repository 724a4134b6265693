"""A vendor's private key as a file: Ed25519, PKCS#8 PEM, with a passphrase if wanted; its public half beside it.

Knows nothing of serials, and asks nobody: a passphrase comes as an argument.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from als import files, vendorkeys

SUFFIX = ".pem"
FILE_BYTES_MAX = 16_384  # a key takes a few hundred; what is longer is another kind of file


class SigningKeyError(Exception):
    """A private key that cannot be made or used; the message names the file and says what to do."""


class LockedError(SigningKeyError):
    """A private key that opens with a passphrase only, and none was given."""


def public_path(path: Path) -> Path:
    """Give where the public half of the private key in `path` lies."""
    return path.with_name(path.name.removesuffix(SUFFIX) + vendorkeys.SUFFIX)


def public_key(private_key: Ed25519PrivateKey) -> bytes:
    """Give the 32 bytes of the public half."""
    return private_key.public_key().public_bytes_raw()


def make(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """Make a key pair in `path` and beside it, each file whole or absent, neither ever written over.

    The folder is made when it is missing. Raises SigningKeyError.
    """
    private_key = Ed25519PrivateKey.generate()
    pem = _to_pem(private_key, passphrase)
    public = public_path(path)
    try:
        vendorkeys.name_of(public)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new(path, pem, files.SECRET_MODE)
        try:
            write_new(public, vendorkeys.encode(public_key(private_key)), vendorkeys.PUBLIC_MODE)
        except BaseException:
            path.unlink()
            raise
    except vendorkeys.VendorKeyError as error:
        raise SigningKeyError(str(error)) from None
    except FileExistsError as error:
        raise SigningKeyError(f"{error.filename} exists and is kept; choose another name") from None
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be written ({error.strerror or error}); choose another place") from None
    return private_key


def _to_pem(private_key: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    try:
        if passphrase is not None:
            protection = serialization.BestAvailableEncryption(_passphrase_bytes(passphrase))
        return private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    except ValueError as error:
        raise SigningKeyError(f"the passphrase cannot be used: {error}; choose another") from None


def _passphrase_bytes(passphrase: str) -> bytes:
    """Give a passphrase as bytes; one from the environment may be no valid text, and works all the same."""
    return passphrase.encode("utf-8", "surrogateescape")


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is whole or absent, but only if there is none yet. Raises FileExistsError, OSError.

    The name is first taken by an empty file: that is the one step in which another process can lose the race.
    """
    path.open("xb").close()
    try:
        files.write_atomically(path, data, mode)
    except BaseException:
        path.unlink()
        raise


def read(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """Read a private key; a passphrase that it does not need is ignored. Raises SigningKeyError, LockedError."""
    try:
        files.refuse_readable_secret(path)
        with path.open("rb") as file:
            pem = file.read(FILE_BYTES_MAX)
    except files.UnsafeFileError as error:
        raise SigningKeyError(str(error)) from None
    except OSError as error:
        raise SigningKeyError(
            f"{path} cannot be read ({error.strerror or error}); make a key with: als-vendor init"
        ) from None
    is_locked = b"ENCRYPTED" in pem
    if is_locked and passphrase is None:
        raise LockedError(f"{path} opens with a passphrase only; set ALS_VENDOR_PASSPHRASE")
    password = _passphrase_bytes(passphrase) if is_locked and passphrase is not None else None
    try:
        private_key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "the passphrase is wrong, or the file is damaged" if is_locked else "it is no PEM key"
        raise SigningKeyError(f"{path} cannot be opened: {reason}") from None
    if not isinstance(private_key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds a key of another kind than Ed25519; make one with: als-vendor init")
    return private_key
