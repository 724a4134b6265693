"""Licenses moved between a data folder and a cluster, whole and compared, or not at all.

While they move, a row in etcd keeps servers from starting there; after they have moved away it stays, and says where.
"""

import contextlib
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from als import keyfile
from als.clock import Clock, pause
from als.ledger.audit import Audit
from als.records import unpack_value
from als.server.cluster import copying, identity, numbers, opening
from als.server.cluster.copying import MOVING
from als.server.cluster.identity import Identity
from als.server.core import SERVER_ID
from als.server.datadir import SERVER, DataDir, DataDirError
from als.server.settings import LMDB_SCHEME, Settings
from als.store import schema
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdError
from als.store.etcd.keys import Keys
from als.store.etcd.ops import delete, get, is_absent, none_in, put, value_is
from als.store.etcd.snapshot import EtcdSnapshot
from als.store.lmdb.store import LmdbStore
from als.store.transaction import StoreError, Table, Transaction, prefix_stop


class Place(NamedTuple):
    """A cluster: its etcd, what its rows are called, the secret of its servers."""

    client: EtcdClient
    keys: Keys
    secret: bytes

    def name(self, key: bytes) -> bytes:
        """Give the name of a row of META."""
        return self.keys.name(Table.META, key)

    def snapshot(self) -> EtcdSnapshot:
        """Look at everything as it is now. Raises EtcdError."""
        return EtcdSnapshot(self.client, self.keys, self.client.range(self.name(identity.KEY)).revision)


def into_cluster(data: DataDir, place: Place, name: str, clock: Clock, *, copy: bool) -> int:
    """Move a data folder's licenses and identity into an empty cluster; give the number of rows.

    The folder's store is renamed, unless this is a `copy`. Raises StoreError, DataDirError, EtcdError.
    """
    if not (data.store / "data.mdb").exists():
        raise StoreError(f"there are no licenses in {data.path}")
    data.lock()
    try:
        data.refuse_lost_store()
        with contextlib.closing(LmdbStore(data.store, readonly=True)) as store:
            source = store.snapshot()
            try:
                _check_books(source, str(data.path))
                server_id = unpack_value(source.get(Table.META, SERVER_ID) or b"\xa0")
                who = Identity(server_id, name, data.server_keys())
                rows = _fill_cluster(source, place, who)
            finally:
                source.abort()
        if not copy:
            stamp = datetime.fromtimestamp(clock.read().wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
            data.store.rename(data.store.with_name(f"{data.store.name}.migrated-{stamp}"))
    finally:
        data.unlock()
    return rows


def _fill_cluster(source: Transaction, place: Place, who: Identity) -> int:
    """Copy, compare, and let servers in at the end. What was written is removed when anything fails."""
    prefix = place.keys.prefix
    everything = prefix, prefix_stop(prefix) or b"\0"
    marker = place.name(MOVING)
    note = f"licenses are on the way into this cluster, or stopped there ({secrets.token_hex(8)})".encode()
    begun = place.client.txn([none_in(*everything)], [put(marker, note)], [get(marker)])
    found = begun.responses[0]
    if not begun.succeeded and not (isinstance(found, list) and [row.value for row in found] == [note]):
        raise StoreError(f"the cluster is not empty: there are rows under the prefix {prefix.decode()}")
    try:
        copying.into_etcd(source, place.client, place.keys)
        rows = copying.compare(source, place.snapshot())
        sealed = identity.seal(who, place.secret)
        done = place.client.txn([value_is(marker, note)], [delete(marker), put(place.name(identity.KEY), sealed)])
        if not done.succeeded:
            raise StoreError("something else has written into the cluster meanwhile")
    except BaseException:
        with contextlib.suppress(EtcdError):
            place.client.txn([value_is(marker, note)], [delete(*everything)])
        raise
    return rows


def into_folder(place: Place, data: DataDir, pause: Callable[[float], None], *, copy: bool) -> int:
    """Move a cluster's licenses and identity into a data folder without any; give the number of rows.

    The cluster's servers must not run, and start no more, unless this is a `copy`, which also works while they do.
    Raises StoreError, DataDirError, EtcdError.
    """
    sealed = place.client.range(place.name(identity.KEY)).rows
    if not sealed:
        raise StoreError(f"there are no licenses in the cluster under the prefix {place.keys.prefix.decode()}")
    who = identity.unseal(sealed[0].value, place.secret)
    data.make()
    data.lock()
    try:
        if (data.store / "data.mdb").exists():
            raise StoreError(f"{data.path} holds licenses already; name an empty folder")
        if (data.path / f"{SERVER}.key_secret").exists() and data.server_keys() != who.keys:
            raise StoreError(f"{data.path} belongs to another server; name an empty folder")
        with contextlib.nullcontext() if copy else _servers_kept_out(place, data, pause):
            return _fill_folder(place.snapshot(), data, who)
    finally:
        data.unlock()


@contextlib.contextmanager
def _servers_kept_out(place: Place, data: DataDir, pause: Callable[[float], None]) -> Iterator[None]:
    """Let no server of the cluster start from now on, and see that none runs. Undone when anything fails."""
    marker, note = place.name(MOVING), f"the licenses were moved to {data.path} on {socket.gethostname()}".encode()
    if not place.client.txn([is_absent(marker)], [put(marker, note)], [get(marker)]).succeeded:
        raise StoreError(f"the cluster is closed: {place.client.range(marker).rows[0].value.decode()}")
    try:
        running = numbers.running_server(place.client, place.keys, pause)
        if running is not None:
            raise StoreError(f"{running} of the cluster runs: stop all of them first, or make a --copy")
        yield
    except BaseException:
        with contextlib.suppress(EtcdError):
            place.client.txn([value_is(marker, note)], [delete(marker)])
        raise


def _fill_folder(source: EtcdSnapshot, data: DataDir, who: Identity) -> int:
    """Copy, compare and audit. What was written is removed when anything fails."""
    try:
        with contextlib.closing(LmdbStore(data.store)) as store:
            copying.into_lmdb(source, store)
            target = store.snapshot()
            try:
                rows = copying.compare(source, target)
                _check_books(target, "the cluster")
            finally:
                target.abort()
        keyfile.write(data.path, SERVER, who.keys)
    except BaseException as error:
        shutil.rmtree(data.store, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataDirError(f"{data.path} cannot be written: {error.strerror or error}") from None
        raise
    return rows


def _check_books(tx: Transaction, where: str) -> None:
    """Hold every index and sum against the leases. Raises StoreError."""
    schema.require_current(tx)
    problems = Audit(tx).run()
    if problems:
        raise StoreError(
            f"the books of {where} do not agree ({problems[0]}); als-server check --repair mends a stopped server"
        )


def migrate(source: str, target: str, settings: Settings, clock: Clock, *, copy: bool) -> int:
    """Move licenses from one of lmdb:FOLDER and etcd://... to the other; give the number of rows.

    `settings` name the cluster and its secret. Raises StoreError, DataDirError.
    """
    assert settings.cluster_secret is not None
    folder = DataDir(folder_of(source) or folder_of(target) or Path())
    with opening.told(), contextlib.closing(opening.connect(settings)) as client:
        place = Place(client, Keys(settings.etcd_prefix.encode()), identity.read_secret(settings.cluster_secret))
        if folder_of(source) is not None:
            return into_cluster(folder, place, settings.name, clock, copy=copy)
        return into_folder(place, folder, pause, copy=copy)


def folder_of(url: str) -> Path | None:
    """Give the folder that lmdb:FOLDER names; None for anything else."""
    return Path(url.removeprefix(LMDB_SCHEME)) if url.startswith(LMDB_SCHEME) else None
