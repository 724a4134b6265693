"""The server's sockets and its one loop: poll, read the clock once, drain up to a bound, one turn, send all replies.

Nothing here waits for a peer: a reply that cannot be sent at once is dropped and counted.
"""

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import zmq

from als import keyfile
from als.clock import Clock
from als.server import access
from als.server.answering import Answering
from als.server.backlog import Backlog, Letter
from als.server.core import Arrival, Core, refuse_busy

BATCH_MAX = 1_000  # requests in a turn: some 10 ms, and one fsync for all of them
DRAINED_MAX = 2 * BATCH_MAX  # taken from the sockets in a turn: who waits shall be seen soon
POLL_MS = 1_000

log = logging.getLogger("als")


class Sockets:
    """The context and what is open in it; closed in the order that ZAP needs."""

    def __init__(self, keys: keyfile.KeyPair, bind: str, port: int) -> None:
        """Bind ZAP, then the ROUTER. Raises zmq.ZMQError."""
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with contextlib.suppress(zmq.ZMQError):
            self.context.max_sockets = access.SOCKETS_MAX
        self.zap = access.open_zap(self.context)
        try:
            self.router, self.port = access.open_router(self.context, keys, bind, port)
        except BaseException:
            self.zap.close()
            self.context.term()
            raise
        self.discovery: list[socket.socket] = []

    def close(self) -> None:
        """Let queued replies leave, then close everything."""
        for udp in self.discovery:
            udp.close()
        self.router.close()
        self.zap.close()
        self.context.term()


class Loop:
    """Runs turns until told to stop. `wake` becomes readable when a signal has come."""

    def __init__(self, core: Core, sockets: Sockets, answering: Answering, clock: Clock, wake: socket.socket) -> None:
        self._core = core
        self._sockets = sockets
        self._answering = answering
        self._clock = clock
        self._wake = wake
        self._stopping = False
        self.every_second: Callable[[], None] = lambda: None
        self._poller = zmq.Poller()
        for readable in (sockets.router, sockets.zap, *sockets.discovery, wake):
            self._poller.register(readable, zmq.POLLIN)
        self._second = 0
        self._backlog = Backlog()

    def run(self) -> None:
        """Serve until the wake-up socket says stop."""
        timeout_ms = 0
        while not self._stopping:
            events = dict(self._poller.poll(timeout_ms))
            reading = self._clock.read()
            if self._wake.fileno() in events:
                self._stopping = True
            if self._sockets.zap in events:
                access.answer_zap(self._sockets.zap)
            for udp in self._sockets.discovery:
                if udp.fileno() in events:
                    self._answering.answer_all(udp, reading.monotonic_s)
            if int(reading.monotonic_s) != self._second:
                self._second = int(reading.monotonic_s)
                self.every_second()
            if self._sockets.router in events:
                self._drain(reading.monotonic_s)
            letters = self._backlog.take(BATCH_MAX)
            if letters or self._core.needs_turn(reading):
                arrivals = [
                    Arrival(letter.body, letter.sender, _Peer(letter.frame), reading.monotonic_s - letter.arrived_s)
                    for letter in letters
                ]
                self._send_all(letters, self._core.turn(arrivals, reading))
            timeout_ms = 0 if self._backlog or self._core.needs_turn(reading) else POLL_MS

    def _drain(self, monotonic_s: float) -> None:
        """Let at most DRAINED_MAX messages into the backlog. ZeroMQ serves its connections in turn."""
        receive = self._sockets.router.recv
        for _ in range(DRAINED_MAX):
            if self._backlog.is_full:
                return
            try:
                routing_id = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            frame: Any = receive(zmq.NOBLOCK, copy=False)
            envelope = [routing_id]
            if frame.more and not len(frame):
                envelope.append(b"")
                frame = receive(zmq.NOBLOCK, copy=False)
            if frame.more:
                while frame.more:
                    frame = receive(zmq.NOBLOCK, copy=False)
                continue  # no envelope of ours
            if len(routing_id) != access.ROUTING_ID_BYTES or routing_id[0] != 0:
                continue  # a client that chose its own id
            try:
                sender = access.sender_key(frame["User-Id"])
            except (zmq.ZMQError, ValueError):
                continue  # nobody vouches for the sender
            letter = Letter(envelope, frame.bytes, sender, frame, monotonic_s)
            if not self._backlog.add(letter):
                self._send_all([letter], [refuse_busy(letter.body, self._core.guard.now)])

    def _send_all(self, letters: list[Letter], replies: list[bytes]) -> None:
        send = self._sockets.router.send
        for letter, reply in zip(letters, replies, strict=True):
            try:
                for frame in letter.envelope:
                    send(frame, zmq.SNDMORE | zmq.NOBLOCK)
                send(reply, zmq.NOBLOCK)
            except zmq.ZMQError:  # gone, or does not read: never waited for
                self._core.replies_dropped += 1


class _Peer:
    """Asks a frame where it came from, when somebody wants to know."""

    __slots__ = ("_frame",)

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __call__(self) -> str:
        try:
            return str(self._frame["Peer-Address"])
        except zmq.ZMQError:
            return ""
