"""The server for vendors' tests keeps what its documentation promises, seen through the ordinary client."""

import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from als import keyfile
from als_agents import discovery
from als_agents.client import Client, NoAnswer, Refused
from als_agents.testing import FakeComponent, FakeServer


def computer(number: int) -> dict[str, object]:
    """Give a computer as on the wire."""
    return {"macs": [number.to_bytes(6)], "host": f"host-{number}", "address": "192.0.2.1"}


def asking(server: FakeServer) -> Client:
    """Connect to a fake server."""
    return Client(server.host, server.port, server.key, keyfile.generate())


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A running fake server with two seats of ATIES."""
    with FakeServer({"ATIES": 2}) as fake:
        yield fake


AGENT: dict[str, Any] = {"product": "ATIES", "component": "agent"}


def test_seats_are_counted(server: FakeServer) -> None:
    """Each computer takes one seat, once, and when none is left the next is refused with the numbers."""
    with asking(server) as client:
        assert client.request("acquire", **AGENT, computer=computer(1))["result"] == "granted"
        assert client.request("acquire", **AGENT, computer=computer(1))["result"] == "already_held"
        assert client.request("renew", **AGENT, computer=computer(2))["result"] == "granted"
        with pytest.raises(Refused) as refused:
            client.request("acquire", **AGENT, computer=computer(3))
        assert (refused.value.code, refused.value.detail) == (
            "no_free_license",
            {"total": 2, "used": 2, "free": 0},
        )
        checked = client.request("check", product="ATIES", computer=computer(2))
        assert (checked["total"], checked["used"], checked["free"], checked["engaged"]) == (2, 2, 0, True)
    assert server.used("ATIES") == 2


def test_a_seat_is_free_when_its_last_component_is_released(server: FakeServer) -> None:
    """Components of one computer share a seat, and the last one that is released frees it."""
    with asking(server) as client:
        for component in ("agent", "local-console"):
            client.request("acquire", product="ATIES", component=component, computer=computer(1))
        results = [
            client.request("release", product="ATIES", component=component, computer=computer(1))["result"]
            for component in ("agent", "agent", "local-console")
        ]
    assert results == ["component_removed", "not_held", "freed"]
    assert server.used("ATIES") == 0


def test_a_lease_has_every_key_of_the_protocol(server: FakeServer) -> None:
    """A program that reads a lease finds here what it will find in the field."""
    with asking(server) as client:
        lease = client.request("acquire", **AGENT, computer=computer(1), version="9.1")["lease"]
    assert set(lease) == {
        *("product", "product_name", "serial", "serial_id", "host", "address", "mac", "kind"),
        *("components", "version", "acquired_at", "renewed_at", "renew_by", "state"),
    }
    assert (lease["version"], lease["components"], lease["state"]) == ("9.1", ["agent"], "active")


def test_components_may_be_described() -> None:
    """A component that is not licensed is not counted, and hello tells who works offline."""
    components = {"console": FakeComponent(licensed=False), "local": FakeComponent(works_offline=True)}
    with FakeServer({"ATIES": 0}, components=components) as server, asking(server) as client:
        reply = client.request("renew", product="ATIES", component="console", computer=computer(1))
        assert (reply["result"], reply["renew_by"]) == ("not_counted", None)
        (product,) = client.request("hello")["products"]
        assert [row["works_offline"] for row in product["components"]] == [False, True]


def test_it_refuses_what_it_is_told_to_refuse(server: FakeServer) -> None:
    """`refuse` holds for one operation or all of them, until `accept`."""
    with asking(server) as client:
        server.refuse("license_expired", "Over.", operation="renew")
        with pytest.raises(Refused, match="Over") as refused:
            client.request("renew", **AGENT, computer=computer(1))
        assert refused.value.code == "license_expired"
        client.request("acquire", **AGENT, computer=computer(1))
        server.refuse("unavailable", detail={"retry_after_s": 3})
        with pytest.raises(Refused):
            client.request("hello")
        server.accept()
        client.request("renew", **AGENT, computer=computer(1))


def test_a_silent_server_hears_and_does_not_answer(server: FakeServer) -> None:
    """Requests to a silent server are kept in `requests`; nobody gets a reply or an answer to a search."""
    server.fall_silent()
    with asking(server) as client, pytest.raises(NoAnswer):
        client.request("hello", timeout_s=0.2)
    assert len(server.requests_for("hello")) == 1
    assert discovery.ask(server.host, server.port, 0.1, 0) is None


def test_a_search_at_its_port_finds_it(server: FakeServer) -> None:
    """It answers discovery at its own port with name, key and port."""
    found = discovery.ask(server.host, server.port, 5.0, 0)
    assert found is not None
    assert (found.name, found.key, found.addresses) == ("fake", server.key, ((server.host, server.port),))


def test_it_comes_back_at_the_same_port(server: FakeServer) -> None:
    """Stopped and started, it has the same port, key and leases; with a changed key only the port."""
    with asking(server) as client:
        client.request("acquire", **AGENT, computer=computer(1))
        port, key = server.port, server.key
        server.stop()
        server.start()
        assert (server.port, server.key) == (port, key)
        assert client.request("renew", **AGENT, computer=computer(1))["result"] == "renewed"
    server.change_key()
    assert server.port == port
    assert server.key != key
    assert server.used("ATIES") == 0


def test_others_are_refused(server: FakeServer) -> None:
    """Garbage, an unknown product and an administrator's request each get the protocol's refusal."""
    with asking(server) as client:
        questions: list[tuple[str, dict[str, Any], str]] = [
            ("check", {"product": "NONE"}, "unknown_product"),
            ("status", {}, "not_authorized"),
            ("acquire", {"product": "ATIES"}, "bad_request"),
        ]
        for operation, fields, code in questions:
            with pytest.raises(Refused) as refused:
                client.request(operation, **fields)
            assert refused.value.code == code


def test_it_waits_for_requests(server: FakeServer) -> None:
    """`await_requests` gives what has come, and says so when too little comes."""
    with pytest.raises(TimeoutError, match="fewer than 1 hello"):
        server.await_requests("hello", wait_s=0.05)
    with asking(server) as client:
        client.request("hello")
    assert server.await_requests("hello")[0]["op"] == "hello"


def test_it_leaves_nothing_behind() -> None:
    """Stopped, it has no thread and no open file."""
    with FakeServer({"ATIES": 1}):
        pass
    process, before = psutil.Process(), threading.active_count()
    files = process.num_fds()
    for _ in range(5):
        with FakeServer({"ATIES": 1}):
            pass
    assert threading.active_count() == before
    assert process.num_fds() == files
