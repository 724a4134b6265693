"""The options that several commands of `als-bench` share, and the choices that some have: how each is typed and said.

It knows no benchmark's workings, and parses nothing itself.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from als_bench import growth, storms
from als_bench.workload import ACQUIRE, RENEW

Json = Annotated[bool, typer.Option("--json", envvar="ALS_BENCH_JSON", help="Print one JSON document.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        envvar="ALS_BENCH_FOLDER",
        help="Where the stores of benchmarks are made, and taken away again: the disk that is measured.",
        show_default="the system's place for temporary files",
        exists=True,
        file_okay=False,
    ),
]
Seed = Annotated[int, typer.Option(envvar="ALS_BENCH_SEED", help="Seed of all chance in the load.")]
Connected = Annotated[
    int, typer.Option(envvar="ALS_BENCH_CONNECTIONS", min=1, max=1_000, help="Connections of the load.")
]
Window = Annotated[
    int, typer.Option(envvar="ALS_BENCH_WINDOW", min=1, max=900, help="Requests under way on each connection.")
]
Leases = Annotated[
    int, typer.Option(envvar="ALS_BENCH_LEASES", min=1, max=5_000_000, help="Leases in the store before.")
]
Rounds = Annotated[int, typer.Option(envvar="ALS_BENCH_ROUNDS", min=1, max=100, help="Rounds; medians are reported.")]
Duration = Annotated[
    float,
    typer.Option("--duration-s", envvar="ALS_BENCH_DURATION_S", min=0.05, max=600, help="Seconds of each measurement."),
]
Rate = Annotated[
    float | None,
    typer.Option(min=1, max=1_000_000, help="Requests a second.", show_default="half of saturation, measured before"),
]
Plot = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Also draw it, as PNG or SVG by the name.", show_default="no plot"),
]


class Operation(StrEnum):
    """What `saturation` measures."""

    RENEW = RENEW
    ACQUIRE = ACQUIRE
    BOTH = "both"


class Kind(StrEnum):
    """Which storm breaks."""

    LAPSE = storms.LAPSE
    IMPORT = storms.IMPORT
    BACKUP = storms.BACKUP
    ALL = "all"


class What(StrEnum):
    """What grows."""

    LEASES = growth.LEASES
    SEATS = growth.SEATS
    SERIALS = growth.SERIALS
