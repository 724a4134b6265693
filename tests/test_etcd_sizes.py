"""Messages that are larger than an etcd takes: what can be divided is, what cannot is refused, and the server lives."""

from collections.abc import Iterator

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.server.cluster.writing import Writing
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import Table
from cluster_world import ADMIN, PERIOD_S, World, wish
from etcd_stores import open_etcd

BYTES_MAX = 40_000  # of a message, by this etcd's flag
ROW_BYTES = 12_000


@pytest.fixture(scope="module")
def small_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an etcd that takes small messages alone."""
    folder = tmp_path_factory.mktemp("small")
    with etcd_nodes.Cluster(folder, 1, f"--max-request-bytes={BYTES_MAX}") as cluster:
        yield cluster.endpoints[0]


def put(tx: EtcdTransaction, place: int, rows: int, *, alone: bool) -> None:
    """Write large rows in a unit."""
    tx.begin_unit(place)
    for number in range(rows):
        key = b"%d/%d" % (place, number)
        tx.get(Table.COMPUTERS, key)
        tx.put(Table.COMPUTERS, key, bytes(ROW_BYTES))
    tx.end_unit(alone)


def test_units_that_stand_alone_are_divided(small_endpoint: str, etcd_prefix: bytes) -> None:
    """Units that etcd does not take together are sent in several messages; one that is too large by itself is told."""
    store = open_etcd(small_endpoint, etcd_prefix)
    tx = store.begin()
    for place in range(9):
        put(tx, place, 4 if place == 5 else 1, alone=True)
    fate = store.submit(tx)
    assert fate.rejected == fate.too_large == {5}
    assert len(store.snapshot().scan(Table.COMPUTERS)) == 8
    store.close()


def test_a_joint_part_is_not_divided(small_endpoint: str, etcd_prefix: bytes) -> None:
    """Units that stand and fall together are all told of as too large; those that stand alone are written."""
    store = open_etcd(small_endpoint, etcd_prefix)
    tx = store.begin()
    for place in range(5):
        put(tx, place, 1, alone=place == 4)
    fate = store.submit(tx)
    assert fate.rejected == fate.too_large == {0, 1, 2, 3}
    assert [key for key, _ in store.snapshot().scan(Table.COMPUTERS)] == [b"4/0"]
    store.close()


def test_the_servers_own_work_may_be_too_large(small_endpoint: str, etcd_prefix: bytes) -> None:
    """What a server cannot write for its size is not done, and it goes on."""
    writing = Writing(open_etcd(small_endpoint, etcd_prefix), lambda: 0.5)
    assert not writing.run(lambda tx: put(tx, 0, 4, alone=False))
    assert writing.run(lambda tx: put(tx, 0, 1, alone=False))
    writing.store.close()


def test_a_request_that_is_too_large_ends_no_server(small_endpoint: str, etcd_prefix: bytes) -> None:
    """Requests are applied one by one when they are too large together; who is so by himself is refused."""
    world = World(small_endpoint, etcd_prefix)
    server = world.server()
    server.import_seats(200)
    for first in range(0, 180, 30):
        server.fill(range(first, first + 30))
    world.pass_time(PERIOD_S / 2, server)
    server.fill(range(180, 190))
    world.pass_time(PERIOD_S / 2 + 1, server)
    renewal = server.letter("renew", **wish(180))
    acquires = [server.letter("acquire", number=number, **wish(number)) for number in (200, 201)]
    hello = server.letter("hello", number=5)
    replies = server.turn(renewal, acquires[0], hello, acquires[1])
    assert [reply.get("result", reply.get("code")) for reply in replies] == [
        "renewed",
        "unavailable",
        None,
        "unavailable",
    ]
    assert replies[1]["detail"] == {"retry_after_s": 60}
    world.pass_time(30, server)  # the sweep does it by less
    assert server.ask("acquire", **wish(200))["result"] == "granted"
    assert len(server.ask("events", ADMIN, kind="lapsed")["rows"]) == 180
    world.close()
