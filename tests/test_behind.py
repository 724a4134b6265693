"""Rows that are replaced again and again: whatever is entered when, reads and a new start find the newest."""

import tempfile
from pathlib import Path
from random import Random

import lmdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from als.store.lmdb.behind import ascending, log, stamps, waiting
from als.store.lmdb.behind.stamps import IN_A_VALUE
from als.store.lmdb.store import LmdbStore
from als.store.transaction import STAMPED_BYTES, StoreError, Table

KEYS = [number.to_bytes(8, "big") for number in range(IN_A_VALUE - 15, IN_A_VALUE + 15)]  # stamps in two values
LEASES, OTHER = Table.LEASES, Table.COMPUTERS


class ReplacedRows(RuleBasedStateMachine):
    """A store whose log is entered and trimmed all the time, beside a dictionary."""

    table = LEASES

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(ascending, "RUN_KEYS", 5)
        for module, name, value in (
            (waiting, "GATHERED_ROWS", 12),
            (waiting, "SLICE_ROWS_LEAST", 3),
            (log, "TRIMMED_LEAST", 2),
            (stamps, "GATHERED_STAMPS", 7),
            (stamps, "STAMPS_A_VALUE", 2),
            (stamps, "PUT_LEAST", 1),
        ):
            self._patch.setattr(module, name, value)
        self._folder = tempfile.TemporaryDirectory()
        self.rows: dict[bytes, bytes] = {}

    @initialize()
    def open(self) -> None:
        """Begin with rows in the table."""
        self.store = LmdbStore(Path(self._folder.name), map_bytes=1 << 24)
        self.tx = self.store.begin()
        self.uncommitted = dict(self.rows)
        for key in KEYS[::2]:
            self.put(key, b"first")
        self.commit()

    @rule(key=st.sampled_from(KEYS), value=st.binary(min_size=1, max_size=300))
    def put(self, key: bytes, value: bytes) -> None:
        """Insert or replace."""
        self.tx.put(self.table, key, value)
        self.uncommitted[key] = value

    @rule(key=st.sampled_from(KEYS), value=st.binary(min_size=1, max_size=300))
    def insert(self, key: bytes, value: bytes) -> None:
        """Insert what is not there, at the end of the table or within."""
        if key not in self.uncommitted:
            self.tx.insert(self.table, key, value)
            self.uncommitted[key] = value

    @precondition(lambda self: self.uncommitted)
    @rule(data=st.data(), value=st.binary(min_size=1, max_size=3_000))
    def replace(self, data: st.DataObject, value: bytes) -> None:
        """Replace a row that is there."""
        key = data.draw(st.sampled_from(sorted(self.uncommitted)))
        self.tx.replace(self.table, key, value)
        self.uncommitted[key] = value

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: bytes) -> None:
        """Remove, whether there or not."""
        self.tx.delete(self.table, key)
        self.uncommitted.pop(key, None)

    @rule()
    def commit(self) -> None:
        """Commit and go on."""
        self.store.submit(self.tx)
        self.rows = dict(self.uncommitted)
        self.tx = self.store.begin()

    @rule()
    def abort(self) -> None:
        """Forget and go on."""
        self.tx.abort()
        self.uncommitted = dict(self.rows)
        self.tx = self.store.begin()

    @rule()
    def reopen(self) -> None:
        """Open what a crash would have left: everything committed is on disk."""
        self.tx.abort()
        self.store.close()
        self.store = LmdbStore(Path(self._folder.name), map_bytes=1 << 24)
        self.uncommitted = dict(self.rows)
        self.tx = self.store.begin()

    @invariant()
    def reads_agree(self) -> None:
        """Single reads and scans both ways find the newest of each row, and no other."""
        if not hasattr(self, "store"):
            return
        assert self.tx.scan(self.table) == sorted(self.uncommitted.items())
        some = [row for row in sorted(self.uncommitted.items()) if KEYS[3] <= row[0] < KEYS[20]]
        assert self.tx.scan(self.table, KEYS[3], KEYS[20], limit=4) == some[:4]
        assert self.tx.scan(self.table, KEYS[3], KEYS[20], limit=4, reverse=True) == some[:-5:-1]
        assert self.tx.scan(self.table, reverse=True) == sorted(self.uncommitted.items(), reverse=True)
        for key in KEYS:
            assert self.tx.get(self.table, key) == self.uncommitted.get(key)

    def teardown(self) -> None:
        """Close, and look at the file alone."""
        if hasattr(self, "store"):
            self.tx.abort()
            self.store.close()
            store = LmdbStore(Path(self._folder.name), readonly=True)
            tx = store.snapshot()
            assert dict(tx.scan(self.table)) == self.rows
            tx.abort()
            store.close()
        self._folder.cleanup()
        self._patch.undo()


class StampedRows(ReplacedRows):
    """The same where most changes are of four bytes."""

    @precondition(lambda self: any(len(row) >= STAMPED_BYTES.stop for row in self.uncommitted.values()))
    @rule(data=st.data(), stamps=st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=9))
    def stamp(self, data: st.DataObject, stamps: list[int]) -> None:
        """Stamp some rows that are there, some of them twice."""
        long = sorted(key for key, row in self.uncommitted.items() if len(row) >= STAMPED_BYTES.stop)
        write = self.tx.stamping()
        for stamp in stamps:
            key = data.draw(st.sampled_from(long))
            write(int.from_bytes(key, "big"), stamp)
            row = self.uncommitted[key]
            self.uncommitted[key] = row[: STAMPED_BYTES.start] + stamp.to_bytes(4, "big") + row[STAMPED_BYTES.stop :]


class NewRows(ReplacedRows):
    """The same of a table whose new rows wait as well."""

    table = Table.ADDRESSES


ReplacedRows.TestCase.settings = settings(max_examples=25, stateful_step_count=40)
test_replaced_rows = ReplacedRows.TestCase
StampedRows.TestCase.settings = settings(max_examples=50, stateful_step_count=60)
test_stamped_rows = StampedRows.TestCase
NewRows.TestCase.settings = settings(max_examples=25, stateful_step_count=40)
test_new_rows = NewRows.TestCase


@pytest.mark.parametrize("in_a_turn", [1, 100, 3_000])
def test_what_waits_is_bounded_however_many_rows_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_turn: int
) -> None:
    """Rows are entered faster than new ones come, and their log is deleted: it used to grow by half each time."""
    gathered = 10 * in_a_turn
    rows = 20 * gathered
    monkeypatch.setattr(waiting, "GATHERED_ROWS", gathered)
    monkeypatch.setattr(waiting, "SLICE_ROWS_LEAST", 3)
    monkeypatch.setattr(log, "TRIMMED_LEAST", 1)
    store = LmdbStore(tmp_path)
    counts: list[int] = []
    for turn in range(100):
        tx = store.begin()
        for number in range(in_a_turn):
            key = (turn * in_a_turn + number) * 7_919 % rows  # each but once, in no order
            tx.replace(LEASES, key.to_bytes(8, "big"), bytes(60))
        store.submit(tx)
        leases = store.behind[LEASES]
        assert leases is not None
        counts.append(len(leases.young) + len(leases.frozen))
    assert max(counts) > gathered
    assert max(counts) <= 2 * gathered + in_a_turn
    store.close()


def test_log_is_entered_and_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log does not grow with the number of renewals: what has been entered is deleted from it."""
    monkeypatch.setattr(waiting, "GATHERED_ROWS", 2_000)
    store = LmdbStore(tmp_path)
    tx = store.begin()
    for number in range(500):
        tx.put(LEASES, number.to_bytes(4, "big"), bytes(60))
    store.submit(tx)
    most = 0
    for turn in range(400):
        tx = store.begin()
        for number in range(turn % 5, 500, 5):
            tx.replace(LEASES, number.to_bytes(4, "big"), turn.to_bytes(60, "big"))
        store.submit(tx)
        tx = store.begin()
        most = max(most, len(tx.scan(Table.BEHIND, limit=100_000)))
        tx.abort()
    rows_of_a_commit = 5
    assert most < 3 * (2_000 // 100) * rows_of_a_commit
    store.close()


@pytest.mark.parametrize("missing", [[1], [0], [2, 3, 4], [0, 1, 2, 3]])
def test_gap_in_the_log_is_damage(tmp_path: Path, missing: list[int]) -> None:
    """A log with pieces missing is not read half: the store is called damaged."""
    store = LmdbStore(tmp_path)
    tx = store.begin()
    tx.put(LEASES, b"k", b"v")
    tx.put(OTHER, b"k", b"v")
    store.submit(tx)
    for _ in range(2):
        tx = store.begin()
        tx.replace(LEASES, b"k", bytes(5_000))  # three pieces
        store.submit(tx)
    store.close()
    with lmdb.open(str(tmp_path), max_dbs=32) as environment:
        table = environment.open_db(b"behind")
        with environment.begin(write=True) as txn:
            keys = list(txn.cursor(table).iternext(values=False))
            assert len(keys) == 6
            for place in missing:
                txn.delete(keys[place], db=table)
    with pytest.raises(StoreError, match="damaged"):
        LmdbStore(tmp_path)


def test_a_row_deleted_while_it_is_entered_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that deletes a row and enters its older value from the log does not bring it back, nor does a start."""
    monkeypatch.setattr(waiting, "GATHERED_ROWS", 1)
    monkeypatch.setattr(waiting, "SLICE_ROWS_LEAST", 1)
    store = LmdbStore(tmp_path)
    tx = store.begin()
    tx.put(LEASES, b"k", b"first")
    store.submit(tx)
    tx = store.begin()
    tx.replace(LEASES, b"k", b"second")
    store.submit(tx)
    tx = store.begin()
    tx.delete(LEASES, b"k")
    store.submit(tx)
    for _ in range(2):
        tx = store.begin()
        assert (tx.get(LEASES, b"k"), tx.scan(LEASES)) == (None, [])
        tx.abort()
        store.close()
        store = LmdbStore(tmp_path)
    store.close()


def test_a_row_deleted_before_its_slice_is_entered_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are entered over several commits; one that was deleted in an earlier of them does not come back."""
    monkeypatch.setattr(waiting, "GATHERED_ROWS", 2)
    monkeypatch.setattr(waiting, "SLICE_ROWS_LEAST", 1)
    store = LmdbStore(tmp_path)
    tx = store.begin()
    for key in (b"k", b"l"):
        tx.put(LEASES, key, b"first")
    store.submit(tx)
    tx = store.begin()
    for key in (b"k", b"l"):
        tx.replace(LEASES, key, b"second")
    store.submit(tx)
    tx = store.begin()
    tx.delete(LEASES, b"l")
    store.submit(tx)
    for _ in range(3):
        store.submit(store.begin())
        tx = store.begin()
        assert (tx.get(LEASES, b"l"), tx.scan(LEASES)) == (None, [(b"k", b"second")])
        tx.abort()
    store.close()


def test_stamps_of_a_log_that_was_cut_off_are_damage(tmp_path: Path) -> None:
    """Half a stamp is not read as a whole one: the store is called damaged."""
    store = LmdbStore(tmp_path)
    tx = store.begin()
    tx.put(LEASES, KEYS[0], bytes(60))
    store.submit(tx)
    store.close()
    with lmdb.open(str(tmp_path), max_dbs=32) as environment:
        table = environment.open_db(b"behind_stamps")
        with environment.begin(write=True) as txn:
            cursor = txn.cursor(table)
            assert cursor.last()
            cursor.put(cursor.key(), cursor.value()[:-1])
    with pytest.raises(StoreError, match="damaged"):
        LmdbStore(tmp_path)


def test_stamps_take_four_bytes_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbors share a value, a value ends with its last stamp, and one without stamps goes."""
    monkeypatch.setattr(stamps, "GATHERED_STAMPS", 1)
    monkeypatch.setattr(stamps, "STAMPS_A_VALUE", 1)
    store = LmdbStore(tmp_path)
    tx = store.begin()
    for key in KEYS:
        tx.insert(LEASES, key, bytes(60))
        tx.stamping()(int.from_bytes(key, "big"), 1_790_000_000)
    store.submit(tx)
    for _ in range(5):
        store.submit(store.begin())
    tx = store.begin()
    lengths = [len(value) for _, value in tx.scan(Table.STAMPS)]
    for key in KEYS:
        tx.delete(LEASES, key)
    store.submit(tx)
    for _ in range(5):
        store.submit(store.begin())
    tx = store.begin()
    assert lengths == [4 * IN_A_VALUE, 4 * 15]
    assert tx.scan(Table.STAMPS) == []
    tx.abort()
    store.close()


@pytest.mark.parametrize(("values_max", "in_a_turn"), [(1_000, 5), (20, 5), (20, 100)])
def test_what_stamps_take_in_memory_and_log_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values_max: int, in_a_turn: int
) -> None:
    """However many values there are, and whether they are put because of their stamps or because they are too many."""
    a_value, values = 4, 200
    for name, value in (("STAMPS_A_VALUE", a_value), ("GATHERED_STAMPS", 1), ("VALUES_MAX", values_max)):
        monkeypatch.setattr(stamps, name, value)
    monkeypatch.setattr(log, "TRIMMED_LEAST", 1)
    store = LmdbStore(tmp_path)
    chance = Random(1)
    held, logged = [], []
    for turn in range(2_000):
        tx = store.begin()
        for _ in range(in_a_turn):
            tx.stamping()(chance.randrange(values * IN_A_VALUE), turn + 1)
        store.submit(tx)
        held.append(len(store.stamps.values))
        tx = store.begin()
        logged.append(len(tx.scan(Table.BEHIND_STAMPS, limit=100_000)))
        tx.abort()
    due = min(values * a_value, values_max) // in_a_turn + 1
    putting = min(values, 2 * values_max) // stamps.PUT_LEAST + 1
    assert max(held) <= min(values, 2 * (values_max + in_a_turn))
    assert max(logged) <= 2 * (due + putting + 1)  # what comes while as much is put and trimmed
    store.close()


def test_a_stamp_whose_commit_failed_does_not_count(tmp_path: Path) -> None:
    """Memory takes over what is durable, and nothing sooner."""
    key = 3 * IN_A_VALUE + 8
    with lmdb.open(str(tmp_path), max_dbs=2) as environment:
        own, table = environment.open_db(b"log"), environment.open_db(b"table")
        held = stamps.Stamps(own, table)
        with environment.begin(write=True) as txn:
            held.write(txn, {key: 5})
            txn.abort()
        assert held.values[3][8] == stamps.NONE
        with environment.begin(write=True) as txn:
            held.write(txn, {key: 7})
        held.committed()
        assert held.values[3][8] == 7
        anew = stamps.Stamps(own, table)
        with environment.begin() as txn:
            anew.load(txn)
        assert anew.values == held.values


def test_values_that_are_in_the_table_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds what was stamped lately, not whatever was stamped once."""
    monkeypatch.setattr(stamps, "GATHERED_STAMPS", 100)
    monkeypatch.setattr(stamps, "STAMPS_A_VALUE", 1)
    store = LmdbStore(tmp_path)
    for turn in range(100):
        tx = store.begin()
        tx.stamping()((turn if turn < 60 else 0) * IN_A_VALUE, 1)
        store.submit(tx)
    assert len(store.stamps.values) == 60
    for _ in range(60 // stamps.PUT_LEAST + 1):
        tx = store.begin()
        tx.stamping()(7 * IN_A_VALUE, 2)
        store.submit(tx)
    assert list(store.stamps.values) == [7]
    store.close()


@pytest.mark.parametrize("has_waited", [True, False])
def test_a_row_that_is_written_whole_has_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_waited: bool
) -> None:
    """Its own bytes count from then on, whether the stamp is in the log or in its table by then."""
    monkeypatch.setattr(stamps, "GATHERED_STAMPS", 1 if has_waited else 1_000)
    monkeypatch.setattr(stamps, "STAMPS_A_VALUE", 1)
    store = LmdbStore(tmp_path)
    tx = store.begin()
    keys = KEYS[14:17]  # the first has its stamp in another value than the others
    for key in keys:
        tx.insert(LEASES, key, bytes(60))
        tx.stamping()(int.from_bytes(key, "big"), 7)
    for _ in range(5):
        store.submit(tx)
        tx = store.begin()
    assert [row[STAMPED_BYTES] for _, row in tx.scan(LEASES)] == [b"\0\0\0\7"] * 3
    tx.put(LEASES, keys[0], b"p" * 60)
    tx.replace(LEASES, keys[1], b"r" * 60)
    tx.delete(LEASES, keys[2])
    tx.insert(LEASES, keys[2], b"i" * 60)
    for _ in range(5):
        assert [row for _, row in tx.scan(LEASES)] == [b"p" * 60, b"r" * 60, b"i" * 60]
        store.submit(tx)
        tx = store.begin()
    tx.abort()
    store.close()
