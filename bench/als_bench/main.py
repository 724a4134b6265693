"""`als-bench`: the command line of the benchmarks. Parses, calls, and turns failures into exit codes.

Each command looks at the machine first, runs its benchmark, and writes one document; a plot is a further view of it.
"""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from als import __version__
from als_bench import (
    cluster,
    comeback,
    environment,
    fleet,
    growth,
    headline,
    latency,
    micro,
    peers,
    report,
    saturation,
    simulate,
    storms,
)
from als_bench.options import (
    Connected,
    Duration,
    Folder,
    Json,
    Kind,
    Leases,
    Operation,
    Plot,
    Rate,
    Rounds,
    Seed,
    What,
    Window,
)
from als_bench.processes import BenchError
from als_bench.report import Results, View
from als_bench.stage import Load
from als_bench.workload import ACQUIRE, RENEW

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="als-bench",
    help="How fast the server is on this machine. Without a command: two headline numbers, in half a minute.\n\n"
    "Every benchmark starts what it measures on loopback and on free ports, and takes away what it made.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"als-bench {__version__}")
        raise typer.Exit


def _is_typed(context: typer.Context, key: str) -> bool:
    source = context.get_parameter_source(key)
    return source is not None and source.name == "COMMANDLINE"


@app.callback(invoke_without_command=True)
def _headline(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    connections: Connected = 32,
    window: Window = 64,
    leases: Leases = 10_000,
    rounds: Rounds = 3,
    duration_s: Duration = 1.5,
    seed: Seed = 1,
    folder: Folder = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    given = [key for key in context.params if _is_typed(context, key)]
    if context.invoked_subcommand is not None and given:
        raise typer.BadParameter(f"--{given[0].replace('_', '-')} stands behind the command, not before it")
    if context.invoked_subcommand is None:
        load = Load(connections, window, leases, rounds, duration_s, seed)
        _run(
            "headline", load, folder, json, lambda: headline.run(load, folder), headline.view, headline.warnings,
            plot, lambda results, path: _plot_latency({"at half rate": results["latency"]["latency"]}, path),
        )  # fmt: skip


@app.command("saturation")
def _saturation(
    operation: Annotated[Operation, typer.Option(help="Which requests.")] = Operation.BOTH,
    connections: Connected = 32,
    window: Window = 64,
    leases: Leases = 10_000,
    rounds: Rounds = 3,
    duration_s: Duration = 3.0,
    seed: Seed = 1,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """Requests a second with as many under way as the server can take, beside a raw echo under the same clients."""
    operations = [RENEW, ACQUIRE] if operation is Operation.BOTH else [operation.value]
    load = Load(connections, window, leases, rounds, duration_s, seed)
    _run(
        "saturation", load, folder, json,
        lambda: saturation.run(load, operations, folder), saturation.view, saturation.warnings,
    )  # fmt: skip


@app.command("latency")
def _latency(
    rate: Rate = None,
    scattered: Annotated[
        bool, typer.Option("--scattered", help="Each request in a packet of its own, over the next connection.")
    ] = False,
    connections: Connected = 32,
    window: Window = 64,
    leases: Leases = 10_000,
    duration_s: Duration = 10.0,
    seed: Seed = 1,
    folder: Folder = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """How long answers take at a given rate, each counted from when its request was due; a raw echo's beside."""
    load = Load(connections, window, leases, 1, duration_s, seed, scattered)
    _run(
        "latency", load, folder, json, lambda: latency.run(load, rate, folder), latency.view, latency.warnings,
        plot, lambda results, path: _plot_latency(
            {f"{results['rate_per_s']:,}/s": results["latency"], "a raw echo": results["echo_latency"]}, path
        ),
    )  # fmt: skip


@app.command("fleet")
def _fleet(
    agents: Annotated[int, typer.Option(min=1, max=60_000, help="Connected agents, each with its own key.")] = 10_000,
    heartbeat_s: Annotated[
        float, typer.Option("--heartbeat-s", min=0.1, max=86_400, help="Between two renewals.")
    ] = 60,
    jitter: Annotated[float, typer.Option(min=0, max=0.9, help="Part of it by which each is shifted.")] = 0.1,
    duration_s: Duration = 20.0,
    seed: Seed = 1,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """Very many connections: all connect at once, then each has a heartbeat a minute."""
    wanted = fleet.Agents(agents, heartbeat_s, jitter, duration_s, seed)
    _run("fleet", wanted, folder, json, lambda: fleet.run(wanted, folder), fleet.view, fleet.warnings)


@app.command("comeback")
def _comeback(
    agents: Annotated[
        int, typer.Option(min=1, max=20_000, help="Agents, each the SDK's own with its own key.")
    ] = 2_000,
    heartbeat_s: Annotated[int, typer.Option("--heartbeat-s", min=1, max=3_600, help="Between two renewals.")] = 10,
    away_s: Annotated[
        float, typer.Option("--away-s", min=0.1, max=3_600, help="Seconds for which the server is gone.")
    ] = 20.0,
    kill: Annotated[bool, typer.Option("--kill", help="End the server with SIGKILL, not SIGTERM.")] = False,
    seed: Seed = 1,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """A server that goes away and comes back under its agents: who loses a license, and how many ask at once."""
    wanted = comeback.Comeback(agents, heartbeat_s, away_s, kill, seed)
    _run("comeback", wanted, folder, json, lambda: comeback.run(wanted, folder), comeback.view, comeback.warnings)


@app.command("storms")
def _storms(
    kind: Annotated[Kind, typer.Option(help="Which storm.")] = Kind.ALL,
    storm_leases: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Leases that lapse at once, or lie in the store that is copied.")
    ] = 100_000,
    storm_serials: Annotated[int, typer.Option(min=1, max=100_000, help="Serials that are imported.")] = 10_000,
    rate: Rate = None,
    connections: Connected = 32,
    window: Window = 64,
    leases: Leases = 10_000,
    duration_s: Annotated[
        float, typer.Option("--duration-s", min=0.1, max=600, help="Seconds for which a storm is watched at most.")
    ] = 60.0,
    seed: Seed = 1,
    folder: Folder = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """What renewals feel while many leases lapse at once, serials are imported, or a backup is taken."""
    kinds = storms.KINDS if kind is Kind.ALL else (kind.value,)
    load = Load(connections, window, leases, 1, duration_s, seed)
    storm = storms.Storm(storm_leases, storm_serials)
    _run(
        "storms", load, folder, json,
        lambda: {name: storms.run(name, load, storm, rate, folder) for name in kinds},
        storms.view, storms.warnings,
        plot, lambda results, path: _plot_latency({name: row["during"] for name, row in results.items()}, path),
    )  # fmt: skip


@app.command("growth")
def _growth(
    what: Annotated[What, typer.Option(help="What grows.")] = What.LEASES,
    size_max: Annotated[int, typer.Option(min=1, max=1_000_000, help="The largest size.")] = 1_000_000,
    connections: Connected = 32,
    window: Window = 64,
    duration_s: Duration = 3.0,
    seed: Seed = 1,
    folder: Folder = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Whether rates stay the same as leases, seats or serials grow; start times, bytes a lease, memory. Minutes."""
    grown = growth.Growth(what.value, size_max)
    load = Load(connections, window, growth.LEASES_FIRST, 1, duration_s, seed)
    _run(
        "growth", load, folder, json, lambda: growth.run(grown, load, folder), growth.view, growth.warnings,
        plot, _plot_growth,
    )  # fmt: skip


@app.command("micro")
def _micro(
    duration_s: Annotated[float, typer.Option("--duration-s", min=0.01, max=60, help="Seconds of each stage.")] = 0.5,
    leases: Leases = 20_000,
    seed: Seed = 1,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """Where a microsecond goes: each stage of a request alone, in one process, with the server's own functions."""
    scale = micro.Scale(duration_s, leases, seed)
    _run("micro", scale, folder, json, lambda: micro.run(scale, folder), micro.view)


@app.command("peers")
def _peers(
    connections: Connected = 32,
    window: Window = 64,
    leases: Leases = 10_000,
    rounds: Rounds = 3,
    duration_s: Duration = 3.0,
    seed: Seed = 1,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """The same closed loop against redis-server (appendfsync always) and etcd's lease keep-alives, where installed."""
    load = Load(connections, window, leases, rounds, duration_s, seed)
    _run("peers", load, folder, json, lambda: peers.run(load, folder), peers.view, peers.warnings)


@app.command("cluster")
def _cluster(
    members: Annotated[int, typer.Option(min=1, max=9, help="Members of etcd.")] = 3,
    servers: Annotated[int, typer.Option(min=1, max=9, help="Servers at most: measured with one, two, and so on.")] = 3,
    kills: Annotated[int, typer.Option(min=0, max=100, help="How often each kind of part is killed.")] = 3,
    connections: Connected = 32,
    window: Window = 64,
    leases: Leases = 10_000,
    rounds: Rounds = 3,
    duration_s: Duration = 3.0,
    seed: Seed = 1,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """Servers over one etcd: renewals and acquires a second, latency, and the gap in service when a part is killed."""
    wanted = cluster.Wanted(members, servers, kills, connections, window, leases, rounds, duration_s, seed)
    _run("cluster", wanted, folder, json, lambda: cluster.run(wanted, folder), cluster.view, cluster.warnings)


@app.command("simulate")
def _simulate(
    computers: Annotated[int, typer.Option(min=1, max=2_000_000, help="Computers of the fleet.")] = 10_000,
    days: Annotated[int, typer.Option(min=1, max=400, help="Days to simulate.")] = 60,
    seats: Annotated[
        int | None, typer.Option(min=1, help="Seats imported.", show_default="more than can be needed")
    ] = None,
    churn: Annotated[float, typer.Option(min=0, max=5, help="Part of the fleet replaced in a year.")] = 0.25,
    reinstalls: Annotated[float, typer.Option(min=0, max=5, help="Part of the fleet set up anew in a year.")] = 0.2,
    uninstalled: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the replaced whose component is uninstalled before.")
    ] = 0.2,
    seed: Seed = 1,
    folder: Folder = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """How many seats a fleet needs: the ledger alone, on a virtual clock, with computers that come and go."""
    wanted = simulate.Fleet(computers, days, seats, churn, reinstalls, uninstalled, seed)
    place = simulate.place_for(wanted, folder)
    _run(
        "simulate", wanted, place, json, lambda: simulate.run(wanted, place), simulate.view, simulate.warnings,
        plot, _plot_seats, is_about_disk=False,
    )  # fmt: skip


def _plot_latency(summaries: Mapping[str, Results], path: Path) -> None:
    from als_bench import plots

    plots.latency({name: summary["curve"] for name, summary in summaries.items()}, path)


def _plot_growth(results: Results, path: Path) -> None:
    from als_bench import plots

    plots.growth(growth.lines(results), results["what"], path)


def _plot_seats(results: Results, path: Path) -> None:
    from als_bench import plots

    plots.seats(results["hours"], results["days"], path)


def _no_warnings(results: Results) -> Sequence[str]:
    return ()


def _run(
    name: str,
    settings: Any,
    folder: Path | None,
    as_json: bool,
    measure: Callable[[], Results],
    view: View,
    warnings: Callable[[Results], Sequence[str]] = _no_warnings,
    plot: Path | None = None,
    draw: Callable[[Results, Path], None] | None = None,
    is_about_disk: bool = True,
) -> None:
    """Look at the machine, measure, write; `settings` is the dataclass that the document repeats."""
    if plot is not None:
        from als_bench import plots  # matplotlib takes a second to load, so only who draws waits for it

        plots.check(plot)
    machine = environment.look(folder)
    results = measure()
    if plot is not None and draw is not None:
        draw(results, plot)
        report.tell(f"drawn: {plot}")
    found = [*(machine.warnings() if is_about_disk else ()), *warnings(results)]
    report.write(report.document(name, machine, asdict(settings), results, found), view, as_json)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_INTERRUPTED))
    try:
        app()
    except BenchError as error:
        report.tell(f"als-bench: {error}")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
