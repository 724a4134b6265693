"""Latencies as percentiles, kept in an HdrHistogram: three digits from a microsecond to ten minutes."""

from collections.abc import Iterable
from typing import Any

from hdrh.histogram import HdrHistogram

LEAST_US = 1
MOST_US = 600_000_000
DIGITS = 3
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p99_9_ms": 99.9, "p99_99_ms": 99.99, "max_ms": 100.0}
CURVE = (25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999)  # of the plot, as far as samples go


def summary(latencies_s: Iterable[float]) -> dict[str, Any]:
    """Give count and percentiles in milliseconds (None when there is nothing), and the curve for a plot."""
    histogram = HdrHistogram(LEAST_US, MOST_US, DIGITS)
    for latency_s in latencies_s:
        histogram.record_value(min(max(round(latency_s * 1e6), LEAST_US), MOST_US))
    total = int(histogram.get_total_count())
    percentiles = {name: _at(histogram, total, percentile) for name, percentile in PERCENTILES.items()}
    curve = [
        [percentile, _at(histogram, total, percentile)]
        for percentile in CURVE
        if total and percentile <= 100 - 100 / (total + 1)
    ]
    return {"count": total, **percentiles, "curve": curve}


def _at(histogram: Any, total: int, percentile: float) -> float | None:
    return round(histogram.get_value_at_percentile(percentile) / 1000, 3) if total else None
