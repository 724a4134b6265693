"""Pictures of a snapshot: pure functions from what a server said to what a person sees. Nothing here fetches or prints.

Colour repeats what a word or a sign already says, so every picture can be read without it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.style import Style
from rich.text import Text

from als_tools import formats, sheet
from als_tools.formats import Zone
from als_tools.sheet import Cell, Field, Sheet
from als_tools.snapshot import Cluster, Outage, Pool, Snapshot

ALMOST_FULL = 0.9  # from here on a pool is worth a second look
BAR_CELLS_MIN, BAR_CELLS_MAX = 8, 30


class Level(Enum):
    """How bad something is: its sign (a letter where there is only ASCII) and its style."""

    BAD = ("!!", Style(color="red", bold=True))
    SOON = ("! ", Style(color="yellow"))
    GOOD = ("ok", Style(color="green"))

    @property
    def sign(self) -> str:
        """Two cells that stand in front of the line."""
        return self.value[0]

    @property
    def style(self) -> Style:
        """The colour that says the same."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Warning:
    """Something an administrator should know, and what to do about it."""

    level: Level
    text: str


def warnings(snapshot: Snapshot, zone: Zone) -> tuple[Warning, ...]:
    """List what is wrong or soon will be, the worst first."""
    found = [
        *_clock_warnings(snapshot),
        *_cluster_warnings(snapshot),
        *(warning for pool in snapshot.pools for warning in _pool_warnings(pool)),
        *_ending_warnings(snapshot, zone),
    ]
    return tuple(sorted(found, key=lambda warning: warning.level is not Level.BAD))


def _clock_warnings(snapshot: Snapshot) -> Iterable[Warning]:
    by = formats.duration(snapshot.clock_behind_s)
    if snapshot.clock_state == "set_back":
        yield Warning(
            Level.BAD,
            f"The server's clock was set back by {by}; it goes on by its own time until that is right again. "
            "Set the clock, or tell the server that it is right: als-server accept-clock",
        )
    elif snapshot.clock_state == "jumped":
        yield Warning(
            Level.BAD,
            "The server's clock jumped forward; nothing ends by it until it has held for 24 h. Set the clock, "
            "or tell the server that it is right: als-server accept-clock",
        )


def _cluster_warnings(snapshot: Snapshot) -> Iterable[Warning]:
    if snapshot.cluster is not None and snapshot.cluster.leader is None:
        yield Warning(Level.BAD, "The cluster has no leader: nothing can be granted. Look at its etcd members.")
    for trouble in snapshot.cluster.troubles if snapshot.cluster is not None else ():
        yield Warning(Level.BAD, f"In the cluster: {formats.clean(trouble)}.")


def _pool_warnings(pool: Pool) -> Iterable[Warning]:
    refused = f", {formats.count(pool.denied_24h)} refused in 24 h" if pool.denied_24h else ""
    if pool.total and not pool.free:
        yield Warning(
            Level.BAD,
            f"{pool.product} has no free seat ({formats.count(pool.used)} of {formats.count(pool.total)} used"
            f"{refused}). Import serials, or revoke a seat that nobody needs.",
        )
    elif not pool.total and (pool.on_expired or pool.denied_24h):
        yield Warning(
            Level.BAD, f"{pool.product} has no valid serial{refused}. Import one: als import-file SERVER FILE"
        )
    if pool.on_expired:
        yield Warning(
            Level.BAD,
            f"{pool.product}: {formats.counted(pool.on_expired, 'computer')} on ended serials; each needs a free "
            "seat at its next run.",
        )


def _ending_warnings(snapshot: Snapshot, zone: Zone) -> Iterable[Warning]:
    """Tell of the seats that end soon, the first to end first."""
    ending = [pool for pool in snapshot.pools if pool.expiring_30d]
    for pool in sorted(ending, key=lambda pool: pool.next_expiry or snapshot.now):
        first = ""
        if pool.next_expiry is not None:
            days = formats.days_until(pool.next_expiry, snapshot.now)
            first = f", the first {days} ({zone.minute(pool.next_expiry)})"
        yield Warning(
            Level.SOON, f"{pool.product}: {formats.counted(pool.expiring_30d, 'seat')} end within 30 days{first}."
        )


def warning_lines(found: Sequence[Warning]) -> RenderableType:
    """Show warnings, one paragraph each, the sign in front of it."""
    return Group(*(_marked(warning) for warning in found))


class _Marked:
    """A sign and a text whose further lines stand under its first."""

    def __init__(self, level: Level, text: str) -> None:
        self._level, self._text = level, text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(10, options.max_width - 3)
        for number, line in enumerate(sheet.fold(self._text, width)):
            sign = self._level.sign if not number else "  "
            yield Text(f"{sign} {line}", style=self._level.style, no_wrap=True)


def _marked(warning: Warning) -> _Marked:
    return _Marked(warning.level, warning.text)


def bar(used: int, total: int, width: int, ascii_only: bool = False) -> str:
    """Draw how much of `total` is used in `width` cells: full only when it is, empty only when nothing is used."""
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    if total <= 0:
        return ("-" if ascii_only else "·") * width
    cells = min(width, used * width // total)
    if used and not cells:
        cells = 1
    return full * cells + empty * (width - cells)


def fullness(pool: Pool) -> Cell:
    """Say in one word how full a pool is, with the colour that says the same."""
    if not pool.total:
        return Cell("none", Style(dim=True))
    if not pool.free:
        return Cell("FULL", Level.BAD.style)
    percent = min(99, pool.used * 100 // pool.total)
    return Cell(f"{percent:3}%", Level.SOON.style if pool.used >= ALMOST_FULL * pool.total else Level.GOOD.style)


_BAR = Field("", width_min=BAR_CELLS_MIN)


class Pools:
    """The pools as a table with a bar for each, as wide as the window allows."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for with_name, with_lapsed in ((True, True), (False, True), (False, False)):
            fields, rows = self._table(with_name, with_lapsed)
            cells = _room_for_bar(fields, rows, options.max_width)
            if cells >= BAR_CELLS_MIN:
                break
        at = fields.index(_BAR)
        for pool, row in zip(self._pools, rows, strict=True):
            drawn = bar(pool.used, pool.total, max(BAR_CELLS_MIN, cells), options.ascii_only)
            row[at] = Cell(drawn, row[at + 1].style)
        yield Sheet(fields, rows)

    def _table(self, with_name: bool, with_lapsed: bool) -> tuple[list[Field], list[list[Cell]]]:
        """Give the columns and rows, the bars still empty."""
        numbers = ["Used", "Free", "Total", *(["Lapsed"] if with_lapsed else []), "Refused 24 h", "Ending 30 d"]
        names = [Field("Name", width_min=16)] if with_name else []
        fields = [Field("Product"), *names, _BAR, Field("", right=True)]
        fields += [Field(name, right=True) for name in numbers]
        return fields, [_pool_row(pool, with_name, with_lapsed) for pool in self._pools]


def _pool_row(pool: Pool, with_name: bool, with_lapsed: bool) -> list[Cell]:
    refused = Cell(formats.count(pool.denied_24h), Level.BAD.style if pool.denied_24h else Style.null())
    ending = Cell(formats.count(pool.expiring_30d), Level.SOON.style if pool.expiring_30d else Style.null())
    return [
        Cell(formats.clean(pool.product), sheet.HEADING_STYLE),
        *([Cell(formats.clean(pool.product_name))] if with_name else []),
        Cell(""),
        fullness(pool),
        Cell(formats.count(pool.used)),
        Cell(formats.count(pool.free)),
        Cell(formats.count(pool.total)),
        *([Cell(formats.count(pool.lapsed))] if with_lapsed else []),
        refused,
        ending,
    ]


def _room_for_bar(fields: Sequence[Field], rows: Sequence[Sequence[Cell]], width: int) -> int:
    """Give what the other columns leave to the bar, at most BAR_CELLS_MAX, below 0 when they are too wide."""
    return min(BAR_CELLS_MAX, width - sum(sheet.natural_widths(fields, rows)) - sheet.GAP * (len(fields) - 1))


def pools_view(pools: Sequence[Pool]) -> RenderableType:
    """Show the pools that are in use, and name those that are not."""
    used = [pool for pool in pools if pool.is_in_use]
    idle = [formats.clean(pool.product) for pool in pools if not pool.is_in_use]
    parts: list[RenderableType] = [Pools(used)] if used else []
    if idle and used:
        parts.append(Text(f"No serials: {', '.join(idle)}.", style="dim"))
    elif not used:
        parts.append(Text("No serials yet. Import some: als import-file SERVER FILE"))
    return Group(*parts)


def server_view(snapshot: Snapshot, zone: Zone) -> RenderableType:
    """Show who the server is, how long it runs, and whether its time can be trusted."""
    up = formats.duration(snapshot.now - snapshot.started_at)
    facts = (snapshot.version, snapshot.engine, snapshot.server_id)
    version, engine, server_id = (formats.clean(fact) for fact in facts)
    clock, outages = _clock_words(snapshot), _outage_words(snapshot.outages, zone)
    lines = [
        Text.assemble((formats.clean(snapshot.name), "bold"), f" at {snapshot.address}, up {up}"),
        Text(f"version {version}, store {engine}, server id {server_id}"),
        Text(f"key {snapshot.fingerprint}", overflow="fold"),
        Text(f"{zone.second(snapshot.now)} {zone.name}, {clock}; {outages}"),
    ]
    if snapshot.cluster is not None:
        lines.append(Text(_cluster_words(snapshot)))
        lines += (Text(f"  {line}") for line in _cluster_lines(snapshot.cluster, snapshot.now))
    return Group(*lines)


def _clock_words(snapshot: Snapshot) -> str:
    words = {"ok": "clock ok", "set_back": "clock SET BACK", "jumped": "clock JUMPED FORWARD"}
    return words.get(snapshot.clock_state, f"clock {formats.clean(snapshot.clock_state)}")


def _outage_words(outages: Sequence[Outage], zone: Zone) -> str:
    if not outages:
        return "no outages"
    last = outages[-1]
    return (
        f"{formats.counted(len(outages), 'outage')}, the last from {zone.minute(last.start)} "
        f"for {formats.duration(last.end - last.start)}"
    )


def _cluster_words(snapshot: Snapshot) -> str:
    assert snapshot.cluster is not None
    cluster = snapshot.cluster
    leader = "no leader" if cluster.leader is None else f"leader {formats.clean(cluster.leader)}"
    servers, members = formats.counted(cluster.servers, "server"), formats.counted(cluster.members, "etcd member")
    return f"cluster of {servers} on {members}, {leader}, {cluster.store_bytes / 2**20:,.1f} MiB stored"


def _cluster_lines(cluster: Cluster, now: int) -> Iterable[str]:
    """Tell of each server and each etcd member in a line; clocks are those of this server's view."""
    for row in cluster.server_rows:
        words = [
            formats.clean(f"server {row.number} {row.name} at {row.address}"),
            f"version {formats.clean(row.version)}",
        ]
        if row.number == cluster.number:
            words.append("this one")
        elif row.state == "running":
            words.append(f"clock {row.clock_ahead_ms / 1_000:+.1f} s")
        else:
            words.append(f"{formats.clean(row.state)} for {formats.duration(now - row.last_tick)}")
        yield ", ".join(words)
    for member in cluster.member_rows:
        name = formats.clean(f"etcd {member.name} at {member.endpoint}".replace("  ", " "))
        if not member.version:
            yield f"{name}, no answer"
            continue
        leads = ", leader" if member.is_leader else ""
        yield f"{name}, version {formats.clean(member.version)}{leads}, {member.file_bytes / 2**20:,.1f} MiB"


def counts_view(snapshot: Snapshot) -> RenderableType:
    """Show how much there is and how busy the server is."""
    dropped = ""
    if snapshot.replies_dropped:
        dropped = f", {formats.counted(snapshot.replies_dropped, 'reply', 'replies')} that nobody took"
    return Text(
        f"{formats.counted(snapshot.serials, 'serial')}, {formats.counted(snapshot.leases, 'lease')}, "
        f"{formats.counted(snapshot.computers, 'computer')}, {formats.counted(snapshot.events, 'event')}; "
        f"{formats.rate(snapshot.requests_per_s)} requests/s, "
        f"{formats.rate(snapshot.renewals_per_s)} renewals/s{dropped}"
    )


def status_view(snapshot: Snapshot, zone: Zone) -> RenderableType:
    """Show a server at a glance: what is wrong first, then who it is, its pools, its numbers."""
    found = warnings(snapshot, zone)
    parts: list[RenderableType] = [warning_lines(found), Text()] if found else []
    parts += [server_view(snapshot, zone), Text(), pools_view(snapshot.pools), Text(), counts_view(snapshot)]
    return Group(*parts)


def status_plain(snapshot: Snapshot, zone: Zone) -> list[str]:
    """Write a status as tab-separated lines: first word what the line is about, then its values."""
    lines = [("warning", warning.text) for warning in warnings(snapshot, zone)]
    server = snapshot
    facts: list[tuple[str, ...]] = [
        ("server", formats.clean(server.name), server.address, server.server_id, server.version, server.engine),
        ("key", server.fingerprint),
        ("started", zone.iso(server.started_at)),
        ("clock", server.clock_state, str(server.clock_behind_s)),
        *(("outage", zone.iso(outage.start), zone.iso(outage.end)) for outage in server.outages),
        *(_pool_plain(pool, zone) for pool in server.pools),
        ("counts", *map(str, (server.serials, server.leases, server.computers, server.events))),
        ("rates", f"{server.requests_per_s:.3f}", f"{server.renewals_per_s:.3f}"),
    ]
    return ["\t".join(line) for line in [*lines, *facts]]


def _pool_plain(pool: Pool, zone: Zone) -> tuple[str, ...]:
    numbers = (
        pool.total,
        pool.free,
        pool.used,
        pool.lapsed,
        pool.on_expired,
        pool.denied_24h,
        pool.expiring_30d,
    )
    end = "" if pool.next_expiry is None else zone.iso(pool.next_expiry)
    return ("pool", formats.clean(pool.product), *map(str, numbers), end)
