"""Figures as pictures, PNG or SVG by the file's name. Takes results, knows nothing of how they were measured."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from als_bench.processes import BenchError

SUFFIXES = (".png", ".svg")
_SIZE_INCHES = (9.0, 5.0)
_DPI = 120

matplotlib.rcParams["svg.hashsalt"] = "als-bench"  # the same figures make the same file


def check(path: Path) -> Path:
    """Refuse a name that is no picture's. Raises BenchError."""
    if path.suffix.lower() not in SUFFIXES:
        raise BenchError(f"{path}: a plot is written as {' or '.join(SUFFIXES)}")
    return path


def latency(curves: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw latency by percentile, each curve being pairs of percentile and milliseconds. Raises BenchError."""
    figure, axes = _figure("Latency by percentile", "percentile of requests", "milliseconds since due")
    ticks = sorted({pair[0] for curve in curves.values() for pair in curve})
    for name, curve in curves.items():
        axes.plot([_nines(pair[0]) for pair in curve], [pair[1] for pair in curve], marker="o", label=name)
    axes.set_xticks([_nines(tick) for tick in ticks], [f"{tick:g}" for tick in ticks], rotation=60)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()
    _save(figure, path)


def _nines(percentile: float) -> float:
    """Place a percentile so that each further nine takes the same room."""
    return -math.log10(1 - percentile / 100)


def growth(lines: Mapping[str, Sequence[tuple[float, float]]], unit: str, path: Path) -> None:
    """Draw rates over a growing number of `unit`. Raises BenchError."""
    figure, axes = _figure(f"Rate over the number of {unit}", unit, "requests per second")
    for name, line in lines.items():
        axes.plot([pair[0] for pair in line], [pair[1] for pair in line], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend()
    _save(figure, path)


def seats(hours: Sequence[Mapping[str, Any]], days: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a simulation: seats used and (unless plenty) seats there are by hour; lapses, grants and denials by day.

    Raises BenchError.
    """
    figure = Figure(figsize=(_SIZE_INCHES[0], _SIZE_INCHES[1] * 1.5), dpi=_DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    at = [row["day"] for row in hours]
    upper.plot(at, [row["used"] for row in hours], label="seats used")
    if max((row["total"] for row in hours), default=0) < 2 * max((row["used"] for row in hours), default=0):
        upper.plot(at, [row["total"] for row in hours], linestyle="--", label="seats")
    upper.plot(at, [row["in_service"] for row in hours], linestyle=":", label="computers in service")
    upper.set_ylim(bottom=0)
    upper.set_ylabel("seats")
    upper.set_title("Seats that a fleet needs")
    upper.legend()
    for key in ("granted", "lapsed", "denied"):
        lower.plot([row["day"] + 0.5 for row in days], [row[key] for row in days], drawstyle="steps-mid", label=key)
    lower.set_yscale("symlog")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("day")
    lower.set_ylabel("a day")
    lower.legend()
    _save(figure, path)


def _figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(check(path))
    except OSError as error:
        raise BenchError(f"{path}: cannot be written: {error.strerror or error}") from None
