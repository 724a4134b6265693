"""The benchmark of failovers finds members and servers again that were just started."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als import clock
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.ops import put
from als_bench.connections import Connections
from als_bench.etcd_members import Members
from als_bench.failover import Callers, is_leading, wait_until_caught_up
from als_bench.server_under_test import ServerUnderTest
from als_bench.stage import SEATS_PER_SERIAL, STEADY

RUN_S = 0.5
MOVED_S = 10.0  # callers that had no answer at all ask again within this
LATE_S = 1.0  # far more than some tries at a port without a listener take


def test_a_member_that_is_not_up_yet_is_waited_for(tmp_path: Path) -> None:
    """A member without a listener is asked again until it is there."""
    with Members(tmp_path, 1) as members, ThreadPoolExecutor() as threads:
        [member] = members.all
        client = EtcdClient(members.endpoints)
        try:
            assert is_leading(client, member), "it has written what it needs to start again"
            member.stop(kill=True)
            asked = threads.submit(is_leading, client, member)
            with pytest.raises(TimeoutError):
                asked.result(LATE_S)
            member.start()
            assert asked.result()
        finally:
            client.close()


def write(client: EtcdClient, key: bytes) -> None:
    """Write a row, again where the way broke: the client repeats no write by itself, and this one may come twice."""
    end_s = clock.monotonic_s() + MOVED_S
    while True:
        try:
            client.txn((), [put(key, bytes(10_000))])
            return
        except EtcdUnavailableError:
            if clock.monotonic_s() > end_s:
                raise


def test_a_member_that_has_much_to_learn_is_waited_for(tmp_path: Path) -> None:
    """A member that was away has caught up once it is waited for: another may die, and rows are still written."""
    with Members(tmp_path, 3) as members:
        client = EtcdClient(members.endpoints)
        try:
            for member in members.all:
                is_leading(client, member)
            away, *others = members.all
            away.stop(kill=True)
            for number in range(50):
                write(client, b"k%d" % number)
            away.start()
            wait_until_caught_up(away)
            others[0].stop(kill=True)
            alone = EtcdClient([away.endpoint])
            rows = alone.range(b"k", b"l", serializable=True).rows
            alone.close()
            assert len(rows) == 50
        finally:
            client.close()


def test_a_server_that_runs_again_is_found_again(tmp_path: Path) -> None:
    """A server that was killed and started again has another port, and its callers are answered there."""
    server, connections = ServerUnderTest(tmp_path), Connections(2)
    try:
        stock, now = server.open_stock(), clock.wall_s()
        stock.import_serials(server.vendor.issue(SEATS_PER_SERIAL), now)
        stock.acquire(STEADY, range(2), connections.public_keys, now)
        stock.store.close()
        server.start()
        callers = Callers([server], connections)
        callers.run(RUN_S)
        server.stop(kill=True)
        callers.run(RUN_S)
        server.start()
        callers.look_around()
        callers.forget()
        begin_s = clock.monotonic_s()
        callers.run(MOVED_S)
        assert callers.felt(begin_s, clock.monotonic_s())["answers"] > 0
    finally:
        connections.close()
        server.close()
