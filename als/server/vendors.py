"""Lets a vendor in: its public key and its catalog file come into the data folder together, checked as a whole."""

from pathlib import Path

from als import catalog, files, vendorkeys
from als.server.datadir import DataDir

CATALOG_SUFFIX = ".toml"
_PUBLIC_MODE = 0o644


def add(file: Path, data: DataDir, with_builtin: bool) -> list[Path]:
    """Copy NAME.pub, and NAME.toml beside it when there is one; give what was written.

    `file` is either of the two; a key of this name that is there is not replaced by another. Raises VendorKeyError,
    CatalogError (then nothing has changed) or OSError.
    """
    key_file = file.with_suffix(vendorkeys.SUFFIX) if file.suffix == CATALOG_SUFFIX else file
    catalog_file = key_file.with_suffix(CATALOG_SUFFIX)
    if not file.exists():
        raise vendorkeys.VendorKeyError(f"there is no file {file}")
    name = vendorkeys.name_of(key_file)
    wanted = {data.vendors / f"{name}{vendorkeys.SUFFIX}": vendorkeys.encode(vendorkeys.read(key_file))}
    if catalog_file.exists():
        text = catalog_file.read_bytes()
        catalog.parse(text.decode("utf-8-sig", "replace"), str(catalog_file))
        wanted[data.catalog / catalog_file.name] = text
    known = data.vendors / f"{name}{vendorkeys.SUFFIX}"
    if known.exists() and vendorkeys.read(known) != vendorkeys.read(key_file):
        raise vendorkeys.VendorKeyError(
            f"{known} is here already, with another key, and that vendor's serials would count no more; "
            "give the new file another name, or remove the old one first"
        )
    before = {path: path.read_bytes() if path.exists() else None for path in wanted}
    for path, content in wanted.items():
        files.write_atomically(path, content, _PUBLIC_MODE)
    try:
        data.read_catalog(with_builtin)
    except catalog.CatalogError as error:
        for path, old in before.items():
            if old is None:
                path.unlink()
            else:
                files.write_atomically(path, old, _PUBLIC_MODE)
        copied = str(data.catalog / catalog_file.name)  # which is gone again: what is to be mended is the vendor's
        raise catalog.CatalogError(str(error).replace(copied, str(catalog_file))) from None
    return list(wanted)
