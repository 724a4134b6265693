"""The schema's version: a newer store is refused, an older one is brought up to date in one transaction.

A store that several servers share takes no such transaction: als/server/cluster/updating.py does it page by page, and
adds UNDER_WAY to the version while it does. Then older programs and those that only read refuse it.
"""

import logging

from als.records import pack_value, unpack_value
from als.store.layouts import Change, changes_from
from als.store.transaction import SCHEMA_VERSION, StoreError, Table, Transaction

KEY = b"schema"
UNDER_WAY = 1_000
PAGE_ROWS = 5_000

log = logging.getLogger("als")


def bring_up_to_date(tx: Transaction) -> int | None:
    """Make the store's schema ours; give the version it had, None for a new store. Raises StoreError."""
    raw = tx.get(Table.META, KEY)
    if raw is None:
        tx.put(Table.META, KEY, pack_value(SCHEMA_VERSION))
        return None
    found = int(unpack_value(raw))
    if found > SCHEMA_VERSION:
        raise _ahead(found)
    if found < SCHEMA_VERSION:
        log.info("bringing the store up to date (schema %d to %d)", found, SCHEMA_VERSION)
        rows = sum(_rewrite(tx, table, change) for table, change in changes_from(found).items())
        tx.put(Table.META, KEY, pack_value(SCHEMA_VERSION))
        log.info("the store is up to date: %s rows are written anew", f"{rows:,}")
    return found


def _rewrite(tx: Transaction, table: Table, change: Change) -> int:
    """Change a table's rows; give their number. Rows with new keys that the walk meets need no change."""
    start, changed = b"", 0
    while rows := tx.scan(table, start, limit=PAGE_ROWS):
        for key, raw in rows:
            row = change(key, raw)
            if row is not None:
                changed += 1
                if row[0] != key:
                    tx.delete(table, key)
                tx.put(table, *row)
        start = rows[-1][0] + b"\0"
    return changed


def is_old(raw: bytes | None) -> bool:
    """Say whether a store with this row has to be brought up to date, or to its end. Raises StoreError."""
    found = SCHEMA_VERSION if raw is None else int(unpack_value(raw))
    if found > SCHEMA_VERSION and found != UNDER_WAY + SCHEMA_VERSION:
        raise _ahead(found)
    return found != SCHEMA_VERSION


def require_current(tx: Transaction) -> None:
    """Raise StoreError when the store has another schema than ours, for who only reads."""
    raw = tx.get(Table.META, KEY)
    found = SCHEMA_VERSION if raw is None else int(unpack_value(raw))
    if found > SCHEMA_VERSION:
        raise _ahead(found)
    if found < SCHEMA_VERSION:
        raise StoreError(
            f"the store was written by an older version of ALS (schema {found}, this one has {SCHEMA_VERSION}); "
            "start als-server once, which brings it up to date"
        )


def _ahead(found: int) -> StoreError:
    if found == UNDER_WAY + SCHEMA_VERSION:
        return StoreError("the store was not brought up to date to its end; start als-server, which goes on with it")
    return StoreError(
        f"the store was written by a newer version of ALS (schema {found % UNDER_WAY}, "
        f"this one knows {SCHEMA_VERSION}); install that version or restore a backup"
    )
