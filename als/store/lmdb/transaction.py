"""A write transaction, or a read snapshot, of LMDB: the tables, over them what waits beside them, and what is new.

Rows that are written often wait in logs (behind/), new rows of most tables until the commit, when they are put into
their table in one call. Reads see all of it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import lmdb

from als.store.lmdb.behind.stamps import LateStamps
from als.store.lmdb.behind.waiting import GONE, Late
from als.store.transaction import STAMPED, Rows, StoreFullError, Table

if TYPE_CHECKING:
    from als.store.lmdb.store import LmdbStore

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

    def expect(self, rows: Iterable[tuple[Table, bytes]]) -> None:
        """A look costs no call."""

    def has_room(self) -> bool:
        """It may become as large as the store."""
        return True

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
