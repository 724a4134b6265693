"""A cluster: how many renewals and acquires a second servers over one etcd do, how long answers take, and the gap in
service when a part of it is killed.

Members, servers and load share this machine's cores: rates are of the machine, not of the servers. Three machines of
their own do more, and wait longer for each commit.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from als_bench import latencies, report, workload
from als_bench.closed_loop import no_collection
from als_bench.cluster_stage import POOLS, ClusterStage
from als_bench.latency import HALF, LATE_S_MAX, label
from als_bench.open_loop import OpenLoop, schedule
from als_bench.report import Results
from als_bench.stage import STEADY, Load, warnings_of
from als_bench.workload import RENEW

HOT, SPREAD = "acquire, one product", f"acquire, {POOLS} products"
OPERATIONS = ("renew", HOT, SPREAD)
SHOWN_PERCENTILES = ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms")
SETTLE_S = 3.0
FLAGS = ("--heartbeat-interval=100", "--election-timeout=500", "--pre-vote")  # as docs/cluster.md advises


@dataclass(frozen=True, slots=True)
class Wanted:
    """The cluster, and its load."""

    members: int
    servers_max: int
    kills: int
    connections: int
    window: int
    leases: int
    rounds: int
    duration_s: float
    seed: int

    @property
    def load(self) -> Load:
        """The clients."""
        return Load(self.connections, self.window, self.leases, self.rounds, self.duration_s, self.seed)


def run(wanted: Wanted, folder: Path | None) -> Results:
    """Measure with one server, two, and so on. Raises BenchError."""
    with (
        ClusterStage(wanted.load, wanted.members, wanted.servers_max, folder, *FLAGS) as stage,
        no_collection(),
    ):
        rows = [row for servers in range(1, wanted.servers_max + 1) for row in _rates(stage, servers)]
        found: Results = {"rows": rows, "medians": _medians(rows)}
        found["latency"] = _latency(stage, wanted.servers_max, _median_of(rows, wanted.servers_max, RENEW) * HALF)
        if wanted.kills:
            from als_bench import failover

            found["kills"] = failover.measure(stage, wanted.kills)
        return found


def _rates(stage: ClusterStage, servers: int) -> Iterator[Results]:
    stage.connect(servers)
    for number in range(1, stage.load.rounds + 1):
        for operation in OPERATIONS:
            report.tell(f"{servers} servers, round {number} of {stage.load.rounds}: {operation}")
            yield {"round": number, "operation": operation, **stage.measure(_streams(stage, operation), servers)}


def _streams(stage: ClusterStage, operation: str) -> list[Iterator[bytes]]:
    if operation == RENEW:
        load = stage.load
        return workload.renewals(STEADY, workload.own_computers(load.leases, load.connections, load.seed))
    return stage.acquires(0 if operation == HOT else POOLS)


def _median_of(rows: Sequence[Results], servers: int, operation: str, key: str = "requests_per_s") -> float:
    wanted = [row[key] for row in rows if (row["servers"], row["operation"]) == (servers, operation)]
    return float(statistics.median(wanted))


def _medians(rows: Sequence[Results]) -> list[Results]:
    keys = ("requests_per_s", "server_cpu_us_per_request", "etcd_cpu_us_per_request", "generator_cpu_us_per_request")
    return [
        {"servers": servers, "operation": operation, **{key: _median_of(rows, servers, operation, key) for key in keys}}
        for servers in sorted({row["servers"] for row in rows})
        for operation in OPERATIONS
    ]


def _latency(stage: ClusterStage, servers: int, rate_per_s: float) -> Results:
    """Let renewals come at a rate, each due at a time that was fixed before."""
    report.tell(f"{servers} servers: {rate_per_s:,.0f} renewals a second for {stage.load.duration_s:g} s")
    load = stage.load
    stage.connect(servers)  # so that no late answer to the closed loop is among these
    dealt = workload.own_computers(load.leases, load.connections, load.seed)
    tails = [cycle([STEADY.tail(RENEW, number) for number in numbers]) for numbers in dealt]
    sockets = stage.connections.sockets
    # The servers still work off what the closed loop has left, and have other rows in mind.
    before = OpenLoop(sockets, tails).run(schedule(rate_per_s, min(SETTLE_S, load.duration_s), load.seed))
    if before.unanswered:
        stage.connect(servers)
    outcome = OpenLoop(sockets, tails).run(schedule(rate_per_s, load.duration_s, load.seed))
    return {
        "servers": servers,
        "rate_per_s": round(rate_per_s),
        "latency": latencies.summary(outcome.latencies()),
        "overloaded": outcome.is_overloaded,
        "unanswered": outcome.unanswered,
        "refused": outcome.count.refused,
        "sent_late_ms_max": round(outcome.late_s_max * 1e3, 3),
    }


def warnings(results: Results) -> list[str]:
    """Say what makes the figures worth less."""
    found = ["members, servers and load share this machine's cores"]
    for row in results["rows"]:
        found += warnings_of(f"{row['servers']} servers, {row['operation']}, round {row['round']}", row)
    latency = results["latency"]
    if latency["overloaded"] or latency["unanswered"] or latency["refused"]:
        found.append(f"latency: the servers could not keep up with {latency['rate_per_s']:,}/s")
    if latency["sent_late_ms_max"] > LATE_S_MAX * 1e3:
        found.append(f"latency: the generator was up to {latency['sent_late_ms_max']:.0f} ms late, which counts")
    return found


COLUMNS = {
    "servers": "servers",
    "operation": "operation",
    "requests_per_s": "per s",
    "server_cpu_us_per_request": "servers µs",
    "etcd_cpu_us_per_request": "etcd µs",
    "generator_cpu_us_per_request": "generator µs",
}


def view(results: Results) -> list[str]:
    """Show the results to people: medians of the rounds; µs are of processor time a request, all processes added up."""
    lines = report.table(list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in results["medians"]])
    latency = results["latency"]
    names = [name for name in SHOWN_PERCENTILES if latency["latency"][name] is not None]
    lines += ["", f"{latency['servers']} servers, {latency['rate_per_s']:,} renewals/s, open loop", ""]
    values = [latency["latency"]["count"], *(latency["latency"][name] for name in names)]
    lines += report.table(["answers", *map(label, names)], [values])
    if results.get("kills"):
        lines += ["", *_kills_view(results["kills"])]
    return lines


def _kills_view(kills: Sequence[Results]) -> list[str]:
    def row(victim: str) -> list[Any]:
        own = [kill for kill in kills if kill["killed"] == victim]
        gaps_s, waits_s = [kill["gap_s"] for kill in own], [kill["wait_s_max"] for kill in own]
        return [victim, len(own), statistics.median(gaps_s), max(gaps_s), statistics.median(waits_s), max(waits_s)]

    heads = ["killed", "times", "no answer s", "longest", "one client waits s", "longest"]
    return report.table(heads, [row(victim) for victim in dict.fromkeys(kill["killed"] for kill in kills)])
