"""A consistent look at all rows as they were at one revision, for listings, audits and backups.

Nothing that it shows has to be compared, so it may be as large as it likes; etcd keeps a revision for about a minute.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from als.store.etcd import reading
from als.store.etcd.cache import after
from als.store.etcd.keys import Keys
from als.store.etcd.marks import MARKED, bare
from als.store.etcd.reading import Client
from als.store.etcd.view import told
from als.store.transaction import Rows, Table, restamp

READ_AHEAD_ROWS = 256
RUN_LEAST = 3  # reads in ascending order before it is worth while to read ahead


class _Ahead:
    """What was read of a table ahead: lo <= name < hi. `run` counts reads that came in ascending order."""

    def __init__(self) -> None:
        self.lo = self.hi = self.last = b""
        self.rows: dict[bytes, bytes] = {}
        self.run = 0

    def note(self, name: bytes) -> bool:
        """Note a read; say whether reading ahead is worth while."""
        self.run = self.run + 1 if name > self.last else 0
        self.last = name
        return self.run >= RUN_LEAST


class EtcdSnapshot:
    """A transaction that is never submitted: what is put into it is seen by itself alone, and in no scan.

    Reads raise StoreUnavailableError, and of these ForgottenError once the revision is kept no longer.
    """

    def __init__(self, client: Client, keys: Keys, revision: int) -> None:
        self.memo: dict[Any, Any] = {}
        self.revision = revision
        self._client = client
        self._keys = keys
        self._own: dict[bytes, bytes | None] = {}
        self._ahead = {table: _Ahead() for table in Table}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Give the value, None when there is none."""
        name = self._keys.name(table, key)
        if name in self._own:
            return self._own[name]
        value = self._read(table, name)
        return bare(value) if table is MARKED and value is not None else value

    def _read(self, table: Table, name: bytes) -> bytes | None:
        ahead = self._ahead[table]
        if ahead.lo <= name < ahead.hi:
            return ahead.rows.get(name)
        if not ahead.note(name):
            with told():
                rows = self._client.range(name, revision=self.revision).rows
            return rows[0].value if rows else None
        stop = self._keys.stops[table]
        with told():
            page = reading.first_rows(self._client, name, stop, READ_AHEAD_ROWS, self.revision)
        ahead.rows = {row.key: row.value for row in page.rows}
        ahead.lo, ahead.hi = name, stop if page.is_all else after(page.rows[-1].key)
        return ahead.rows.get(name)

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Let `get` show another value."""
        self._own[self._keys.name(table, key)] = value

    insert = replace = put

    def inserting(self, table: Table) -> Callable[[bytes, bytes], None]:
        """Give the function that inserts into one table."""
        return partial(self.insert, table)

    def stamping(self) -> Callable[[int, int], None]:
        """Give the function that lets `get` show other STAMPED_BYTES in a row."""
        return partial(restamp, self)

    def delete(self, table: Table, key: bytes) -> None:
        """Let `get` show no value."""
        self._own[self._keys.name(table, key)] = None

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Rows:
        """List at most `limit` rows with start <= key < stop, ascending, or descending from below `stop`."""
        lo, hi = self._keys.bounds(table, start, stop)
        if limit <= 0 or lo >= hi:
            return []
        with told():
            read = reading.last_rows if reverse else reading.first_rows
            rows = read(self._client, lo, hi, limit, self.revision).rows
        found = [(self._keys.key_of(row.key), bare(row.value) if table is MARKED else row.value) for row in rows]
        return found[::-1] if reverse else found

    def expect(self, rows: Iterable[tuple[Table, bytes]]) -> None:
        """Reads in ascending order are read ahead without being told."""

    def has_room(self) -> bool:
        """Nothing of it is sent."""
        return True

    def at_commit(self, function: Callable[[], None]) -> None:
        """There is no commit."""

    def abort(self) -> None:
        """Nothing to let go of."""
