"""The store of tests and simulations: sorted lists in memory, with the same transactions as the real ones."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from als.store.transaction import COMMITTED, Completion, Rows, Table, Transaction, restamp


class _Sorted:
    """One table: a dictionary, and its keys in order."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            insort(self.keys, key)
        self.values[key] = value

    def delete(self, key: bytes) -> None:
        if self.values.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]


class MemoryTransaction:
    """Writes at once and keeps an undo list: reads are as fast as a dictionary's."""

    def __init__(self, tables: list[_Sorted]) -> None:
        self.memo: dict[Any, Any] = {}
        self._tables = tables
        self._undo: list[tuple[Table, bytes, bytes | None]] = []
        self._hooks: list[Callable[[], None]] = []

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Give the value, None when there is none."""
        assert key, "no engine has empty keys"
        return self._tables[table].values.get(key)

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Insert or replace."""
        assert key, "no engine has empty keys"
        self._undo.append((table, key, self._tables[table].values.get(key)))
        self._tables[table].put(key, value)

    def insert(self, table: Table, key: bytes, value: bytes) -> None:
        """Insert. Here, where tests look on, the caller's word is checked."""
        assert key not in self._tables[table].values
        self.put(table, key, value)

    def inserting(self, table: Table) -> Callable[[bytes, bytes], None]:
        """Give the function that inserts into one table."""
        return partial(self.insert, table)

    replace = put

    def stamping(self) -> Callable[[int, int], None]:
        """Give the function that writes other STAMPED_BYTES into a row."""
        return partial(restamp, self)

    def delete(self, table: Table, key: bytes) -> None:
        """Remove; a key that is not there is no error."""
        assert key, "no engine has empty keys"
        self._undo.append((table, key, self._tables[table].values.get(key)))
        self._tables[table].delete(key)

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Rows:
        """List at most `limit` rows with start <= key < stop, ascending, or descending from below `stop`."""
        sorted_table = self._tables[table]
        first = bisect_left(sorted_table.keys, start)
        last = len(sorted_table.keys) if stop is None else bisect_left(sorted_table.keys, stop)
        if reverse:
            found = sorted_table.keys[max(first, last - limit) : max(first, last)][::-1]
        else:
            found = sorted_table.keys[first : min(last, first + limit)]
        return [(key, sorted_table.values[key]) for key in found]

    def expect(self, rows: Iterable[tuple[Table, bytes]]) -> None:
        """Every look is a dictionary's."""

    def has_room(self) -> bool:
        """It may become as large as memory."""
        return True

    def at_commit(self, function: Callable[[], None]) -> None:
        """Have `function` run just before the commit."""
        self._hooks.append(function)

    def commit(self) -> None:
        """Run the hooks; the changes are already in place."""
        for function in self._hooks:
            function()
        self._undo.clear()

    def abort(self) -> None:
        """Take every change back, the last first."""
        for table, key, value in reversed(self._undo):
            if value is None:
                self._tables[table].delete(key)
            else:
                self._tables[table].put(key, value)
        self._undo.clear()


class MemoryStore:
    """All tables in memory; gone with the process."""

    def __init__(self) -> None:
        self._tables = [_Sorted() for _ in Table]

    def begin(self) -> MemoryTransaction:
        """Open a transaction that may write."""
        return MemoryTransaction(self._tables)

    def submit(self, transaction: Transaction) -> Completion:
        """Commit."""
        assert isinstance(transaction, MemoryTransaction)
        transaction.commit()
        return COMMITTED

    def grow(self) -> None:
        """Memory grows by itself."""

    def tidy(self) -> None:
        """Nothing is left lying about."""

    def close(self) -> None:
        """Nothing to let go of."""
