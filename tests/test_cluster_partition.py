"""A cluster that falls into two parts: the one without a majority grants nothing, the other goes on.

Three machines as network namespaces, on each a member of etcd and a server; clients reach all of them all the time.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import etcd_nodes
import network_islands

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)
if reason := network_islands.missing():
    pytest.skip(reason, allow_module_level=True)

from als.clock import monotonic_s
from als.store.etcd.keys import Keys
from als.store.transaction import Table
from cluster_history import Replay
from cluster_site import ClusterSite
from contract_client import Client
from etcd_nodes import Cluster, Node, free_ports
from etcd_patience import PatientClient
from etcd_watch import history
from network_islands import Islands
from server_process import Product, ServerProcess

SIZE = 3
SEATS = 6
PREFIX = b"als/1/"
SERVER = str(Path(sys.executable).with_name("als-server"))
REFUSED_S_MAX = 8.0  # some 2.5 s are usual


class IslandSite(ClusterSite):
    """A server on each machine."""

    def __init__(self, islands: Islands, folder: Path, cluster: Cluster) -> None:
        self._islands = islands
        self._made = 0
        settings = "etcd_compact = false\nnew_seats_per_address_h = 0\n"  # the whole history is wanted afterwards
        super().__init__(folder, cluster.endpoints, PREFIX, size=SIZE, settings=settings)

    def _server(self, data_dir: Path, **options: Any) -> ServerProcess:
        number, self._made = self._made, self._made + 1
        program = (*self._islands.command(number), SERVER, "run")
        return ServerProcess(data_dir, *self.options, bind=Islands.outer(number), program=program)


@pytest.fixture(scope="module")
def islands() -> Iterator[Islands]:
    """Three machines."""
    with Islands(SIZE) as islands:
        yield islands


@pytest.fixture(scope="module")
def cluster(islands: Islands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A member of etcd on each."""
    folder = tmp_path_factory.mktemp("etcd")
    cluster = Cluster(folder, SIZE)
    client, peer = free_ports(2)
    cluster.nodes = [
        Node(f"n{number}", folder / f"n{number}", (client, peer), (), Islands.inner(number), islands.command(number))
        for number in range(SIZE)
    ]
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(islands: Islands, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IslandSite]:
    """A server on each."""
    with IslandSite(islands, tmp_path_factory.mktemp("site"), cluster) as site:
        yield site


def asked(site: IslandSite, product: Product) -> dict[str, Any]:
    """Give the fields of a request by a computer that is new."""
    return {"product": product.code, "component": "agent", "computer": site.computer()}


def member(cluster: Cluster, is_leader: bool) -> int:
    """Give the number of the leader, or of one that follows it."""
    client = PatientClient(cluster.endpoints)
    try:
        leader = client.leader()
    finally:
        client.close()
    return next(number for number, node in enumerate(cluster.nodes) if (node.endpoint == leader) == is_leader)


@pytest.mark.parametrize("is_leader", [True, False], ids=["leader", "follower"])
def test_a_side_without_majority(islands: Islands, cluster: Cluster, site: IslandSite, is_leader: bool) -> None:
    """A server that is cut off with its member grants nothing, the others all there is; then they agree again."""
    product = site.product(SEATS)
    alone = member(cluster, is_leader)
    lonely, *others = (site.client_of(number) for number in (alone, *({*range(SIZE)} - {alone})))
    held = asked(site, product)
    lonely.ask("acquire", **held)
    islands.cut_off(alone)
    try:
        refuses(lonely, "acquire", asked(site, product))
        for agent in others:
            agent.wait_until(lambda reply: reply["ok"], "acquire", **asked(site, product))
        for operation, fields in (("renew", held), ("release", held), ("acquire", asked(site, product))):
            refuses(lonely, operation, fields)
        for _ in range(SEATS - 1 - len(others)):
            others[0].ask("acquire", **asked(site, product))
        assert others[1].refused("acquire", **asked(site, product)).code == "no_free_license"
        refuses(lonely, "acquire", asked(site, product))
    finally:
        islands.join(alone)
    lonely.wait_until(lambda reply: reply.get("code") == "no_free_license", "acquire", **asked(site, product))
    for client in (lonely, *others):  # a member that comes back may start an election
        client.wait_until(lambda reply: reply["ok"] and reply["used"] == SEATS, "check", product=product.code)
    member(cluster, is_leader=True)  # and so may a busy machine, at any time: the last two wait for it
    assert lonely.wait_until(lambda reply: reply["ok"], "release", **held)["result"] == "freed"
    fields = asked(site, product)
    assert others[0].wait_until(lambda reply: reply["ok"], "acquire", **fields)["result"] == "granted"
    assert history_faults(cluster) == []


def refuses(client: Client, operation: str, fields: dict[str, Any]) -> None:
    """See that a server says soon that it can do nothing now."""
    begin_s = monotonic_s()
    refusal = client.refused(operation, **fields)
    assert refusal.code == "unavailable" and refusal.detail["retry_after_s"] >= 1
    assert monotonic_s() - begin_s < REFUSED_S_MAX


def history_faults(cluster: Cluster) -> list[str]:
    """Say what was wrong at which revision."""
    client = PatientClient(cluster.endpoints)
    try:
        last = client.mark(Keys(PREFIX).name(Table.META, b"end of the test"))
    finally:
        client.close()
    replay = Replay(PREFIX)
    replay.run(history(cluster.endpoints[0], PREFIX, last))
    assert replay.revisions > SEATS
    return replay.faults
