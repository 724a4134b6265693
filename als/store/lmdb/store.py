"""The store of a single server: LMDB with every commit synced.

Flags: sync and metasync on, no writemap. A commit writes new pages, syncs them, then writes and syncs the one meta page
that points to them, so a power cut leaves the state before or after it. Nothing here knows what the tables mean.
"""

import contextlib
import errno
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

from als import files
from als.pace import Rest, hurry
from als.store.lmdb.behind.stamps import Stamps
from als.store.lmdb.behind.waiting import LOGS, NEW_ONES_WAIT, Behind
from als.store.lmdb.transaction import LmdbTransaction
from als.store.transaction import (
    COMMITTED,
    Completion,
    StoreError,
    StoreFullError,
    Table,
    Transaction,
)

MAP_BYTES_FIRST = 1 << 40  # sparse; growing later would need every transaction closed
MAP_BYTES_LEAST = 1 << 28
READERS_MAX = 126
MORE_TOLD = "als-server check tells more, or "  # for who is not that very command
OWN_TABLES = frozenset((*LOGS, Table.STAMPS))  # a part of this engine; what stands in them is read with other tables


class LmdbStore:
    """The tables in one LMDB environment, in the folder `path` (made when missing)."""

    def __init__(self, path: Path | str, *, map_bytes: int = MAP_BYTES_FIRST, readonly: bool = False) -> None:
        """Open or make the store. Raises StoreError with one line for the administrator."""
        self.path = Path(path)
        try:
            if not readonly:
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._env = self._open(map_bytes, readonly)
            self._readonly = readonly
            self._last_page = 0
            cut = self._make_whole(readonly)
            self.databases = [self._open_table(table, readonly) for table in Table]
            self._open_logs()
            self._env.reader_check()
            if cut:
                self._read_everything()
            if not readonly:
                files.sync_folder(self.path)
        except (lmdb.Error, OSError, ValueError) as error:
            raise StoreError(self._explain("cannot be opened", error)) from error

    def _open(self, map_bytes: int, readonly: bool) -> Any:
        """Open with the largest map that the system grants."""
        while True:
            try:
                return lmdb.open(
                    str(self.path),
                    map_size=map_bytes,
                    max_dbs=len(Table),
                    max_readers=READERS_MAX,
                    readonly=readonly,
                    subdir=True,
                    mode=0o600,
                )
            except (lmdb.MemoryError, MemoryError) as error:
                if map_bytes <= MAP_BYTES_LEAST:
                    raise lmdb.Error("the system grants no address space") from error
                map_bytes //= 2

    def _open_logs(self) -> None:
        with self._env.begin() as txn:
            self._read_logs(txn)

    def _read_logs(self, txn: Any) -> None:
        """Read the logs of the tables that have one. Raises lmdb.Error, ValueError."""
        self.behind: list[Behind | None] = [None] * len(Table)  # by tables
        for log, table in LOGS.items():
            own, whole = self.databases[log], self.databases[table]
            if table is Table.STAMPS:
                self.stamps = Stamps(own, whole)
                self.stamps.load(txn)
            else:
                behind = self.behind[table] = Behind(own, whole, new_ones_wait=table in NEW_ONES_WAIT)
                behind.load(txn)

    def _open_table(self, table: Table, readonly: bool) -> Any:
        """Open a table; one that an older version did not have is only there once it is written."""
        try:
            return self._env.open_db(table.name.lower().encode(), create=not readonly)
        except lmdb.NotFoundError:
            if table not in OWN_TABLES:
                raise
            return None

    def _make_whole(self, readonly: bool) -> bool:
        """Say whether the file is shorter than its pages, and make it as long, for reading past its end is fatal.

        A file that was cut off shows when everything is read; one whose last pages were free is sound.
        """
        file = self.path / "data.mdb"
        self._last_page = int(self._env.info()["last_pgno"])
        wanted = int(self._env.stat()["psize"]) * (self._last_page + 1)
        if file.stat().st_size >= wanted:
            return False
        if readonly:
            raise lmdb.CorruptedError("it is shorter than its pages")
        os.truncate(file, wanted)
        return True

    def _read_everything(self) -> None:
        """Read every row. Raises lmdb.Error where a page is missing."""
        with self._env.begin() as txn:
            for database in self.databases:
                for _ in txn.cursor(database):
                    pass

    def begin(self) -> LmdbTransaction:
        """Open a transaction that may write."""
        return LmdbTransaction(self._env.begin(write=True), self)

    def snapshot(self) -> LmdbTransaction:
        """Open a consistent look that writes nothing; end it with `abort`. Raises StoreError."""
        try:
            txn = self._env.begin(write=False)
            if self._readonly:  # another process may write: logs and tables have to be of one moment
                self._read_logs(txn)
        except (lmdb.Error, ValueError) as error:
            raise StoreError(self._explain("cannot be read", error)) from error
        return LmdbTransaction(txn, self)

    def submit(self, transaction: Transaction) -> Completion:
        """Commit with fsync. Raises StoreFullError, or StoreError when the device or the file failed."""
        assert isinstance(transaction, LmdbTransaction)
        try:
            transaction.commit()
            if int(self._env.info()["last_pgno"]) != self._last_page:
                self._make_whole(readonly=False)  # for a backup that reads beside us
        except (lmdb.Error, OSError) as error:
            raise StoreError(self._explain("could not be written", error)) from error
        return COMMITTED

    def grow(self) -> None:
        """Double the map, between transactions. Raises StoreError when the system refuses."""
        try:
            self._env.set_mapsize(self._env.info()["map_size"] * 2)
        except (lmdb.Error, MemoryError) as error:
            raise StoreError(self._explain("is full and cannot grow", error)) from error

    def tidy(self) -> None:
        """Forget who read beside us and was killed: no page that was in use then would ever be used again."""
        self._env.reader_check()

    def copy(self, folder: Path, rest: Rest = hurry) -> None:
        """Copy a consistent snapshot, compacted, into `folder`, a piece at a time. Runs beside a server's loop.

        Raises StoreError, OSError.
        """
        with files.PacedWriter(folder / "data.mdb", rest=rest) as target:
            source, sink = os.pipe()
            with os.fdopen(source, "rb", 0) as pipe:
                feeding = files.PipeFeeder(partial(self._env.copyfd, compact=True), sink)
                try:
                    feeding.start()
                    while piece := pipe.read(files.PACED_BYTES):
                        target.write(piece)
                finally:
                    pipe.close()  # who writes into it ends, if we end first
                    feeding.wait()
        if feeding.error is not None:
            raise StoreError(self._explain("could not be copied", feeding.error)) from feeding.error

    def used_bytes(self) -> int:
        """Give the size of the pages in use, the free ones left out."""
        page = int(self._env.stat()["psize"])
        return page * (int(self._env.info()["last_pgno"]) + 1)

    def close(self) -> None:
        """Let go of the files."""
        self._env.close()

    def failure(self, error: lmdb.Error) -> StoreError | StoreFullError:
        """Explain an error of the engine in the midst of a transaction: a sound file causes none but a full map."""
        if isinstance(error, lmdb.MapFullError):
            return StoreFullError()
        return StoreError(f"the store {self.path} failed ({error}): the file is damaged; {MORE_TOLD}restore a backup")

    def _explain(self, what: str, error: BaseException) -> str:
        """Say in one line what happened, with the free space when the device is full."""
        reason = str(error) or type(error).__name__
        free = None
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.path).free
        full = "No space left" in reason or getattr(error, "errno", None) == errno.ENOSPC
        if full or (free is not None and free < 1 << 20):
            return (
                f"the store {self.path} {what}: the device is full ({free or 0} bytes free); make room and start again"
            )
        if isinstance(
            error,
            ValueError
            | lmdb.InvalidError
            | lmdb.CorruptedError
            | lmdb.VersionMismatchError
            | lmdb.PageNotFoundError
            | lmdb.PanicError,
        ):
            return f"the store {self.path} {what}: the file is damaged or no store of ALS ({reason}); restore a backup"
        return f"the store {self.path} {what}: {reason}"
