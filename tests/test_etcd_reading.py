"""Reads of much: the last rows of large ranges, many rows by name, and consistent looks."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd import reading
from als.store.etcd.client import EtcdClient
from als.store.etcd.ops import nested, put
from als.store.etcd.view import ForgottenError
from als.store.transaction import Table
from etcd_stores import CountingClient, open_etcd, open_over


@pytest.fixture
def client(etcd_endpoint: str) -> Iterator[CountingClient]:
    """A client whose calls are counted."""
    client = CountingClient(EtcdClient([etcd_endpoint]))
    yield client
    client.close()


def fill(client: CountingClient, names: list[bytes]) -> None:
    """Put rows, each with its name as value."""
    ops = [put(name, name) for name in names]
    for at in range(0, len(ops), 3_000):
        part = ops[at : at + 3_000]
        client.txn([], [nested([], part[start : start + 60], []) for start in range(0, len(part), 60)])


LAYOUTS = {
    "counted from one": [number.to_bytes(8, "big") for number in range(1, 3_000)],
    "times": [(1_800_000_000_000_000 + number * 7_919 << 10).to_bytes(8, "big") for number in range(3_000)],
    "random": sorted({random.Random(5).randbytes(8) for _ in range(3_000)}),
    "alike": [b"the same beginning for all" + number.to_bytes(2, "big") for number in range(3_000)],
    "few": [b"a", b"b"],
    "none": [],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_last_rows_are_found_in_few_calls(client: CountingClient, etcd_prefix: bytes, layout: str) -> None:
    """However names are spread, the last ones of a large range are found without reading it."""
    names = [etcd_prefix + name for name in LAYOUTS[layout]]
    fill(client, names)
    end = etcd_prefix[:-1] + b"0"
    for limit in (1, 2, 100, 1_000, 5_000):
        before = client.calls
        page = reading.last_rows(client, etcd_prefix, end, limit)
        assert [row.key for row in page.rows] == names[-limit:]
        assert page.is_all == (len(names) <= limit)
        assert client.calls - before <= 90


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 1_000))
def test_the_last_rows_are_those_of_the_range(
    client: CountingClient, etcd_endpoint: str, data: st.DataObject, seed: int
) -> None:
    """For any bounds within a table of rows, short and long names mixed, the rows are those that sorting gives."""
    prefix = b"last/%d/" % seed
    rng = random.Random(seed)
    names = sorted({prefix + rng.randbytes(rng.randint(1, 3)) for _ in range(600)})
    fill(client, names)
    ends = st.binary(min_size=1, max_size=3)
    lo, hi = sorted((prefix + data.draw(ends), prefix + data.draw(ends)))
    limit = data.draw(st.sampled_from([1, 3, 150]))
    if lo < hi:
        page = reading.last_rows(client, lo, hi, limit)
        inside = [name for name in names if lo <= name < hi]
        assert [row.key for row in page.rows] == inside[-limit:]
        assert page.is_all == (len(inside) <= limit)


def test_thousands_of_rows_by_name_take_few_calls(client: CountingClient, etcd_prefix: bytes) -> None:
    """Rows that are there and rows that are not, all in calls of 3,600."""
    names = [etcd_prefix + number.to_bytes(8, "big") for number in range(4_000)]
    fill(client, names[::2])
    before = client.calls
    found = reading.values(client, names)
    assert client.calls - before == 2
    assert [row and row.value for row in found.values()] == [
        name if number % 2 == 0 else None for number, name in enumerate(names)
    ]


def test_a_snapshot_stays_as_it_was(etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Scans and reads of a snapshot show one revision, whatever is written after; its own writes go nowhere."""
    store = open_etcd(etcd_endpoint, etcd_prefix)
    tx = store.begin()
    for number in range(600):
        tx.put(Table.COMPUTERS, number.to_bytes(8, "big"), b"0")
    assert not store.submit(tx).rejected
    snapshot = store.snapshot()
    tx = store.begin()
    for number in range(0, 1_200, 2):
        tx.put(Table.COMPUTERS, number.to_bytes(8, "big"), b"1")
    assert not store.submit(tx).rejected
    assert {value for _, value in snapshot.scan(Table.COMPUTERS, limit=2_000)} == {b"0"}
    last = (599).to_bytes(8, "big")
    assert snapshot.scan(Table.COMPUTERS, limit=1, reverse=True) == [(last, b"0")]
    assert all(snapshot.get(Table.COMPUTERS, number.to_bytes(8, "big")) == b"0" for number in range(600))
    assert all(snapshot.get(Table.COMPUTERS, number.to_bytes(8, "big")) is None for number in range(600, 1_200))
    snapshot.put(Table.COMPUTERS, last, b"2")
    assert snapshot.get(Table.COMPUTERS, last) == b"2"
    assert store.snapshot().get(Table.COMPUTERS, last) == b"0"
    store.close()


def test_a_snapshot_reads_ahead(client: CountingClient, etcd_prefix: bytes) -> None:
    """Reads in ascending order, as a listing makes them, take few calls, rows that are not there included."""
    store = open_over(client, etcd_prefix, 1)
    tx = store.begin()
    for number in range(0, 2_000, 2):
        tx.put(Table.COMPUTERS, number.to_bytes(8, "big"), b"0")
    assert not store.submit(tx).rejected
    snapshot = store.snapshot()
    before = client.calls
    found = [snapshot.get(Table.COMPUTERS, number.to_bytes(8, "big")) for number in range(2_100)]
    assert found == [b"0" if number % 2 == 0 and number < 2_000 else None for number in range(2_100)]
    assert client.calls - before < 12


def test_a_snapshot_that_is_too_old_is_told(etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Once its revision is compacted a snapshot fails in a line."""
    client = EtcdClient([etcd_endpoint])
    store = open_over(client, etcd_prefix, 1)
    snapshot = store.snapshot()
    for _ in range(2):
        tx = store.begin()
        tx.put(Table.META, b"x", b"%d" % snapshot.revision)
        store.submit(tx)
    client.compact(store.snapshot().revision)
    with pytest.raises(ForgottenError, match="compacted"):
        snapshot.get(Table.META, b"x")
    store.close()
