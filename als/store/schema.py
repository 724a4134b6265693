"""The schema's version: a newer store is refused, an older one is migrated in one transaction."""

from collections.abc import Callable

from als.records import pack_value, unpack_value
from als.store.transaction import SCHEMA_VERSION, StoreError, Table, Transaction

_KEY = b"schema"

MIGRATIONS: dict[int, Callable[[Transaction], None]] = {}
"""From version N to N + 1."""


def bring_up_to_date(tx: Transaction) -> int | None:
    """Make the store's schema ours; give the version it had, None for a new store. Raises StoreError."""
    raw = tx.get(Table.META, _KEY)
    if raw is None:
        tx.put(Table.META, _KEY, pack_value(SCHEMA_VERSION))
        return None
    found = int(unpack_value(raw))
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"the store was written by a newer version of ALS (schema {found}, this one knows {SCHEMA_VERSION}); "
            "install that version or restore a backup"
        )
    for version in range(found, SCHEMA_VERSION):
        MIGRATIONS[version](tx)
    if found < SCHEMA_VERSION:
        tx.put(Table.META, _KEY, pack_value(SCHEMA_VERSION))
    return found
