"""Servers whose etcd does not answer: nothing is granted, nothing is lost, and the status still speaks."""

from collections.abc import Iterator

import pytest

import etcd_nodes
from cluster_site import ClusterSite
from server_process import counted


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[etcd_nodes.Cluster]:
    """An etcd of one member that can be stopped."""
    if etcd_nodes.MISSING:
        pytest.skip(etcd_nodes.MISSING)
    with etcd_nodes.Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, etcd: etcd_nodes.Cluster) -> Iterator[ClusterSite]:
    """One server over it, which is what a cluster of one has."""
    with ClusterSite(tmp_path_factory.mktemp("cluster"), etcd.endpoints, b"als/1/", size=1) as site:
        yield site


def test_an_etcd_that_is_away(site: ClusterSite, etcd: etcd_nodes.Cluster) -> None:
    """Without etcd requests are refused as unavailable and the status says so; with it all is as it was."""
    product, computer = site.product(2), site.computer()
    asked = {"product": product.code, "component": "agent", "computer": computer}
    agent = site.client()
    agent.ask("acquire", **asked)
    known = site.admin.ask("status")
    assert known["server"]["cluster"]["state"] == "ok"
    etcd.nodes[0].kill()
    refused = agent.refused("renew", **asked)
    assert refused.code == "unavailable"
    assert refused.detail["retry_after_s"] >= 1
    told = site.admin.ask("status")
    assert told["server"]["cluster"]["state"] == "unavailable"
    assert any("no answer from etcd" in trouble for trouble in told["server"]["cluster"]["troubles"])
    assert (told["pools"], told["counts"]) == (known["pools"], known["counts"])
    assert site.client().refused("status").code == "unavailable"
    assert site.server.exited() is None
    etcd.start(etcd.nodes[0])
    agent.wait_until(lambda reply: reply["ok"], "renew", **asked)
    assert counted(agent, product) == (2, 1, 1)
    assert site.admin.ask("status")["server"]["cluster"]["state"] == "ok"
    log = site.server.stderr()
    assert log.count("no request can be served") == 1
    assert log.count("the store answers again") == 1
