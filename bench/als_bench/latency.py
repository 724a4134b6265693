"""How long an answer takes when the server is half as busy as it could be: an open loop at a given rate."""

import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from als_bench import latencies, report, workload
from als_bench.closed_loop import no_collection
from als_bench.open_loop import OpenLoop, Outcome, schedule
from als_bench.processes import cpu_of
from als_bench.report import Results
from als_bench.stage import ALS, ECHO, STEADY, WARM_UP_S, Load, Stage, figures, renew_all, warnings_of
from als_bench.workload import RENEW

HALF = 0.5
PROBE_S = 1.5  # of saturation, to know what half of it is
LATE_S_MAX = 0.05  # a load that is later than this measures itself


def rate_of(stage: Stage, rate_per_s: float | None) -> float:
    """Give the wanted rate, or half of what the server does at saturation, measured now."""
    if rate_per_s is not None:
        return rate_per_s
    report.tell("measuring saturation, to load the server by half of it")
    return saturation_rate(stage) * HALF


def saturation_rate(stage: Stage) -> float:
    """Measure how many renewals a second the server does at most."""
    found = stage.measure(stage.streams(RENEW), duration_s=min(PROBE_S, stage.load.duration_s))
    return max(float(found["requests_per_s"]), 1.0)


def open_loop(stage: Stage, target: str = ALS) -> OpenLoop:
    """Make the load of renewals over all leases; takes a while when there are many."""
    load = stage.load
    dealt = workload.own_computers(load.leases, load.connections, load.seed)
    tails = [cycle([STEADY.tail(RENEW, number) for number in numbers]) for numbers in dealt]
    aim = stage.aim(target)
    return OpenLoop(aim.sockets, tails, wanted=aim.wanted, is_scattered=load.is_scattered)


def warmed_up(stage: Stage, rate_per_s: float, target: str = ALS) -> OpenLoop:
    """Make the load of `open_loop` and let it come for a while: what is done for the first time takes longer."""
    if target == ALS:
        renew_all(stage.aim(target).sockets, stage.load)
    loop = open_loop(stage, target)
    loop.run(schedule(rate_per_s, min(WARM_UP_S, stage.load.duration_s), stage.load.seed))
    return loop


def drive(
    stage: Stage, loop: OpenLoop, due_s: list[float], is_enough: Callable[[float], bool] = lambda now_s: False
) -> tuple[Outcome, Results]:
    """Let renewals come as scheduled; give what became of them, and what the stretch cost whom."""
    before = cpu_of(stage.server.pid), cpu_of(os.getpid())
    outcome = loop.run(due_s, is_enough)
    cost = figures(outcome.count, cpu_of(stage.server.pid) - before[0], cpu_of(os.getpid()) - before[1])
    return outcome, cost | {"unanswered": outcome.unanswered, "sent_late_ms_max": round(outcome.late_s_max * 1e3, 3)}


def run(load: Load, rate_per_s: float | None, folder: Path | None) -> Results:
    """Measure latencies at a rate (None: half of saturation), the raw echo's first. Raises BenchError."""
    with Stage(load, folder, with_echo=True) as stage, no_collection():
        rate_per_s = rate_of(stage, rate_per_s)
        echo = measure_echo(stage, rate_per_s)
        return measure(stage, rate_per_s) | {"echo_latency": echo}


def measure_echo(stage: Stage, rate_per_s: float) -> Results:
    """Measure the raw echo's latencies: what machine, sockets and load take, with neither server nor disk."""
    report.tell(f"{rate_per_s:,.0f} messages a second to the echo for {stage.load.duration_s:g} s")
    loop = warmed_up(stage, rate_per_s, ECHO)
    outcome = loop.run(schedule(rate_per_s, stage.load.duration_s, stage.load.seed))
    return latencies.summary(outcome.latencies())


def measure(stage: Stage, rate_per_s: float) -> Results:
    """Measure latencies at a rate on a stage that stands."""
    report.tell(f"{rate_per_s:,.0f} renewals a second for {stage.load.duration_s:g} s")
    loop = warmed_up(stage, rate_per_s)
    outcome, cost = drive(stage, loop, schedule(rate_per_s, stage.load.duration_s, stage.load.seed))
    return {
        "rate_per_s": round(rate_per_s),
        "latency": latencies.summary(outcome.latencies()),
        "overloaded": outcome.is_overloaded,
        **cost,
    }


def warnings(results: Results, where: str = "latency") -> list[str]:
    """Say what makes the latencies worth less."""
    found = warnings_of(where, results)
    if results["overloaded"]:
        found.append(f"{where}: the server could not keep up with {results['rate_per_s']:,}/s; lower --rate")
    if results["unanswered"]:
        found.append(f"{where}: {results['unanswered']} requests were not answered")
    if results["sent_late_ms_max"] > LATE_S_MAX * 1e3:
        found.append(
            f"{where}: the generator itself was up to {results['sent_late_ms_max']:.0f} ms late, "
            "which counts as latency; the machine has too few free cores"
        )
    return found


def view(results: Results) -> list[str]:
    """Show the results to people."""
    rows = {"a raw echo": results["echo_latency"], "als": results["latency"]}
    names = [name for name in latencies.PERCENTILES if all(row[name] is not None for row in rows.values())]
    return [
        f"{results['rate_per_s']:,} renewals/s, open loop, from the time at which each was due",
        "",
        *report.table(
            ["target", "answers", *map(label, names)],
            [[target, row["count"], *map(row.get, names)] for target, row in rows.items()],
        ),
    ]


def label(name: str) -> str:
    """Write a percentile's key as people do: p99_9_ms is "p99.9 ms"."""
    return name.removesuffix("_ms").replace("_", ".") + " ms"
