"""A cluster's store brought up to date page by page, since one message to etcd cannot hold it all.

The first page is preceded by a mark in the schema's row, which keeps every server and program out until the last one is
written. A server that starts goes on where another has stopped, or helps one that is at it: what a row becomes depends
on the row alone, so it does no harm when two write the same.
"""

import logging
from collections.abc import Callable, Sequence

from als.records import pack_value
from als.server.cluster import numbers
from als.store import schema
from als.store.etcd import reading
from als.store.etcd.cache import after
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.keys import Keys
from als.store.etcd.marks import MARKED, bare
from als.store.etcd.ops import Compare, Op, delete, nested, put, value_is
from als.store.layouts import Change, changes_from
from als.store.transaction import SCHEMA_VERSION, StoreError, Table

PAGE_ROWS = 5_000  # read at a time: for each page etcd walks the index of all that is left of a table
MESSAGE_ROWS = 1_000  # written at a time: at most 1 KB each, of the 1.5 MiB that etcd takes
OPS_PER_LEVEL = 60
PAGES_PER_COMPACTION = 10  # so that the old rows do not fill etcd
TRIES_MAX = 5
_FIRST_VERSION = 1
_CURRENT = pack_value(SCHEMA_VERSION)
_UNDER_WAY = pack_value(schema.UNDER_WAY + SCHEMA_VERSION)

log = logging.getLogger("als")


def bring_up_to_date(client: EtcdClient, keys: Keys, pause: Callable[[float], None], *, compacts: bool) -> None:
    """Rewrite what an older version has written. Raises StoreError while a server runs, EtcdError."""
    name = keys.name(Table.META, schema.KEY)
    while True:
        found = client.range(name).rows
        value = found[0].value if found else None
        if value is None or not schema.is_old(value):
            return
        if value != _UNDER_WAY:
            running = numbers.running_server(client, keys, pause)
            if running is not None:
                raise StoreError(
                    f"the cluster's store was written by an older version of ALS, and {running} runs: stop all of its "
                    "servers, then start this one, which brings the store up to date"
                )
            _write(client, [value_is(name, value)], [put(name, _UNDER_WAY)])
            continue
        log.info("bringing the cluster's store up to date (schema %d): nobody is served meanwhile", SCHEMA_VERSION)
        rows = sum(_rewrite(client, keys, name, *place, compacts) for place in changes_from(_FIRST_VERSION).items())
        if _write(client, [value_is(name, _UNDER_WAY)], [put(name, _CURRENT)]):
            log.info("the cluster's store is up to date: %s rows are written anew", f"{rows:,}")


def _rewrite(client: EtcdClient, keys: Keys, schema_row: bytes, table: Table, change: Change, compacts: bool) -> int:
    """Change a table's rows; give their number. Ends early when another server has come to the end."""
    lo, hi = keys.bounds(table, b"", None)
    changed = pages = 0
    while True:
        page = reading.first_rows(client, lo, hi, PAGE_ROWS)
        moves: list[list[Op]] = []
        for row in page.rows:
            key = keys.key_of(row.key)
            new = change(key, bare(row.value) if table is MARKED else row.value)
            if new is not None:
                changed += 1
                gone = [delete(row.key)] if new[0] != key else []
                moves.append([*gone, put(keys.name(table, new[0]), new[1])])
        for start in range(0, len(moves), MESSAGE_ROWS):
            ops = [op for move in moves[start : start + MESSAGE_ROWS] for op in move]  # a row goes and comes at once
            if not _write(client, [value_is(schema_row, _UNDER_WAY)], ops):
                return changed
        pages += 1
        if compacts and pages % PAGES_PER_COMPACTION == 0:
            client.compact(page.revision)
        if page.is_all:
            return changed
        lo = after(page.rows[-1].key)


def _write(client: EtcdClient, compares: Sequence[Compare], ops: list[Op]) -> bool:
    """Write as often as it takes to know what came of it; False when a compare did not hold."""
    levels = [nested((), ops[at : at + OPS_PER_LEVEL], ()) for at in range(0, len(ops), OPS_PER_LEVEL)]
    for tries in range(1, TRIES_MAX + 1):
        try:
            return client.txn(compares, levels).succeeded
        except EtcdUnavailableError:
            if tries == TRIES_MAX:
                raise
    raise AssertionError("the last try has returned or raised")
