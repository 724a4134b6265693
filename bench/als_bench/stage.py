"""What most benchmarks play on: a server with leases in its store, clients connected to it, and an echo beside."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import zmq

from als import clock
from als_bench import report, workload
from als_bench.closed_loop import ClosedLoop, Count
from als_bench.connections import Connections
from als_bench.echo import Echo
from als_bench.processes import Cpu, cpu_of
from als_bench.report import Results
from als_bench.server_under_test import ServerUnderTest
from als_bench.stock import Stock
from als_bench.workload import ACQUIRE, ECHOED, GRANTED, Fleet

ECHO, ALS = "echo", "als"
WARM_UP_S = 0.5
FIRST_S_MAX = 300.0  # for the first renewal of all after a start
BUSY = 0.9  # of one core: a thread that uses more is what limits
SEATS_PER_SERIAL = 1_000_000
SERIALS = 10  # 10 million seats: more than any run of acquires takes
NEW_AT_ONCE = 10_000_000  # new computers, for whom streams are made at once: more than seats, and echoed ones beside
STEADY = Fleet(salt=1)  # holds its leases before, and renews them
NEW = Fleet(salt=2)  # comes during the run


@dataclass(frozen=True, slots=True)
class Load:
    """The clients: `connections` DEALERs with `window` requests each under way; `leases` held before."""

    connections: int = 32
    window: int = 64
    leases: int = 10_000
    rounds: int = 3
    duration_s: float = 3.0
    seed: int = 1
    is_scattered: bool = False  # in the open loop: see OpenLoop


class Aim(NamedTuple):
    """A target: its process, the clients connected to it, and what follows the id in its good replies."""

    pid: int
    sockets: Sequence["zmq.Socket[bytes]"]
    wanted: bytes


class Stage:
    """The server under test, running, and with `with_echo` the echo; the same clients connected to each.

    `prepare` may put more into the store before the server starts.
    """

    def __init__(
        self,
        load: Load,
        folder: Path | None,
        *,
        with_echo: bool = False,
        prepare: Callable[[Stock, ServerUnderTest], None] = lambda stock, server: None,
    ) -> None:
        self.load = load
        self.server = ServerUnderTest(folder)
        self.to_als = Connections(load.connections)
        self._prepare = prepare
        self._echo = Echo() if with_echo else None
        self._to_echo = Connections(load.connections) if with_echo else None
        self._new_computers = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        stock = self.server.open_stock()
        try:
            self._prepare(stock, self.server)
            report.tell(f"filling a store with {self.load.leases:,} leases")
            now = clock.wall_s()
            stock.import_serials(self.server.vendor.issue(SEATS_PER_SERIAL, SERIALS), now)
            stock.acquire(STEADY, range(self.load.leases), self.to_als.public_keys, now)
        finally:
            stock.store.close()
        self.server.start()
        self.to_als.open(self.server.port, self.server.server_key)
        if self._echo is not None and self._to_echo is not None:
            self._echo.start()
            self._to_echo.open(self._echo.port, self._echo.server_key)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        for part in (self.to_als, self._to_echo, self._echo, self.server):
            if part is not None:
                part.close()

    def streams(self, operation: str) -> list[Iterator[bytes]]:
        """Make each connection's endless requests: its own computers in random order, or ever new ones."""
        count = self.load.connections
        if operation == ACQUIRE:
            base, self._new_computers = self._new_computers, self._new_computers + NEW_AT_ONCE
            return NEW.new_for_each(ACQUIRE, base, count)
        dealt = workload.own_computers(self.load.leases, count, self.load.seed)
        return workload.renewals(STEADY, dealt)

    def measure(
        self, streams: Sequence[Iterator[bytes]], target: str = ALS, duration_s: float | None = None
    ) -> Results:
        """Run the closed loop against one target; give its rate and what it cost whom. Without a time: the load's."""
        aim = self.aim(target)
        loop = ClosedLoop(aim.sockets, streams, self.load.window, aim.wanted)
        return measure(loop, aim.pid, duration_s or self.load.duration_s) | {"target": target}

    def aim(self, target: str) -> Aim:
        """Give what a load needs to know of a target."""
        if target == ALS:
            return Aim(self.server.pid, self.to_als.sockets, GRANTED)
        assert self._echo is not None and self._to_echo is not None
        return Aim(self._echo.pid, self._to_echo.sockets, ECHOED)


def renew_all(sockets: Sequence["zmq.Socket[bytes]"], load: Load) -> Count:
    """Have each computer that holds a lease renew once: a server knows what it has had (ledger/quick/repeats.py)."""
    everybody = workload.own_computers(load.leases, load.connections, load.seed)
    loop = ClosedLoop(sockets, workload.renewals_one_by_one(STEADY, everybody), load.window, GRANTED)
    loop.start()
    count = loop.run_through(load.leases, FIRST_S_MAX)
    loop.finish()
    return count


def measure(loop: ClosedLoop, pid: int, duration_s: float) -> Results:
    """Run a closed loop against the process `pid` for so long, after a warm-up; give the figures."""
    loop.start()
    loop.run(min(WARM_UP_S, duration_s))
    before = cpu_of(pid), cpu_of(os.getpid())
    count = loop.run(duration_s)
    server, generator = cpu_of(pid) - before[0], cpu_of(os.getpid()) - before[1]
    loop.finish()
    return figures(count, server, generator)


def figures(count: Count, server: Cpu, generator: Cpu) -> Results:
    """Put one stretch of load into figures."""
    replies, elapsed_s = max(count.replies, 1), count.elapsed_s
    return {
        "requests_per_s": round(count.per_s),
        "requests": count.replies,
        "refused": count.refused,
        "refusals": count.refusals,
        "server_cpu_us_per_request": round(server.total_s / replies * 1e6, 2),
        "server_main_cpu_us_per_request": round(server.main_s / replies * 1e6, 2),
        "server_main_busy": round(server.main_s / elapsed_s, 3),
        "server_others_busy": round(server.others_s / elapsed_s, 3),
        "generator_cpu_us_per_request": round(generator.total_s / replies * 1e6, 2),
        "generator_main_busy": round(generator.main_s / elapsed_s, 3),
        "generator_others_busy": round(generator.others_s / elapsed_s, 3),
    }


def warnings_of(where: str, row: Results) -> list[str]:
    """Say whether the generator was the bottleneck of a measurement, and whether it was refused."""
    found = []
    generator = max(row["generator_main_busy"], row["generator_others_busy"])
    server = max(row["server_main_busy"], row["server_others_busy"])
    if generator > BUSY and server < generator:
        found.append(f"{where}: the generator is the bottleneck (its busiest thread used {generator:.0%} of a core)")
    if row["refused"]:
        found.append(f"{where}: {row['refused']} requests were refused: {row['refusals'][0]}")
    if not row["requests"]:
        found.append(f"{where}: nothing was answered")
    return found
