"""The server's sockets and its one loop: poll, read the clock once, drain up to a bound, one turn, send all replies.

Nothing here waits for a peer: a reply that cannot be sent at once is dropped and counted.
"""

import contextlib
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import zmq
import zmq.backend

from als import clock, keyfile
from als.clock import Clock, Reading
from als.server import access
from als.server.answering import Answering
from als.server.backlog import Backlog
from als.server.core import Turns
from als.server.gathering import Gathering, Pacing
from als.server.letters import Letter, refuse_busy

BATCH_MAX = 2_500  # requests that need no queue, and the most in a turn when there is one: some 25 ms
DRAINED_MAX = 2 * BATCH_MAX  # taken from the sockets in a turn: who waits shall be seen soon
TURN_S_MAX = 0.1  # a turn of long listings ends here: who comes next shall not wait for all of them
POLL_MS = 1_000

_Plain: Any = zmq.backend.Socket  # its recv and send cost half of what zmq.Socket's do, which add what we do not use

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

    def __init__(
        self,
        core: Turns,
        sockets: Sockets,
        answering: Answering,
        clock: Clock,
        wake: socket.socket,
        pause: Callable[[float], None] = clock.pause,
    ) -> None:
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
        self._gathering = Gathering(pause)
        self._pacing = Pacing(pause)
        self._fresh: list[Letter] = []  # what has come, and needs no queue

    def run(self) -> None:
        """Serve until the wake-up socket says stop."""
        timeout_ms = 0
        most = self._core.letters_max
        while not self._stopping:
            self._pacing.begin(clock.monotonic_s())
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
                self._drain(reading)
            if self._backlog:  # a slow disk, say: the more share a commit, the sooner all are served
                letters = self._backlog.take(BATCH_MAX)
            else:
                letters, self._fresh = self._fresh[:most], self._fresh[most:]
            self._pacing.served = len(letters)
            if letters or self._core.needs_turn(reading):
                self._serve(letters, reading)
            timeout_ms = 0 if self._fresh or self._backlog or self._core.needs_turn(reading) else POLL_MS

    def _serve(self, letters: list[Letter], reading: Reading) -> None:
        """Have a turn with these requests; those that it has no time for wait for the next."""
        end_s = clock.monotonic_s() + TURN_S_MAX
        replies = self._core.turn(letters, reading, lambda: clock.monotonic_s() < end_s)
        self._send_all(letters[: len(replies)], replies)
        self._backlog.put_back(letters[len(replies) :])

    def _drain(self, reading: Reading) -> None:
        """Take in what has come. As long as a turn can serve it all, it needs no queue."""
        monotonic_s = reading.monotonic_s
        self._fresh += self._receive(DRAINED_MAX - len(self._fresh), monotonic_s)
        if not self._backlog and not self._core.needs_turn(reading):  # with more to sweep there is no time to lose
            # Who comes meanwhile is taken as if he had come with the first: all are fresh.
            self._gathering.gather(self._fresh, lambda: list(self._receive(DRAINED_MAX, monotonic_s)), monotonic_s)
        if self._backlog or len(self._fresh) > BATCH_MAX:
            for letter in self._fresh:
                if not self._backlog.add(letter):
                    self._send_all([letter], [refuse_busy(letter.body, self._core.guard.now)])
            self._fresh = []

    def _receive(self, most: int, monotonic_s: float) -> Iterator[Letter]:
        """Receive at most `most` messages. ZeroMQ serves its connections in turn."""
        receive, router, no_wait = _Plain.recv, self._sockets.router, zmq.NOBLOCK
        key_of, id_bytes = access.sender_key, access.ROUTING_ID_BYTES
        for _ in range(0 if self._backlog.is_full else most):
            try:
                routing_id = receive(router, no_wait)
            except zmq.Again:
                return
            frame = receive(router, no_wait, False)
            envelope: tuple[bytes, ...] = (routing_id,)
            if frame.more:  # an empty frame, as a REQ sends, or what is not ours
                if not len(frame):
                    envelope = (routing_id, b"")
                    frame = receive(router, no_wait, False)
                if frame.more:
                    while frame.more:
                        frame = receive(router, no_wait, False)
                    continue  # no envelope of ours
            if len(routing_id) != id_bytes or routing_id[0] != 0:
                continue  # a client that chose its own id
            try:
                sender = key_of(frame.get(b"User-Id"))
            except (zmq.ZMQError, ValueError):
                continue  # nobody vouches for the sender
            yield Letter(envelope, frame.bytes, sender, frame, monotonic_s)

    def _send_all(self, letters: list[Letter], replies: list[bytes]) -> None:
        """Send each reply; one that cannot leave at once is dropped and counted, never waited for.

        Those of a connection leave one after the other, for then they share packets: messages come from the
        connections in turn, and each would be a system call at both ends.
        """
        send, router = _Plain.send, self._sockets.router
        more, last = zmq.SNDMORE | zmq.NOBLOCK, zmq.NOBLOCK
        by_connection: defaultdict[bytes, list[tuple[tuple[bytes, ...], bytes]]] = defaultdict(list)
        for letter, reply in zip(letters, replies, strict=True):
            envelope = letter.envelope
            by_connection[envelope[0]].append((envelope, reply))
        for routing_id, theirs in by_connection.items():
            for envelope, reply in theirs:
                try:
                    send(router, routing_id, more)
                    if len(envelope) > 1:
                        send(router, b"", more)
                    send(router, reply, last)
                except zmq.ZMQError:  # gone, or does not read
                    self._core.replies_dropped += 1
