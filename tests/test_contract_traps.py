"""The traps of sockets: keys, routing ids, envelopes, sizes, pipelines and datagrams end or stall nothing.

Silence is shown by what comes next: a good request on the same connection is answered, and nothing before it.
"""

import ctypes
import ctypes.util
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from contract_client import (
    QUERY_BYTES,
    Client,
    as_refused,
    checked_reply,
    discover,
    new_keys,
    query,
    read_beacon,
    udp_socket,
)
from server_process import Site

SILENCE_MS = 500  # how long nothing must come where nothing can follow on the same connection
HELLO = {"v": 1, "op": "hello"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module, which must still be the same process at its end."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site
        assert site.server.exited() is None, site.server.stderr()


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    """A connection of one's own."""
    client = site.client()
    yield client
    client.close()


def hello_of(length: int) -> bytes:
    """Write a hello request of exactly this many bytes, with a key that the server does not know."""
    filler = length - len(msgpack.packb({**HELLO, "id": 7, "filler": b""})) - 3
    frame: bytes = msgpack.packb({**HELLO, "id": 7, "filler": bytes(filler)})
    if len(frame) != length:  # above 65,535 bytes the filler's own length takes two more
        frame = msgpack.packb({**HELLO, "id": 7, "filler": bytes(filler - (len(frame) - length))})
    assert len(frame) == length
    return frame


# Access


def test_wrong_server_key_gets_silence(site: Site) -> None:
    """A client that expects another server's key is not answered."""
    with Client(site.server.port, new_keys().public) as stranger:
        stranger.send("hello")
        assert not stranger.socket.poll(SILENCE_MS)
    site.admin.ask("hello")


@pytest.mark.parametrize("socket_type", [zmq.DEALER, zmq.REQ])
def test_plaintext_gets_silence(site: Site, socket_type: int) -> None:
    """A client without CURVE is not answered."""
    plain: zmq.Socket[bytes] = zmq.Context.instance().socket(socket_type)
    with plain:
        plain.setsockopt(zmq.LINGER, 0)
        plain.connect(f"tcp://127.0.0.1:{site.server.port}")
        plain.send(msgpack.packb({**HELLO, "id": 1}))
        assert not plain.poll(SILENCE_MS)
    site.admin.ask("hello")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 200, bytes(64), b""])
def test_foreign_tcp_gets_nothing(site: Site, data: bytes) -> None:
    """A TCP peer that does not speak ZeroMQ learns nothing and disturbs nobody."""
    with socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as connection:
        connection.sendall(data)
        site.admin.ask("hello")


def test_chosen_routing_ids(site: Site) -> None:
    """Requests from a connection that chose its own routing id are dropped, whatever the id."""
    poller = zmq.Poller()
    for routing_id in (b"x", b"12345", b"\x00abc", b"\x00abcdef", b"\x01" * 5):
        chooser = site.client(routing_id=routing_id)
        chooser.send("hello")
        poller.register(chooser.socket, zmq.POLLIN)
    site.admin.ask("hello")
    assert poller.poll(SILENCE_MS) == []


# Prints from which numbers libzmq counts its ids for the first sockets of a process whose rand nobody seeded.
_FIRST_IDS = """
import ctypes
libc = ctypes.CDLL(None)
for _ in range(4):
    low, high = libc.rand() & 0xFFFFFFFF, libc.rand() & 0xFFFFFFFF
    print((high << 31 | low) & 0xFFFFFFFF)
"""


@pytest.mark.skipif(ctypes.util.find_library("c") is None, reason="needs a libc with a default rand seed")
def test_foretold_routing_id_does_not_abort(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A client that takes the id of a connection yet to come, as an unseeded rand gives it, ends nothing."""
    done = subprocess.run([sys.executable, "-c", _FIRST_IDS], capture_output=True, check=True, text=True)
    with Site(tmp_path_factory.mktemp("foretold")) as site:
        for first in map(int, done.stdout.split()):
            for ahead in range(16):  # the first are used up before this client comes
                foretold = b"\x00" + ((first + ahead) % 2**32).to_bytes(4)
                site.client(routing_id=foretold).send("hello")
        for _ in range(24):
            site.client().ask("hello")
        assert site.server.exited() is None, site.server.stderr()


# Envelopes


def test_req_client_is_answered(site: Site) -> None:
    """The empty delimiter of a REQ socket is mirrored."""
    with site.client(socket_type=zmq.REQ) as client:
        for _ in range(3):
            client.ask("hello")


@pytest.mark.parametrize(
    "around",
    [
        ([b"", b""], []),
        ([b"x"], []),
        ([], [b""]),
        ([], [b"x"]),
        ([b""], [b"x"]),
        ([b""], [b""]),
    ],
)
def test_other_envelopes_are_dropped(client: Client, around: tuple[list[bytes], list[bytes]]) -> None:
    """A request in any other envelope is not answered; the next one is."""
    frame = msgpack.packb({**HELLO, "id": 666})
    client.socket.send_multipart([*around[0], frame, *around[1]])
    client.ask("hello")


def test_request_with_delimiter_from_dealer(client: Client) -> None:
    """A DEALER that writes the delimiter itself gets it back."""
    client.socket.send_multipart([b"", msgpack.packb({**HELLO, "id": 5})])
    assert client.socket.poll(15_000)
    delimiter, frame = client.socket.recv_multipart()
    assert delimiter == b""
    assert checked_reply(frame)["id"] == 5


# Sizes


@pytest.mark.parametrize("length", [60_000, 65_535, 65_536])
def test_long_requests_are_served(client: Client, length: int) -> None:
    """A request of at most 65,536 bytes is served."""
    reply = client.exchange(hello_of(length))
    assert (reply["ok"], reply["id"]) == (True, 7)


@pytest.mark.parametrize("length", [65_537, 100_000, 131_072])
def test_longer_requests_are_refused(client: Client, length: int) -> None:
    """A request of at most 131,072 bytes is refused by its size, with id 0."""
    reply = client.exchange(hello_of(length))
    assert reply["id"] == 0
    assert as_refused(reply).code == "too_large"


@pytest.mark.parametrize("length", [131_073, 140_000, 3_000_000])
def test_longest_requests_are_not_answered(client: Client, length: int) -> None:
    """A longer request ends its connection; the next one, on a new connection, is answered."""
    client.ask("hello")
    with client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
        client.socket.send(hello_of(length))
        assert monitor.poll(15_000), "the server did not hang up"
        client.socket.disable_monitor()
    reply = client.exchange(msgpack.packb({**HELLO, "id": 8}))
    assert (reply["ok"], reply["id"]) == (True, 8)


# Pipelines


def test_thousand_requests_under_way(client: Client) -> None:
    """A thousand requests sent without waiting are all answered, each once."""
    ids = [client.send("hello") for _ in range(1000)]
    assert all(reply["ok"] for reply in client.replies_to(ids).values())
    assert not client.socket.poll(0)


def test_peer_that_does_not_read(site: Site) -> None:
    """A client that sends and goes away leaves the others served."""
    for _ in range(5):
        with site.client() as rude:
            for _ in range(500):
                rude.send("hello")
        site.admin.ask("hello")


def test_patience(site: Site) -> None:
    """Of more requests than can be served at once, the ones that would wait too long are told so, not served late."""
    busy, crowd = site.admin, [site.client() for _ in range(40)]
    for client in crowd:
        client.ask("hello")
    site.server.signal(signal.SIGSTOP)  # so that it finds them all at once, however slowly they were sent
    slow = [busy.send("events", limit=1_000) for _ in range(300)]  # keeps the server at work while the crowd waits
    fields = {"product": "ATIES", "patience_ms": 1}
    sent = [(client, client.send("check", **fields)) for _ in range(150) for client in crowd]
    site.server.signal(signal.SIGCONT)
    assert all(reply["ok"] for reply in busy.replies_to(slow).values())
    replies = [
        reply
        for client in crowd
        for reply in client.replies_to(request_id for who, request_id in sent if who is client).values()
    ]
    refused = [as_refused(reply) for reply in replies if not reply["ok"]]
    assert 0 < len(refused) < len(replies)
    assert {item.code for item in refused} == {"unavailable"}
    assert all(item.detail["retry_after_s"] > 0 for item in refused)
    assert {key for item in refused for key in item.detail} == {"retry_after_s"}


# Discovery


def test_discovery(site: Site) -> None:
    """A unicast query at the TCP port's number is answered with exactly the document's keys."""
    beacon = discover("127.0.0.1", site.server.port)
    hello = site.admin.ask("hello")
    assert beacon.length <= QUERY_BYTES
    assert beacon.content == {
        "server_id": hello["server_id"],
        "name": hello["name"],
        "version": hello["version"],
        "port": site.server.port,
        "key": zmq.utils.z85.decode(site.server.server_key),
    }


MALFORMED = [
    b"",
    b"ALSQ",
    query(bytes(16))[:-1],
    query(bytes(16)) + b"\0",
    b"ALSA" + query(bytes(16))[4:],
    b"ALSQ\x02" + query(bytes(16))[5:],
    b"ALSQ\x00" + query(bytes(16))[5:],
    bytes(QUERY_BYTES),
    random.Random(3).randbytes(QUERY_BYTES),
    random.Random(4).randbytes(60_000),
]


def test_malformed_queries_get_silence(site: Site) -> None:
    """Of many datagrams only the well-formed query is answered, with its own nonce."""
    target, nonce = ("127.0.0.1", site.server.port), secrets.token_bytes(16)
    with udp_socket() as opened:
        for datagram in MALFORMED:
            opened.sendto(datagram, target)
        opened.sendto(query(nonce), target)
        assert read_beacon(opened.recv(65_536)).nonce == nonce
        opened.settimeout(SILENCE_MS / 1000)
        with pytest.raises(TimeoutError):
            opened.recv(65_536)
