"""The tables: the manual's examples and every rule of the design, one line one request and its reply."""

from collections.abc import Callable
from pathlib import Path

import pytest

from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import Store
from etcd_stores import open_etcd
from ledger_table import Case, read_cases, run_case

FOLDER = Path(__file__).parent / "table"
CASES = [(path, case) for path in sorted(FOLDER.glob("*.txt")) for case in read_cases(path)]
NAMES = [f"{path.stem}: {case.title}" for path, case in CASES]
MAP_BYTES = 1 << 28


@pytest.mark.parametrize(("path", "case"), CASES, ids=NAMES)
def test_case_over_memory(path: Path, case: Case) -> None:
    """Every line of the case is true of the ledger and of the model."""
    store = MemoryStore()
    run_case(path, case, lambda: store)


@pytest.mark.parametrize(("path", "case"), CASES, ids=NAMES)
def test_case_over_lmdb(path: Path, case: Case, tmp_path: Path) -> None:
    """Every line is as true on disk, where a restart opens the store anew."""
    run_case(path, case, lmdb_opener(tmp_path))


@pytest.mark.parametrize(("path", "case"), CASES, ids=NAMES)
def test_case_over_etcd(path: Path, case: Case, etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Every line is as true where several servers may write."""
    run_case(path, case, lambda: open_etcd(etcd_endpoint, etcd_prefix))


def lmdb_opener(folder: Path) -> Callable[[], Store]:
    """Open the store in a folder, as often as wanted."""
    return lambda: LmdbStore(folder / "store", map_bytes=MAP_BYTES)


def test_every_rule_has_a_case() -> None:
    """R1 to R17 stand in the tables, but for the clock guard (R13), which has tests of its own."""
    text = "\n".join(NAMES)
    missing = [rule for rule in range(1, 18) if f"R{rule}:" not in text]
    assert missing == [13]
