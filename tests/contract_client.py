"""A client of the license server written from the protocol document alone, importing nothing of this project.

It speaks CURVE, msgpack, serial numbers, key files and discovery datagrams with its own code, so that a
mistake in the project's own modules cannot hide itself on both sides of the wire.
"""

import base64
import hashlib
import re
import secrets
import socket
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgpack
import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from zmq.utils import z85

REPLY_TIMEOUT_MS = 15_000  # far above what a reply takes, for machines that do much else
DATAGRAM_TIMEOUT_S = 5.0
QUERY_BYTES = 512
SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# The keys of the document's tables.
ENVELOPE = {"v", "id", "ok", "time"}
LEASE = {
    *("product", "product_name", "serial", "serial_id", "host", "address", "mac", "kind", "components"),
    *("version", "acquired_at", "renewed_at", "renew_by", "state"),
}
LICENSE = {
    *("product", "product_name", "serial", "serial_id", "imported_at", "expires_at", "trial", "total"),
    *("free", "used", "state"),
}
EVENT = {
    *("seq", "time", "kind", "product", "serial_id", "mac", "host", "component", "actor", "count", "detail"),
}
POOL = {
    *("product", "product_name", "total", "free", "used", "lapsed", "on_expired", "denied_24h"),
    *("expiring_30d", "next_expiry"),
}
USAGE = {"hour", "used_max", "total", "denied", "granted", "lapsed"}
ADMIN = {"key", "name", "role", "added_at", "added_by"}
IMPORTED = {"line", "serial_id", "result", "message"}
DAY_S = 86_400
DAY_ZERO_S = 946_684_800  # 2000-01-01 UTC


class Keys(NamedTuple):
    """A CURVE key pair as Z85 text in bytes, the way ZeroMQ takes it."""

    public: bytes
    secret: bytes

    @property
    def raw(self) -> bytes:
        """The public key as it goes over the wire: 32 bytes."""
        return bytes(z85.decode(self.public))


def new_keys() -> Keys:
    """Make a key pair of one's own."""
    return Keys(*zmq.curve_keypair())


def read_keys(path: Path) -> Keys:
    """Read both halves from a `*.key_secret` file."""
    text = path.read_text(encoding="ascii")
    return Keys(_quoted(text, "public-key"), _quoted(text, "secret-key"))


def read_public_key(path: Path) -> bytes:
    """Read a public key, as Z85, from a `*.key` file."""
    return _quoted(path.read_text(encoding="ascii"), "public-key")


def _quoted(text: str, name: str) -> bytes:
    found = re.search(rf'^\s*{name}\s*=\s*"([^"]{{40}})"\s*$', text, re.MULTILINE)
    assert found is not None, f"the key file has no {name}"
    return found[1].encode("ascii")


class Refused(NamedTuple):
    """A refusal's own keys."""

    code: str
    message: str
    detail: dict[str, Any]


class Client:
    """One socket to the server; checks the frame around every reply, and leaves its content to the test."""

    def __init__(
        self,
        port: int,
        server_key: bytes,
        keys: Keys | None = None,
        *,
        host: str = "127.0.0.1",
        socket_type: int = zmq.DEALER,
        routing_id: bytes = b"",
    ) -> None:
        self.keys = keys or new_keys()
        self._next_id = 0
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(socket_type)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.set_hwm(0)
        if routing_id:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        self.socket.setsockopt(zmq.CURVE_PUBLICKEY, self.keys.public)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, self.keys.secret)
        self.socket.connect(f"tcp://{host}:{port}")

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Make a request that must be granted; give the keys that are the operation's own."""
        reply = self.reply_to(self.send(operation, **fields))
        assert reply["ok"], f"{operation} was refused: {reply}"
        return {key: value for key, value in reply.items() if key not in ENVELOPE}

    def refused(self, operation: str, **fields: Any) -> Refused:
        """Make a request that must be refused."""
        return as_refused(self.reply_to(self.send(operation, **fields)))

    def rows(self, operation: str, **fields: Any) -> list[dict[str, Any]]:
        """Fetch all pages of a listing."""
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = self.ask(operation, after=after, **fields)
            assert set(page) == {"rows", "next"}
            found += page["rows"]
            if page["next"] is None:
                return found
            assert type(page["next"]) is str
            assert page["next"] != after
            after = page["next"]

    def send(self, operation: str, **fields: Any) -> int:
        """Send a request; give its id. Fields that are None are left out."""
        self._next_id += 1
        request = {"v": 1, "id": self._next_id, "op": operation}
        request |= {key: value for key, value in fields.items() if value is not None}
        self.send_map(request)
        return self._next_id

    def send_map(self, request: Mapping[Any, Any]) -> None:
        """Send any msgpack map."""
        self.socket.send(msgpack.packb(request))

    def receive(self, timeout_ms: int = REPLY_TIMEOUT_MS) -> dict[str, Any]:
        """Take the next reply, whatever it answers."""
        assert self.socket.poll(timeout_ms), "the server did not answer"
        return checked_reply(self.socket.recv())

    def reply_to(self, request_id: int) -> dict[str, Any]:
        """Take the next reply, which must carry this id."""
        reply = self.receive()
        assert reply["id"] == request_id
        return reply

    def exchange(self, frame: bytes) -> dict[str, Any]:
        """Send one frame of any bytes; give the reply."""
        self.socket.send(frame)
        return self.receive()

    def replies_to(self, request_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Take the replies to requests under way, which may come in any order."""
        waiting = set(request_ids)
        replies: dict[int, dict[str, Any]] = {}
        while waiting:
            reply = self.receive()
            waiting.remove(reply["id"])
            replies[reply["id"]] = reply
        return replies

    def wait_until(self, condition: Any, operation: str, **fields: Any) -> dict[str, Any]:
        """Repeat a request until its reply meets `condition`; give that reply."""
        for _ in range(100):
            reply = self.reply_to(self.send(operation, **fields))
            if condition(reply):
                return reply
            self.socket.poll(100)
        raise AssertionError(f"{operation} still answers {reply}")

    def close(self) -> None:
        """Close the socket; unsent requests are dropped."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked_reply(frame: bytes) -> dict[str, Any]:
    """Read a reply and check what is the same in all of them."""
    reply = msgpack.unpackb(frame)
    assert type(reply) is dict
    assert set(reply) >= ENVELOPE
    assert reply["v"] == 1
    assert type(reply["id"]) is int
    assert type(reply["time"]) is int
    assert type(reply["ok"]) is bool
    if not reply["ok"]:
        assert set(reply) == ENVELOPE | {"code", "message", "detail"}
        assert type(reply["code"]) is str
        assert type(reply["message"]) is str
        assert reply["message"].strip()
        assert "\n" not in reply["message"]
        assert type(reply["detail"]) is dict
    return reply


def as_refused(reply: Mapping[str, Any]) -> Refused:
    """Give a refusal's own keys; fails when the reply grants."""
    assert not reply["ok"], f"not refused: {reply}"
    return Refused(reply["code"], reply["message"], reply["detail"])


class Vendor:
    """Somebody who sells serial numbers: an Ed25519 key, and the writer of what it signs."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def pub_line(self) -> str:
        """The content of this vendor's `vendors/NAME.pub`."""
        return base64.b64encode(self.public).decode("ascii") + "\n"

    def issue(
        self,
        product_number: int,
        seats: int = 1,
        *,
        serial_id: bytes | None = None,
        last_day: int = 0,
        trial_days: int = 0,
        trial: bool = False,
        lock: bytes = bytes(10),
        format_number: int = 1,
        flags: int | None = None,
        issuer: bytes | None = None,
        signature: bytes | None = None,
    ) -> str:
        """Write a serial; the last four arguments make ones that no server should take."""
        head = struct.pack(
            ">BBHI8sHH2s10s",
            format_number,
            int(trial) if flags is None else flags,
            product_number,
            seats,
            serial_id or secrets.token_bytes(8),
            last_day,
            trial_days,
            issuer or hashlib.sha256(self.public).digest()[:2],
            lock,
        )
        signed = head + (signature or self._key.sign(b"ALS-SERIAL-1" + head))
        return serial_text(signed + zlib.crc32(signed).to_bytes(4))


def serial_text(data: bytes) -> str:
    """Write 100 bytes as 20 groups of 8 symbols."""
    assert len(data) == 100
    text = _symbols(int.from_bytes(data), 160)
    return "-".join(text[start : start + 8] for start in range(0, 160, 8))


def serial_bytes(text: str) -> bytes:
    """Read a serial's 100 bytes from its text."""
    number = 0
    for symbol in text.replace("-", ""):
        number = number * 32 + SYMBOLS.index(symbol)
    return number.to_bytes(100)


def short_id(product: str, serial: str) -> str:
    """Give a serial's short id: the product's code and 13 symbols of the serial id."""
    return f"{product}-{_symbols(int.from_bytes(serial_bytes(serial)[8:16]), 13)}"


def server_lock(server_key: bytes) -> bytes:
    """Give the lock of a serial for the server with this public key (Z85)."""
    return hashlib.sha256(z85.decode(server_key)).digest()[:10]


def _symbols(number: int, length: int) -> str:
    return "".join(SYMBOLS[number >> (5 * place) & 31] for place in reversed(range(length)))


def day_number(time_s: int) -> int:
    """Count days since 2000-01-01 UTC."""
    return (time_s - DAY_ZERO_S) // DAY_S


class Beacon(NamedTuple):
    """A discovery answer: the whole datagram's length, its nonce and its map."""

    length: int
    nonce: bytes
    content: dict[str, Any]


def query(nonce: bytes) -> bytes:
    """Write a well-formed discovery query."""
    return (b"ALSQ\x01" + nonce).ljust(QUERY_BYTES, b"\0")


def udp_socket() -> socket.socket:
    """Open a socket for discovery, broadcasts allowed."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.settimeout(DATAGRAM_TIMEOUT_S)
    return opened


def read_beacon(datagram: bytes) -> Beacon:
    """Read a discovery answer."""
    assert datagram[:5] == b"ALSA\x01"
    content = msgpack.unpackb(datagram[21:])
    assert type(content) is dict
    return Beacon(len(datagram), datagram[5:21], content)


def discover(address: str, port: int) -> Beacon:
    """Ask one address by UDP; a lost datagram is asked again."""
    nonce = secrets.token_bytes(16)
    with udp_socket() as opened:
        for _ in range(3):
            opened.sendto(query(nonce), (address, port))
            try:
                return read_beacon(opened.recv(65_536))
            except TimeoutError:
                continue
    raise AssertionError(f"no answer to discovery from {address}:{port}")
