"""How much the server can do: a closed loop against it and against a raw echo in turn, in one run with one client.

A round is a pair: the echo, then ALS (then the other way round), so that what the machine does beside meets both. The
ratio of a pair is worth more than either rate; processor time a request says what the ratio is made of.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from als_bench import report
from als_bench.closed_loop import no_collection
from als_bench.report import Results
from als_bench.stage import ALS, ECHO, Load, Stage, warnings_of


def run(load: Load, operations: Sequence[str], folder: Path | None) -> Results:
    """Measure each operation in `load.rounds` pairs. Raises BenchError."""
    with Stage(load, folder, with_echo=True) as stage, no_collection():
        return {operation: measure_pairs(stage, operation) for operation in operations}


def measure_pairs(stage: Stage, operation: str) -> Results:
    """Measure echo and ALS in turn; give every measurement, and medians."""
    rows: list[Results] = []
    ratios = []
    streams = stage.streams(operation)
    for number in range(1, stage.load.rounds + 1):
        pair = {}
        for target in (ECHO, ALS) if number % 2 else (ALS, ECHO):
            report.tell(f"round {number} of {stage.load.rounds}: {operation} against {target}")
            pair[target] = {"round": number, **stage.measure(streams, target)}
        rows += [pair[ECHO], pair[ALS]]
        ratios.append(pair[ALS]["requests_per_s"] / max(pair[ECHO]["requests_per_s"], 1))
    return {
        "echo_per_s": _median(rows, ECHO, "requests_per_s"),
        "als_per_s": _median(rows, ALS, "requests_per_s"),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "echo_server_cpu_us_per_request": _median(rows, ECHO, "server_cpu_us_per_request"),
        "als_server_cpu_us_per_request": _median(rows, ALS, "server_cpu_us_per_request"),
        "rounds": rows,
    }


def _median(rows: Sequence[Results], target: str, key: str) -> Any:
    return statistics.median(row[key] for row in rows if row["target"] == target)


def warnings(results: Results) -> list[str]:
    """Say where a figure is the load's rather than the server's, and where requests were refused."""
    return [
        warning
        for operation, result in results.items()
        for row in result["rounds"]
        for warning in warnings_of(f"{operation} against {row['target']}, round {row['round']}", row)
    ]


COLUMNS = {
    "round": "round",
    "target": "target",
    "requests_per_s": "per s",
    "server_cpu_us_per_request": "server µs",
    "server_main_cpu_us_per_request": "main thread µs",
    "server_main_busy": "main busy",
    "server_others_busy": "others busy",
    "generator_cpu_us_per_request": "generator µs",
    "generator_main_busy": "main busy",
    "generator_others_busy": "others busy",
}


def view(results: Results) -> list[str]:
    """Show the results to people. Busy is in parts of one core, µs are of processor time a request."""
    lines = []
    for operation, result in results.items():
        rows = [[row[key] for key in COLUMNS] for row in result["rounds"]]
        lines += [headline(operation, result), "", *report.table(list(COLUMNS.values()), rows), ""]
    return lines[:-1]


def headline(operation: str, result: Results) -> str:
    """Say in a line how fast an operation is."""
    return (
        f"{operation}: {result['als_per_s']:,.0f}/s durable, {result['ratio']:.2f} of a raw echo's "
        f"{result['echo_per_s']:,.0f}/s"
    )
