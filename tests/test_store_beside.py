"""Looking into a store while another process writes: logs and tables are of one moment."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from als.catalog import builtin
from als.clock import Reading
from als.ledger import Ledger, Rules
from als.server.core import TIDY_EVERY_S, Core
from als.store.lmdb.behind import waiting
from als.store.lmdb.store import LmdbStore
from als.store.transaction import Table

WAIT_S_MAX = 60.0
WALL_S = 1_800_000_000
COMMITS, ROWS = 40, 50
LOOK = """
import sys
from als.store.lmdb.store import LmdbStore
from als.store.transaction import Table
store = LmdbStore(sys.argv[1], readonly=True)
print("open", flush=True)
sys.stdin.readline()
tx = store.snapshot()
print({int(table): tx.scan(table, limit=100_000) for table in (Table.LEASES, Table.ADDRESSES)})
"""


def write(store: LmdbStore, number: int) -> None:
    """Commit new addresses, and renewals of leases: both wait in a log."""
    tx = store.begin()
    for row in range(ROWS):
        tx.insert(Table.ADDRESSES, b"%04d/%03d" % (row, number), b"%d" % number)
        tx.replace(Table.LEASES, b"%04d" % row, b"renewed %04d" % number)
    store.submit(tx)


def test_what_is_written_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has opened the store before sees rows that have gone from the logs into the tables since."""
    monkeypatch.setattr(waiting, "GATHERED_ROWS", 4 * ROWS)
    store = LmdbStore(tmp_path / "store")
    tx = store.begin()
    for row in range(ROWS):
        tx.insert(Table.LEASES, b"%04d" % row, b"acquired")
    store.submit(tx)
    write(store, 0)
    command = [sys.executable, "-c", LOOK, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for number in range(1, COMMITS):
            write(store, number)
        told, _ = process.communicate("look\n", timeout=WAIT_S_MAX)
    seen = ast.literal_eval(told)
    tx = store.begin()
    assert len(seen) == 2
    for table, rows in seen.items():
        assert rows == tx.scan(Table(table), limit=100_000)
    tx.abort()
    store.close()


HOLD = """
import sys
from als.store.lmdb.store import LmdbStore
store = LmdbStore(sys.argv[1], readonly=True)
tx = store.snapshot()
print("open", flush=True)
sys.stdin.readline()
"""


def test_who_reads_and_is_killed_is_forgotten_within_a_minute(tmp_path: Path) -> None:
    """A backup that was killed must not keep the store from using its pages again, until the disk is full."""
    store = LmdbStore(tmp_path / "store")
    ledger = Ledger(builtin(), server_id="s", server_key=bytes(32), vendors={}, settings=Rules())
    core = Core(store, ledger, Reading(WALL_S, 0.0), lambda: None)

    def growth_after(commits: int) -> int:
        before = store.used_bytes()
        for number in range(commits):
            tx = store.begin()
            tx.put(Table.META, b"changes", b"%d" % number)
            store.submit(tx)
        return store.used_bytes() - before

    growth_after(COMMITS)
    command = [sys.executable, "-c", HOLD, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.kill()
    assert growth_after(COMMITS) > 0, "what the reader saw is kept"
    core.turn([], Reading(WALL_S + TIDY_EVERY_S, TIDY_EVERY_S))
    assert growth_after(10 * COMMITS) == 0
    store.close()
