"""A real cluster under load whose parts are killed and frozen, one after the other; then its history is examined.

Three members of etcd, two servers, some computers that fight for few licenses.
"""

import os
import random
import signal
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import books
from als import catalog
from als.clock import monotonic_s
from als.ledger.audit import Audit
from als.store.etcd.keys import Keys
from als.store.etcd.snapshot import EtcdSnapshot
from als.store.transaction import Table
from cluster_history import Deed, Replay, lost
from cluster_load import Load, Place, Pool, Worker
from cluster_site import ClusterSite
from etcd_nodes import Cluster, Node
from etcd_patience import PatientClient
from etcd_watch import history
from server_process import ServerProcess

PREFIX = b"als/1/"
SETTINGS = "etcd_compact = false\nnew_seats_per_address_h = 0\n"  # the whole history is wanted afterwards
FROZEN_S = 4.0
DOWN_S = (0.5, 3.0)  # from a kill until it is started again
BETWEEN_S = (1.0, 2.5)  # from one fault's end to the next
POOLS = ((12, (6, 3)), (20, (10, 5, 2)), (20, (30,)))  # computers, and seats of each serial
LAPSING = (6, (4,))
SERVERS = 2
MEMBERS = 3
# As docs/cluster.md advises for a local network.
FLAGS = ("--heartbeat-interval=100", "--election-timeout=500", "--pre-vote")


class Fault(NamedTuple):
    """What is done to whom."""

    deed: str
    victim: str

    def __str__(self) -> str:
        return f"{self.deed} {self.victim}"


KINDS = tuple(Fault(deed, victim) for deed in ("kill", "freeze") for victim in ("leader", "follower", "server"))


class Felt(NamedTuple):
    """What clients felt of a fault, until the next one: the longest time without any acknowledgement, and one's own."""

    fault: Fault
    gap_s: float
    wait_s_max: float
    acknowledged: int
    unclear: int


class Outcome(NamedTuple):
    """A run: what was felt, how much was acknowledged, and all that is wrong with the history."""

    felt: list[Felt]
    acknowledged: int
    refused: int
    unclear: int
    revisions: int
    lost: list[str]
    over: list[str]
    mistakes: list[str]

    @property
    def gap_s(self) -> float:
        """The longest time without any acknowledgement."""
        return max(felt.gap_s for felt in self.felt)


class Stage:
    """The cluster, its clients, and the hand that fails them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._source = random.Random(seed)

    def run(self, faults: Sequence[Fault]) -> Outcome:
        """Let them work, and let each fault happen at some moment."""
        with (
            Cluster(self._folder / "etcd", MEMBERS, *FLAGS) as cluster,
            ClusterSite(self._folder / "site", cluster.endpoints, PREFIX, size=SERVERS, settings=SETTINGS) as site,
        ):
            begins: list[float] = []
            with Load(self._workers(site)) as load:
                load.go_on(self._source.uniform(*BETWEEN_S))
                for fault in faults:
                    begins.append(monotonic_s())
                    self._fail(fault, cluster, site, load)
                    load.go_on(self._source.uniform(*BETWEEN_S))
                load.end()
            for server in site.servers:
                assert server.exited() is None, server.stderr()
            return _examine(cluster, site, load, list(zip(faults, begins, strict=True)))

    def _workers(self, site: ClusterSite) -> list[Worker]:
        places = [Place(server.address, server.port, server.server_key) for server in site.servers]
        workers = []
        for kind, (computers, seats) in [*(("P", pool) for pool in POOLS), ("TICK", LAPSING)]:
            product = site.product(*seats, kind=kind)
            pool = Pool(product.code, product.number, lapses=kind == "TICK")
            workers += [Worker(places, pool, site.computer(), self._source) for _ in range(computers)]
        return workers

    def _fail(self, fault: Fault, cluster: Cluster, site: ClusterSite, load: Load) -> None:
        """Have a fault happen, wait a while, and mend it."""
        victim: Node | ServerProcess
        if fault.victim == "server":
            victim = self._source.choice(site.servers)
        else:
            victim = self._member(cluster, is_leader=fault.victim == "leader")
        if fault.deed == "freeze":
            os.kill(victim.pid, signal.SIGSTOP)
            load.go_on(FROZEN_S)
            os.kill(victim.pid, signal.SIGCONT)
            return
        victim.kill()
        load.go_on(self._source.uniform(*DOWN_S))
        if isinstance(victim, Node):
            cluster.start(victim)
        else:
            victim.start()

    def _member(self, cluster: Cluster, is_leader: bool) -> Node:
        client = PatientClient(cluster.endpoints)
        try:
            leader = client.leader()
        finally:
            client.close()
        return self._source.choice([node for node in cluster.nodes if (node.endpoint == leader) == is_leader])


def _examine(cluster: Cluster, site: ClusterSite, load: Load, faults: Sequence[tuple[Fault, float]]) -> Outcome:
    """Read the history, and hold it against what was acknowledged."""
    deeds = load.deeds
    keys = Keys(PREFIX)
    replay = Replay(PREFIX)
    products = catalog.load(site.server.data_dir / "catalog.d")
    client = PatientClient(cluster.endpoints)
    try:
        last = client.mark(keys.name(Table.META, b"end of the test"))
        replay.run(history(cluster.endpoints[0], PREFIX, last))
        stop = PREFIX[:-1] + bytes((PREFIX[-1] + 1,))
        rows = {row.key: row.value for row in client.range(PREFIX, stop, revision=last).rows}
        different = [name for name in rows.keys() | replay.rows.keys() if rows.get(name) != replay.rows.get(name)]
        assert not different, f"the history that was read is not the whole one: {different[:5]}"
        look = EtcdSnapshot(client, keys, last)
        mistakes = [*Audit(look).run(), *books.mistakes(look, products)]
    finally:
        client.close()
    missing = [
        fault for worker in load.workers if worker.deeds for fault in lost(replay, worker.deeds, worker.pool.lapses)
    ]
    return Outcome(
        _felt(deeds, faults),
        sum(deed.is_acknowledged for deed in deeds),
        sum(not deed.is_acknowledged and not deed.is_unclear for deed in deeds),
        sum(deed.is_unclear for deed in deeds),
        replay.revisions,
        missing,
        replay.faults,
        mistakes,
    )


def _felt(deeds: Sequence[Deed], faults: Sequence[tuple[Fault, float]]) -> list[Felt]:
    """Say what was felt of each fault."""
    ends = [begin_s for _, begin_s in faults[1:]] + [deeds[-1].ended_s]
    felt = []
    for (fault, begin_s), end_s in zip(faults, ends, strict=True):
        within = [deed for deed in deeds if begin_s <= deed.ended_s <= end_s]
        acknowledged = [deed.ended_s for deed in within if deed.is_acknowledged]
        felt.append(
            Felt(
                fault,
                _longest([begin_s, *acknowledged, end_s]),
                _longest_wait(deeds, begin_s, end_s),
                len(acknowledged),
                sum(deed.is_unclear for deed in within),
            )
        )
    return felt


def _longest(times_s: Sequence[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(times_s))


def _longest_wait(deeds: Sequence[Deed], begin_s: float, end_s: float) -> float:
    """Give the longest time for which one computer waited for the answer to what it wanted, over all its tries."""
    waits_s = [0.0]
    since_s: dict[tuple[int, bytes], float] = defaultdict(lambda: -1.0)
    for deed in sorted(deeds, key=lambda deed: deed.sent_s):
        who = deed.product, deed.mac
        if since_s[who] < 0:
            since_s[who] = deed.sent_s
        if not deed.is_unclear:
            if begin_s <= deed.ended_s <= end_s:
                waits_s.append(deed.ended_s - since_s[who])
            since_s[who] = -1.0
    return max(waits_s)
