"""Garbage over real connections: whatever comes, an honest client is served after it, by the same process.

Each test prints its seed when it fails; it is the only source of what is sent.
"""

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import msgpack
import psutil
import pytest
import zmq

from als.ledger.audit import Audit
from als.store.lmdb.store import LmdbStore
from contract_client import Client, checked_reply, discover, query, udp_socket
from fuzz_targets import CORPUS
from server_process import Site

SEED = random.SystemRandom().randrange(2**32)
FRAMES = 1_500
WINDOW = 100
MIB = 1 << 20
GROWN_BYTES_MAX = 64 * MIB  # the server's allocator and caches, far below what was sent to it

GOOD = [path.read_bytes() for path in sorted((CORPUS / "request_frames").iterdir())]
# What every ZeroMQ connection begins with: signature, version 3.1, mechanism, role, filler.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module, which must be the same process at its end, with books that agree."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site
        assert site.server.exited() is None, site.server.stderr()
        assert site.server.stop() == 0
        assert books(site.server.data_dir) == []
        assert "Traceback" not in site.server.stderr()


def books(data_dir: Path) -> list[str]:
    """Hold the books of a data folder against its leases."""
    store = LmdbStore(data_dir / "store")
    tx = store.snapshot()
    problems = Audit(tx).run()
    tx.abort()
    store.close()
    return problems


@pytest.fixture
def source() -> random.Random:
    """Where everything random in a test comes from."""
    print(f"seed {SEED}")  # noqa: T201 - shown when the test fails
    return random.Random(SEED)


def spoil(source: random.Random, frame: bytes) -> bytes:
    """Change, cut or lengthen a frame at a few places."""
    spoilt = bytearray(frame)
    for _ in range(source.randrange(1, 5)):
        at = source.randrange(len(spoilt) + 1)
        spoilt[at : at + source.randrange(4)] = source.randbytes(source.randrange(4))
    return bytes(spoilt)


def any_frame(source: random.Random) -> bytes:
    """Make a frame: any bytes, a good request, or one that is nearly good."""
    kind = source.randrange(8)
    if kind == 0:
        return source.randbytes(source.choice((1, 50, 5_000, 70_000)))
    if kind == 1:
        return source.choice(GOOD)
    return spoil(source, source.choice(GOOD))


@pytest.mark.parametrize("who", ["agent", "admin"])
def test_spoilt_requests(site: Site, source: random.Random, who: str) -> None:
    """Of frames that are nearly requests each one gets exactly one well-formed reply, and memory stays bounded."""
    client = site.client(None if who == "agent" else site.admin.keys)
    server = psutil.Process(site.server.pid)
    before = server.memory_info().rss
    for _ in range(FRAMES // WINDOW):
        for _ in range(WINDOW):
            client.socket.send(any_frame(source))
        for _ in range(WINDOW):
            client.receive()
    assert not client.socket.poll(0)
    assert server.memory_info().rss - before < GROWN_BYTES_MAX
    assert site.client(site.admin.keys).ask("hello")["your_role"] == "admin"


def test_random_envelopes(site: Site, source: random.Random) -> None:
    """Of messages of any number of frames only those of one request are answered, delimiters mirrored."""
    client = site.client()
    good = msgpack.packb({"v": 1, "id": 1, "op": "hello"})
    expected = 0
    for _ in range(300):
        frames = [source.choice((b"", b"", good, b"x", source.randbytes(9))) for _ in range(source.randrange(1, 5))]
        expected += len(frames) == 1 or (len(frames) == 2 and frames[0] == b"")
        client.socket.send_multipart(frames)
    marker = 2**60
    client.socket.send(msgpack.packb({"v": 1, "id": marker, "op": "hello"}))
    answered = 0
    while True:
        assert client.socket.poll(15_000)
        *envelope, frame = client.socket.recv_multipart()
        assert envelope in ([], [b""])
        if checked_reply(frame)["id"] == marker:
            break
        answered += 1
    assert answered == expected


def test_raw_connections(site: Site, source: random.Random) -> None:
    """TCP peers that begin like ZeroMQ and go on with garbage end nothing and disturb nobody."""
    for number in range(80):
        with socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as raw:
            greeting = GREETING if number % 3 else spoil(source, GREETING)
            command = bytes([source.randrange(8), source.randrange(256)]) + source.choice((b"\x05HELLO", b"\x05READY"))
            with contextlib.suppress(OSError):  # it may hang up at any byte
                raw.sendall(greeting + command + source.randbytes(source.choice((10, 194, 3_000))))
                if number % 4 == 0:
                    raw.shutdown(socket.SHUT_WR)
    site.client().ask("hello")


def test_connections_that_end_at_any_moment(site: Site, source: random.Random) -> None:
    """Clients that go away during the handshake, with requests under way, or with replies unread disturb nobody."""
    for number in range(40):
        with Client(site.server.port, site.server.server_key) as client:
            if number % 4:
                client.ask("hello")
            for _ in range(source.randrange(30)):
                client.socket.send(any_frame(source), zmq.NOBLOCK)
    site.client().ask("hello")


def test_any_datagrams(site: Site, source: random.Random) -> None:
    """Any datagrams are passed over, and the next query is answered."""
    target = ("127.0.0.1", site.server.port)
    with udp_socket() as udp:
        for number in range(600):
            datagram = spoil(source, query(source.randbytes(16)))
            if number % 5 == 0:
                datagram = source.randbytes(source.randrange(2_000))
            if len(datagram) != 512 or not datagram.startswith(b"ALSQ\x01"):
                udp.sendto(datagram, target)
    assert discover("127.0.0.1", site.server.port).content["port"] == site.server.port
