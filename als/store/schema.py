"""The schema's version: a newer store is refused, an older one is migrated in one transaction."""

from collections.abc import Callable

from als.records import Computer, pack_value, unpack_value
from als.store.transaction import SCHEMA_VERSION, StoreError, Table, Transaction

_KEY = b"schema"


def _shorten_computers(tx: Transaction) -> None:
    """Version 2 writes computers shorter, and has the table BEHIND, which an older program would not read."""
    start = b""
    while rows := tx.scan(Table.COMPUTERS, start):
        for key, raw in rows:
            macs, *rest = unpack_value(raw)
            own_macs = [macs[place : place + 6] for place in range(0, len(macs), 6)]
            tx.put(Table.COMPUTERS, key, Computer(own_macs, *rest).pack())
        start = rows[-1][0] + b"\0"


MIGRATIONS: dict[int, Callable[[Transaction], None]] = {1: _shorten_computers}
"""From version N to N + 1."""


def bring_up_to_date(tx: Transaction) -> int | None:
    """Make the store's schema ours; give the version it had, None for a new store. Raises StoreError."""
    raw = tx.get(Table.META, _KEY)
    if raw is None:
        tx.put(Table.META, _KEY, pack_value(SCHEMA_VERSION))
        return None
    found = int(unpack_value(raw))
    if found > SCHEMA_VERSION:
        raise _newer(found)
    for version in range(found, SCHEMA_VERSION):
        MIGRATIONS[version](tx)
    if found < SCHEMA_VERSION:
        tx.put(Table.META, _KEY, pack_value(SCHEMA_VERSION))
    return found


def _newer(found: int) -> StoreError:
    return StoreError(
        f"the store was written by a newer version of ALS (schema {found}, this one knows {SCHEMA_VERSION}); "
        "install that version or restore a backup"
    )


def require_current(tx: Transaction) -> None:
    """Raise StoreError when the store has another schema than ours, for who only reads."""
    raw = tx.get(Table.META, _KEY)
    found = SCHEMA_VERSION if raw is None else int(unpack_value(raw))
    if found > SCHEMA_VERSION:
        raise _newer(found)
    if found < SCHEMA_VERSION:
        raise StoreError(
            f"the store was written by an older version of ALS (schema {found}, this one has {SCHEMA_VERSION}); "
            "start als-server once, which brings it up to date"
        )
