"""A pretended machine room: time, a network, a disk that can crash, and a machine whose clocks can be set.

One thread and one random source: the same seed gives the same story. Knows nothing of licenses.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from als.clock import Reading
from als.store.memory import MemoryStore, MemoryTransaction
from als.store.transaction import Completion, Rows, Table, Transaction

START = 20_834 * 86_400.0  # a midnight in 2027


class CrashError(Exception):
    """The server's process is gone, at this very step."""


class World:
    """What happens when. `now` is the true time, in seconds since 1970."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = START
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have something happen."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, action))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due until `end`."""
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def chance(self, probability: float) -> bool:
        """Throw a die."""
        return self.random.random() < probability


@dataclass
class Network:
    """Loses, delays, duplicates and reorders what it carries, as the seed wants it."""

    world: World
    lost: float
    doubled: float
    slow: float

    @classmethod
    def of(cls, world: World) -> "Network":
        """Make a network as good or bad as the seed says."""
        bad = world.random.choice([0.0, 0.0, 0.02, 0.1, 0.3])
        return cls(world, bad, world.random.choice([0.0, 0.05, 0.3]), world.random.choice([0.0, 0.05, 0.3]))

    def carry(self, arrive: Callable[[], None]) -> None:
        """Bring one message to its destination: never, once or twice, soon or late."""
        copies = 0 if self.world.chance(self.lost) else 1 + self.world.chance(self.doubled)
        for _ in range(copies):
            delay_s = self.world.random.uniform(0.0001, 0.01)
            if self.world.chance(self.slow):
                delay_s = self.world.random.choice([0.5, 4.0, 8.0, 60.0]) * self.world.random.random()
            self.world.after(delay_s, arrive)

    def calm_down(self) -> None:
        """Work well from now on."""
        self.lost = self.doubled = self.slow = 0.0


class Disk(MemoryStore):
    """A store that can fail at any step: `crash_after_steps` counts reads and writes, then it crashes.

    A crash before the commit leaves nothing of the transaction, one after it leaves all; `commits` tells which.
    """

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.crash_after_steps: int | None = None
        self.crash_at_commit: str | None = None  # "before" or "after"
        self._open: MemoryTransaction | None = None

    def begin(self) -> MemoryTransaction:
        """Open a transaction that may crash."""
        self._open = _CrashingTransaction(self)
        return self._open

    def look(self) -> MemoryTransaction:
        """Look at what is written, as an onlooker who disturbs nothing; end it with `abort`."""
        return MemoryTransaction(self._tables)

    def step(self) -> None:
        """Count one read or write."""
        if self.crash_after_steps is not None:
            self.crash_after_steps -= 1
            if self.crash_after_steps < 0:
                raise CrashError

    def submit(self, transaction: Transaction) -> Completion:
        """Commit, unless the power goes out."""
        if self.crash_at_commit == "before":
            raise CrashError
        done = super().submit(transaction)
        self.commits += 1
        self._open = None
        if self.crash_at_commit == "after":
            raise CrashError
        return done

    def recover(self) -> None:
        """What is on the disk after a crash: no trace of the open transaction."""
        self.crash_after_steps = self.crash_at_commit = None
        if self._open is not None:
            self._open.abort()
            self._open = None


class _CrashingTransaction(MemoryTransaction):
    """Every read and write is a step at which the process may end."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk._tables)
        self._disk = disk

    def get(self, table: Table, key: bytes) -> bytes | None:
        self._disk.step()
        return super().get(table, key)

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        self._disk.step()
        super().put(table, key, value)

    def delete(self, table: Table, key: bytes) -> None:
        self._disk.step()
        super().delete(table, key)

    def scan(
        self, table: Table, start: bytes = b"", stop: bytes | None = None, limit: int = 1000, reverse: bool = False
    ) -> Rows:
        self._disk.step()
        return super().scan(table, start, stop, limit, reverse)


class Machine:
    """A computer's two clocks: the wall clock may be set, the monotonic one begins at each boot."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wall_error_s = 0.0
        self._booted_at = world.now - world.random.uniform(10, 1_000_000)

    def read(self) -> Reading:
        """Look at both."""
        return Reading(self._world.now + self.wall_error_s, self.monotonic_s())

    def monotonic_s(self) -> float:
        """The seconds since the boot."""
        return self._world.now - self._booted_at

    def boot(self) -> None:
        """Begin the monotonic clock anew."""
        self._booted_at = self._world.now - 20.0
