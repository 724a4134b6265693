"""A store that an older version wrote: kept in tests/data, brought up to date in one transaction."""

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import books
from als import catalog
from als.records import Computer
from als.server import offline
from als.store import schema
from als.store.lmdb import LmdbStore
from als.store.transaction import SCHEMA_VERSION, StoreError, Table

DATA = Path(__file__).parent / "data"
COMPUTERS = 12  # in the kept store: 2 serials of 20 seats, 12 acquires, a release, renewals, a few lapses


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store as version 1 wrote it."""
    with gzip.open(DATA / "store-schema-1.mdb.gz") as packed, (tmp_path / "data.mdb").open("wb") as file:
        shutil.copyfileobj(packed, file)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[LmdbStore]:
    """The store, open and not yet brought up to date."""
    opened = LmdbStore(folder)
    yield opened
    opened.close()


def test_version_1_is_brought_up_to_date(store: LmdbStore) -> None:
    """Every lease and computer of a store of version 1 is there after the migration, and its books agree."""
    tx = store.begin()
    before = dict(tx.scan(Table.LEASES))
    assert schema.bring_up_to_date(tx) == 1
    store.submit(tx)
    tx = store.begin()
    assert schema.bring_up_to_date(tx) == SCHEMA_VERSION
    assert books.mistakes(tx, catalog.builtin()) == []
    assert dict(tx.scan(Table.LEASES)) == before
    computers = [Computer.unpack(raw) for _, raw in tx.scan(Table.COMPUTERS)]
    assert len(computers) == COMPUTERS
    assert computers[0] == Computer(
        [bytes(6)], "workstation-00000000", "10.0.0.0", "0" * 32, "workstation", computers[0].left_at
    )
    tx.abort()


def test_migration_that_is_cut_off_leaves_version_1(store: LmdbStore) -> None:
    """A migration is one transaction: without its commit the store is as it was."""
    tx = store.begin()
    schema.bring_up_to_date(tx)
    tx.abort()
    tx = store.begin()
    assert schema.bring_up_to_date(tx) == 1
    tx.abort()


def test_older_store_is_not_checked(folder: Path) -> None:
    """The check of a store of version 1 says what to do instead of calling it damaged."""
    with pytest.raises(StoreError, match="start als-server once"):
        offline.check_apart(folder, repair=False)
