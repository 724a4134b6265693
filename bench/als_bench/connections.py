"""The load's ends: DEALERs over CURVE on loopback, each with a key pair of its own."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import zmq

from als import keyfile

SOCKETS_MAX = 65_536
FILES_PER_SOCKET = 2  # the connection, and what wakes the socket's owner
FILES_BESIDE = 64


class Connections:
    """`count` DEALERs, or one for each of `keys`. Keys stay the same over `disconnect` and `open`."""

    def __init__(self, count: int, keys: Sequence[keyfile.KeyPair] = ()) -> None:
        self.keys = list(keys) or [keyfile.generate() for _ in range(count)]
        self.sockets: list[zmq.Socket[bytes]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = SOCKETS_MAX

    @property
    def public_keys(self) -> list[bytes]:
        """The keys by which the server knows them, in their order."""
        return [pair.public for pair in self.keys]

    def open(self, port: int, server_key: bytes) -> None:
        """Connect all to a port on loopback; the handshakes go on beside."""
        for pair in self.keys:
            self.open_one(pair, port, server_key)

    def open_one(self, pair: keyfile.KeyPair, port: int, server_key: bytes) -> "zmq.Socket[bytes]":
        """Connect one more."""
        dealer = self._context.socket(zmq.DEALER)
        self.sockets.append(dealer)
        dealer.linger = 0
        dealer.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
        dealer.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        return dealer

    def disconnect(self) -> None:
        """Close the sockets; `open` may be called again."""
        for dealer in self.sockets:
            dealer.close(0)
        self.sockets.clear()

    def close(self) -> None:
        """Let go of everything."""
        self.disconnect()
        self._context.term()


class Bare(NamedTuple):
    """A socket's `recv` and `send` without pyzmq's Python around them, which costs 0.3 µs a message."""

    receive: Callable[..., bytes]
    send: Callable[..., None]


def bare(socket: "zmq.Socket[bytes]") -> Bare:
    """Give the methods of a socket's compiled base class."""
    base: Any = super(zmq.Socket, socket)
    return Bare(base.recv, base.send)


def waiting(dealer: "zmq.Socket[bytes]") -> Iterator[bytes]:
    """Give the replies that have come to a socket."""
    with contextlib.suppress(zmq.Again):
        while True:
            yield dealer.recv(zmq.NOBLOCK)


def sockets_possible(wanted: int = 0) -> int:
    """Raise the limit of open files as far as needed and allowed; give how many sockets fit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return SOCKETS_MAX
    needed = wanted * FILES_PER_SOCKET + FILES_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, max(hard, needed)):  # beyond the hard limit only an administrator may go
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return SOCKETS_MAX
    return min((soft - FILES_BESIDE) // FILES_PER_SOCKET, SOCKETS_MAX)
