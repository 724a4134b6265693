"""The examiner of a cluster's history finds what it is there to find."""

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.records import (
    HOLDER_BYTES,
    Holder,
    Lease,
    PoolCounts,
    Seats,
    SerialRecord,
    SerialState,
    counts_key,
    lease_key,
    serial_key,
)
from als.store.etcd.fence import row_key
from als.store.etcd.keys import Keys
from als.store.etcd.marks import mark_of
from als.store.etcd.moves import ROWS_HEAD
from als.store.transaction import Table
from cluster_history import COMPONENT, Deed, Replay, lost
from etcd_watch import Revision

PREFIX = b"t/"
PRODUCT, SERIAL, COMPUTER = 7, 1, 1
MAC = bytes.fromhex("020000000001")
KEY = bytes(range(32))

Row = tuple[Table, bytes, bytes | None]


def replayed(*revisions: Sequence[Row]) -> Replay:
    """Go through a history."""
    keys, replay = Keys(PREFIX), Replay(PREFIX)
    replay.run(
        Revision(number, [(keys.name(table, key), value) for table, key, value in rows])
        for number, rows in enumerate(revisions, 1)
    )
    return replay


def imported(total: int) -> list[Row]:
    """Give what an import writes of a serial."""
    record = SerialRecord(bytes(100), PRODUCT, total, 1, bytes(32), 1_000, 0, False)
    return [(Table.SERIALS, serial_key(SERIAL), record.pack()), *seats(total, 0)]


def seats(total: int, used: int, counted: int | None = None) -> list[Row]:
    """Give the rows that count."""
    counts = PoolCounts(total, used if counted is None else counted)
    packed = Seats(total, used, SerialState.VALID).pack()
    return [(Table.SEATS, serial_key(SERIAL), packed), (Table.COUNTS, counts_key(PRODUCT, 0), counts.pack())]


def lease(computer: int, renewed_at: int | None) -> list[Row]:
    """Give a computer's lease; None: it is released."""
    key = lease_key(PRODUCT, computer)
    if renewed_at is None:
        return [(Table.LEASES, key, None)]
    held = Lease(SERIAL, 1_000, renewed_at, 60, renewed_at + 60, 0)
    held.components[COMPONENT] = Holder(KEY[:HOLDER_BYTES], renewed_at)
    return [(Table.LEASES, key, held.pack())]


def deed(operation: str, time: int | None, **reply: Any) -> Deed:
    """Give a deed that was acknowledged at a time, or that has no answer."""
    told = None if time is None else {"ok": True, "time": time, "result": "", **reply}
    return Deed(PRODUCT, MAC, KEY, operation, 0, 0.0, 0.0, told)


def test_a_right_history_has_no_faults() -> None:
    """A seat that is taken and given back, with all its rows in one revision, is no fault."""
    taken, freed = [*lease(1, 1_000), *seats(1, 1)], [*lease(1, None), *seats(1, 0)]
    assert replayed(imported(1), taken, lease(1, 1_010), freed).faults == []


def test_a_seat_given_twice_for_one_revision_is_found() -> None:
    """Two leases on one seat are found though a later revision mends them."""
    both = [*lease(1, 1_000), *lease(2, 1_000), *seats(1, 1)]
    [fault] = replayed(imported(1), both, lease(2, None)).faults
    assert "revision 2" in fault and "2 leases on the 1 seats" in fault


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*lease(1, 1_000), *seats(2, 2)], "2 seats used and 1 active leases"),
        ([*lease(1, 1_000), *seats(2, 1, counted=0)], "the sums of product 7 say 0 used, its serials 1"),
        ([*lease(1, 1_000)], "0 seats used and 1 active leases"),
    ],
)
def test_numbers_that_disagree_are_found(rows: list[Row], said: str) -> None:
    """Seats used, active leases and sums must agree at each revision."""
    assert any(said in fault for fault in replayed(imported(2), rows).faults)


@pytest.mark.parametrize(("writer", "told", "is_fault"), [(1, [], False), (2, [], True), (2, [b"other"], True)])
def test_a_change_that_its_owner_is_not_told_of_is_found(writer: int, told: list[bytes], is_fault: bool) -> None:
    """A lease that another server wrote last is changed by name, or behind its back."""
    key = lease_key(PRODUCT, 1)

    def renewed(server: int, time: int, *tells: bytes) -> list[Row]:
        [(table, _, raw)] = lease(1, time)
        assert raw is not None
        row: Row = (Table.META, ROWS_HEAD + b"%d" % server, msgpack.packb([len(tells), tells]))
        return [(table, key, mark_of(server) + raw), (Table.META, row_key(server), b""), *([row] if tells else [])]

    name = bytes((Table.LEASES,)) + key
    first = [*renewed(1, 1_000), *seats(2, 1)]
    faults = replayed(imported(2), first, renewed(writer, 1_010, *told)).faults
    assert any("behind the back" in fault for fault in faults) == is_fault == bool(faults)
    assert not replayed(imported(2), first, renewed(writer, 1_010, *told, name)).faults


def test_acknowledged_changes_are_looked_for_in_their_order() -> None:
    """What was acknowledged and is not in the history, or only before its time, is lost."""
    owner: Row = (Table.ADDRESSES, MAC, COMPUTER.to_bytes(6) + bytes(4))
    replay = replayed([owner, *imported(1)], [*lease(1, 1_000), *seats(1, 1)], lease(1, 1_010))
    acquired, renewed = deed("acquire", 1_000), deed("renew", 1_010)
    assert lost(replay, [acquired, renewed], lapses=False) == []
    for missing in (deed("renew", 1_005), deed("acquire", 1_000)):
        assert any("acknowledged and lost" in fault for fault in lost(replay, [acquired, renewed, missing], False))


def test_the_end_must_be_as_it_was_acknowledged_last() -> None:
    """A last state that nobody was told of is a loss, unless a request without an answer may have brought it."""
    owner: Row = (Table.ADDRESSES, MAC, COMPUTER.to_bytes(6) + bytes(4))
    taken, freed = [owner, *lease(1, 1_000), *seats(1, 1)], [*lease(1, None), *seats(1, 0)]
    replay = replayed(imported(1), taken, freed)
    acquired = deed("acquire", 1_000)
    [fault] = lost(replay, [acquired], lapses=False)
    assert "the last thing acknowledged is not there" in fault
    assert lost(replay, [acquired, deed("release", None)], lapses=False) == []
    assert lost(replay, [acquired, deed("release", 1_000, result="freed")], lapses=False) == []
