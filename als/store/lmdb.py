"""The store of a single server: LMDB with every commit synced.

Flags: sync and metasync on, no writemap. A commit writes new pages, syncs them, then writes and syncs the one meta page
that points to them, so a power cut leaves the state before or after it. Nothing here knows what the tables mean.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

from als import files
from als.pace import Rest, hurry
from als.store.behind.stamps import LateStamps, Stamps
from als.store.behind.waiting import GONE, LOGS, NEW_ONES_WAIT, Behind, Late
from als.store.transaction import (
    COMMITTED,
    STAMPED,
    Completion,
    Rows,
    StoreError,
    StoreFullError,
    Table,
    Transaction,
)

MAP_BYTES_FIRST = 1 << 40  # sparse; growing later would need every transaction closed
MAP_BYTES_LEAST = 1 << 28
READERS_MAX = 126
FOLDER = "store"
OWN_TABLES = frozenset((*LOGS, Table.STAMPS))  # a part of this engine; what stands in them is read with other tables
_ASCENDING = frozenset((Table.LEASES, Table.DUE, Table.COMPUTERS, Table.EVENTS))  # mostly: new keys are the highest


class LmdbTransaction:
    """A write transaction, or a read snapshot, of LMDB. An error of the engine is a StoreError."""

    __slots__ = ("_cursors", "_databases", "_hooks", "_late", "_new", "_stamps", "_store", "_txn", "memo")

    def __init__(self, txn: Any, store: "LmdbStore") -> None:
        self.memo: dict[Any, Any] = {}
        self._txn = txn
        self._store = store
        self._databases = store.databases
        self._late = [None if behind is None else Late(behind) for behind in store.behind]  # by tables, as they are
        self._stamps = LateStamps(store.stamps, txn, self._databases[Table.STAMPS])
        self._new: list[dict[bytes, bytes]] = [{} for _ in Table]  # inserted, and not entered yet, by tables
        self._cursors: dict[int, Any] = {}
        self._hooks: list[Callable[[], None]] = []

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Give the value, None when there is none. Raises StoreFullError."""
        found: bytes | None = None
        late = self._late[table]
        if late is not None:  # what `late.get` does; a call costs as much again
            found = late.rows.get(key) or late.young.get(key) or late.frozen.get(key)
        try:
            if found is None or found is GONE:
                found = self._txn.get(key, None, self._databases[table])
                if found is None:
                    found = self._new[table].get(key)
            return self._stamps.on(key, found) if table is STAMPED and found is not None else found
        except lmdb.Error as error:
            raise self._store.failure(error) from error

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Insert or replace. Raises StoreFullError."""
        if table is STAMPED:
            self._stamps.clear(key)
        late = self._late[table]
        if late is not None and late.takes(key):
            late.rows[key] = value
            return
        try:
            if key in self._new[table]:
                self._new[table][key] = value
            else:
                self._txn.put(key, value, True, True, False, self._databases[table])  # faster than by name
        except lmdb.Error as error:
            raise self._store.failure(error) from error

    def insert(self, table: Table, key: bytes, value: bytes) -> None:
        """Insert. Of rows that mostly come in ascending order many are inserted at once, and fill their pages."""
        self.inserting(table)(key, value)

    def inserting(self, table: Table) -> Callable[[bytes, bytes], None]:
        """Give the function that inserts into one table."""
        late = self._late[table]
        if table in _ASCENDING:
            return self._new[table].__setitem__
        if late is not None and late.takes_all:
            return late.rows.__setitem__
        return partial(self.put, table)

    def _enter_new(self, table: Table) -> None:
        """Put the rows that were inserted into the table: behind its last one, or where their place is."""
        new = self._new[table]
        cursor = self._txn.cursor(self._databases[table])
        _, appended = cursor.putmulti(new.items(), append=True)
        if appended < len(new):
            cursor.putmulti(sorted(new.items()))
        new.clear()  # in place, for `inserting` has given it away

    def replace(self, table: Table, key: bytes, value: bytes) -> None:
        """Replace the value of a row that is there and changes often; one that waits in a log costs no page."""
        if table is STAMPED:
            self._stamps.clear(key)
        late = self._late[table]
        if late is not None:
            late.rows[key] = value
        else:
            self.put(table, key, value)

    def stamping(self) -> Callable[[int, int], None]:
        """Give the function that writes other STAMPED_BYTES into a row."""
        return self._stamps.rows.__setitem__

    def delete(self, table: Table, key: bytes) -> None:
        """Remove; a key that is not there is no error. Raises StoreFullError."""
        if table is STAMPED:
            self._stamps.clear(key)
        late = self._late[table]
        if late is not None:
            late.delete(key)
        try:
            if self._new[table].pop(key, None) is None:
                self._txn.delete(key, db=self._databases[table])
        except lmdb.Error as error:
            raise self._store.failure(error) from error

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Rows:
        """List at most `limit` rows with start <= key < stop, ascending, or descending from below `stop`.

        Raises StoreFullError.
        """
        if limit <= 0:
            return []
        try:
            if self._new[table]:
                self._enter_new(table)
            cursor = self._cursors.get(table)
            if cursor is None:
                cursor = self._cursors[table] = self._txn.cursor(self._databases[table])
            rows = (self._scan_back if reverse else self._scan_on)(cursor, start, stop, limit)
            late = self._late[table]
            if late is not None:
                rows = late.over(rows, start, stop, limit, reverse=reverse)
            return self._stamps.on_all(rows) if table is STAMPED else rows
        except lmdb.Error as error:
            raise self._store.failure(error) from error

    @staticmethod
    def _scan_on(cursor: Any, start: bytes, stop: bytes | None, limit: int) -> Rows:
        rows: Rows = []
        if not cursor.set_range(start):
            return rows
        for key, value in cursor.iternext():
            if stop is not None and key >= stop:
                break
            rows.append((key, value))
            if len(rows) >= limit:
                break
        return rows

    @staticmethod
    def _scan_back(cursor: Any, start: bytes, stop: bytes | None, limit: int) -> Rows:
        rows: Rows = []
        if stop is None or not cursor.set_range(stop):
            found = cursor.last()
        else:
            found = cursor.prev()
        if not found:
            return rows
        for key, value in cursor.iterprev():
            if key < start:
                break
            rows.append((key, value))
            if len(rows) >= limit:
                break
        return rows

    def at_commit(self, function: Callable[[], None]) -> None:
        """Have `function` run just before the commit."""
        self._hooks.append(function)

    def commit(self) -> None:
        """Run the hooks and commit with fsync. Raises StoreFullError, lmdb.Error."""
        for function in self._hooks:
            function()
        self._cursors.clear()
        try:
            for table in _ASCENDING:
                if self._new[table]:
                    self._enter_new(table)
            for late in self._late:
                if late is not None:
                    late.write(self._txn)
            self._stamps.write(self._txn)
            self._txn.commit()
        except lmdb.MapFullError as error:
            raise StoreFullError from error
        for behind in self._store.behind:
            if behind is not None:
                behind.committed()
        self._store.stamps.committed()
        self._forget()

    def abort(self) -> None:
        """Forget every change."""
        self._cursors.clear()
        self._txn.abort()
        self._forget()

    def _forget(self) -> None:
        """Let go of what refers to this transaction: else its rows stay in memory until the collector comes by."""
        self.memo.clear()
        self._hooks.clear()


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

    def check_readers(self) -> int:
        """Free the pages that killed readers still pin; give their number."""
        return int(self._env.reader_check())

    def copy(self, folder: Path, rest: Rest = hurry) -> None:
        """Copy a consistent snapshot, compacted, into `folder`, a piece at a time. Runs beside a server's loop.

        Raises StoreError, OSError.
        """
        with files.PacedWriter(folder / "data.mdb", rest=rest) as target:
            source, sink = os.pipe()
            writing = files.PipeWriter(source, target)
            try:
                self._env.copyfd(sink, compact=True)
            except (lmdb.Error, OSError) as error:
                if writing.error is None:
                    raise StoreError(self._explain("could not be copied", error)) from error
            finally:
                os.close(sink)
                writing.join()
            if writing.error is not None:
                raise writing.error

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
        return StoreError(
            f"the store {self.path} failed ({error}): the file is damaged; als-server check tells more, "
            "or restore a backup"
        )

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
