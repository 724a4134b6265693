"""Who is there: servers found by broadcast, or one server asked for its name and key.

It knows the network's UDP side alone. Whether a key that it brings home may be trusted is decided elsewhere.
"""

import os
import selectors
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import psutil

from als import beacon, clock
from als.protocol import PORT

WAIT_S_DEFAULT = 1.0
ANSWERS_MAX = 10_000  # a search ends with what it has: nobody fills the memory of who searches
EVERYBODY = "255.255.255.255"
EVERYBODY_HERE = "127.255.255.255"  # is heard where there is no network but loopback
SENDINGS = 2  # the second, at half time, is for datagrams that got lost

Address = tuple[str, int]


class FoundServer(NamedTuple):
    """A server as it describes itself: `key` is its CURVE public key, `addresses` are (host, TCP port)."""

    server_id: str
    name: str
    version: str
    key: bytes
    addresses: tuple[Address, ...]


def discover(
    wait_s: float = WAIT_S_DEFAULT, port: int = PORT, destinations: Sequence[str] | None = None
) -> list[FoundServer]:
    """Search by broadcast for `wait_s` and give every server, by name, one row for each server id and key.

    `port` is the servers' discovery port; `destinations` replaces this machine's broadcast addresses.
    """
    hosts = broadcast_addresses() if destinations is None else destinations
    found: dict[tuple[str, bytes], tuple[beacon.Answer, dict[Address, None]]] = {}
    with _Question([(socket.AF_INET, (host, port)) for host in hosts]) as question:
        for source, answer in question.answers(wait_s):
            row = found.setdefault((answer.server_id, answer.key), (answer, {}))
            row[1][(source, answer.port)] = None
    servers = [_server(answer, tuple(addresses)) for answer, addresses in found.values()]
    return sorted(servers, key=lambda server: (server.name.casefold(), server.server_id, server.key))


def ask(
    host: str, port: int | None = None, wait_s: float = WAIT_S_DEFAULT, discovery_port: int = PORT
) -> FoundServer | None:
    """Ask the server at `host`:`port` for itself; None when nothing fitting comes within `wait_s`.

    Asked are UDP `port` and `discovery_port`, and only an answer that names `port` counts; with no `port` any
    does. Its one address is `host` as given. A host that cannot be resolved is one that does not answer.
    """
    targets = _targets(host, dict.fromkeys(p for p in (port, discovery_port) if p))
    with _Question(targets) as question:
        for _, answer in question.answers(wait_s):
            if port is None or answer.port == port:
                return _server(answer, ((host, answer.port),))
    return None


def broadcast_addresses() -> list[str]:
    """List where a query must go so that every server near this machine hears it."""
    own = [
        entry.broadcast
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and entry.broadcast
    ]
    return list(dict.fromkeys([EVERYBODY, *own, EVERYBODY_HERE]))


def _server(answer: beacon.Answer, addresses: tuple[Address, ...]) -> FoundServer:
    """Take an answer's words, fit to be shown: whoever answers may try to play with a person's terminal."""
    server_id, name, version = (
        "".join(c if c.isprintable() else "?" for c in text) for text in (answer.server_id, answer.name, answer.version)
    )
    return FoundServer(server_id, name, version, answer.key, addresses)


def _targets(host: str, ports: Iterable[int]) -> list[tuple[int, Address]]:
    """Give family and socket address for every address of a host and every port, ports first asked first."""
    targets: dict[tuple[int, Address], None] = {}
    for port in ports:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return []
        for family, _, _, _, address in rows:
            targets[(family, address)] = None  # type: ignore[index]  # (host, port) or, for IPv6, two more
    return list(targets)


class _Question:
    """One query on its way to several places, and the answers to it.

    An answer has the query's nonce and comes from a port that was asked. Answers need not come from the
    address that was asked: a server with several addresses answers from the one that is nearest to us.
    """

    def __init__(self, targets: Sequence[tuple[int, Address]]) -> None:
        self._nonce = os.urandom(beacon.NONCE_BYTES)
        self._targets = targets
        self._ports = {address[1] for _, address in targets}
        self._sockets: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "_Question":
        for family in {family for family, _ in self._targets}:
            try:
                udp = socket.socket(family, socket.SOCK_DGRAM)
            except OSError:
                continue  # a machine without IPv6
            udp.setblocking(False)
            if family == socket.AF_INET:
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            self._sockets[family] = udp
            self._selector.register(udp, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for udp in self._sockets.values():
            udp.close()

    def answers(self, wait_s: float) -> Iterable[tuple[str, beacon.Answer]]:
        """Send, then give (source host, answer) as they come, until `wait_s` is over."""
        begin_s = clock.monotonic_s()
        sent = count = 0
        while self._sockets and count < ANSWERS_MAX:
            now_s = clock.monotonic_s()
            if sent < SENDINGS and now_s >= begin_s + sent * wait_s / SENDINGS:
                self._send()
                sent += 1
            until_s = begin_s + (sent / SENDINGS if sent < SENDINGS else 1.0) * wait_s
            if now_s >= begin_s + wait_s:
                return
            for key, _ in self._selector.select(max(0.0, until_s - now_s)):
                got = self._receive(key.fileobj)  # type: ignore[arg-type]  # only sockets were registered
                if got is not None:
                    count += 1
                    yield got

    def _send(self) -> None:
        query = beacon.encode_query(self._nonce)
        for family, address in self._targets:
            udp = self._sockets.get(family)
            try:
                if udp is not None:
                    udp.sendto(query, address)
            except OSError:
                continue  # no route there, or an interface without broadcast: the other destinations count

    def _receive(self, udp: socket.socket) -> tuple[str, beacon.Answer] | None:
        try:
            datagram, source = udp.recvfrom(beacon.QUERY_BYTES + 1)
        except OSError:
            return None  # Windows reports a closed port here
        decoded = beacon.decode_answer(datagram)
        if decoded is None or decoded[0] != self._nonce or source[1] not in self._ports:
            return None
        return source[0], decoded[1]
