"""Transactions that LMDB commits in a thread of their own, while their caller does something else."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from als.store.lmdb import LmdbStore
from als.store.transaction import StoreError, StoreFullError, Table


def written(store: LmdbStore, key: bytes) -> bytes | None:
    """Give what a later look finds."""
    tx = store.snapshot()
    value = tx.get(Table.META, key)
    tx.abort()
    return value


@pytest.mark.parametrize("apart", [False, True])
def test_both_kinds_of_transactions_take_turns(tmp_path: Path, apart: bool) -> None:
    """What one thread began it also ends, so the next transaction of either kind finds the lock free."""
    store = LmdbStore(tmp_path)
    for number in range(3):
        tx = store.begin(apart=apart ^ bool(number % 2))
        tx.put(Table.META, b"number", bytes([number]))
        tx.replace(Table.LEASES, b"lease", bytes([number]))
        store.submit(tx)
    tx = store.begin(apart)
    tx.put(Table.META, b"number", b"never")
    tx.abort()
    assert written(store, b"number") == bytes([2])
    store.close()
    again = LmdbStore(tmp_path)
    tx = again.begin()
    assert tx.get(Table.LEASES, b"lease") == bytes([2])
    tx.abort()
    again.close()


def test_the_caller_goes_on_while_the_disk_works(tmp_path: Path) -> None:
    """`meanwhile` runs once, in the caller's thread; when `submit` is back the change is durable, however it ended."""
    store = LmdbStore(tmp_path)
    threads: list[threading.Thread] = []

    def go_on(is_over: Callable[[], bool]) -> None:
        threads.append(threading.current_thread())
        assert is_over() in (False, True)

    tx = store.begin(apart=True)
    tx.put(Table.META, b"key", b"value")
    assert store.submit(tx, go_on).done
    assert threads == [threading.current_thread()]
    assert written(store, b"key") == b"value"

    def stumble(is_over: Callable[[], bool]) -> None:
        raise ValueError("not the store's matter")

    tx = store.begin(apart=True)
    tx.put(Table.META, b"key", b"newer")
    with pytest.raises(ValueError, match="matter"):
        store.submit(tx, stumble)
    assert written(store, b"key") == b"newer"
    store.close()


def test_a_transaction_that_is_not_apart_has_no_meanwhile(tmp_path: Path) -> None:
    """A short commit is over before another thread would have heard of it."""
    store = LmdbStore(tmp_path)
    tx = store.begin()
    tx.put(Table.META, b"key", b"value")
    called: list[Callable[[], bool]] = []
    store.submit(tx, called.append)
    assert not called
    store.close()


def test_a_full_map_is_found_out_apart_too(tmp_path: Path) -> None:
    """Nothing of the transaction is written; after growing, the same changes go in."""
    store = LmdbStore(tmp_path, map_bytes=1 << 17)
    for _ in range(8):
        tx = store.begin(apart=True)
        try:
            for number in range(2_000):
                tx.put(Table.LEASES, number.to_bytes(4, "big"), bytes(200))
            store.submit(tx, lambda is_over: None)
            break
        except StoreFullError:
            tx.abort()
            store.grow()
    tx = store.begin()
    assert len(tx.scan(Table.LEASES, limit=5_000)) == 2_000
    tx.abort()
    store.close()


def test_a_failed_commit_apart_is_an_error_of_the_store(tmp_path: Path) -> None:
    """What the engine says in its thread reaches the caller as one line."""
    store = LmdbStore(tmp_path)
    tx = store.begin(apart=True)
    tx.put(Table.META, b"key", b"value")
    tx.abort()
    with pytest.raises(StoreError, match="could not be written"):
        store.submit(tx)
    store.close()
