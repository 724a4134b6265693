"""One connection to one server: requests out, replies in, each reply to the request it belongs to.

It knows sockets and ids, not what an operation means, how a server is found or whether its key may be
trusted.
"""

import math
import os
import secrets
import socket as network
from collections import deque
from types import TracebackType
from typing import Any, Self

import zmq

from als import clock, keyfile, protocol
from als_agents.errors import NoAnswer, Refused

__all__ = ["TIMEOUT_S_DEFAULT", "Client", "NoAnswer", "Refused", "granted"]

TIMEOUT_S_DEFAULT = 5.0
PROBE_S_MAX = 1.0  # a host with several addresses: how long one of them may take to accept
SOCKETS_MAX = 8_192  # a fleet of simulated computers in one process; ZeroMQ's default is 1,023
RECONNECT_MS_MIN = 100
RECONNECT_MS_MAX = 3_000  # a server that is back is found again within this
RECONNECT_NEVER = -1  # ZeroMQ's word for it
ENDS = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)  # whichever comes, a connection that does not reconnect is over
MESSAGE_BYTES_MAX = protocol.REPLY_BYTES_MAX + protocol.CURVE_OVERHEAD_BYTES

Context = zmq.Context[zmq.Socket[bytes]]
Reply = dict[str, Any]

_contexts: dict[int, Context] = {}  # by process: a context does not survive a fork
_inherited: list[zmq.Socket[bytes]] = []  # a parent's sockets: kept, for here they can't even be closed


def _shared_context() -> Context:
    """Give this process's own context; ZeroMQ's global one belongs to the program around us."""
    pid = os.getpid()
    context = _contexts.get(pid)
    if context is None:
        made: Context = zmq.Context()
        made.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        context = _contexts.setdefault(pid, made)
        if context is not made:  # another thread was faster
            made.term()
    return context


def granted(reply: Reply) -> Reply:
    """Give back a reply that says yes. Raises Refused for one that says no."""
    if not reply["ok"]:
        detail = reply.get("detail")
        raise Refused(reply["code"], reply["message"], detail if isinstance(detail, dict) else None)
    return reply


class Client:
    """A connection to the server at `host`:`port` whose CURVE public key is `server_key` (32 bytes).

    Nothing is opened before the first request. Not to be shared between threads. After a fork the child may
    go on with it: it opens a connection of its own, and what was under way stays with the parent.
    """

    def __init__(
        self,
        host: str,
        port: int,
        server_key: bytes,
        identity: keyfile.KeyPair,
        *,
        context: Context | None = None,
        reconnects: bool = True,
    ) -> None:
        """Use `context` instead of this process's shared one, in the process that made it.

        With `reconnects` False a connection that broke stays broken: `is_broken` tells, the next `send` raises
        NoAnswer, and after `close` another opens. So a fleet that lost its server comes back at its own pace,
        each at its next request.
        """
        self.host = host
        self.port = port
        self.server_key = server_key
        self._identity = identity
        self._context = context
        self._reconnects = reconnects
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._pid = os.getpid()
        # A random start: an answer meant for an earlier connection, or another program's, fits no request of ours.
        self._next_id = secrets.randbits(48) + 1
        self._under_way: set[int] = set()
        self._early: deque[tuple[int, Reply]] = deque()

    def __enter__(self) -> Self:
        """Give the client itself; leaving closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """The DEALER, for a poller to wait on; connected when it was not.

        `close` and `request` may replace it. Raises NoAnswer when the host's name is unknown.
        """
        if self._pid != os.getpid():
            self._forget_parent()
        if self._socket is None:
            self._socket = self._open()
        return self._socket

    @property
    def pollables(self) -> list[zmq.Socket[bytes]]:
        """Give the sockets on which a reply or the connection's end shows; none before the first request."""
        return [socket for socket in (self._socket, self._monitor) if socket is not None]

    @property
    def is_broken(self) -> bool:
        """Say whether nothing can come any more: nobody listens there, or the connection has ended.

        Always False for one that reconnects. Replies that came before the end can still be received.
        """
        return self._monitor is not None and bool(self._monitor.poll(0))

    def request(self, operation: str, *, timeout_s: float = TIMEOUT_S_DEFAULT, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises Refused when the server says no, NoAnswer when nothing comes within `timeout_s`. After NoAnswer
        the connection is dropped, and with it what still waited in it: a request that was given up is not
        delivered minutes later. (Unless others are under way by `send`; their replies are kept for
        `receive`.)
        """
        fields.setdefault("patience_ms", max(1, math.ceil(timeout_s * 1000)))
        deadline_s = clock.monotonic_s() + timeout_s
        others = set(self._under_way)
        try:
            request_id = self.send(operation, **fields)
            reply = self._wait_for(request_id, timeout_s, deadline_s)
        except NoAnswer:
            if not others:
                self.close()
            raise
        finally:
            self._under_way &= others
        return granted(reply)

    def send(self, operation: str, **fields: Any) -> int:
        """Send a request without waiting and give its id; keys whose value is None are left out.

        At most protocol.PIPELINE_REQUESTS_MAX may be under way; `forget` those that no longer matter. Raises
        NoAnswer when the connection takes no more, Refused (`too_large`) for one that the server would not
        read.
        """
        assert len(self._under_way) < protocol.PIPELINE_REQUESTS_MAX, "too many requests under way"
        socket = self.socket
        if self.is_broken:
            raise NoAnswer(f"the connection to {self.host}:{self.port} ended; try again")
        request_id = self._next_id
        frame = protocol.encode_request(request_id, operation, fields)
        if len(frame) > protocol.REQUEST_BYTES_MAX:
            raise Refused("too_large", f"A request has at most {protocol.REQUEST_BYTES_MAX} bytes.")
        try:
            socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            raise NoAnswer(f"{self.host}:{self.port} takes no more requests; try again later") from None
        self._next_id += 1
        self._under_way.add(request_id)
        return request_id

    def receive(self, timeout_s: float) -> tuple[int, Reply]:
        """Give a request's id and the reply to it as it came, a refusal too (see `granted`).

        The id is 0 for a refusal of a request that the server could not read. Replies to requests that nobody
        waits for are passed over. Raises NoAnswer when none comes within `timeout_s`; what is under way stays
        so.
        """
        if self._early:
            return self._early.popleft()
        return self._next_reply(timeout_s, clock.monotonic_s() + timeout_s)

    def forget(self, request_id: int) -> None:
        """Stop waiting for a request: its reply will be passed over."""
        self._under_way.discard(request_id)

    @property
    def under_way(self) -> int:
        """How many requests that were sent have no reply yet."""
        return len(self._under_way)

    def close(self) -> None:
        """Drop the connection and all that is under way; a later request opens a new one."""
        if self._pid != os.getpid():
            self._forget_parent()
        self._under_way.clear()
        self._early.clear()
        if self._socket is not None:
            _close(self._socket, self._monitor)
        self._socket = self._monitor = None

    def _wait_for(self, request_id: int, timeout_s: float, deadline_s: float) -> Reply:
        """Wait for one reply, and keep those to other requests for `receive`."""
        while True:
            got, reply = self._next_reply(timeout_s, deadline_s)
            if got == request_id or (got == 0 and not self._under_way - {request_id}):
                return reply
            self._early.append((got, reply))

    def _next_reply(self, timeout_s: float, deadline_s: float) -> tuple[int, Reply]:
        """Read replies until one fits a request under way."""
        socket = self.socket
        while True:
            rest_ms = max(0, math.ceil((deadline_s - clock.monotonic_s()) * 1000))
            if not self._wait(socket, rest_ms):
                raise NoAnswer(
                    f"{self.host}:{self.port} did not answer within {timeout_s:.3g} s; "
                    "check that the server runs there and that no firewall is between"
                )
            frames = socket.recv_multipart(zmq.NOBLOCK)
            try:
                reply = protocol.decode_reply(frames[-1])
            except ValueError:
                continue  # no reply of this protocol answers nothing
            request_id = reply["id"]
            if request_id in self._under_way:
                self._under_way.discard(request_id)
                return request_id, reply
            if request_id == 0 and not reply["ok"] and self._under_way:
                return 0, reply

    def _wait(self, socket: zmq.Socket[bytes], rest_ms: int) -> bool:
        """Wait until a message has come, or the connection that does not reconnect has ended; say whether one has."""
        if self._monitor is None:
            return bool(socket.poll(rest_ms))
        poller = zmq.Poller()
        for pollable in self.pollables:
            poller.register(pollable, zmq.POLLIN)
        return any(ready is socket for ready, _ in poller.poll(rest_ms))

    def _open(self) -> zmq.Socket[bytes]:
        """Make the DEALER and let it connect; whether anybody is there shows when a reply comes."""
        endpoint = _endpoint(self.host, self.port)
        context = self._context if self._context is not None else _shared_context()
        try:
            socket = context.socket(zmq.DEALER)
            self._connect(socket, endpoint)
        except zmq.ZMQError as error:  # this program has too many files open, say
            raise NoAnswer(f"no connection to {self.host}:{self.port} can be opened: {error}") from None
        return socket

    def _connect(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Set a DEALER up and let it connect; closed where that fails. Raises ZMQError."""
        try:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.IPV6, 1)
            socket.set(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
            socket.set(zmq.RECONNECT_IVL, RECONNECT_MS_MIN if self._reconnects else RECONNECT_NEVER)
            socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
            socket.set(zmq.CURVE_SERVERKEY, self.server_key)
            socket.set(zmq.CURVE_PUBLICKEY, self._identity.public)
            socket.set(zmq.CURVE_SECRETKEY, self._identity.secret)
            if not self._reconnects:
                self._monitor = socket.get_monitor_socket(ENDS)
            socket.connect(endpoint)
        except BaseException:
            socket.disable_monitor()  # the half that there may be, too
            _close(socket, self._monitor)
            self._monitor = None
            raise

    def _forget_parent(self) -> None:
        """Leave the parent's connection and context alone; neither works on this side of a fork."""
        _inherited.extend(self.pollables)
        self._pid = os.getpid()
        self._socket = self._monitor = None
        self._context = None
        self._next_id = secrets.randbits(48) + 1
        self._under_way.clear()
        self._early.clear()


def _close(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes] | None) -> None:
    """Close a DEALER and its monitor.

    The monitoring ends first: an event for a monitor that is closed would hold up ZeroMQ's only thread for good.
    """
    if monitor is not None:
        socket.disable_monitor()
        monitor.close(0)
    socket.close(0)


def _endpoint(host: str, port: int) -> str:
    """Name a host and port for ZeroMQ by a numeric address. Raises NoAnswer when the name is unknown.

    ZeroMQ tries one address of a name for ever: `localhost` would be ::1 even where the server listens on
    127.0.0.1 alone. So of several addresses the first that accepts a connection is taken.
    """
    try:
        found = network.getaddrinfo(host, port, type=network.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NoAnswer(f"the name {host!r} is not known here; check it, or give an address") from None
    candidates = {(family, address): None for family, _, _, _, address in found}
    chosen = next(iter(candidates))[1]
    if len(candidates) > 1:
        chosen = next((address for family, address in candidates if _accepts(family, address)), chosen)
    numeric = network.getnameinfo(chosen, network.NI_NUMERICHOST | network.NI_NUMERICSERV)[0]
    return f"tcp://[{numeric}]:{port}" if ":" in numeric else f"tcp://{numeric}:{port}"


def _accepts(family: int, address: Any) -> bool:
    """Say whether something listens at a socket address."""
    try:
        with network.socket(family, network.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_S_MAX)
            probe.connect(address)
            return True
    except OSError:
        return False
