"""The real shape of the load: very many connections, each with a heartbeat a minute and its own key.

First all connect and renew, a bounded number at a time, as after a failure of power; then their heartbeats come with
jitter. What counts is how little of the server's core that takes.
"""

import heapq
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import zmq

from als import clock
from als_bench import latencies, report
from als_bench.closed_loop import Count, no_collection
from als_bench.connections import Connections, sockets_possible, waiting
from als_bench.processes import BenchError, cpu_of, private_bytes
from als_bench.report import Results
from als_bench.server_under_test import ServerUnderTest
from als_bench.stage import SEATS_PER_SERIAL, STEADY, figures, warnings_of
from als_bench.workload import ANSWER_AT, GRANTED, RENEW

CONNECTING_MAX = 200  # handshakes under way at once
CONNECT_S_PER_AGENT_MAX = 0.05
ANSWER_S_MAX = 10.0
POLL_MS_MAX = 50


@dataclass(frozen=True, slots=True)
class Agents:
    """`agents` connections; a heartbeat every `heartbeat_s`, each shifted by up to `jitter` of it."""

    agents: int = 10_000
    heartbeat_s: float = 60.0
    jitter: float = 0.1
    duration_s: float = 20.0
    seed: int = 1


class Heartbeats:
    """The agents' connections, with at most one request under way on each."""

    def __init__(self, server: ServerUnderTest, connections: Connections, count: Count) -> None:
        self._server = server
        self._connections = connections
        self._poller = zmq.Poller()
        self._sent_s: dict[zmq.Socket[bytes], float] = {}
        self._requests = [STEADY.request(RENEW, number) for number in range(len(connections.keys))]
        self._sockets: list[zmq.Socket[bytes]] = []
        self.count = count
        self.latencies_s: list[float] = []

    @property
    def under_way(self) -> int:
        """How many wait for an answer."""
        return len(self._sent_s)

    def connect(self, number: int) -> None:
        """Connect one agent and let it renew; its handshake counts into the latency."""
        pair = self._connections.keys[number]
        self._sockets.append(self._connections.open_one(pair, self._server.port, self._server.server_key))
        self.send(number, clock.monotonic_s())

    def send(self, number: int, due_s: float) -> None:
        """Send an agent's heartbeat, unless its last one is still unanswered."""
        dealer = self._sockets[number]
        if dealer not in self._sent_s:
            dealer.send(self._requests[number])
            self._sent_s[dealer] = due_s
            self._poller.register(dealer, zmq.POLLIN)

    def receive(self, timeout_ms: int) -> None:
        """Take the answers that come within the time."""
        for dealer, _ in self._poller.poll(timeout_ms):
            for reply in waiting(dealer):
                self.count.replies += 1
                self.latencies_s.append(clock.monotonic_s() - self._sent_s.pop(dealer))
                self._poller.unregister(dealer)
                if reply[ANSWER_AT : ANSWER_AT + len(GRANTED)] != GRANTED:
                    self.count.look_at(reply)

    def start_over(self) -> None:
        """Forget what was counted so far."""
        self.count = Count()
        self.latencies_s = []


def run(agents: Agents, folder: Path | None) -> Results:
    """Measure a fleet, or as much of it as the limit of open files allows. Raises BenchError."""
    possible = sockets_possible(agents.agents)
    fewer_than = agents.agents if agents.agents > possible else None
    agents = replace(agents, agents=min(agents.agents, possible))
    server = ServerUnderTest(folder)
    connections = Connections(agents.agents)
    try:
        report.tell(f"filling a store with {agents.agents:,} leases")
        stock = server.open_stock()
        try:
            now = clock.wall_s()
            stock.import_serials(server.vendor.issue(SEATS_PER_SERIAL), now)
            stock.acquire(STEADY, range(agents.agents), connections.public_keys, now)
        finally:
            stock.store.close()
        server.start()
        heartbeats = Heartbeats(server, connections, Count())
        with no_collection():
            return {
                "agents": agents.agents,
                "fewer_than": fewer_than,
                "connecting": _connect(heartbeats, agents, server),
                "steady": _beat(heartbeats, agents, server),
            }
    finally:
        connections.close()
        server.close()


def _connect(heartbeats: Heartbeats, agents: Agents, server: ServerUnderTest) -> Results:
    """Connect all agents. Raises BenchError when that does not come to an end."""
    report.tell(f"connecting {agents.agents:,} agents")
    before = cpu_of(server.pid), cpu_of(os.getpid())
    begin_s = clock.monotonic_s()
    end_s = begin_s + ANSWER_S_MAX + CONNECT_S_PER_AGENT_MAX * agents.agents
    for number in range(agents.agents):
        heartbeats.connect(number)
        while heartbeats.under_way >= CONNECTING_MAX and clock.monotonic_s() < end_s:
            heartbeats.receive(POLL_MS_MAX)
    while heartbeats.under_way and clock.monotonic_s() < end_s:
        heartbeats.receive(POLL_MS_MAX)
    if heartbeats.under_way:
        raise BenchError(f"{heartbeats.under_way} agents were not answered within {end_s - begin_s:.0f} s")
    count = heartbeats.count
    count.elapsed_s = clock.monotonic_s() - begin_s
    cost = figures(count, cpu_of(server.pid) - before[0], cpu_of(os.getpid()) - before[1])
    answers = latencies.summary(heartbeats.latencies_s)
    return {"connected_s": round(count.elapsed_s, 3), "latency": answers, **cost}


def _beat(heartbeats: Heartbeats, agents: Agents, server: ServerUnderTest) -> Results:
    """Let heartbeats come for so long."""
    report.tell(f"a heartbeat each {agents.heartbeat_s:g} s for {agents.duration_s:g} s")
    heartbeats.start_over()
    chance = random.Random(agents.seed)
    begin_s = clock.monotonic_s()
    end_s = begin_s + agents.duration_s
    due = [(begin_s + chance.random() * agents.heartbeat_s, number) for number in range(agents.agents)]
    heapq.heapify(due)
    before = cpu_of(server.pid), cpu_of(os.getpid())
    now_s = begin_s
    while now_s < end_s:
        while due[0][0] <= now_s:
            due_s, number = due[0]
            heartbeats.send(number, due_s)
            shift = 1 + agents.jitter * chance.uniform(-1, 1)
            heapq.heapreplace(due, (due_s + agents.heartbeat_s * shift, number))
        wait_s = min(due[0][0], end_s) - clock.monotonic_s()
        heartbeats.receive(min(max(int(wait_s * 1000), 1), POLL_MS_MAX))
        now_s = clock.monotonic_s()
    heartbeats.count.elapsed_s = now_s - begin_s
    server_cpu, own_cpu = cpu_of(server.pid) - before[0], cpu_of(os.getpid()) - before[1]
    while heartbeats.under_way and clock.monotonic_s() < end_s + ANSWER_S_MAX:
        heartbeats.receive(POLL_MS_MAX)
    cost = figures(heartbeats.count, server_cpu, own_cpu)
    return {
        "server_core_percent": round(server_cpu.total_s / heartbeats.count.elapsed_s * 100, 2),
        "server_private_bytes": private_bytes(server.pid),
        "latency": latencies.summary(heartbeats.latencies_s),
        "unanswered": heartbeats.under_way,
        **cost,
    }


def warnings(results: Results) -> list[str]:
    """Say what makes the figures worth less."""
    found = warnings_of("connecting", results["connecting"]) + warnings_of("steady", results["steady"])
    if results["fewer_than"] is not None:
        found.append(
            f"the limit of open files allows {results['agents']:,} connections, not {results['fewer_than']:,} "
            "(ulimit -n raises it)"
        )
    if results["steady"]["unanswered"]:
        found.append(f"{results['steady']['unanswered']} heartbeats were not answered")
    return found


def view(results: Results) -> list[str]:
    """Show the results to people."""
    connecting, steady = results["connecting"], results["steady"]
    memory = steady["server_private_bytes"]
    latency = steady["latency"]
    return [
        f"{results['agents']:,} agents connected and renewed in {connecting['connected_s']:.1f} s "
        f"({connecting['requests_per_s']:,}/s), {connecting['server_cpu_us_per_request']:.0f} µs of the server's "
        "processor time each",
        f"then {steady['requests_per_s']:,} heartbeats/s use {steady['server_core_percent']:.1f} % of one core "
        f"(main thread {steady['server_main_busy']:.1%}, sockets' thread {steady['server_others_busy']:.1%})",
        f"answers: p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms, longest {latency['max_ms']} ms",
        *([] if memory is None else [f"memory without the store's pages: {memory / 1e6:,.0f} MB"]),
    ]
