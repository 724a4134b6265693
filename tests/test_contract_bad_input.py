"""Frames that are no proper request: each gets its refusal, which names a wrong key and never its value."""

import random
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from cluster_site import ENGINES, ClusterSite, site_on
from contract_client import Client, as_refused
from server_process import Site

HELLO = {"v": 1, "op": "hello"}


@pytest.fixture(scope="module", params=ENGINES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module, and two over an etcd, which must still be the same processes at its end."""
    with site_on(request.param, tmp_path_factory.mktemp("site"), request) as site:
        yield site
        for server in site.servers if isinstance(site, ClusterSite) else [site.server]:
            assert server.exited() is None, server.stderr()


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    """A connection of one's own."""
    client = site.client()
    yield client
    client.close()


NESTED = b"\x91"  # an array of one

NO_MAPS = {
    "nothing": b"\xc1",
    "random": random.Random(1).randbytes(200),
    "number": b"\x01",
    "text": b"\xa1x",
    "null": b"\xc0",
    "array": b"\x90",
    "array of maps": b"\x91\x80",
    "truncated map": b"\x81\xa1v",
    "two maps": b"\x80\x80",
    "bomb": NESTED * 60_000,
    "map bomb": b"\x81\xa1a" * 20_000 + b"\xc0",
    "huge array": b"\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge bytes": b"\xc6\xff\xff\xff\xff",
    "extension": b"\xd4\x05\x00",
    "time stamp": b"\xd6\xff\x00\x00\x00\x00",
    "no text": b"\x81\xa1\xff\x01",
    "key that is a map": b"\x81\x80\x01",
    "json": b'{"v": 1, "id": 1, "op": "hello"}',
}


@pytest.mark.parametrize("frame", NO_MAPS.values(), ids=NO_MAPS)
def test_no_map_is_refused(client: Client, frame: bytes) -> None:
    """A frame that is not one msgpack map gets bad_request with id 0."""
    reply = client.exchange(frame)
    assert reply["id"] == 0
    assert as_refused(reply).code == "bad_request"


def test_random_bytes(client: Client) -> None:
    """Any bytes of any length get a refusal, and never more than one reply."""
    source = random.Random(2)
    for _ in range(300):
        reply = client.exchange(source.randbytes(source.randrange(1, 300)))
        assert as_refused(reply).code == "bad_request"


def nested(levels: int) -> Any:
    """Give arrays and maps in each other, this many levels of them."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"inner": value}
    return value


def test_nesting(client: Client) -> None:
    """A request may be nested 8 deep, itself counted, and no deeper."""
    client.ask("hello", unknown=nested(7))
    for levels in (8, 9, 400):
        assert client.refused("hello", unknown=nested(levels)).code == "bad_request"


@pytest.mark.parametrize("value", [msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 0), [msgpack.ExtType(5, b"")]])
def test_extension_types(client: Client, value: Any) -> None:
    """An extension type anywhere in a request is refused, even below a key that would be ignored."""
    client.send_map({**HELLO, "id": 4, "unknown": value})
    assert as_refused(client.receive()).code == "bad_request"


@pytest.mark.parametrize(
    ("request_map", "request_id", "key"),
    [
        ({}, 0, "id"),
        ({"v": 1, "op": "hello"}, 0, "id"),
        ({"v": 1, "op": "hello", "id": None}, 0, "id"),
        ({"v": 1, "op": "hello", "id": True}, 0, "id"),
        ({"v": 1, "op": "hello", "id": -1}, 0, "id"),
        ({"v": 1, "op": "hello", "id": 1.0}, 0, "id"),
        ({"v": 1, "op": "hello", "id": "1"}, 0, "id"),
        ({"op": "hello", "id": 9}, 9, "v"),
        ({"v": True, "op": "hello", "id": 9}, 9, "v"),
        ({"v": "1", "op": "hello", "id": 9}, 9, "v"),
        ({"v": 1, "id": 9}, 9, "op"),
        ({"v": 1, "op": 5, "id": 9}, 9, "op"),
        ({"v": 1, "op": b"hello", "id": 9}, 9, "op"),
        ({"v": 1, "op": "hello", "id": 9, "patience_ms": True}, 9, "patience_ms"),
        ({"v": 1, "op": "hello", "id": 9, "patience_ms": -1}, 9, "patience_ms"),
    ],
)
def test_bad_head(client: Client, request_map: dict[str, Any], request_id: int, key: str) -> None:
    """A request whose own keys are missing or ill-typed is refused, with its id when it had one."""
    client.send_map(request_map)
    reply = client.receive()
    assert reply["id"] == request_id
    refused = as_refused(reply)
    assert (refused.code, refused.detail) == ("bad_request", {"key": key})
    assert key in refused.message


def test_other_versions_and_operations(client: Client) -> None:
    """Another version and an unknown operation have codes of their own; the largest id comes back."""
    client.send_map({**HELLO, "id": 2**64 - 1, "v": 2})
    reply = client.receive()
    assert (reply["id"], as_refused(reply).code) == (2**64 - 1, "unsupported_version")
    for name in ("format", "", "HELLO", "x" * 5000):
        assert client.refused(name).code == "unknown_operation"


def test_unknown_keys_are_ignored(client: Client) -> None:
    """Keys that the server does not know, and a generous patience, do no harm."""
    client.ask("hello", unknown=[1, {"a": b"b"}], product=5, patience_ms=2**64 - 1)


COMPUTER = {"macs": [b"\x02\x00\x00\x00\x00\x09"], "host": "h", "address": "a"}
WANTED = {"product": "ATIES", "component": "agent", "computer": COMPUTER}
NEW_ADMIN = {"key": bytes(32), "name": "n", "role": "viewer"}
SECRET = "xyzzy-not-to-be-repeated"


@pytest.mark.parametrize(
    ("operation", "fields", "key"),
    [
        ("acquire", WANTED | {"product": None}, "product"),
        ("acquire", WANTED | {"product": SECRET + "_"}, "product"),
        ("acquire", WANTED | {"product": "x" * 33}, "product"),
        ("acquire", WANTED | {"product": b"ATIES"}, "product"),
        ("acquire", WANTED | {"component": ""}, "component"),
        ("acquire", WANTED | {"component": "agent\n"}, "component"),
        ("acquire", WANTED | {"version": 9}, "version"),
        ("acquire", WANTED | {"computer": None}, "computer"),
        ("acquire", WANTED | {"computer": [SECRET]}, "computer"),
        ("acquire", WANTED | {"computer": COMPUTER | {"macs": []}}, "macs"),
        ("acquire", WANTED | {"computer": COMPUTER | {"macs": [bytes(6)] * 33}}, "macs"),
        ("acquire", WANTED | {"computer": COMPUTER | {"macs": [bytes(5)]}}, "macs"),
        ("acquire", WANTED | {"computer": COMPUTER | {"macs": ["abcdef"]}}, "macs"),
        ("acquire", WANTED | {"computer": COMPUTER | {"host": ""}}, "host"),
        ("acquire", WANTED | {"computer": COMPUTER | {"host": "ü" * 128}}, "host"),
        ("acquire", WANTED | {"computer": COMPUTER | {"address": "a" * 65}}, "address"),
        ("acquire", WANTED | {"computer": COMPUTER | {"address": None}}, "address"),
        ("acquire", WANTED | {"computer": COMPUTER | {"machine_id": 5}}, "machine_id"),
        ("acquire", WANTED | {"computer": COMPUTER | {"kind": "laptop"}}, "kind"),
        ("renew", WANTED | {"want_lease": 1}, "want_lease"),
        ("renew", WANTED | {"computer": COMPUTER | {"host": 1}}, "host"),
        ("release", WANTED | {"component": None}, "component"),
        ("check", {"product": None}, "product"),
        ("check", {"product": "ATIES", "computer": 1}, "computer"),
        ("licenses", {"limit": 0}, "limit"),
        ("licenses", {"limit": 1001}, "limit"),
        ("licenses", {"limit": True}, "limit"),
        ("licenses", {"after": 5}, "after"),
        ("licenses", {"product": 5}, "product"),
        ("leases", {"state": "asleep"}, "state"),
        ("leases", {"host": 5}, "host"),
        ("leases", {"serial_id": 5}, "serial_id"),
        ("events", {"kind": 5}, "kind"),
        ("usage", {"product": "ATIES", "since": 0}, "until"),
        ("usage", {"product": "ATIES", "since": True, "until": 1}, "since"),
        ("usage", {"product": "ATIES", "since": -1, "until": 1}, "since"),
        ("import", {}, "serials"),
        ("import", {"serials": "x"}, "serials"),
        ("import", {"serials": []}, "serials"),
        ("import", {"serials": [5]}, "serials"),
        ("import", {"serials": [SECRET] * 21}, "serials"),
        ("revoke", {"product": "ATIES", "mac": bytes(7)}, "mac"),
        ("revoke", {"product": "ATIES", "mac": "00:11:22:33:44:55"}, "mac"),
        ("remove", {"force": True}, "serial_id"),
        ("remove", {"serial_id": "x", "force": 1}, "force"),
        ("admin_add", NEW_ADMIN | {"key": bytes(31)}, "key"),
        ("admin_add", NEW_ADMIN | {"name": "n" * 65}, "name"),
        ("admin_add", NEW_ADMIN | {"role": SECRET}, "role"),
        ("admin_remove", {}, "key"),
    ],
)
def test_bad_fields(site: Site, operation: str, fields: dict[str, Any], key: str) -> None:
    """A missing or ill-typed key is refused by its name, and its value is not repeated."""
    refused = site.admin.refused(operation, **fields)
    assert refused.code == "bad_request"
    assert set(refused.detail) == {"key"}
    assert refused.detail["key"].split(".")[-1] == key
    assert key in refused.message
    assert SECRET not in f"{refused.message} {refused.detail}"


def test_invalid_text(site: Site, client: Client) -> None:
    """Bytes that are no UTF-8 inside a text are refused."""
    frame = msgpack.packb({"v": 1, "id": 3, "op": "check", "product": "ATIES"})
    assert as_refused(client.exchange(frame.replace(b"ATIES", b"ATI\xed\xa0"))).code == "bad_request"
