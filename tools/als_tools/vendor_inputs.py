"""What als-vendor's options name, read as values: keys with their passphrases, products, dates.

Each failure says what to do next.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

import platformdirs
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from als import catalog, clock, serial, vendorkeys
from als.catalog import Product
from als_tools import formats, signing_keys
from als_tools.failures import Exit, Failure
from als_tools.output import say

PROGRAM = "als-vendor"
PASSPHRASE_VARIABLE = "ALS_VENDOR_PASSPHRASE"
DAY_ZERO = date(2000, 1, 1)


def key_folder(directory: Path | None) -> Path:
    return directory or platformdirs.user_data_path("als-vendor", appauthor=False)


def new_passphrase(wanted: bool) -> str | None:
    given = os.environ.get(PASSPHRASE_VARIABLE) or None
    if given is not None or not wanted:
        return given
    return _ask_passphrase("Passphrase for the new key", confirm=True)


def _ask_passphrase(question: str, confirm: bool) -> str:
    """Ask on the terminal. Raises Failure when there is none."""
    if not sys.stdin.isatty():
        raise Failure(Exit.REFUSED, f"no terminal to ask for the passphrase on; set {PASSPHRASE_VARIABLE}")
    answer: str = typer.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


def signing_key(path: Path | None, directory: Path | None) -> tuple[Ed25519PrivateKey, str]:
    """Read the private key, asking for its passphrase if need be; give it and the vendor's name. Raises Failure."""
    path = path or _only_key(key_folder(directory))
    try:
        try:
            key = signing_keys.read(path, os.environ.get(PASSPHRASE_VARIABLE) or None)
        except signing_keys.LockedError:
            key = signing_keys.read(path, _ask_passphrase(f"Passphrase of {path}", confirm=False))
    except signing_keys.SigningKeyError as error:
        raise Failure(Exit.REFUSED, str(error)) from None
    return key, signing_keys.public_path(path).stem


def _only_key(folder: Path) -> Path:
    """Give the one private key in a folder. Raises Failure."""
    paths = sorted(folder.glob(f"*{signing_keys.SUFFIX}"))
    if not paths:
        raise Failure(Exit.REFUSED, f"there is no key in {folder}; make one with: {PROGRAM} init")
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise Failure(Exit.WRONG_USAGE, f"{folder} holds several keys ({names}); name one with --key")
    return paths[0]


def products(catalogs: Iterable[Path] | None, keys: Path) -> Iterator[Product]:
    """Give the products of the given catalogs, or else of those beside the folder's keys, then the built-in ones.

    Raises Failure.
    """
    try:
        for path in catalogs or _catalogs_beside(keys):
            if path.is_dir():
                yield from catalog.load(path, with_builtin=False).products
            else:
                yield from catalog.parse(path.read_text(encoding="utf-8-sig"), str(path))
    except catalog.CatalogError as error:
        raise Failure(Exit.REFUSED, str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Exit.REFUSED, f"{path}: cannot be read as a catalog: {error}") from None
    yield from catalog.builtin().products


def _catalogs_beside(keys: Path) -> list[Path]:
    """Find NAME.toml beside each NAME.pub, where `als-server add-vendor` looks for it too."""
    catalogs = (path.with_suffix(".toml") for path in sorted(keys.glob("*.pub")))
    return [path for path in catalogs if path.is_file()]


def product_of(code: str, catalogs: Iterable[Path] | None, keys: Path) -> Product:
    """Find a product by its code in any case; otherwise as `products`. Raises Failure."""
    known = list(products(catalogs, keys))
    for product in known:
        if product.code.lower() == code.lower():
            return product
    codes = ", ".join(product.code for product in known)
    raise Failure(
        Exit.WRONG_USAGE,
        f'there is no product "{formats.clean(code)}"; there are {codes}; --catalog names a file with yours',
    )


def last_day(text: str) -> int:
    """Read a date as days since 2000-01-01, with a word about one that is over. Raises Failure."""
    last = DAY_ZERO + timedelta(days=serial.LAST_DAY_MAX)
    try:
        day = (date.fromisoformat(text) - DAY_ZERO).days
    except ValueError:
        day = 0
    if not 1 <= day <= serial.LAST_DAY_MAX:
        raise Failure(
            Exit.WRONG_USAGE,
            f'"{formats.clean(text)}" is no date; write one from 2000-01-02 to {last} like 2027-12-31',
        )
    end = serial.end_of_last_day(day)
    assert end is not None
    if end <= clock.wall_s():
        say(f"{PROGRAM}: note: {text} is over; servers refuse such a serial as expired")
    return day


def vendor_keys(paths: Iterable[Path] | None, directory: Path | None) -> dict[str, bytes]:
    """Give the vendors' public keys by name: those in the given files, else all in the folder. Raises Failure."""
    try:
        if paths:
            return {vendorkeys.name_of(path): vendorkeys.read(path) for path in paths}
        return vendorkeys.read_folder(key_folder(directory))
    except vendorkeys.VendorKeyError as error:
        raise Failure(Exit.REFUSED, str(error)) from None
