"""A server that goes away and comes back under its agents: who loses a license, and how many ask in the same second.

Every agent is the SDK's own: a session, a keeper and a connection with its own key. Only the threads are left out,
since thousands of agents share this process. There are exactly as many seats as agents.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zmq

from als import clock, keyfile
from als_agents.client import Context
from als_agents.keeper import Keeper
from als_agents.server import Server
from als_agents.session import RETRY_OF_SILENCE_MAX, Event, Notice, Session, State
from als_bench import report
from als_bench.connections import sockets_possible
from als_bench.processes import BenchError
from als_bench.report import Results
from als_bench.server_under_test import HERE, ServerUnderTest
from als_bench.workload import Fleet

PRODUCT = "FLEET"
PRODUCT_NUMBER = 9_000
SOCKETS_PER_AGENT = 6  # the connection and the two ends of what watches it; as many that are closed and not gone yet
FILES_PER_AGENT = 4
POLL_MS_MAX = 50
SETTLE_S_MAX = 60.0  # beyond a heartbeat: how long the first acquire of all may take
START_S_MAX = 60.0
BEHIND_S_MAX = 0.5  # more, and what this process has to catch up is counted against the fleet
SHARE_MAX = 0.25  # of the fleet, in any one second
_CATALOG = """\
[products.{code}]
number = {number}
name = "A fleet"
period = "1d"
heartbeat = "{heartbeat_s}s"
[products.{code}.components.agent]
name = "Agent"
"""


@dataclass(frozen=True, slots=True)
class Comeback:
    """`agents` with a heartbeat every `heartbeat_s` lose their server for `away_s`; `kill` ends it with SIGKILL."""

    agents: int
    heartbeat_s: int
    away_s: float
    kill: bool
    seed: int

    @property
    def back_s_max(self) -> float:
        """How long all may take to be back: what the longest retry can be after such an absence, and some more."""
        return RETRY_OF_SILENCE_MAX * self.away_s + self.heartbeat_s + 30.0


class _Server(ServerUnderTest):
    """The server, which comes back at the same port."""

    def come_back(self) -> None:
        """Start it again."""
        self._arguments[self._arguments.index("--port") + 1] = str(self.port)
        self.start()


class Agents:
    """The agents of one process on one thread. Requests are counted at the moment at which they are sent."""

    def __init__(self, comeback: Comeback, server: Server, pairs: Sequence[keyfile.KeyPair]) -> None:
        self._chance = random.Random(comeback.seed)
        self._context: Context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, comeback.agents * SOCKETS_PER_AGENT + 100)
        self._poller = zmq.Poller()
        self._polled: dict[zmq.Socket[bytes], int] = {}
        self._polled_by: list[list[zmq.Socket[bytes]]] = [[] for _ in pairs]
        self._due: list[tuple[float, int, int]] = []
        self._order = itertools.count()
        self.events: Counter[Event] = Counter()
        self.sent_at: deque[float] = deque()
        self.heard: set[int] = set()  # who was granted or renewed since this was last emptied
        self.behind_s = 0.0  # the most that this process was behind its agents' timers
        self.keepers: list[Keeper] = []
        self.sessions: list[Session] = []
        fleet = Fleet(PRODUCT)
        for number, pair in enumerate(pairs):
            keeper = Keeper(
                find=lambda: [server],
                identity=pair,
                computer=self._describer(fleet.computer(number)),
                on_notice=self._listener(number),
                context=self._context,
            )
            start_s = keeper.now() + self._chance.uniform(0, comeback.heartbeat_s)  # not switched on together
            session = Session(PRODUCT, "agent", now=start_s, source=random.Random(self._chance.random()))
            keeper.add(session)
            self.keepers.append(keeper)
            self.sessions.append(session)
            self._schedule(number)

    def _describer(self, computer: dict[str, object]) -> Callable[[str], dict[str, object]]:
        def describe(host: str) -> dict[str, object]:
            self.sent_at.append(clock.monotonic_s())
            return computer

        return describe

    def _listener(self, number: int) -> Callable[[Session, Notice], None]:
        def listen(session: Session, notice: Notice) -> None:
            self.events[notice.event] += 1
            if notice.event in (Event.ACQUIRED, Event.RENEWED):
                self.heard.add(number)

        return listen

    def work(self, until_s: float, is_done: Callable[[], bool] = lambda: False) -> bool:
        """Work until a time, or until it is done; say whether it is."""
        while not is_done():
            now_s = clock.monotonic_s()
            if now_s >= until_s:
                return False
            next_s = min(self._due[0][0] if self._due else until_s, until_s)
            wait_ms = min(max(int((next_s - now_s) * 1000), 0), POLL_MS_MAX)
            numbers = {self._polled[socket] for socket, _ in self._poller.poll(wait_ms)}
            now_s = clock.monotonic_s()
            if self._due:
                self.behind_s = max(self.behind_s, now_s - self._due[0][0])
            while self._due and self._due[0][0] <= now_s:
                numbers.add(heapq.heappop(self._due)[2])
            for number in numbers:
                self.keepers[number].pump()
                self._schedule(number)
        return True

    def _schedule(self, number: int) -> None:
        """Poll the sockets on which an agent waits, and remember when it wants to be called."""
        keeper = self.keepers[number]
        for socket in self._polled_by[number]:
            self._poller.unregister(socket)
            del self._polled[socket]
        self._polled_by[number] = [socket for client in keeper.waiting() for socket in client.pollables]
        for socket in self._polled_by[number]:
            self._poller.register(socket, zmq.POLLIN)
            self._polled[socket] = number
        deadline_s = keeper.next_deadline()
        if deadline_s is not None:
            heapq.heappush(self._due, (deadline_s, next(self._order), number))

    def holding(self) -> int:
        """Count the agents that hold their license, heard from their server lately or not."""
        return sum(session.state in (State.HELD, State.LATE) for session in self.sessions)

    def close(self) -> None:
        """Close every connection."""
        for keeper in self.keepers:
            keeper.close()
        self._context.term()


def run(comeback: Comeback, folder: Path | None) -> Results:
    """Let a fleet lose its server and find it again. Raises BenchError when it cannot be tried."""
    if comeback.agents * FILES_PER_AGENT > sockets_possible() * 2:
        raise BenchError("the limit of open files is too low for so many agents (ulimit -n raises it)")
    server = _Server(folder)
    try:
        _start(server, comeback)
        where = Server(HERE, server.port, server.server_key)
        report.tell(f"{comeback.agents:,} agents acquire within {comeback.heartbeat_s} s")
        agents = Agents(comeback, where, [keyfile.generate() for _ in range(comeback.agents)])
        try:
            return _lose_and_find(agents, server, comeback)
        finally:
            agents.close()
    finally:
        server.close()


def _start(server: _Server, comeback: Comeback) -> None:
    """Start the server with the fleet's product, and as many seats of it as there are agents."""
    catalog_dir = server.data_dir / "catalog.d"
    catalog_dir.mkdir()
    text = _CATALOG.format(code=PRODUCT, number=PRODUCT_NUMBER, heartbeat_s=comeback.heartbeat_s)
    (catalog_dir / "fleet.toml").write_text(text, encoding="utf-8")
    server.start()
    with server.administrator() as administrator:
        serials = server.vendor.issue(comeback.agents, product=PRODUCT_NUMBER)
        added = administrator.request("import", serials=serials)["licenses_added"]
    if added != comeback.agents:
        raise BenchError("the fleet's serial was not imported")


def _lose_and_find(agents: Agents, server: _Server, comeback: Comeback) -> Results:
    everybody = comeback.agents
    settle_s = clock.monotonic_s() + comeback.heartbeat_s + SETTLE_S_MAX
    if not agents.work(settle_s, lambda: len(agents.heard) == everybody):
        raise BenchError(f"only {len(agents.heard)} of {everybody} agents acquired a license in the beginning")
    agents.work(clock.monotonic_s() + comeback.heartbeat_s)  # a round of heartbeats, so that none is due together
    before = _leases(server)
    report.tell(f"the server goes away for {comeback.away_s:g} s")
    agents.events.clear()
    server.stop(kill=comeback.kill)
    away_at = clock.monotonic_s()
    agents.work(away_at + comeback.away_s)
    late = agents.events[Event.LATE]
    agents.heard.clear()
    agents.behind_s = 0.0
    back_at = clock.monotonic_s()
    with ThreadPoolExecutor(1) as helper:  # nobody stands still while it starts, and then asks all at once
        coming = helper.submit(server.come_back)
        agents.work(back_at + START_S_MAX, coming.done)
        coming.result()
    report.tell(f"it is back; {late:,} agents had missed it")
    all_back = agents.work(back_at + comeback.back_s_max, lambda: len(agents.heard) == everybody)
    back_s = clock.monotonic_s() - back_at
    agents.work(clock.monotonic_s() + 2 * comeback.heartbeat_s)  # whatever is to come in one second is to be seen
    after = _leases(server)
    sent = [sent_at for sent_at in agents.sent_at if sent_at >= back_at]
    return {
        "agents": everybody,
        "away_s": round(back_at - away_at, 3),
        "late": late,
        "all_back": all_back,
        "back_s": round(back_s, 3),
        "holding": agents.holding(),
        "lost": agents.events[Event.LOST] + agents.events[Event.REFUSED],
        "leases_before": len(before),
        "leases_kept": sum(after.get(mac) == acquired_at for mac, acquired_at in before.items()),
        "steady_requests_per_s": round(everybody / comeback.heartbeat_s, 1),
        "requests_in_one_second_max": most_within_a_second(sent),
        "requests_in_one_second_limit": int(everybody * SHARE_MAX),
        "requests_per_second": per_second(sent, back_at),
        "behind_s_max": round(agents.behind_s, 3),
    }


def _leases(server: _Server) -> dict[bytes, int]:
    """Read who holds a license, and since when."""
    found: dict[bytes, int] = {}
    with server.administrator() as administrator:
        after = None
        while True:
            page = administrator.request("leases", product=PRODUCT, state="active", limit=1_000, after=after)
            found |= {row["mac"]: row["acquired_at"] for row in page["rows"]}
            after = page["next"]
            if after is None:
                return found


def most_within_a_second(times: Sequence[float]) -> int:
    """Give the greatest number of times within any one second, wherever it begins; `times` in their order."""
    most, first = 0, 0
    for last, time_s in enumerate(times):
        while time_s - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def per_second(times: Sequence[float], begin_s: float) -> list[int]:
    """Count times in each second since `begin_s`."""
    counts = Counter(int(time_s - begin_s) for time_s in times)
    return [counts[second] for second in range(max(counts, default=-1) + 1)]


def warnings(results: Results) -> list[str]:
    """Say what went wrong, nothing of which may; and why the figures may be worse than the truth."""
    return [*faults(results), *doubts(results)]


def faults(results: Results) -> list[str]:
    """Say what went wrong; nothing may."""
    found = []
    if not results["all_back"] or results["holding"] != results["agents"]:
        found.append(f"{results['agents'] - results['holding']} agents do not hold their license again")
    if results["lost"] or results["leases_kept"] != results["agents"]:
        found.append(f"{results['agents'] - results['leases_kept']} licenses were lost, {results['lost']} refused")
    if results["requests_in_one_second_max"] > results["requests_in_one_second_limit"]:
        found.append("too many agents came back in the same second")
    return found


def doubts(results: Results) -> list[str]:
    """Say why the figures may be worse than the truth."""
    behind_s = results["behind_s_max"]
    if behind_s <= BEHIND_S_MAX:
        return []
    return [f"the process that plays all agents was up to {behind_s:.1f} s behind their timers"]


def view(results: Results) -> list[str]:
    """Show the results to people."""
    most, agents = results["requests_in_one_second_max"], results["agents"]
    return [
        f"{agents:,} agents lost their server for {results['away_s']:.1f} s; {results['late']:,} missed it meanwhile",
        f"all were heard again after {results['back_s']:.1f} s, and {results['holding']:,} hold their license",
        f"{results['leases_kept']:,} of {results['leases_before']:,} licenses are the ones from before, "
        f"{results['lost']} were lost",
        f"at most {most:,} requests in any one second after its return: {most / agents:.1%} of the fleet, "
        f"{most / results['steady_requests_per_s']:.1f} times the steady rate",
        f"requests in each second: {' '.join(str(count) for count in results['requests_per_second'])}",
    ]
