"""The data folder: where keys, store, settings, catalog and vendors lie, and who may use it.

Made at first start with everything in it readable by its owner alone.
"""

import os
from pathlib import Path

import filelock

from als import catalog, files, keyfile, vendorkeys
from als.catalog import Catalog
from als.server import settings

FOLDER_MODE = 0o700
LOCK = "server.lock"
SERVER = "server"
ADMIN = "admin"


class DataDirError(Exception):
    """The data folder cannot be used; the message is one line for the administrator."""


class DataDir:
    """The folder's parts by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store"
        self.catalog = path / "catalog.d"
        self.vendors = path / "vendors"
        self._catalog_read: tuple[object, Catalog] | None = None
        self.settings = path / settings.FILE
        self.accept_clock = path / "accept-clock"
        self.server_id = path / "server.id"  # whose store was made here
        self.cluster_instance = path / "cluster-instance"  # whose server number of a cluster was this folder's
        self._lock = filelock.FileLock(path / LOCK, timeout=0)

    def make(self) -> None:
        """Make what is missing. Raises DataDirError."""
        try:
            for folder in (self.path, self.catalog, self.vendors):
                folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        except OSError as error:
            raise DataDirError(f"the data folder {self.path} cannot be made: {error.strerror or error}") from None

    def lock(self) -> None:
        """Hold the folder until the process ends. Raises DataDirError when another als-server has it."""
        try:
            self._lock.acquire()
            files.give_to_owner_of(self.path, self.path / LOCK)
        except filelock.Timeout:
            raise DataDirError(f"another als-server is using the data folder {self.path}; stop it first") from None
        except OSError as error:
            raise DataDirError(f"the data folder {self.path} cannot be written: {error.strerror or error}") from None

    def unlock(self) -> None:
        """Let others use the folder."""
        self._lock.release()

    def server_keys(self) -> keyfile.KeyPair:
        """The server's key pair, made at first start. Raises DataDirError.

        A secret half that has gone is not made anew: all agents would take the server for another.
        """
        secret = self.path / f"{SERVER}.key_secret"
        if not self._exists(secret) and self._exists(self.path / f"{SERVER}.key"):
            raise DataDirError(
                f"{secret} is missing, and without it agents take this server for another: restore a backup; "
                f"remove {SERVER}.key as well to have a new key made, which each of them has to be told"
            )
        return self._keys(SERVER)

    def admin_keys(self) -> keyfile.KeyPair:
        """The first administrator's key pair, made at first start. Raises DataDirError."""
        return self._keys(ADMIN)

    def _keys(self, name: str) -> keyfile.KeyPair:
        try:
            return keyfile.read_or_make(self.path, name)
        except keyfile.KeyFileError as error:
            raise DataDirError(str(error)) from None
        except OSError as error:
            where = error.filename or self.path
            raise DataDirError(f"{where} cannot be used: {error.strerror or error}") from None

    def remember_server(self, server_id: str) -> None:
        """Write beside the store that it was made, so that it is missed once it is gone. Raises DataDirError."""
        content = f"{server_id}\n".encode()
        try:
            if not self.server_id.exists() or self.server_id.read_bytes() != content:
                files.write_atomically(self.server_id, content, 0o644)
        except OSError as error:
            raise DataDirError(f"{self.server_id} cannot be written: {error.strerror or error}") from None

    def refuse_lost_store(self) -> None:
        """Raise DataDirError where a server has been, and its store is gone or without a byte.

        LMDB would begin anew, and agents would believe a server that has forgotten every license. Keys alone are no
        sign of that: somebody may have put them here before the first start.
        """
        file, is_there = self.store / "data.mdb", self._exists(self.store / "data.mdb")
        if is_there and file.stat().st_size:
            return
        moved = sorted(self.path.glob(f"{self.store.name}.migrated-*"))
        # A first start makes the store before the administrator's key; one of an older version left no server.id.
        emptied = is_there and self._exists(self.path / f"{ADMIN}.key_secret")
        if not (moved or emptied or self._exists(self.server_id)):
            return
        left = [path.name for path in (file, self.server_id, *moved) if self._exists(path)]
        anew = f"to begin anew, without serials and leases, remove {' and '.join(left)}"
        if moved:
            raise DataDirError(f"the licenses of {self.path} were moved into a cluster ({moved[-1].name}); {anew}")
        what = "is empty: it was cut off" if is_there else "is missing, though a server has run here"
        raise DataDirError(f"{file} {what}; restore a backup; {anew}")

    def refuse_nothing(self) -> None:
        """Raise DataDirError for a folder in which no server has ever started."""
        if not self._exists(self.store / "data.mdb") and not self._exists(self.cluster_instance):
            raise DataDirError(f"there is no server's data in {self.path}; name its folder with --data-dir")

    def _exists(self, path: Path) -> bool:
        """Say whether a file of the folder is there. Raises DataDirError when nobody may look."""
        try:
            return path.exists()
        except OSError as error:
            raise DataDirError(
                f"the data folder {self.path} cannot be read: {error.strerror or error}; it is for its owner alone"
            ) from None

    def refuse_cluster(self, instead: str) -> None:
        """Raise DataDirError for the folder of a cluster's server, which has no store; `instead` says what to do."""
        if self._exists(self.cluster_instance) and not self._exists(self.store / "data.mdb"):
            raise DataDirError(f"{self.path} belongs to a server of a cluster, whose licenses are in etcd: {instead}")

    def read_catalog(self, with_builtin: bool) -> Catalog:
        """Read the built-in products and `catalog.d`, again only when a file has changed. Raises CatalogError."""
        stamp = (with_builtin, *_stamps(self.catalog), None, *_stamps(self.vendors))
        if self._catalog_read is None or self._catalog_read[0] != stamp:
            self._catalog_read = (stamp, self._parse_catalog(with_builtin))
        return self._catalog_read[1]

    def _parse_catalog(self, with_builtin: bool) -> Catalog:
        found = catalog.load(self.catalog, with_builtin)
        known = self.read_vendors()
        for product in found.products:
            if product.vendor is not None and product.vendor not in known:
                raise catalog.CatalogError(
                    f"{self.catalog}: products.{product.code}.vendor: there is no {self.vendors / product.vendor}.pub"
                )
        return found

    def read_vendors(self) -> dict[str, bytes]:
        """Read the vendors' public keys by name. Raises CatalogError."""
        try:
            return vendorkeys.read_folder(self.vendors)
        except vendorkeys.VendorKeyError as error:
            raise catalog.CatalogError(str(error)) from None


def _stamps(folder: Path) -> list[tuple[object, ...]]:
    """Give what changes when a file of a folder does. Raises CatalogError."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise catalog.CatalogError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found)
