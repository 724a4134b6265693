"""Two real servers over one etcd: one license server for its clients, whichever of them they ask."""

from collections.abc import Iterator

import pytest

from cluster_site import ClusterSite
from contract_client import Client
from server_process import counted

RIVALS = 60
SEATS = 40


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, etcd_endpoint: str) -> Iterator[ClusterSite]:
    """Two servers for this module."""
    with ClusterSite(tmp_path_factory.mktemp("cluster"), [etcd_endpoint], b"servers/") as site:
        yield site


def test_both_are_one_server(site: ClusterSite) -> None:
    """Both servers have one id, one name and one key, and each knows the administrators of both folders."""
    first, second = (admin.ask("hello") for admin in site.admins)
    assert first == second
    assert first["your_role"] == "admin"
    assert site.servers[0].server_key == site.servers[1].server_key
    assert site.client_of(0, site.servers[1].admin_keys).ask("hello")["your_role"] == "admin"


def test_what_one_grants_the_other_knows(site: ClusterSite) -> None:
    """A serial imported at one server is granted from at the other; a lease is renewed and released at either."""
    product, computer = site.product(3), site.computer()
    agents = [site.client_of(place) for place in (0, 1)]
    asked = {"product": product.code, "component": "agent", "computer": computer}
    keys = agents[0].keys
    both = [agents[0], site.client_of(1, keys)]
    assert both[1].ask("acquire", **asked)["result"] == "granted"
    assert both[0].ask("acquire", **asked)["result"] == "already_held"
    assert both[0].ask("renew", **asked)["result"] == "renewed"
    assert both[1].ask("renew", **asked)["result"] == "renewed"
    assert [counted(admin, product) for admin in site.admins] == [(3, 1, 2)] * 2
    assert both[0].ask("release", **asked)["result"] == "freed"
    assert both[1].ask("release", **asked)["result"] == "not_held"
    assert [counted(admin, product) for admin in site.admins] == [(3, 0, 3)] * 2


def test_rivals_share_the_seats(site: ClusterSite) -> None:
    """Computers that ask both servers at once for too few seats get exactly the seats that there are."""
    product = site.product(SEATS - 7, 7)
    clients = [site.client_of(place) for place in (0, 1)]
    waiting = [(client, [_send(client, site, product.code) for _ in range(RIVALS)]) for client in clients]
    replies = [reply for client, ids in waiting for reply in client.replies_to(ids).values()]
    granted = [reply for reply in replies if reply["ok"]]
    assert len(granted) == SEATS
    assert {reply["code"] for reply in replies if not reply["ok"]} == {"no_free_license"}
    for admin in site.admins:
        assert counted(admin, product) == (SEATS, SEATS, 0)
        rows = admin.rows("leases", product=product.code)
        assert len({row["mac"] for row in rows}) == len(rows) == SEATS
        licenses = admin.rows("licenses", product=product.code)
        assert [row["free"] for row in licenses] == [0, 0]
    denied = [event for event in site.admin.rows("events", product=product.code) if event["kind"] == "denied"]
    assert len(denied) == len(replies) - SEATS


def _send(client: Client, site: ClusterSite, product: str) -> int:
    return client.send("acquire", product=product, component="agent", computer=site.computer())


def test_what_only_looks_like_a_renewal(site: ClusterSite) -> None:
    """A renewal whose host is too long in bytes, though not in characters, is refused, and the server goes on."""
    product, computer = site.product(1), site.computer(host="ü" * 200)
    for place in (0, 1):
        agent = site.client_of(place)
        refused = agent.refused("renew", product=product.code, component="agent", computer=computer)
        assert (refused.code, site.servers[place].exited()) == ("bad_request", None)
        assert agent.ask("hello")["your_role"] == "agent"
