"""How the demo is shown: one line for each step, and below it, on a terminal, the server's live status.

Where stdout is no terminal the same story is told in plain lines. Knows pictures, not what happens.
"""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.rule import Rule
from rich.style import Style
from rich.text import Text

from als import clock
from als_tools import formats, output, sheet, views
from als_tools.columns import Row
from als_tools.sheet import Cell, Field, Sheet
from als_tools.snapshot import Pool, Snapshot

REFRESHES_PER_S = 8
MARGIN_CELLS = 17  # the seconds and who does it
MAC_COLUMN, WITH_MAC_COLUMNS = 1, 76  # the MAC address is there from this width on


class Shown(Protocol):
    """What the picture needs of a computer: `says` is how its programs are, `heartbeats` how many were answered."""

    host: str
    mac: bytes
    heartbeats: int

    @property
    def says(self) -> str:
        """Say how its programs are."""
        ...


class Stage:
    """Tells the story. Use it with `with`; the terminal is left as it was."""

    def __init__(self) -> None:
        self._console = output.screen()
        self._live: Live | None = None
        self._begin_s = clock.monotonic_s()
        self._pools_told = ""
        if sys.stdout.isatty():
            self._live = Live(console=self._console, refresh_per_second=REFRESHES_PER_S, transient=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, who: str, what: str, style: str = "") -> None:
        """Say one step of the story, with the seconds since the demo began."""
        elapsed_s = clock.monotonic_s() - self._begin_s
        lines = sheet.fold(formats.clean(what), max(20, self._console.width - MARGIN_CELLS))
        head = Text.assemble((f"{elapsed_s:5.1f} s  ", "dim"), (f"{who:<8}", "bold"), (lines[0], style))
        rest = [Text(" " * MARGIN_CELLS + line, style) for line in lines[1:]]
        self._console.print(*([head, *rest]), sep="\n", soft_wrap=True)

    def show(self, snapshot: Snapshot, leases: Sequence[Row], computers: Sequence[Shown]) -> None:
        """Show the server as it is now; where there is no terminal, its pools when they have changed."""
        if self._live is not None:
            self._live.update(picture(snapshot, leases, computers))
            return
        pools = ", ".join(_pool_words(pool) for pool in snapshot.pools)
        if pools != self._pools_told:
            self._pools_told = pools
            self.tell("status", pools)


def _pool_words(pool: Pool) -> str:
    drawn = views.bar(pool.used, pool.total, 8, ascii_only=True)
    lapsed = f", {pool.lapsed} lapsed" if pool.lapsed else ""
    return f"{pool.product} [{drawn}] {pool.used} of {pool.total} used{lapsed}"


def picture(snapshot: Snapshot, leases: Sequence[Row], computers: Sequence[Shown]) -> RenderableType:
    """Draw the live status: the pools, who holds what, and how busy the server is."""
    title = f"live status of {snapshot.name} at {snapshot.address}"
    parts: list[RenderableType] = [
        Rule(Text(title, style="bold"), align="left", characters="─"),
        views.pools_view(snapshot.pools),
        Text(),
    ]
    if computers:
        parts += [_Computers(snapshot.now, leases, computers), Text()]
    return Group(*parts, views.counts_view(snapshot))


class _Computers:
    """Each computer, what it says, and what the server holds for it, as it all is when the picture is made."""

    def __init__(self, now: int, leases: Sequence[Row], computers: Sequence[Shown]) -> None:
        self._rows = [_computer_row(now, leases, computer) for computer in computers]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fields = [
            Field("Computer"),
            Field("MAC address", width_min=17),
            Field("It says", width_min=12),
            Field("Heartbeats", right=True),
            Field("The server says", width_min=18),
        ]
        kept = [at for at in range(len(fields)) if at != MAC_COLUMN or options.max_width >= WITH_MAC_COLUMNS]
        yield Sheet([fields[at] for at in kept], [[row[at] for at in kept] for row in self._rows])


def _computer_row(now: int, leases: Sequence[Row], computer: Shown) -> list[str | Cell]:
    return [
        Cell(computer.host, Style(bold=True)),
        formats.binary(computer.mac),
        computer.says,
        str(computer.heartbeats),
        _server_says(now, [lease for lease in leases if lease["mac"] == computer.mac]),
    ]


def _server_says(now: int, leases: Sequence[Row]) -> Cell:
    """Say what the server holds for one computer."""
    if not leases:
        return Cell("no license", Style(dim=True))
    words = []
    for lease in sorted(leases, key=lambda lease: str(lease["product"])):
        left = "" if lease["renew_by"] is None else f" {max(0, lease['renew_by'] - now)} s left"
        words.append(f"{lease['product']}{left if lease['state'] == 'active' else ' ' + lease['state']}")
    is_bad = any(lease["state"] != "active" for lease in leases)
    return Cell(", ".join(words), views.Level.SOON.style if is_bad else views.Level.GOOD.style)
