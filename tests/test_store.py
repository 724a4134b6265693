"""The contract of every store: one suite, for each engine."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from als.store import schema
from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import SCHEMA_VERSION, Store, StoreError, StoreFullError, Table, prefix_stop
from etcd_stores import open_etcd


@pytest.fixture(params=["memory", "lmdb", "etcd"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new store of each engine."""
    made = make_store(request, tmp_path)
    yield made
    made.close()


def make_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    """Make the store that a test is for."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "lmdb":
        return LmdbStore(folder / "store")
    return open_etcd(request.getfixturevalue("etcd_endpoint"), request.getfixturevalue("etcd_prefix"))


def fill(store: Store, *keys: bytes) -> None:
    """Commit some keys of one table, each with itself as its value."""
    tx = store.begin()
    for key in keys:
        tx.put(Table.LEASES, key, key)
    store.submit(tx)


def test_reads_its_own_writes(store: Store) -> None:
    """A transaction sees what it has written, deleted and replaced."""
    tx = store.begin()
    assert tx.get(Table.META, b"a") is None
    tx.put(Table.META, b"a", b"1")
    tx.put(Table.META, b"a", b"2")
    assert tx.get(Table.META, b"a") == b"2"
    assert tx.get(Table.PRODUCTS, b"a") is None
    tx.delete(Table.META, b"a")
    tx.delete(Table.META, b"a")
    assert tx.get(Table.META, b"a") is None
    tx.abort()


@pytest.mark.parametrize("table", [Table.LEASES, Table.EVENTS, Table.ADDRESSES, Table.PRODUCTS])
def test_inserted_rows_are_there_at_once(store: Store, table: Table) -> None:
    """Whatever is done next with a row that was inserted, or with its neighbor, finds it."""
    tx = store.begin()
    tx.put(table, b"m", b"1")
    for key in (b"n", b"o", b"p", b"q", b"a", b"r"):
        tx.insert(table, key, b"1")
        if key == b"n":
            assert tx.get(table, b"n") == b"1"
        elif key == b"o":
            tx.put(table, b"o", b"2")
        elif key == b"p":
            tx.delete(table, b"p")
        elif key == b"q":
            tx.replace(table, b"q", b"3")
    assert tx.get(table, b"p") is None
    expected = [(b"a", b"1"), (b"m", b"1"), (b"n", b"1"), (b"o", b"2"), (b"q", b"3"), (b"r", b"1")]
    assert tx.scan(table) == expected
    assert tx.scan(table, reverse=True, limit=2) == expected[:-3:-1]
    tx.insert(table, b"s", b"1")
    store.submit(tx)
    tx = store.begin()
    assert tx.scan(table) == [*expected, (b"s", b"1")]
    tx.abort()


@pytest.mark.parametrize("table", [Table.LEASES, Table.ADDRESSES, Table.PRODUCTS])
def test_rows_are_inserted_after_a_look_as_before(store: Store, table: Table) -> None:
    """The function that inserts many rows is good for the whole transaction, whatever is done in between."""
    tx = store.begin()
    insert = tx.inserting(table)
    insert(b"a", b"1")
    assert tx.scan(table) == [(b"a", b"1")]
    insert(b"c", b"1")
    assert tx.get(table, b"c") == b"1"
    store.submit(tx)
    tx = store.begin()
    assert tx.scan(table) == [(b"a", b"1"), (b"c", b"1")]
    tx.abort()


@pytest.mark.parametrize("ends", ["submit", "abort"])
def test_a_transaction_that_is_over_keeps_nothing(tmp_path: Path, ends: str) -> None:
    """What was worked out for it often refers to it, and would keep its rows until the collector comes by."""
    store = LmdbStore(tmp_path)
    tx = store.begin()
    tx.memo["worked out"] = tx
    (tx.abort if ends == "abort" else lambda: store.submit(tx))()
    assert not tx.memo
    store.close()


def test_abort_takes_everything_back(store: Store) -> None:
    """Nothing of an aborted transaction is seen by the next."""
    fill(store, b"kept", b"changed")
    tx = store.begin()
    tx.put(Table.LEASES, b"new", b"x")
    tx.put(Table.LEASES, b"changed", b"x")
    tx.delete(Table.LEASES, b"kept")
    tx.abort()
    tx = store.begin()
    assert tx.scan(Table.LEASES) == [(b"changed", b"changed"), (b"kept", b"kept")]
    tx.abort()


def test_scans_in_order(store: Store) -> None:
    """A scan has its start in it and its stop not, in both directions, up to a limit, amid writes."""
    fill(store, b"a", b"b", b"c", b"d")
    tx = store.begin()

    def keys(**arguments: object) -> list[bytes]:
        return [key for key, _ in tx.scan(Table.LEASES, **arguments)]  # type: ignore[arg-type]

    assert keys() == [b"a", b"b", b"c", b"d"]
    assert keys(start=b"b", stop=b"d") == [b"b", b"c"]
    assert keys(start=b"b", stop=b"d", reverse=True) == [b"c", b"b"]
    assert keys(limit=2) == [b"a", b"b"]
    assert keys(limit=0) == keys(limit=0, reverse=True) == []
    assert keys(limit=2, reverse=True) == [b"d", b"c"]
    assert keys(start=b"x") == keys(start=b"c", stop=b"b") == []
    tx.put(Table.LEASES, b"bb", b"")
    tx.delete(Table.LEASES, b"a")
    assert keys(stop=b"c") == [b"b", b"bb"]
    assert keys(stop=b"zz", reverse=True, limit=1) == [b"d"]
    tx.abort()


def test_hooks_run_before_the_commit(store: Store) -> None:
    """What a turn has gathered is written with its transaction, and not when it is aborted."""
    for submit in (False, True):
        tx = store.begin()
        tx.at_commit(lambda tx=tx: tx.put(Table.META, b"hook", b"ran"))  # type: ignore[misc]
        if submit:
            assert store.submit(tx).done
        else:
            tx.abort()
        tx = store.begin()
        assert tx.get(Table.META, b"hook") == (b"ran" if submit else None)
        tx.abort()


def test_prefix_stop_is_the_next_prefix() -> None:
    """The stop of a prefix lies behind all its keys and before any other."""
    assert prefix_stop(b"\x00\x01") == b"\x00\x02"
    assert prefix_stop(b"\x01\xff") == b"\x02"
    assert prefix_stop(b"\xff\xff") is None


def test_lmdb_survives_being_closed(tmp_path: Path) -> None:
    """What was committed is there for the next who opens the folder."""
    first = LmdbStore(tmp_path)
    fill(first, b"a")
    first.close()
    second = LmdbStore(tmp_path)
    tx = second.begin()
    assert tx.get(Table.LEASES, b"a") == b"a"
    tx.abort()
    second.close()


def test_lmdb_grows_and_applies_again(tmp_path: Path) -> None:
    """A full map writes nothing of the transaction; after growing, the same changes go in."""
    store = LmdbStore(tmp_path, map_bytes=1 << 17)

    def write_all() -> None:
        tx = store.begin()
        try:
            for number in range(2_000):
                tx.put(Table.LEASES, number.to_bytes(4, "big"), bytes(200))
            store.submit(tx)
        except StoreFullError:
            tx.abort()
            raise

    with pytest.raises(StoreFullError):
        write_all()
    while True:
        try:
            write_all()
            break
        except StoreFullError:
            store.grow()
    tx = store.begin()
    assert len(tx.scan(Table.LEASES, limit=5_000)) == 2_000
    tx.abort()
    store.close()


def test_lmdb_map_is_halved_until_it_is_granted(tmp_path: Path) -> None:
    """Where the system refuses a large map, a smaller one serves."""
    store = LmdbStore(tmp_path, map_bytes=1 << 62)
    fill(store, b"a")
    store.close()


@pytest.mark.parametrize("damage", [b"", b"not a store", bytes(8192)])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    """A file that is no store is said to be damaged, in one line that names it."""
    (tmp_path / "data.mdb").write_bytes(damage or b"x")
    with pytest.raises(StoreError) as caught:
        LmdbStore(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message and "damaged" in message and "\n" not in message


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    """A file that was cut off is said to be damaged, before a missing page can end the process."""
    store = LmdbStore(tmp_path)
    fill(store, *(number.to_bytes(4, "big") + bytes(300) for number in range(1_000)))
    store.close()
    file = tmp_path / "data.mdb"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(StoreError, match="damaged"):
        LmdbStore(tmp_path)


def test_a_file_without_its_free_end_is_sound(tmp_path: Path) -> None:
    """A file whose last, unused pages were never written opens as any other."""
    store = LmdbStore(tmp_path)
    fill(store, b"a")
    tx = store.begin()
    tx.put(Table.META, b"large", bytes(1 << 20))
    tx.delete(Table.META, b"large")
    store.submit(tx)
    store.close()
    again = LmdbStore(tmp_path)
    tx = again.begin()
    assert tx.get(Table.LEASES, b"a") == b"a"
    tx.abort()
    again.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the folder's place is said in one line."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbStore(tmp_path / "file" / "store")


def test_a_full_device_is_explained(tmp_path: Path) -> None:
    """ENOSPC from the engine becomes a sentence about the device."""
    store = LmdbStore(tmp_path)
    message = store._explain("could not be written", OSError(errno.ENOSPC, "No space left on device"))
    assert "the device is full" in message and "bytes free" in message
    store.close()


def open_schema(store: Store, make: Callable[[], bytes] | None = None) -> int | None:
    """Bring a store's schema up to date, after writing another version into it."""
    tx = store.begin()
    if make is not None:
        tx.put(Table.META, b"schema", make())
    try:
        found = schema.bring_up_to_date(tx)
    except StoreError:
        tx.abort()
        raise
    store.submit(tx)
    return found


def test_schema_of_a_new_store(store: Store) -> None:
    """A new store gets the present version, and has it the next time."""
    assert open_schema(store) is None
    assert open_schema(store) == SCHEMA_VERSION


def test_schema_of_a_newer_program_is_refused(store: Store) -> None:
    """A store that a newer ALS wrote is not touched, and the message says what to do."""
    open_schema(store)
    with pytest.raises(StoreError, match="newer version of ALS"):
        open_schema(store, lambda: bytes([SCHEMA_VERSION + 1]))
    assert open_schema(store) == SCHEMA_VERSION
