"""Saturation: each connection keeps a bounded number of requests under way, and each reply lets the next one go.

What is hot here is written for speed, because the server shares the machine's cores with this loop: bare sockets,
requests made ahead, replies looked at in four bytes.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import zmq

from als import clock, protocol
from als_bench.connections import bare, waiting
from als_bench.workload import ANSWER_AT

DRAIN_S_MAX = 10.0
POLL_MS = 100
REFUSALS_KEPT_MAX = 5  # samples for the report


@dataclass
class Count:
    """What a stretch of load has seen."""

    replies: int = 0
    refused: int = 0
    elapsed_s: float = 0.0
    refusals: list[str] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Replies a second."""
        return self.replies / self.elapsed_s if self.elapsed_s else 0.0

    def look_at(self, reply: bytes) -> None:
        """Count a reply that is not of the wanted shape, unless it grants all the same."""
        try:
            message = protocol.decode_reply(reply)
        except ValueError as error:
            message = {"ok": False, "code": str(error)}
        if not message["ok"]:
            self.refused += 1
            if len(self.refusals) < REFUSALS_KEPT_MAX:
                self.refusals.append(str(message.get("message") or message["code"]))


class ClosedLoop:
    """Keeps `window` requests under way on each socket. `wanted` is what a good reply holds behind its id."""

    def __init__(
        self, sockets: Sequence["zmq.Socket[bytes]"], streams: Sequence[Iterator[bytes]], window: int, wanted: bytes
    ) -> None:
        self._window = window
        self._wanted = wanted
        self._poller = zmq.Poller()
        self._hands: dict[object, tuple[Callable[..., bytes], Callable[..., None], Callable[[], bytes]]] = {}
        for dealer, stream in zip(sockets, streams, strict=True):
            self._poller.register(dealer, zmq.POLLIN)
            self._hands[dealer] = (*bare(dealer), stream.__next__)

    def start(self) -> None:
        """Send the first requests of every socket."""
        for _, send, following in self._hands.values():
            for _ in range(self._window):
                send(following())

    def run(self, duration_s: float) -> Count:
        """Go on for so long; give what has come."""
        count = Count()
        begin_s = clock.monotonic_s()
        while count.elapsed_s < duration_s:
            count.replies += self._turn(count)
            count.elapsed_s = clock.monotonic_s() - begin_s
        return count

    def run_through(self, replies: int, duration_s_max: float) -> Count:
        """Go on until so many have come, but not for ever; give what has come."""
        count = Count()
        begin_s = clock.monotonic_s()
        while count.replies < replies and count.elapsed_s < duration_s_max:
            count.replies += self._turn(count)
            count.elapsed_s = clock.monotonic_s() - begin_s
        return count

    def _turn(self, count: Count) -> int:
        """Answer what has come with the next requests; the inner loop is what a request costs this process."""
        again, noblock, wanted = zmq.Again, int(zmq.NOBLOCK), self._wanted
        answer_at = slice(ANSWER_AT, ANSWER_AT + len(wanted))
        replies = 0
        for dealer, _ in self._poller.poll(POLL_MS):
            receive, send, following = self._hands[dealer]
            try:
                for _ in range(self._window):
                    reply = receive(noblock)
                    replies += 1
                    if reply[answer_at] != wanted:
                        count.look_at(reply)
                    send(following(), noblock)
            except again:
                pass
        return replies

    def finish(self) -> None:
        """Wait until nothing is under way any more, but not for ever."""
        end_s = clock.monotonic_s() + DRAIN_S_MAX
        quiet_turns = 0
        while quiet_turns < 2 and clock.monotonic_s() < end_s:
            events = self._poller.poll(POLL_MS)
            quiet_turns = 0 if events else quiet_turns + 1
            for dealer, _ in events:
                for _ in waiting(dealer):
                    pass


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector out of a measurement: the load's objects live long and hold no cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
