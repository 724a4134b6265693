"""The same closed loop against what one might use instead: Redis with a synced log, and etcd's own leases.

A peer is started on a free port with a folder of its own when it is installed, and said to be missing otherwise. Its
figures flatter it: it speaks without encryption and checks nothing of what ALS checks.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from als_bench import report
from als_bench.closed_loop import Count, no_collection
from als_bench.etcd_members import Members, MissingError, find_program, free_port, wait_for_port
from als_bench.processes import Child, cpu_of
from als_bench.report import Results
from als_bench.stage import ALS, WARM_UP_S, Load, Stage, figures, warnings_of
from als_bench.workload import RENEW

REDIS, ETCD = "redis", "etcd"


class Pressing(Protocol):
    """A closed loop of a peer's own protocol; `run` goes on where it stopped."""

    def run(self, duration_s: float) -> Count:
        """Keep requests under way for so long."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


def run(load: Load, folder: Path | None) -> Results:
    """Measure ALS and each peer that is installed in turn. Raises BenchError."""
    with (
        tempfile.TemporaryDirectory(prefix="als-bench-", dir=folder) as temporary,
        Stage(load, folder) as stage,
        _peers(load, Path(temporary)) as (present, missing),
        no_collection(),
    ):
        return {"missing": missing, "targets": _measure(stage, present)}


def _measure(stage: Stage, present: dict[str, tuple[Child, Pressing]]) -> Results:
    streams = stage.streams(RENEW)
    rounds: dict[str, list[Results]] = {name: [] for name in (ALS, *present)}
    for number in range(1, stage.load.rounds + 1):
        for name in rounds:
            report.tell(f"round {number} of {stage.load.rounds}: {name}")
            if name == ALS:
                rounds[name].append(stage.measure(streams))
            else:
                rounds[name].append(_press(*present[name], stage.load.duration_s))
    als_per_s = [row["requests_per_s"] for row in rounds[ALS]]
    return {
        name: {
            "requests_per_s": statistics.median(row["requests_per_s"] for row in rows),
            "als_ratio": round(
                statistics.median(
                    als / max(row["requests_per_s"], 1) for als, row in zip(als_per_s, rows, strict=True)
                ),
                3,
            ),
            "rounds": rows,
        }
        for name, rows in rounds.items()
    }


def _press(child: Child, pressing: Pressing, duration_s: float) -> Results:
    pressing.run(min(WARM_UP_S, duration_s))
    before = cpu_of(child.pid), cpu_of(os.getpid())
    count = pressing.run(duration_s)
    return figures(count, cpu_of(child.pid) - before[0], cpu_of(os.getpid()) - before[1])


@contextmanager
def _peers(load: Load, folder: Path) -> Iterator[tuple[dict[str, tuple[Child, Pressing]], dict[str, str]]]:
    """Start the peers that are installed; give them by name, and why the others are missing."""
    present: dict[str, tuple[Child, Pressing]] = {}
    missing: dict[str, str] = {}
    children: list[Child] = []
    try:
        for name, start in STARTS.items():
            place = folder / name
            place.mkdir()
            try:
                child, port = start(place)
                children.append(child)
                present[name] = child, _pressing_of(name, port, load)
            except MissingError as error:
                missing[name] = str(error)
                report.tell(f"{name}: {error}")
        yield present, missing
    finally:
        for _, pressing in present.values():
            pressing.close()
        for child in children:
            child.close()


def _pressing_of(name: str, port: int, load: Load) -> Pressing:
    if name == REDIS:
        from als_bench.redis_peer import RedisLoop

        return RedisLoop(port, load)
    from als_bench.etcd_peer import EtcdLoop

    return EtcdLoop(port, load)


def _start_redis(folder: Path) -> tuple[Child, int]:
    program = find_program("redis-server", "apt install redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    child = Child([program, *options, "--appendonly", "yes", "--appendfsync", "always", "--logfile", "redis.log"])
    child.start(wait_for_line=False)
    wait_for_port(child, port)
    return child, port


def _start_etcd(folder: Path) -> tuple[Child, int]:
    members = Members(folder, 1)
    members.start()
    [member] = members.all
    return member, member.port


STARTS: dict[str, Callable[[Path], tuple[Child, int]]] = {REDIS: _start_redis, ETCD: _start_etcd}


def warnings(results: Results) -> list[str]:
    """Say what makes the figures worth less."""
    found = [f"{name}: {reason}" for name, reason in results["missing"].items()]
    for name, target in results["targets"].items():
        for number, row in enumerate(target["rounds"], 1):
            found += warnings_of(f"{name}, round {number}", row)
    return found


def view(results: Results) -> list[str]:
    """Show the results to people."""
    rows: Sequence[Sequence[object]] = [
        (name, target["requests_per_s"], target["als_ratio"], _cpu(target["rounds"]))
        for name, target in results["targets"].items()
    ]
    return report.table(["target", "per s", "ALS to it", "server µs"], rows)


def _cpu(rounds: Sequence[Results]) -> float:
    return float(statistics.median(row["server_cpu_us_per_request"] for row in rounds))
