"""The two numbers for who has half a minute: durable renewals a second, and p99 at half that rate."""

from pathlib import Path

from als_bench import latencies, latency, saturation
from als_bench.closed_loop import no_collection
from als_bench.latency import HALF
from als_bench.report import Results
from als_bench.stage import Load, Stage
from als_bench.workload import RENEW

LATENCY_STRETCHES = 3  # of the length of a round: a p99 needs more time than a rate


def run(load: Load, folder: Path | None) -> Results:
    """Measure both. Raises BenchError."""
    with Stage(load, folder, with_echo=True) as stage, no_collection():
        pairs = saturation.measure_pairs(stage, RENEW)
        rate_per_s = max(pairs["als_per_s"] * HALF, 1.0)
        stage.load = Load(
            load.connections,
            load.window,
            load.leases,
            load.rounds,
            load.duration_s * LATENCY_STRETCHES,
            load.seed,
        )
        at_half = latency.measure(stage, rate_per_s)
    return {
        "renewals_per_s": pairs["als_per_s"],
        "ratio_to_echo": pairs["ratio"],
        "p99_ms": at_half["latency"]["p99_ms"],
        "saturation": pairs,
        "latency": at_half,
    }


def warnings(results: Results) -> list[str]:
    """Say what makes the numbers worth less."""
    return saturation.warnings({RENEW: results["saturation"]}) + latency.warnings(results["latency"])


def view(results: Results) -> list[str]:
    """Show the two numbers, and what stands behind them."""
    pairs, at_half = results["saturation"], results["latency"]
    server_us, echo_us = pairs["als_server_cpu_us_per_request"], pairs["echo_server_cpu_us_per_request"]
    percentiles = at_half["latency"]
    others = ", ".join(
        f"{latency.label(name).removesuffix(' ms')} {percentiles[name]:.2f} ms"
        for name in latencies.PERCENTILES
        if percentiles[name] is not None and name != "p99_ms"
    )
    p99 = results["p99_ms"]
    return [
        f"{results['renewals_per_s']:>10,.0f}  durable renewals/s, {results['ratio_to_echo']:.2f} of a raw echo's",
        f"{'-' if p99 is None else format(p99, '.2f'):>7} ms  p99 of an answer at half that rate",
        "",
        f"The server used {server_us:.1f} µs of processor time a renewal, the echo {echo_us:.1f} µs a message "
        f"({pairs['echo_per_s']:,.0f}/s).",
        f"At {at_half['rate_per_s']:,} renewals/s: {others}.",
    ]
