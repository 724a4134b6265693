"""Random transactions of two servers over one etcd, answers lost now and then: all is as if they came one by one.

What a transaction showed of a part that was written must be what was there when it was written, in the order of the
parts; what was not written must have left nothing.
"""

from collections.abc import Iterator
from itertools import count, product
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd.client import EtcdClient
from als.store.etcd.marks import bare
from als.store.etcd.parts import OUTSIDE
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import StoreUnavailableError, Table
from etcd_stores import open_over
from unsure_client import Fault, UnsureClient

Rows = dict[tuple[Table, bytes], bytes]
Step = tuple[Any, ...]


class Part(NamedTuple):
    """Some steps, of one unit or outside of all (None)."""

    is_alone: bool | None
    steps: list[Step]


class Run(NamedTuple):
    """A transaction of one of the servers; `is_open_later`: it stays open while the next one is submitted."""

    server: int
    parts: list[Part]
    is_open_later: bool
    faults: list[Fault]


TABLES = (Table.LEASES, Table.POOL, Table.ADDRESSES)  # the last is steady: sights of it are trusted
KEYS = [b"a", b"b", b"c", b"c\0", b"d"]
tables, keys = st.sampled_from([*TABLES, TABLES[0], TABLES[2]]), st.sampled_from(KEYS)
values = st.sampled_from([b"", b"1", b"2", b"3"])
scans = st.tuples(
    st.just("scan"),
    tables,
    st.sampled_from([b"", b"", *KEYS]),
    st.sampled_from([None, None, *KEYS]),
    st.sampled_from([0, 1, 2, 3, 100]),
    st.booleans(),
)
steps = st.one_of(
    st.tuples(st.just("get"), tables, keys),
    st.tuples(st.just("put"), tables, keys, values),
    st.tuples(st.just("delete"), tables, keys),
    scans,
    scans,
)
ADDRESSES, LEASES = Table.ADDRESSES, Table.LEASES
renewals = st.builds(  # what stands on an address that it does not change
    lambda key, value: Part(True, [("get", ADDRESSES, key), ("get", LEASES, key), ("put", LEASES, key, value)]),
    st.sampled_from(KEYS[:2]),
    values,
)
moves = st.builds(
    lambda key, change: Part(False, [("get", ADDRESSES, key), (change[0], ADDRESSES, key, *change[1:])]),
    st.sampled_from(KEYS[:2]),
    st.sampled_from([("put", b"1"), ("put", b"2"), ("delete",)]),
)
parts = st.one_of(
    st.builds(Part, st.sampled_from([None, True, True, False]), st.lists(steps, min_size=1, max_size=3)),
    renewals,
    moves,
)
faults: st.SearchStrategy[list[Fault]] = st.lists(st.sampled_from([Fault.NONE, *Fault]), max_size=2) | st.just([])
runs = st.builds(Run, st.integers(0, 1), st.lists(parts, min_size=1, max_size=3), st.booleans(), faults)
PREFIXES = (b"serial/%d/" % number for number in count())


class Open(NamedTuple):
    """A transaction under way, what it showed, and the state when it began."""

    run: Run
    transaction: EtcdTransaction
    shown: list[list[Any]]


class World:
    """Two servers, and the rows that there should be."""

    def __init__(self, client: EtcdClient, cached_max: int) -> None:
        prefix = next(PREFIXES)
        self.faults: list[Fault] = []
        self.clients = [UnsureClient(client, self._next_faults()) for _ in range(2)]
        self.stores = [
            open_over(client, prefix, server, cached_max=cached_max) for server, client in enumerate(self.clients)
        ]
        self.rows: Rows = {}

    def _next_faults(self) -> Iterator[Fault]:
        while True:
            yield self.faults.pop(0) if self.faults else Fault.NONE

    def open(self, run: Run) -> Open:
        """Take all steps of a transaction."""
        self.faults = []
        transaction = self.stores[run.server].begin()
        shown = []
        for place, part in enumerate(run.parts):
            if part.is_alone is not None:
                transaction.begin_unit(place)
            shown.append([_step(transaction, step) for step in part.steps])
            if part.is_alone is not None:
                transaction.end_unit(part.is_alone)
        return Open(run, transaction, shown)

    def submit(self, opened: Open) -> None:
        """Submit, and hold the outcome against what should be."""
        store = self.stores[opened.run.server]
        self.faults = list(opened.run.faults)
        try:
            rejected = store.submit(opened.transaction).rejected
        except StoreUnavailableError:
            self.faults = []
            store.begin().abort()
            self._accept_what_is(opened)
            return
        self.faults = []
        for client in self.clients:
            client.catch_up()
        written = [
            (OUTSIDE if part.is_alone is None else place) not in rejected for place, part in enumerate(opened.run.parts)
        ]
        after = replayed(self.rows, opened, written)
        assert after is not None, (opened, rejected, self.rows)
        self.rows = after
        assert self.stored() == self.rows, (opened, rejected)

    def _accept_what_is(self, opened: Open) -> None:
        """Nobody knows which parts were written: any may be, each as a whole."""
        for client in self.clients:
            client.catch_up()
        stored = self.stored()
        for written in product((False, True), repeat=len(opened.run.parts)):
            if replayed(self.rows, opened, list(written)) == stored:
                self.rows = stored
                return
        raise AssertionError((opened, self.rows, stored))

    def stored(self) -> Rows:
        """Read all from etcd itself."""
        keys = self.stores[0].view.keys
        rows: Rows = {}
        for table in TABLES:
            for row in self.clients[0].range(*keys.bounds(table, b"", None)).rows:
                rows[table, keys.key_of(row.key)] = bare(row.value)
        return rows


def _step(transaction: EtcdTransaction, step: Step) -> Any:
    kind, *rest = step
    return getattr(transaction, kind)(*rest)


def replayed(rows: Rows, opened: Open, written: list[bool]) -> Rows | None:
    """Take the steps of those parts that were written on plain rows; None when they would have shown something else."""
    rows = dict(rows)
    for part, shown, is_written in zip(opened.run.parts, opened.shown, written, strict=True):
        if is_written:
            for step, answer in zip(part.steps, shown, strict=True):
                if _plain_step(rows, step) != answer:
                    return None
    return rows


def _plain_step(rows: Rows, step: Step) -> Any:
    kind, table, *rest = step
    if kind == "get":
        return rows.get((table, rest[0]))
    if kind == "put":
        rows[table, rest[0]] = rest[1]
    elif kind == "delete":
        rows.pop((table, rest[0]), None)
    else:
        start, stop, limit, reverse = rest
        found = sorted((key, value) for (where, key), value in rows.items() if where is table)
        found = [row for row in found if start <= row[0] and (stop is None or row[0] < stop)]
        return (found[::-1] if reverse else found)[:limit]
    return None


@pytest.fixture(scope="module")
def client(etcd_endpoint: str) -> Iterator[EtcdClient]:
    """The way to etcd that both servers take."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    program=st.lists(runs, min_size=3, max_size=12),
    cached_max=st.sampled_from([2, 8, 1_000]),
    first=st.dictionaries(st.tuples(tables, keys), values, min_size=2, max_size=6),
)
def test_as_if_one_by_one(client: EtcdClient, program: list[Run], cached_max: int, first: Rows) -> None:
    """Whatever two servers do at the same time, and whatever answers are lost, the outcome is that of some order."""
    world = World(client, cached_max)
    filled = Run(0, [Part(None, [("put", *where, value) for where, value in first.items()])], False, [])
    world.submit(world.open(filled))
    waiting: list[Open] = []
    for run in program:
        opened = world.open(run)
        if run.is_open_later:
            waiting.append(opened)
            continue
        world.submit(opened)
        for other in waiting:
            world.submit(other)
        waiting = []
    for other in waiting:
        world.submit(other)
