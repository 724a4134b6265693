"""Whether the server stays as fast as what it holds grows: leases, seats of a serial, serials of a product.

One row a size. Leases grow in one store, each size with a start after a clean stop and one after a kill; seats and
serials each begin with a new store, because only they should differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from als import clock
from als_bench import report, workload
from als_bench.closed_loop import ClosedLoop, no_collection
from als_bench.connections import Connections
from als_bench.processes import private_bytes
from als_bench.report import Results
from als_bench.server_under_test import ServerUnderTest
from als_bench.stage import NEW, NEW_AT_ONCE, SEATS_PER_SERIAL, STEADY, Load, measure, renew_all, warnings_of
from als_bench.workload import ACQUIRE, GRANTED

LEASES, SEATS, SERIALS = "leases", "seats", "serials"
SIZES = {
    LEASES: (10_000, 100_000, 1_000_000),
    SEATS: (1_000, 10_000, 100_000, 1_000_000),
    SERIALS: (1, 1_000, 100_000),
}
LEASES_FIRST = SIZES[LEASES][0]
RENEWING_MAX = 200_000  # computers, taken from all over the store: more requests than that need too much memory
SEATS_OF_EACH = 10  # of many serials
PAIRS_WINDOW = 8  # comings and goings under way on a connection: few, so that 1,000 seats are enough


@dataclass(frozen=True, slots=True)
class Growth:
    """What grows, through which sizes (up to `size_max`)."""

    what: str = LEASES
    size_max: int = 1_000_000

    @property
    def sizes(self) -> list[int]:
        """The sizes to measure, the smallest at least."""
        fitting = [size for size in SIZES[self.what] if size <= self.size_max]
        return fitting or [self.size_max]


def run(growth: Growth, load: Load, folder: Path | None) -> Results:
    """Measure at each size. Raises BenchError."""
    with no_collection():
        if growth.what == LEASES:
            rows = _grow_leases(growth.sizes, load, folder)
        else:
            rows = [_measure_pool(growth.what, size, load, folder) for size in growth.sizes]
    return {"what": growth.what, "rows": rows}


def _grow_leases(sizes: Sequence[int], load: Load, folder: Path | None) -> list[Results]:
    server, connections = ServerUnderTest(folder), Connections(load.connections)
    rows: list[Results] = []
    new = 0
    try:
        held = 0
        for size in sizes:
            _fill(server, held, size, connections.public_keys)
            held = size
            server.start()
            sizes_bytes, ready_s = (server.store_bytes(), server.compact_bytes()), server.ready_s
            stored = server.leases()  # those of the smaller sizes' new computers are still there
            server.stop(kill=True)
            server.start()
            row: Results = {
                "leases": size,
                "ready_s": round(ready_s, 3),
                "ready_after_kill_s": round(server.ready_s, 3),
            }
            connections.open(server.port, server.server_key)
            row |= _measure_leases(server, connections, replace(load, leases=size), new)
            new += NEW_AT_ONCE
            row |= {
                "store_bytes_per_lease": round(sizes_bytes[0] / stored, 1),
                "compact_bytes_per_lease": round(sizes_bytes[1] / stored, 1),
                "server_private_bytes": private_bytes(server.pid),
            }
            rows.append(row)
            connections.disconnect()
            server.stop()
    finally:
        connections.close()
        server.close()
    for row in rows:
        row["renew_ratio_to_first"] = round(row["renew"]["requests_per_s"] / _rate(rows[0], "renew"), 3)
        row["acquire_ratio_to_first"] = round(row["acquire"]["requests_per_s"] / _rate(rows[0], "acquire"), 3)
    return rows


def _rate(row: Results, operation: str) -> int:
    return max(int(row[operation]["requests_per_s"]), 1)


def _fill(server: ServerUnderTest, first: int, size: int, keys: Sequence[bytes]) -> None:
    """Let computers first .. size - 1 acquire; serials for all sizes come with the first."""
    report.tell(f"filling the store up to {size:,} leases")
    stock = server.open_stock()
    try:
        now = clock.wall_s()
        stock.import_serials(server.vendor.issue(SEATS_PER_SERIAL, 10 if not first else 1), now)
        stock.acquire(STEADY, range(first, size), keys, now)
    finally:
        stock.store.close()


def _measure_leases(server: ServerUnderTest, connections: Connections, load: Load, new: int) -> Results:
    """Measure renewals of computers all over the store, each of which has renewed before, then acquires of new ones."""
    report.tell(f"renewing each of {load.leases:,} leases once")
    first = renew_all(connections.sockets, load)
    report.tell(f"renewing and acquiring with {load.leases:,} leases")
    dealt = workload.own_computers(load.leases, load.connections, load.seed, RENEWING_MAX)
    streams = {
        "renew": workload.renewals(STEADY, dealt),
        "acquire": NEW.new_for_each(ACQUIRE, new, load.connections),
    }
    return {"first_renewals_per_s": round(first.per_s)} | {
        operation: measure(ClosedLoop(connections.sockets, requests, load.window, GRANTED), server.pid, load.duration_s)
        for operation, requests in streams.items()
    }


def _measure_pool(what: str, size: int, load: Load, folder: Path | None) -> Results:
    """Measure comings and goings in a pool of so many seats, or of so many serials."""
    report.tell(f"a pool of {size:,} {what}")
    server, connections = ServerUnderTest(folder), Connections(load.connections)
    try:
        stock = server.open_stock()
        try:
            issue = server.vendor.issue
            texts = issue(size) if what == SEATS else issue(_seats_of_each(size, load), size)
            stock.import_serials(texts, clock.wall_s())
        finally:
            stock.store.close()
        server.start()
        connections.open(server.port, server.server_key)
        window = min(PAIRS_WINDOW, load.window)
        streams = workload.comings_and_goings(NEW, load.connections, window)
        loop = ClosedLoop(connections.sockets, streams, window, GRANTED)
        return {what: size, "acquire_release": measure(loop, server.pid, load.duration_s)}
    finally:
        connections.close()
        server.close()


def _seats_of_each(serials: int, load: Load) -> int:
    """Seats enough for all that is under way, also when there is only one serial."""
    return max(SEATS_OF_EACH, -(-load.connections * PAIRS_WINDOW // serials))


def warnings(results: Results) -> list[str]:
    """Say what makes the figures worth less."""
    what = results["what"]
    return [
        warning
        for row in results["rows"]
        for operation in ("renew", "acquire", "acquire_release")
        if operation in row
        for warning in warnings_of(f"{operation} with {row[what]:,} {what}", row[operation])
    ]


def lines(results: Results) -> dict[str, list[tuple[float, float]]]:
    """Give the rates over the sizes, for a plot."""
    what, rows = results["what"], results["rows"]
    operations = [operation for operation in ("renew", "acquire", "acquire_release") if operation in rows[0]]
    return {name: [(row[what], row[name]["requests_per_s"]) for row in rows] for name in operations}


def view(results: Results) -> list[str]:
    """Show the results to people."""
    if results["what"] == LEASES:
        heads = [
            "leases", "first/s", "renew/s", "of first", "µs", "acquire/s", "of first", "µs",
            "ready s", "after kill s", "bytes a lease", "compact", "memory MB",
        ]  # fmt: skip
        return report.table(heads, [_lease_cells(row) for row in results["rows"]])
    what = results["what"]
    rows = [(row[what], row["acquire_release"]) for row in results["rows"]]
    cells = [(size, load["requests_per_s"], load["server_cpu_us_per_request"]) for size, load in rows]
    return report.table([what, "acquire and release/s", "server µs"], cells)


def _lease_cells(row: Results) -> list[Any]:
    memory = row["server_private_bytes"]
    return [
        row["leases"],
        row["first_renewals_per_s"],
        row["renew"]["requests_per_s"],
        row["renew_ratio_to_first"],
        row["renew"]["server_cpu_us_per_request"],
        row["acquire"]["requests_per_s"],
        row["acquire_ratio_to_first"],
        row["acquire"]["server_cpu_us_per_request"],
        row["ready_s"],
        row["ready_after_kill_s"],
        row["store_bytes_per_lease"],
        row["compact_bytes_per_lease"],
        None if memory is None else round(memory / 1e6),
    ]
