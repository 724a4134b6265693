"""What people type, read as values: addresses, keys, times. Each failure says how it is written."""

import re
from pathlib import Path

from als import clock, keyfile, protocol
from als_tools import formats
from als_tools.failures import Exit, Failure
from als_tools.formats import Zone

FINGERPRINT_PREFIX = "SHA256:"


def read_mac(text: str) -> bytes:
    """Read a MAC address as 6 bytes. Raises Failure."""
    try:
        return protocol.parse_mac(text)
    except ValueError as error:
        raise Failure(Exit.WRONG_USAGE, f'"{formats.clean(text)}" is no MAC address: {error}') from None


def read_key(text: str) -> bytes:
    """Read a public key as 32 bytes: Z85, hexadecimal, or the name of a .key file. Raises Failure."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    try:
        return keyfile.from_z85(text)
    except ValueError:
        pass
    if Path(text).is_file():
        try:
            return keyfile.read_public(Path(text))
        except keyfile.KeyFileError as error:
            raise Failure(Exit.WRONG_USAGE, str(error)) from None
    raise Failure(
        Exit.WRONG_USAGE,
        f'"{formats.clean(text)}" is no key: give 64 hexadecimal digits, 40 characters of Z85, or a .key file',
    )


def is_fingerprint(text: str) -> bool:
    """Say whether a text is a key's fingerprint and not the key."""
    return text.startswith(FINGERPRINT_PREFIX)


def read_time(text: str, zone: Zone) -> int:
    """Read a time or an age as seconds since 1970 UTC. Raises Failure."""
    try:
        return formats.parse_time(text, zone, clock.wall_s())
    except (ValueError, OverflowError):
        raise Failure(
            Exit.WRONG_USAGE,
            f'"{formats.clean(text)}" is no time: write 2026-01-05, 2026-01-05T14:00, or an age like 7d or 12h',
        ) from None
