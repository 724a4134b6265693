"""The agents' operations over a real server, key by key as the protocol document has them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq.auth

import contract_client
from cluster_site import ENGINES, ClusterSite, site_on
from contract_client import DAY_S, LEASE, Client, short_id
from server_process import Site, counted

ACQUIRED = {"lease", "result", "heartbeat_s"}
RENEWED = {"result", "renew_by", "heartbeat_s", "lease"}
AGENT, SHIELD, CONSOLE = "agent", "shield", "console"


@pytest.fixture(scope="module", params=ENGINES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module, and two that share an etcd."""
    with site_on(request.param, tmp_path_factory.mktemp("site"), request) as site:
        yield site


@pytest.fixture(scope="module")
def agent(site: Site) -> Client:
    """A client with a key that the server has never seen."""
    return site.client()


def test_client_is_independent() -> None:
    """The contract's client imports nothing of this project."""
    tree = ast.parse(Path(contract_client.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name.split(".")[0].startswith("als")]


def test_hello(site: Site, agent: Client) -> None:
    """Hello names the server, the sender's role and all products with their components."""
    reply = agent.ask("hello")
    assert set(reply) == {"server_id", "name", "version", "your_role", "products"}
    assert reply["your_role"] == "agent"
    assert reply["name"] == site.server.name
    assert 0 < len(reply["server_id"].encode()) <= 64
    assert 0 < len(reply["version"].encode()) <= 32
    for product in reply["products"]:
        assert set(product) == {"code", "name", "components"}
        for component in product["components"]:
            assert set(component) == {"code", "name", "licensed", "works_offline"}
    products = {product["code"]: product for product in reply["products"]}
    assert products["ATIES"]["name"] == "Acronis True Image Enterprise Server"
    components = {component["code"]: component for component in products["ATIES"]["components"]}
    assert set(components) == {*("agent", "local-console", "management-console", "storage-server", "license-server")}
    flags = {code: (item["licensed"], item["works_offline"]) for code, item in components.items()}
    assert flags["agent"] == (True, False)
    assert flags["local-console"] == (True, True)
    assert flags["management-console"] == (False, False)
    assert {"ATIW", "ASD", "APEC", "P0", "KEEP0"} <= set(products)


@pytest.mark.parametrize("role", ["agent", "deployer", "viewer", "operator", "admin"])
def test_hello_tells_role(site: Site, role: str) -> None:
    """Hello tells each administrator the role of its key."""
    assert site.with_role(role).ask("hello")["your_role"] == role


def test_acquire_grants(site: Site, agent: Client) -> None:
    """A first acquire takes a seat and gives the lease with every key of the document."""
    product = site.product(2)
    computer = site.computer(kind="server", machine_id="a-machine", address="192.0.2.77")
    reply = agent.ask("acquire", product=product.code, component=AGENT, computer=computer, version="9.1")
    lease = reply["lease"]
    assert set(reply) == ACQUIRED
    assert (reply["result"], reply["heartbeat_s"]) == ("granted", 3600)
    assert set(lease) == LEASE
    assert lease == {
        "product": product.code,
        "product_name": f"Product {product.code}",
        "serial": product.serials[0],
        "serial_id": short_id(product.code, product.serials[0]),
        "host": computer["host"],
        "address": "192.0.2.77",
        "mac": computer["macs"][0],
        "kind": "server",
        "components": [AGENT],
        "version": "9.1",
        "acquired_at": lease["acquired_at"],
        "renewed_at": lease["acquired_at"],
        "renew_by": lease["acquired_at"] + 30 * DAY_S,
        "state": "active",
    }
    assert counted(agent, product) == (2, 1, 1)


def test_absent_values_are_null(site: Site, agent: Client) -> None:
    """Kind and version are null in the lease when the request did not say them, or said null."""
    product = site.product(1)
    computer = site.computer(kind=None, machine_id=None)
    lease = agent.ask("acquire", product=product.code, component=AGENT, computer=computer)["lease"]
    assert set(lease) == LEASE
    assert (lease["kind"], lease["version"]) == (None, None)


def test_acquire_again_changes_nothing(site: Site, agent: Client) -> None:
    """The same acquire sent twice finds its lease and takes no second seat."""
    wanted = {"product": site.product(2).code, "component": AGENT, "computer": site.computer()}
    first = agent.ask("acquire", **wanted)
    again = agent.ask("acquire", **wanted)
    assert set(again) == ACQUIRED
    assert again["result"] == "already_held"
    assert again["lease"]["acquired_at"] == first["lease"]["acquired_at"]
    assert again["lease"]["components"] == [AGENT]
    assert agent.ask("check", product=wanted["product"])["used"] == 1


def test_components_share_a_seat(site: Site, agent: Client) -> None:
    """A second component joins the computer's lease, and the last release frees the seat."""
    product, computer = site.product(1), site.computer()
    wanted: dict[str, Any] = {"product": product.code, "computer": computer}
    agent.ask("acquire", component=AGENT, **wanted)
    reply = agent.ask("acquire", component=SHIELD, **wanted)
    assert reply["result"] == "already_held"
    assert sorted(reply["lease"]["components"]) == [AGENT, SHIELD]
    assert counted(agent, product) == (1, 1, 0)
    assert agent.ask("release", component=AGENT, **wanted) == {"result": "component_removed"}
    assert agent.ask("release", component=AGENT, **wanted) == {"result": "not_held"}
    assert counted(agent, product) == (1, 1, 0)
    assert agent.ask("release", component=SHIELD, **wanted) == {"result": "freed"}
    assert agent.ask("release", component=SHIELD, **wanted) == {"result": "not_held"}
    assert counted(agent, product) == (1, 0, 1)


def test_uncounted_component_takes_no_seat(site: Site, agent: Client) -> None:
    """A component that is not licensed is let run without a lease, even when no seat exists."""
    product = site.product()
    wanted = {"product": product.code, "component": CONSOLE, "computer": site.computer()}
    assert agent.ask("acquire", **wanted) == {"lease": None, "result": "not_counted", "heartbeat_s": 3600}
    renewed = {"result": "not_counted", "renew_by": None, "heartbeat_s": 3600, "lease": None}
    assert agent.ask("renew", **wanted) == renewed
    assert agent.ask("renew", want_lease=True, **wanted) == renewed
    assert agent.ask("release", **wanted) == {"result": "not_held"}


@pytest.mark.parametrize("operation", ["acquire", "renew"])
def test_refusals_of_a_seat(site: Site, agent: Client, operation: str) -> None:
    """Acquire and renew tell an unknown product, an unknown component and a used-up pool apart."""
    product, first, second = site.product(1, 2), site.computer(), site.computer()
    wanted: dict[str, Any] = {"product": product.code, "computer": first}
    refused = agent.refused(operation, component=AGENT, product="NO-SUCH", computer=first)
    assert refused.code == "unknown_product"
    assert agent.refused(operation, component="no-such", **wanted).code == "unknown_component"
    for computer in (first, second, site.computer()):
        agent.ask("acquire", product=product.code, component=AGENT, computer=computer)
    refused = agent.refused(operation, product=product.code, component=AGENT, computer=site.computer())
    assert refused.code == "no_free_license"
    assert refused.detail == {"total": 3, "used": 3, "free": 0}
    refused = agent.refused(operation, product=site.product().code, component=AGENT, computer=first)
    assert (refused.code, refused.detail) == ("no_free_license", {"total": 0, "used": 0, "free": 0})


def test_renew(site: Site, agent: Client) -> None:
    """A renew says when to come back, and carries the lease only when asked for it."""
    wanted = {"product": site.product(1).code, "component": AGENT, "computer": site.computer()}
    agent.ask("acquire", **wanted)
    request_id = agent.send("renew", **wanted)
    reply = agent.reply_to(request_id)
    assert set(reply) == {"v", "id", "ok", "time"} | RENEWED
    assert (reply["result"], reply["heartbeat_s"], reply["lease"]) == ("renewed", 3600, None)
    assert reply["renew_by"] == reply["time"] + 30 * DAY_S
    assert agent.ask("renew", want_lease=False, **wanted)["lease"] is None
    reply = agent.ask("renew", want_lease=True, version="9.2", **wanted)
    assert set(reply) == RENEWED
    assert set(reply["lease"]) == LEASE
    assert reply["lease"]["renew_by"] == reply["renew_by"]
    assert reply["lease"]["version"] == "9.2"


def test_renew_without_lease_acquires(site: Site, agent: Client) -> None:
    """A computer that renews without a lease is granted one, and is given it unasked."""
    product = site.product(1)
    reply = agent.ask("renew", product=product.code, component=AGENT, computer=site.computer())
    assert set(reply) == RENEWED
    assert reply["result"] == "granted"
    assert set(reply["lease"]) == LEASE
    assert reply["lease"]["renew_by"] == reply["renew_by"]
    assert counted(agent, product) == (1, 1, 0)


def test_check_takes_nothing(site: Site, agent: Client) -> None:
    """Check counts a pool's seats, says whether a computer has one, and engages none."""
    product, computer = site.product(2, 3), site.computer()
    reply = agent.ask("check", product=product.code, computer=computer)
    assert reply == {"total": 5, "free": 5, "used": 0, "engaged": False}
    agent.ask("acquire", product=product.code, component=AGENT, computer=computer)
    reply = agent.ask("check", product=product.code, computer=computer)
    assert reply == {"total": 5, "free": 4, "used": 1, "engaged": True}
    assert agent.ask("check", product=product.code)["engaged"] is False
    other = agent.ask("check", product=product.code, computer=site.computer())
    assert other == {"total": 5, "free": 4, "used": 1, "engaged": False}
    assert agent.refused("check", product="NO-SUCH").code == "unknown_product"


def test_only_holder_releases(site: Site, agent: Client) -> None:
    """Another key shares the seat by acquire and renew, and may not release what it does not hold."""
    product = site.product(1)
    wanted = {"product": product.code, "component": AGENT, "computer": site.computer()}
    other = site.client()
    agent.ask("acquire", **wanted)
    assert other.refused("release", **wanted).code == "not_holder"
    assert other.ask("acquire", **wanted)["result"] == "already_held"
    assert other.ask("renew", **wanted)["result"] == "renewed"
    assert other.refused("release", **wanted).code == "not_holder"
    assert counted(agent, product) == (1, 1, 0)
    assert agent.ask("release", **wanted) == {"result": "freed"}


def test_product_that_keeps_its_seats(site: Site, agent: Client) -> None:
    """A product that is not reusable never gives a seat back, and the same computer uses it again freely."""
    product = site.product(1, kind="KEEP")
    wanted = {"product": product.code, "component": AGENT, "computer": site.computer()}
    lease = agent.ask("acquire", **wanted)["lease"]
    assert lease["renew_by"] is None
    assert agent.ask("renew", **wanted)["renew_by"] is None
    assert agent.ask("release", **wanted) == {"result": "kept"}
    assert counted(agent, product) == (1, 1, 0)
    rows = site.admin.rows("leases", product=product.code)
    assert [(row["state"], row["components"]) for row in rows] == [("active", [])]
    other = wanted | {"computer": site.computer()}
    assert agent.refused("acquire", **other).code == "no_free_license"
    again = agent.ask("acquire", **wanted)
    assert (again["result"], again["lease"]["components"]) == ("already_held", [AGENT])
    assert again["lease"]["acquired_at"] == lease["acquired_at"]


def test_lapsed_seat_goes_to_another(site: Site, agent: Client) -> None:
    """A lease not renewed in time frees its seat; a late renewal does not take it back from its new user."""
    product = site.product(1, kind="TICK")
    wanted: dict[str, Any] = {"product": product.code, "component": AGENT, "computer": site.computer()}
    other = wanted | {"computer": site.computer()}
    first = agent.ask("acquire", **wanted)["lease"]
    assert first["renew_by"] == first["renewed_at"] + 1
    granted = agent.wait_until(lambda reply: reply["ok"], "acquire", **other)
    assert granted["result"] == "granted"
    assert granted["time"] >= first["renew_by"]
    refused = agent.reply_to(agent.send("renew", **wanted))
    assert refused["ok"] or refused["time"] < granted["lease"]["renew_by"]
    back = agent.wait_until(lambda reply: reply["ok"], "renew", **wanted)
    assert back["result"] == "granted"
    assert back["time"] >= granted["lease"]["renew_by"]
    assert back["lease"]["acquired_at"] == first["acquired_at"]
    lapsed = site.admin.wait_until(
        lambda reply: {row["state"] for row in reply["rows"]} == {"lapsed"}, "leases", product=product.code
    )
    assert {row["host"] for row in lapsed["rows"]} == {
        wanted["computer"]["host"],
        other["computer"]["host"],
    }


def test_any_shared_address_is_the_same_computer(site: Site, agent: Client) -> None:
    """A computer is found by any of its adapters, and its new adapters are learned."""
    product = site.product(3)
    macs = [bytes([2, 0, 0, 0, 7, last]) for last in range(3)]
    results = [
        agent.ask("acquire", product=product.code, component=AGENT, computer=site.computer(macs=some))
        for some in (macs[:2], macs[1:], macs[2:])
    ]
    assert [reply["result"] for reply in results] == ["granted", "already_held", "already_held"]
    assert counted(agent, product) == (3, 1, 2)


def test_machine_ids_tell_computers_apart(site: Site, agent: Client) -> None:
    """An adapter that moves into another machine, with a machine_id of its own, takes no seat along."""
    product = site.product(3)
    shared, own = bytes([2, 0, 0, 0, 8, 1]), bytes([2, 0, 0, 0, 8, 2])
    wanted: dict[str, Any] = {"product": product.code, "component": AGENT}
    for macs, machine_id in (([shared], "one"), ([own, shared], "two")):
        computer = site.computer(macs=macs, machine_id=machine_id)
        assert agent.ask("acquire", computer=computer, **wanted)["result"] == "granted"
    assert counted(agent, product) == (3, 2, 1)


def test_limits_of_texts(site: Site, agent: Client) -> None:
    """Names as long as the document allows come back whole, counted in bytes of UTF-8."""
    product = site.product(1)
    computer = site.computer(host="ü" * 127 + "h", address="a" * 64, machine_id="m" * 64)
    computer["macs"] += [bytes([2, 0, 0, 0, 9, last]) for last in range(31)]
    lease = agent.ask("acquire", product=product.code, component=AGENT, computer=computer)["lease"]
    assert (lease["host"], lease["address"]) == (computer["host"], computer["address"])
    assert lease["mac"] == computer["macs"][0]


def test_key_files(site: Site) -> None:
    """The data folder's key files are ZeroMQ certificates that only the owner can read; a cluster's key is no file."""
    for name in ("admin",) if isinstance(site, ClusterSite) else ("server", "admin"):
        path = site.server.data_dir / f"{name}.key_secret"
        assert path.stat().st_mode & 0o777 == 0o600
        own = contract_client.read_keys(path)
        assert zmq.auth.load_certificate(path) == tuple(own)
        assert contract_client.read_public_key(path.with_suffix(".key")) == own.public
    assert site.client(site.server.admin_keys).ask("hello")["your_role"] == "admin"
