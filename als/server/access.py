"""Who is at the other end: the ZAP handler, answered in the server's own poller, and the encrypted ROUTER.

Any well-formed CURVE key is let in and becomes the connection's User-Id as 40 characters of Z85 (raw bytes would be cut
at the first NUL); what a key may do is the ledger's business.
"""

import ctypes
import ctypes.util
import os
from functools import lru_cache
from typing import Protocol

import zmq
import zmq.backend
from zmq.utils import z85

from als import keyfile
from als.protocol import CURVE_OVERHEAD_BYTES, KEY_BYTES, PIPELINE_REQUESTS_MAX, REFUSED_BYTES_MAX

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"als"
HANDSHAKE_MS = 5_000  # a connection that says nothing is closed
# A peer that vanished without a word is found by the system's keepalive, within two minutes. ZeroMQ's own heartbeats
# would do, but each looks through the timers of all connections: with 10,000 of them that took 14 % of a core.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_EVERY_S = 10
KEEPALIVE_LOST_MAX = 6
RECEIVE_QUEUE_MAX = 100  # a connection that floods waits in its own socket, not in our memory
# A queue counts what has left it in steps of half its length; so this lets PIPELINE_REQUESTS_MAX replies be under way.
SEND_QUEUE_MAX = 2 * PIPELINE_REQUESTS_MAX
SOCKETS_MAX = 65_536
LINGER_MS = 1_000  # at a stop, replies that were promised still leave
ROUTING_ID_BYTES = 5
SENDERS_CACHED_MAX = 100_000  # Z85 takes 10 µs to read; 20 MiB hold the keys of a large fleet


class Properties(Protocol):
    """What libzmq tells of a message; zmq.Frame is one, and so is a dictionary."""

    def get(self, name: bytes, /) -> str | None:
        """Give a property. A zmq.Frame raises zmq.ZMQError where it has none."""
        ...


def peer_of(frame: Properties) -> str:
    """Ask a message where it came from; "" when nobody knows."""
    try:
        return frame.get(b"Peer-Address") or ""  # half of what a str as name costs
    except (zmq.ZMQError, ValueError):
        return ""


def use_lean_frames() -> None:
    """Have pyzmq make the frames that it receives without a dictionary each, for the whole process.

    zmq.Frame adds `frame["name"]` and attributes of one's own to its base, and costs a microsecond more, a tenth of all
    that a renewal takes. pyzmq looks the class up each time, so this is enough; if it does not, frames are slower.
    """
    zmq.Frame = zmq.backend.Frame  # type: ignore[misc, assignment]


def seed_routing_ids() -> None:
    """Make libzmq's first routing id unpredictable; call before the first socket.

    libzmq counts ids up from libc's rand(), which is the same in every process. A client that chooses the id which the
    next connection would get makes libzmq abort the process.
    """
    libc = ctypes.CDLL(ctypes.util.find_library("c") if os.name != "nt" else "msvcrt")
    libc.srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "little")))


def open_zap(context: "zmq.Context[zmq.Socket[bytes]]") -> "zmq.Socket[bytes]":
    """Bind the ZAP handler; do it before the ROUTER is bound, and close it last."""
    zap = context.socket(zmq.REP)
    zap.linger = 0
    zap.bind(ZAP_ENDPOINT)
    return zap


def answer_zap(zap: "zmq.Socket[bytes]") -> None:
    """Answer the connections that wait at the door."""
    while True:
        try:
            frames = zap.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        version, sequence = frames[0], frames[1]
        mechanism, credentials = frames[5], frames[6:]
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == KEY_BYTES:
            zap.send_multipart([version, sequence, b"200", b"OK", z85.encode(credentials[0]), b""])
        else:
            zap.send_multipart([version, sequence, b"400", b"CURVE only", b"", b""])


def open_router(
    context: "zmq.Context[zmq.Socket[bytes]]", keys: keyfile.KeyPair, bind: str, port: int
) -> "tuple[zmq.Socket[bytes], int]":
    """Bind the ROUTER; give it and the port it got. `bind` "" is every address. Raises zmq.ZMQError."""
    router = context.socket(zmq.ROUTER)
    try:
        router.linger = LINGER_MS
        router.ipv6 = True
        router.router_mandatory = True
        router.curve_server = True
        router.curve_publickey = z85.encode(keys.public)
        router.curve_secretkey = z85.encode(keys.secret)
        router.zap_domain = DOMAIN
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        router.handshake_ivl = HANDSHAKE_MS
        router.tcp_keepalive = 1
        router.tcp_keepalive_idle = KEEPALIVE_IDLE_S
        router.tcp_keepalive_intvl = KEEPALIVE_EVERY_S
        router.tcp_keepalive_cnt = KEEPALIVE_LOST_MAX
        router.rcvhwm = RECEIVE_QUEUE_MAX
        router.sndhwm = SEND_QUEUE_MAX
        router.maxmsgsize = REFUSED_BYTES_MAX + CURVE_OVERHEAD_BYTES
        router.backlog = 4_096
        host = f"[{bind}]" if ":" in bind and not bind.startswith("[") else bind or "*"
        router.bind(f"tcp://{host}:{port or '*'}")
        endpoint = str(router.getsockopt_string(zmq.LAST_ENDPOINT))
    except BaseException:
        router.close(0)
        raise
    return router, int(endpoint.rsplit(":", 1)[1])


@lru_cache(SENDERS_CACHED_MAX)
def sender_key(user_id: str) -> bytes:
    """Give a User-Id's 32 bytes."""
    return keyfile.from_z85(user_id)
