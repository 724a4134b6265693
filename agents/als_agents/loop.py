"""A keeper at work: waits for replies, timers and calls from other threads, in whatever thread runs it.

It knows how to wait and how to be woken, nothing of licenses.
"""

import contextlib
import math
import socket
import threading
from collections import deque
from collections.abc import Callable

import zmq

from als_agents.keeper import Keeper

WAIT_S_MAX = 3_600.0  # poll takes milliseconds in 32 bits; an idle turn an hour costs nothing


class Loop:
    """Runs a keeper until `stop`. `call` and `stop` may be used from any thread and from signal handlers."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._calls: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._awaken, self._bell = socket.socketpair()
        self._awaken.setblocking(False)
        self._bell.setblocking(False)

    @property
    def is_stopping(self) -> bool:
        """Say whether `stop` was called."""
        return self._stopping.is_set()

    def run(self) -> None:
        """Work until `stop`, then close the keeper."""
        try:
            while not self._stopping.is_set():
                self._keeper.pump()
                while self._calls:
                    self._calls.popleft()()
                self._wait()
        finally:
            self._keeper.close()
            self._awaken.close()
            self._bell.close()

    def call(self, function: Callable[[], None]) -> None:
        """Let `function` be called in the loop's thread, at once if it waits; never, if it has ended."""
        self._calls.append(function)
        self._ring()

    def stop(self) -> None:
        """Let `run` end after what it is doing now."""
        self._stopping.set()
        self._ring()

    def abandon(self) -> None:
        """Close the bell in a fork's child: it would ring at the parent."""
        self._awaken.close()
        self._bell.close()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it is rung already; closed: the loop has ended
            self._bell.send(b"\0")

    def _wait(self) -> None:
        """Wait for a reply, the next deadline, or the bell."""
        deadline = self._keeper.next_deadline()
        timeout_s = WAIT_S_MAX if deadline is None else deadline - self._keeper.now()
        poller = zmq.Poller()
        poller.register(self._awaken, zmq.POLLIN)
        for client in self._keeper.waiting():
            for pollable in client.pollables:
                poller.register(pollable, zmq.POLLIN)
        if self._calls or self._stopping.is_set():
            timeout_s = 0.0
        poller.poll(math.ceil(max(0.0, min(timeout_s, WAIT_S_MAX)) * 1000))
        with contextlib.suppress(BlockingIOError):
            self._awaken.recv(4096)
