"""Latency: requests are due at times that were fixed before, whatever the server does, and count from then.

A request that waits because an earlier one was slow is late, and its latency says so: it is counted from the time at
which it was due, not from the time at which it left. What is hot here is written for speed, as in closed_loop.py: the
server shares the machine's cores with this loop.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from typing import Protocol

import zmq

from als import clock
from als_bench.closed_loop import Count
from als_bench.connections import bare, waiting
from als_bench.workload import ANSWER_AT, GRANTED, HEAD, ID_FIRST, id_of, pack_id

TICK_S = 0.00025  # how often the loop looks at clock and sockets: it neither spins nor adds more than this to a latency
POLL_S_LEAST = 0.001  # a poller waits in whole milliseconds
SENT_PER_TURN_MAX = 1_000
POLL_S_MOST = 0.05  # errands and the end of it all are looked at in between
UNDER_WAY_PER_SOCKET_MAX = 900  # below ZeroMQ's high-water mark: nothing is dropped or blocked by the load itself
LAST_REPLIES_S_MAX = 10.0


class Errand(Protocol):
    """Something else that is done over a connection of its own while the load goes on.

    `due_s`, from the start of the load, is when `step` is called next without a reply; None: only with one.
    """

    socket: "zmq.Socket[bytes]"
    due_s: float | None

    def step(self, now_s: float, reply: bytes | None) -> bytes | None:
        """Take a reply (None: it is due) and give the next request, if there is one to send now."""
        ...


@dataclass
class Outcome:
    """What became of each request, in seconds from the start: when it was due, and its latency (None: no reply)."""

    due_s: list[float]
    latency_s: list[float | None]
    sent: int
    count: Count
    late_s_max: float
    is_overloaded: bool = False

    @property
    def unanswered(self) -> int:
        """How many of those sent were never answered."""
        return sum(1 for latency_s in self.latency_s[: self.sent] if latency_s is None)

    def latencies(self, start_s: float = 0.0, stop_s: float = float("inf")) -> list[float]:
        """Give the latencies of the answered requests that were due in this stretch."""
        return [
            latency_s
            for due_s, latency_s in zip(self.due_s[: self.sent], self.latency_s, strict=False)
            if latency_s is not None and start_s <= due_s < stop_s
        ]


def schedule(rate_per_s: float, duration_s: float, seed: int) -> list[float]:
    """Draw the times at which requests are due, as of many computers that know nothing of each other (Poisson)."""
    chance = random.Random(seed)
    gaps = (chance.expovariate(rate_per_s) for _ in repeat(None))
    times: list[float] = []
    for due_s in accumulate(gaps):
        if due_s >= duration_s:
            return times
        times.append(due_s)
    raise AssertionError("time goes on")


@dataclass
class OpenLoop:
    """Sends each request when it is due, made from the tails of its socket's stream.

    Those that are due at one look leave over one socket, and those of the next look over the next: so requests share
    packets as they do in the closed loop. With `is_scattered` each takes the next socket, and a packet of its own, as
    the requests of a real fleet do; at the same rate that costs load and server twice as much.
    """

    sockets: Sequence["zmq.Socket[bytes]"]
    tails: Sequence[Iterator[bytes]]
    errands: Sequence[Errand] = ()
    wanted: bytes = GRANTED  # what follows the id in a reply that counts as one
    is_scattered: bool = False
    _next_hand: int = 0
    _hands: list[tuple[Callable[..., None], Callable[[], bytes]]] = field(default_factory=list)
    _received_s: list[float | None] = field(default_factory=list)
    _count: Count = field(default_factory=Count)
    _late_s_max: float = 0.0

    def run(self, due_s: list[float], is_enough: Callable[[float], bool] = lambda now_s: False) -> Outcome:
        """Run through a schedule, or until `is_enough` says so; stops early when the server cannot keep up at all.

        All that was sent is waited for, within LAST_REPLIES_S_MAX.
        """
        self._received_s, self._count, self._late_s_max = [None] * len(due_s), Count(), 0.0
        self._hands = [(bare(it).send, tail.__next__) for it, tail in zip(self.sockets, self.tails, strict=True)]
        poller = zmq.Poller()
        for socket in (*self.sockets, *(errand.socket for errand in self.errands)):
            poller.register(socket, zmq.POLLIN)
        errand_of = {errand.socket: errand for errand in self.errands}
        under_way_max = UNDER_WAY_PER_SOCKET_MAX * len(self.sockets)
        begin_s = clock.monotonic_s()
        sent, wanted, now_s = 0, len(due_s), 0.0
        end_s = (due_s[-1] if due_s else 0.0) + LAST_REPLIES_S_MAX
        while self._count.replies < wanted and now_s < end_s:
            sent = self._send_due(due_s, sent, wanted, now_s)
            if sent < wanted and is_enough(now_s):
                wanted, end_s = sent, now_s + LAST_REPLIES_S_MAX
            self._start_errands(now_s)
            for socket, _ in poller.poll(0):
                errand = errand_of.get(socket)
                if errand is None:
                    self._receive(socket, clock.monotonic_s() - begin_s)
                else:
                    self._run_errand(errand, clock.monotonic_s() - begin_s)
            if sent - self._count.replies > under_way_max:
                break
            self._rest(poller, (due_s[sent] if sent < wanted else end_s) - clock.monotonic_s() + begin_s)
            now_s = clock.monotonic_s() - begin_s
        self._count.elapsed_s = now_s
        latency_s = [None if came is None else came - due for came, due in zip(self._received_s, due_s, strict=True)]
        overloaded = sent - self._count.replies > under_way_max
        return Outcome(due_s, latency_s, sent, self._count, self._late_s_max, overloaded)

    def _send_due(self, due_s: list[float], sent: int, wanted: int, now_s: float) -> int:
        """Send what is due; give how many have been sent in all."""
        is_scattered, noblock = self.is_scattered, int(zmq.NOBLOCK)
        if sent == wanted or due_s[sent] > now_s:
            return sent
        self._late_s_max = max(self._late_s_max, now_s - due_s[sent])  # of those in this turn, the latest
        send, following = self._take_hand()
        for number in range(sent, min(sent + SENT_PER_TURN_MAX, wanted)):
            if due_s[number] > now_s:
                return number
            if is_scattered:
                send, following = self._take_hand()
            try:
                send(HEAD + pack_id(ID_FIRST + number) + following(), noblock)
            except zmq.Again:
                return number
            sent = number + 1
        return sent

    def _take_hand(self) -> tuple[Callable[..., None], Callable[[], bytes]]:
        self._next_hand = (self._next_hand + 1) % len(self._hands)
        return self._hands[self._next_hand]

    def _receive(self, socket: "zmq.Socket[bytes]", now_s: float) -> None:
        received_s, count, wanted = self._received_s, self._count, self.wanted
        answer_at = slice(ANSWER_AT, ANSWER_AT + len(wanted))
        receive, again, noblock = bare(socket).receive, zmq.Again, int(zmq.NOBLOCK)
        try:
            while True:
                reply = receive(noblock)
                received_s[id_of(reply)] = now_s
                count.replies += 1
                if reply[answer_at] != wanted:
                    count.look_at(reply)
        except again:
            pass

    def _start_errands(self, now_s: float) -> None:
        for errand in self.errands:
            if errand.due_s is not None and errand.due_s <= now_s:
                request = errand.step(now_s, None)
                if request is not None:
                    errand.socket.send(request)

    def _run_errand(self, errand: Errand, now_s: float) -> None:
        for reply in waiting(errand.socket):
            request = errand.step(now_s, reply)
            if request is not None:
                errand.socket.send(request)

    @staticmethod
    def _rest(poller: zmq.Poller, spare_s: float) -> None:
        """Leave the cores to the server until the next tick, or for longer when nothing is due."""
        if spare_s >= 2 * POLL_S_LEAST:
            poller.poll(int(min(spare_s, POLL_S_MOST) * 1000))
        else:
            time.sleep(TICK_S)
