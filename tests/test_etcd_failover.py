"""The store while the cluster loses its leader: nothing that was acknowledged is lost, nothing is counted twice."""

import threading
from pathlib import Path

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd.client import EtcdClient
from als.store.etcd.store import EtcdStore
from als.store.transaction import StoreUnavailableError, Table
from etcd_stores import open_over

BEFORE, AFTER = 20, 40


class Counting(threading.Thread):
    """A server that adds one to a shared number and to one of its own, again and again, until `enough` says so."""

    def __init__(self, store: EtcdStore, server: int, stop: threading.Event) -> None:
        super().__init__()
        self.store = store
        self.own = b"own/%d" % server
        self.stop_event = stop
        self.acknowledged = [0, 0]
        self.unknown = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Count; keep in mind what was acknowledged, and what nobody knows."""
        try:
            while not self.stop_event.is_set():
                self._count()
        except BaseException as error:
            self.error = error

    def _count(self) -> None:
        try:
            tx = self.store.begin()
            for place, key in enumerate((b"shared", self.own)):
                tx.begin_unit(place)
                seen = int(tx.get(Table.LEASES, key) or b"0")
                tx.put(Table.LEASES, key, b"%d" % (seen + 1))
                tx.end_unit(alone=place == 1)
        except StoreUnavailableError:
            return
        try:
            rejected = self.store.submit(tx).rejected
        except StoreUnavailableError:
            self.unknown += 1
            return
        for place in (0, 1):
            self.acknowledged[place] += place not in rejected


@pytest.mark.parametrize("hangs", [False, True])
def test_a_lost_leader_loses_no_count(tmp_path: Path, hangs: bool) -> None:
    """Two servers count on while the leader is killed, or hangs for a while: every count is there once."""
    with etcd_nodes.Cluster(tmp_path, 3) as cluster:
        watcher = EtcdClient(cluster.endpoints)
        stop = threading.Event()
        counters = [
            Counting(open_over(EtcdClient(cluster.endpoints), b"als/1/", server), server, stop) for server in (1, 2)
        ]
        for counter in counters:
            counter.start()

        def wait_for(count: int) -> None:
            wanted = [sum(counter.acknowledged) + count for counter in counters]
            for _ in range(6_000):
                if all(sum(counter.acknowledged) >= least for counter, least in zip(counters, wanted, strict=True)):
                    return
                stop.wait(0.01)
            raise AssertionError("the servers do not go on")

        wait_for(BEFORE)
        leader = next(endpoint for endpoint in cluster.endpoints if watcher.status(endpoint).is_leader)
        if hangs:
            cluster.at(leader).freeze()
        else:
            cluster.at(leader).kill()
        wait_for(AFTER)
        if hangs:
            cluster.at(leader).thaw()
            wait_for(AFTER)
        stop.set()
        for counter in counters:
            counter.join()
            assert counter.error is None, counter.error
        found = {counter.own: counter.store.snapshot().get(Table.LEASES, counter.own) for counter in counters}
        shared = int(counters[0].store.snapshot().get(Table.LEASES, b"shared") or b"")
        unknown = sum(counter.unknown for counter in counters)
        sure = sum(counter.acknowledged[0] for counter in counters)
        assert sure <= shared <= sure + unknown
        for counter in counters:
            assert (
                counter.acknowledged[1] <= int(found[counter.own] or b"") <= counter.acknowledged[1] + counter.unknown
            )
            counter.store.close()
        watcher.close()
