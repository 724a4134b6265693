"""All rows of one store into another, and both held against each other; knows nothing of what the rows mean.

What belongs to the servers of a cluster rather than to the licenses stays where it is.
"""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple, Protocol

from als.server.cluster import identity
from als.server.cluster.peers import CARDS
from als.store.etcd import baton
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.keys import Keys
from als.store.etcd.moves import ROWS_HEAD
from als.store.etcd.ops import Op, nested, put
from als.store.lmdb.store import OWN_TABLES, LmdbStore
from als.store.transaction import Rows, StoreError, StoreFullError, Table

PAGE_ROWS = 5_000
OPS_PER_LEVEL = 60
CHUNK_ROWS = OPS_PER_LEVEL * OPS_PER_LEVEL
CHUNK_BYTES = 600_000  # etcd takes 1.5 MiB
TRIES_MAX = 5
MOVING = b"moving"  # in META: to where, while and after the licenses are moved away or in

_TABLES = [table for table in Table if table not in OWN_TABLES]
_OWN = (b"server/", b"joint/", ROWS_HEAD, baton.KEY, CARDS, identity.KEY, MOVING)


class Source(Protocol):
    """A consistent look at a store."""

    def scan(
        self, table: Table, start: bytes = b"", stop: bytes | None = None, limit: int = 1000, reverse: bool = False
    ) -> Rows:
        """List rows."""
        ...


class Row(NamedTuple):
    """One row of a store."""

    table: Table
    key: bytes
    value: bytes


def rows_of(source: Source) -> Iterator[Row]:
    """Give all rows that are about licenses, in order."""
    for table in _TABLES:
        start = b""
        while page := source.scan(table, start, None, PAGE_ROWS):
            for key, value in page:
                if table is not Table.META or not key.startswith(_OWN):
                    yield Row(table, key, value)
            start = page[-1][0] + b"\0"


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Give rows by as many as a message holds."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) == CHUNK_ROWS or size + len(row.key) + len(row.value) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row.key) + len(row.value)
    if chunk:
        yield chunk


def into_etcd(source: Source, client: EtcdClient, keys: Keys) -> None:
    """Write all rows. Raises EtcdError."""
    for chunk in chunks(rows_of(source)):
        puts = [put(keys.name(row.table, row.key), row.value) for row in chunk]
        levels = [nested((), puts[at : at + OPS_PER_LEVEL], ()) for at in range(0, len(puts), OPS_PER_LEVEL)]
        _insist(client, levels)


def _insist(client: EtcdClient, ops: list[Op]) -> None:
    """Write the same as often as it takes to know that it is written."""
    for tries in range(1, TRIES_MAX + 1):
        try:
            client.txn((), ops)
        except EtcdUnavailableError:
            if tries == TRIES_MAX:
                raise
        else:
            return


def into_lmdb(source: Source, store: LmdbStore) -> None:
    """Write all rows. Raises StoreError."""
    for chunk in chunks(rows_of(source)):
        while True:
            tx = store.begin()
            try:
                for row in chunk:
                    tx.put(*row)
                store.submit(tx)
            except StoreFullError:
                tx.abort()
                store.grow()
            else:
                break


def compare(source: Source, target: Source) -> int:
    """Hold two stores against each other, row by row; give the number of rows. Raises StoreError."""
    number = 0
    for row, copy in zip_longest(rows_of(source), rows_of(target)):
        if row != copy:
            there = row or copy
            raise StoreError(f"the copy differs in the table {there.table.name.lower()}, at row {number:,}")
        number += 1
    return number
