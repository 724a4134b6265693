"""A store that an older version wrote: kept in tests/data with what that version listed, brought up to date at once."""

import gzip
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import books
from als import catalog
from als.ledger import Ledger, Rules, Sender
from als.ledger.audit import Audit
from als.protocol import Refusal
from als.records import COMPUTERS_MAX, Computer, Holder, Lease, LeaseState, pack_value, split_lease_key, unpack_value
from als.server import offline, run
from als.store import layouts, schema
from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import SCHEMA_VERSION, StoreError, StoreFullError, Table, Transaction
from press import SERVER_KEY, VENDORS

DATA = Path(__file__).parent / "data"
COMPUTERS = 12  # in the store of version 1: 2 serials of 20 seats, 12 acquires, a release, renewals, a few lapses
ROOT = Sender(b"R" * 32, "127.0.0.1")
VERSIONS = (1, 2, 3, 4)
SERVER_3 = 3 << 32  # the store of version 2 was once a cluster's: some computers were met by its server 3


def unpacked(version: int, folder: Path) -> Path:
    """Lay down the store as a version wrote it."""
    with gzip.open(DATA / f"store-schema-{version}.mdb.gz") as packed, (folder / "data.mdb").open("wb") as file:
        shutil.copyfileobj(packed, file)
    return folder


def told(version: int) -> dict[str, Any]:
    """Give what a version listed of its store."""
    found: dict[str, Any] = json.loads(gzip.decompress((DATA / f"store-schema-{version}.json.gz").read_bytes()))
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    """The store of version 2, open and not yet brought up to date."""
    opened = LmdbStore(unpacked(2, tmp_path), map_bytes=1 << 28)
    yield opened
    opened.close()


def listed(tx: Transaction, now: int) -> dict[str, Any]:
    """Ask for all listings, and write them as `told` has them."""
    known = catalog.builtin()
    ledger = Ledger(known, server_id="0f" * 16, server_key=SERVER_KEY, vendors=VENDORS, settings=Rules())

    def ask(operation: str, **fields: Any) -> Any:
        answer = ledger.apply(tx, {"v": 1, "id": 1, "op": operation, **fields}, ROOT, now)
        assert not isinstance(answer, Refusal), answer
        return answer

    found = {operation: ask(operation) for operation in ("status", "licenses", "leases", "events", "admins")}
    found["usage"] = {
        product.code: ask("usage", product=product.code, since=0, until=now + 86_400) for product in known.products
    }
    rows: dict[str, Any] = json.loads(json.dumps(found, default=bytes.hex))
    return rows


def test_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    """Every lease and computer of a store of version 1 is there after the migration, and its books agree."""
    store = LmdbStore(unpacked(1, tmp_path))
    tx = store.begin()
    leases = len(tx.scan(Table.LEASES))
    assert schema.bring_up_to_date(tx) == 1
    store.submit(tx)
    tx = store.begin()
    assert schema.bring_up_to_date(tx) == SCHEMA_VERSION
    assert books.mistakes(tx, catalog.builtin()) == []
    assert Audit(tx).run() == []
    assert len(tx.scan(Table.LEASES)) == leases
    computers = [Computer.unpack(raw) for _, raw in tx.scan(Table.COMPUTERS)]
    assert len(computers) == COMPUTERS
    assert computers[0] == Computer(
        [bytes(6)], "workstation-00000000", "10.0.0.0", "0" * 32, "workstation", computers[0].left_at
    )
    tx.abort()
    store.close()


def test_version_3_goes_on_with_addresses_that_wait(tmp_path: Path) -> None:
    """Its rows are as ours, but its addresses all stand in their table: they are found, and new ones wait in a log."""
    store = LmdbStore(unpacked(3, tmp_path), map_bytes=1 << 28)
    tx = store.begin()
    before = {table: tx.scan(table) for table in Table if table is not Table.META}
    assert [len(before[table]) for table in (Table.COMPUTERS, Table.ADDRESSES, Table.LEASES)] == [12, 24, 11]
    assert before[Table.BEHIND], "it has renewals in its log that are not entered yet"
    assert schema.bring_up_to_date(tx) == 3
    store.submit(tx)
    tx = store.begin()
    assert {table: tx.scan(table) for table in before} == before
    ledger = Ledger(catalog.builtin(), server_id="0f" * 16, server_key=SERVER_KEY, vendors=VENDORS, settings=Rules())
    for number, result in ((0, "already_held"), (3, "granted"), (12, "granted")):
        macs = [bytes([2, 0, 0, 0, 1, number]), bytes([2, 0, 0, 0, 2, number])]
        computer = {"macs": macs, "host": f"pc-{number}", "address": "", "machine_id": f"{number:032x}"}
        request = {"v": 1, "id": 1, "op": "acquire", "product": "ATIW", "component": "agent", "computer": computer}
        answer = ledger.apply(tx, request, Sender(b"A" * 32, "127.0.0.1"), 1_790_000_200)
        assert isinstance(answer, dict) and answer["result"] == result
    store.submit(tx)
    tx = store.begin()
    assert [len(tx.scan(table)) for table in (Table.COMPUTERS, Table.ADDRESSES, Table.LEASES)] == [13, 28, 13]
    assert Audit(tx).run() == []
    assert books.mistakes(tx, catalog.builtin()) == []
    tx.abort()
    store.close()


def test_version_4_goes_on_with_times_beside_its_rows(tmp_path: Path) -> None:
    """Its rows are as ours, with renewals that are not entered yet; what is renewed from now on changes no row."""
    store = LmdbStore(unpacked(4, tmp_path), map_bytes=1 << 28)
    before = told(4)
    now = before.pop("now")
    tx = store.begin()
    assert tx.scan(Table.BEHIND), "it has renewals in its log that are not entered yet"
    assert schema.bring_up_to_date(tx) == 4
    store.submit(tx)
    tx = store.begin()
    after = listed(tx, now)
    assert {**after, "status": None} == {**before, "status": None}
    old = dict(tx.scan(Table.LEASES))
    ledger = Ledger(catalog.builtin(), server_id="0f" * 16, server_key=SERVER_KEY, vendors=VENDORS, settings=Rules())
    for number in (1, 2):
        macs = [bytes([2, 0, 0, 0, 1, number]), bytes([2, 0, 0, 0, 2, number])]
        computer = {"macs": macs, "host": f"pc-{number}", "address": "", "machine_id": f"{number:032x}"}
        request = {"v": 1, "id": 1, "op": "renew", "product": "ATIW", "component": "agent", "computer": computer}
        answer = ledger.apply(tx, request, Sender(b"A" * 32, "127.0.0.1"), now + 60)
        assert isinstance(answer, dict) and answer["result"] == "renewed"
    store.submit(tx)
    tx = store.begin()
    renewed = [Lease.unpack(row).renewed_at for key, row in tx.scan(Table.LEASES) if row != old[key]]
    assert renewed == [now + 60] * 2
    assert len(tx.scan(Table.BEHIND_STAMPS)) == 1
    assert Audit(tx).run() == []
    assert books.mistakes(tx, catalog.builtin()) == []
    tx.abort()
    store.close()


def test_version_2_lists_what_it_listed(store: LmdbStore, caplog: pytest.LogCaptureFixture) -> None:
    """All listings of a store are after the migration what version 2 wrote of them, and its books agree."""
    before = told(2)
    now, pending = before.pop("now"), before.pop("pending")
    assert pending, "the kept store has rows in its log that are not entered yet"
    tx = store.begin()
    old_leases = [key for key, _ in tx.scan(Table.LEASES)]
    with caplog.at_level(logging.INFO):
        assert schema.bring_up_to_date(tx) == 2
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"bringing the store up to date (schema 2 to {SCHEMA_VERSION})",
        "the store is up to date",
    ]
    store.submit(tx)
    tx = store.begin()
    after = listed(tx, now)
    assert after["events"]["rows"] == before["events"]["rows"]
    assert after["leases"]["rows"] == before["leases"]["rows"]
    assert after == before
    assert Audit(tx).run() == []
    assert books.mistakes(tx, catalog.builtin()) == []
    assert all(tx.get(Table.LEASES, key) is None for key in old_leases)
    tx.abort()


def test_no_row_of_the_log_is_lost_or_comes_back(store: LmdbStore, tmp_path: Path) -> None:
    """Renewed leases that the log alone held have their new keys, and none is left under its old one at a restart."""
    before = told(2)
    tx = store.begin()
    schema.bring_up_to_date(tx)
    store.submit(tx)
    store.close()
    again = LmdbStore(tmp_path, map_bytes=1 << 28)
    for _ in range(3):  # commits enter what the log holds, and trim it
        again.submit(again.begin())
    tx = again.begin()
    rows = tx.scan(Table.LEASES)
    assert {len(key) for key, _ in rows} == {8}
    assert len(rows) == len(before["leases"]["rows"])
    assert listed(tx, before["now"])["leases"] == before["leases"]
    tx.abort()
    again.close()


def test_numbers_of_computers_keep_their_server(store: LmdbStore) -> None:
    """A number that another server gave stays apart from those of this one, where a removal stands too."""
    tx = store.begin()
    [[_, _, old]] = unpack_value(tx.get(Table.META, b"removing") or b"")
    assert old > COMPUTERS_MAX
    schema.bring_up_to_date(tx)
    numbers = {split_lease_key(key)[1] for key, _ in tx.scan(Table.LEASES)}
    assert {number >> 32 for number in numbers} == {0, 3}
    assert numbers <= {int.from_bytes(key, "big") for key, _ in tx.scan(Table.COMPUTERS)}
    [[_, _, after]] = unpack_value(tx.get(Table.META, b"removing") or b"")
    assert after == SERVER_3 | old & 0xFFFFFFFF
    tx.abort()


@pytest.mark.parametrize("version", VERSIONS)
def test_migration_that_is_cut_off_leaves_the_old_version(version: int, tmp_path: Path) -> None:
    """A migration is one transaction: without its commit the store is as it was."""
    store = LmdbStore(unpacked(version, tmp_path), map_bytes=1 << 28)
    tx = store.begin()
    before = [tx.scan(table) for table in Table]
    schema.bring_up_to_date(tx)
    tx.abort()
    tx = store.begin()
    assert [tx.scan(table) for table in Table] == before
    assert schema.bring_up_to_date(tx) == version
    tx.abort()
    store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_rewritten_once(version: int, tmp_path: Path) -> None:
    """A row that is already as this version writes it needs no change, so a migration can go on where it ended."""
    store = LmdbStore(unpacked(version, tmp_path), map_bytes=1 << 28)
    tx = store.begin()
    schema.bring_up_to_date(tx)
    for table, change in layouts.changes_from(1).items():
        assert [key for key, raw in tx.scan(table) if change(key, raw) is not None] == []
    tx.abort()
    store.close()


def test_computers_beyond_the_new_numbers_are_refused() -> None:
    """A number that has no room in six bytes ends the migration, instead of becoming another computer's."""
    change = layouts.CHANGES[2][Table.ADDRESSES]
    assert change(bytes(6), ((5 << 48) + 2**32 - 1).to_bytes(8, "big") + b"mark") == (
        bytes(6),
        b"\0\x05\xff\xff\xff\xffmark",
    )
    with pytest.raises(StoreError, match="computer number"):
        change(bytes(6), (2**32).to_bytes(8, "big") + b"mark")


def test_a_lease_of_many_components_is_carried_over() -> None:
    """Components, their holders' first bytes, times, the end and the version come through; holders lose their rest."""
    old = bytes.fromhex("02 00000007 00000064 000000c8 00000e10 0000012c 00000190 02")
    old += b"\x05agent" + bytes(range(16)) + bytes.fromhex("000000c8")
    old += b"\x02ab" + bytes(range(16, 32)) + bytes.fromhex("00000096") + "9.1 é".encode()
    key, raw = layouts.CHANGES[2][Table.LEASES](b"\0\x04" + ((3 << 48) + 9).to_bytes(8, "big"), old) or (b"", b"")
    assert split_lease_key(key) == (4, SERVER_3 + 9)
    components = {"agent": Holder(bytes(range(8)), 200), "ab": Holder(bytes(range(16, 24)), 150)}
    assert Lease.unpack(raw) == Lease(7, 100, 200, 3600, 300, 400, LeaseState.LAPSED, components, "9.1 é")


def test_a_store_that_is_not_up_to_date_to_its_end_is_refused() -> None:
    """What a cluster has not finished is told as such, and is no newer version."""
    store = MemoryStore()
    tx = store.begin()
    tx.put(Table.META, schema.KEY, pack_value(schema.UNDER_WAY + SCHEMA_VERSION))
    for refusing in (schema.bring_up_to_date, schema.require_current):
        with pytest.raises(StoreError, match="to its end"):
            refusing(tx)
    tx.put(Table.META, schema.KEY, pack_value(schema.UNDER_WAY + SCHEMA_VERSION + 1))
    with pytest.raises(StoreError, match=f"newer version of ALS .schema {SCHEMA_VERSION + 1}"):
        schema.require_current(tx)


def test_a_store_that_is_too_small_grows(tmp_path: Path) -> None:
    """A migration that finds no room for both old and new rows gets it."""
    store = LmdbStore(unpacked(2, tmp_path), map_bytes=1)
    number = 0
    with pytest.raises(StoreFullError):
        while True:
            number += 1
            tx = store.begin()
            tx.put(Table.NEWCOMERS, number.to_bytes(4), bytes(1_500))
            store.submit(tx)
    tx.abort()
    tx = store.begin()
    with pytest.raises(StoreFullError):
        schema.bring_up_to_date(tx)
    tx.abort()
    run._bring_up_to_date(store)
    tx = store.begin()
    schema.require_current(tx)
    tx.abort()
    store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_older_store_is_not_checked(version: int, tmp_path: Path) -> None:
    """The check of an older store says what to do instead of calling it damaged."""
    with pytest.raises(StoreError, match="start als-server once"):
        offline.check_apart(unpacked(version, tmp_path), repair=False)
