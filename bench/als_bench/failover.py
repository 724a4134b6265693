"""What clients of a cluster feel when a part of it dies: how long nobody has an answer, and how long one waits for his.

Each client renews at an unhurried pace over one connection, and turns to the next server as agents do.
"""

import contextlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import zmq

from als import clock, keyfile, protocol
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als_agents.patience import ANSWER_S_MAX, NEXT_ADDRESS_S_MAX
from als_bench import report
from als_bench.cluster_stage import ClusterStage
from als_bench.connections import Connections
from als_bench.etcd_members import Member, wait_for_port
from als_bench.processes import BenchError
from als_bench.report import Results
from als_bench.server_under_test import ServerUnderTest
from als_bench.stage import STEADY
from als_bench.workload import ANSWER_AT, GRANTED, HEAD, ID_FIRST, RENEW, id_of, pack_id

CALLERS = 20
PACE_S = 0.02  # between an answer and the next request
POLL_MS = 2
BEFORE_S = 1.0
STATUS_S_MAX = 60.0  # until a member tells its state, on a machine that has much to do
STATUS_PAUSE_S = 0.2
AFTER_S = 6.0  # of a death: an election, and clients that have moved, are over by then
LEADER, FOLLOWER, SERVER = "etcd leader", "etcd follower", "server"
VICTIMS = (LEADER, FOLLOWER, SERVER)

Answer = TypeVar("Answer")


class Place(NamedTuple):
    """Where a server is."""

    port: int
    key: bytes


class Caller:
    """One client with one request under way at most."""

    def __init__(self, number: int, pair: keyfile.KeyPair, places: Sequence[Place], connections: Connections) -> None:
        self.at = number % len(places)
        self.answered_s: list[float] = []
        self.wait_s_max = 0.0
        self._tail = STEADY.tail(RENEW, number)
        self._pair = pair
        self._places = places
        self._connections = connections
        self._sent = 0
        self._silent = 0
        self._due_s: float | None = 0.0
        self._since_s = self._give_up_s = 0.0
        self.socket = self._connect()

    def _connect(self) -> "zmq.Socket[bytes]":
        place = self._places[self.at]
        return self._connections.open_one(self._pair, place.port, place.key)

    def step(self, now_s: float) -> None:
        """Send what is due, or give an answer up."""
        if self._due_s is None:
            if now_s >= self._give_up_s:
                self._turn_away(now_s, 0.0)
        elif now_s >= self._due_s:
            self._since_s = self._since_s or now_s
            is_last = self._silent == len(self._places) - 1
            self._give_up_s = now_s + (ANSWER_S_MAX if is_last else NEXT_ADDRESS_S_MAX)
            self._due_s = None
            self._sent += 1
            with contextlib.suppress(zmq.Again):
                self.socket.send(HEAD + pack_id(ID_FIRST + self._sent) + self._tail, zmq.NOBLOCK)

    def take(self, reply: bytes, now_s: float) -> None:
        """Take an answer."""
        if id_of(reply) != self._sent:
            return
        if reply[ANSWER_AT : ANSWER_AT + len(GRANTED)] != GRANTED:
            detail = protocol.decode_reply(reply).get("detail")
            hint: Any = detail.get("retry_after_s") if isinstance(detail, dict) else None
            self._turn_away(now_s, float(hint or 1.0))
            return
        self.answered_s.append(now_s)
        self.wait_s_max = max(self.wait_s_max, now_s - self._since_s)
        self._silent, self._since_s, self._due_s = 0, 0.0, now_s + PACE_S

    def _turn_away(self, now_s: float, retry_after_s: float) -> None:
        """Go to the next server: at once, but after a round in which all were silent or unavailable."""
        self.socket.close(0)
        self._connections.sockets.remove(self.socket)
        self.at = (self.at + 1) % len(self._places)
        self.socket = self._connect()
        self._silent += 1
        self._due_s = now_s
        if self._silent == len(self._places):
            self._silent, self._due_s = 0, now_s + retry_after_s


class Callers:
    """All clients, in one loop."""

    def __init__(self, servers: Sequence[ServerUnderTest], connections: Connections) -> None:
        self._servers = servers
        self._places: list[Place] = []
        self.look_around()
        self._all = [Caller(number, pair, self._places, connections) for number, pair in enumerate(connections.keys)]

    def look_around(self) -> None:
        """Learn where the servers are: one that was started again has another port."""
        self._places[:] = [Place(server.port, server.server_key) for server in self._servers]

    def run(self, duration_s: float) -> None:
        """Let them renew for so long."""
        end_s = clock.monotonic_s() + duration_s
        while (now_s := clock.monotonic_s()) < end_s:
            for caller in self._all:
                caller.step(now_s)
            poller = zmq.Poller()
            by_socket = {caller.socket: caller for caller in self._all}
            for socket in by_socket:
                poller.register(socket, zmq.POLLIN)
            for socket, _ in poller.poll(POLL_MS):
                by_socket[socket].take(socket.recv(), clock.monotonic_s())

    def forget(self) -> None:
        """Begin to measure."""
        for caller in self._all:
            caller.answered_s.clear()
            caller.wait_s_max = 0.0

    def felt(self, begin_s: float, end_s: float) -> Results:
        """Give the longest time without any answer, and without one's own, in seconds."""
        times_s = sorted(time_s for caller in self._all for time_s in caller.answered_s)
        edges = [begin_s, *times_s, end_s]
        return {
            "gap_s": round(max(later - earlier for earlier, later in pairwise(edges)), 3),
            "wait_s_max": round(max(caller.wait_s_max for caller in self._all), 3),
            "answers": len(times_s),
        }

    def busiest(self) -> int:
        """Give the server that most of them use."""
        used = [caller.at for caller in self._all]
        return max(set(used), key=used.count)


def measure(stage: ClusterStage, rounds: int) -> list[Results]:
    """Kill each kind of part in turn, some rounds of it; everything runs again in the end."""
    connections = Connections(0, stage.connections.keys[:CALLERS])
    try:
        callers = Callers(stage.servers, connections)
        callers.run(BEFORE_S)
        return [
            {"round": number, "killed": victim, **_kill(stage, callers, victim)}
            for number in range(1, rounds + 1)
            for victim in VICTIMS
        ]
    finally:
        connections.close()


def _kill(stage: ClusterStage, callers: Callers, victim: str) -> Results:
    report.tell(f"killing the {victim}")
    chosen = stage.servers[callers.busiest()] if victim == SERVER else _member(stage, victim == LEADER)
    callers.run(BEFORE_S)
    callers.forget()
    begin_s = clock.monotonic_s()
    chosen.stop(kill=True)
    callers.run(AFTER_S)
    felt = callers.felt(begin_s, clock.monotonic_s())
    if isinstance(chosen, ServerUnderTest):
        chosen.start()
        callers.look_around()
    else:
        chosen.start()
        wait_for_port(chosen, chosen.port)
        wait_until_caught_up(chosen)
    callers.run(BEFORE_S)
    return felt


def wait_until_caught_up(member: Member) -> None:
    """Wait until a member that was started again knows all that was decided without it. Raises BenchError.

    Before that the death of another one takes the majority away: two are lost then, and not one.
    """
    client = EtcdClient([member.endpoint])
    try:
        _insist(member, lambda: client.range(b"\0"))  # is answered once the member has applied what the leader has
    finally:
        client.close()


def _member(stage: ClusterStage, is_leader: bool) -> Member:
    """Give the leader, or one that follows it. Raises BenchError when a member does not tell in time."""
    client = EtcdClient(stage.members.endpoints)
    try:
        return next(member for member in stage.members.all if is_leading(client, member) == is_leader)
    finally:
        client.close()


def is_leading(client: EtcdClient, member: Member) -> bool:
    """Say whether a member is the leader, as soon as it answers. Raises BenchError when it does not in time."""
    return _insist(member, lambda: client.status(member.endpoint).is_leader)


def _insist(member: Member, ask: Callable[[], Answer]) -> Answer:
    """Ask a member until it answers."""
    end_s = clock.monotonic_s() + STATUS_S_MAX
    while clock.monotonic_s() < end_s:
        with contextlib.suppress(EtcdUnavailableError):  # one that was started again may have much to do yet
            return ask()
        clock.pause(STATUS_PAUSE_S)  # a port without a listener refuses at once
    raise BenchError(f"etcd at {member.endpoint} does not answer")
