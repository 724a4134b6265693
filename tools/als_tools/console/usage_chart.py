"""The history of a pool as a chart: a column for each day, as high as the most seats that were used on it.

Pure: rows of the `usage` operation in, lines out. What a colour says, a sign says too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from rich.style import Style
from rich.text import Text

from als_tools import formats
from als_tools.columns import Row
from als_tools.formats import Zone
from als_tools.views import ALMOST_FULL, Level

EIGHTHS = " ▁▂▃▄▅▆▇█"
LIMIT = "─"
DENIED = "!"
FAINT = Style(dim=True)
LEGEND_LINES, AXIS_LINES = 1, 2
CELLS_PER_DAY_MAX = 8
DATE_CELLS = 5


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a product, or several in one: the most used at once, the seats there were, what was refused."""

    first: date
    last: date
    used_max: int = 0
    total: int = 0
    denied: int = 0
    granted: int = 0
    lapsed: int = 0

    def plus(self, other: "Day") -> "Day":
        """Put a later day to this one."""
        return Day(
            self.first,
            other.last,
            max(self.used_max, other.used_max),
            max(self.total, other.total),
            self.denied + other.denied,
            self.granted + other.granted,
            self.lapsed + other.lapsed,
        )


def daily(rows: Iterable[Row], first: date, last: date, zone: Zone) -> list[Day]:
    """Add hours up to days of `zone`; a day without a row is one on which no server counted."""
    days = {
        first + timedelta(n): Day(first + timedelta(n), first + timedelta(n)) for n in range((last - first).days + 1)
    }
    for row in rows:
        at = zone.at(row["hour"]).date()
        if at in days:
            hour = Day(at, at, row["used_max"], row["total"], row["denied"], row["granted"], row["lapsed"])
            days[at] = days[at].plus(hour)
    return list(days.values())


def merged(days: Sequence[Day], columns_max: int) -> list[Day]:
    """Put neighboring days together until there are at most `columns_max`."""
    size = -(-len(days) // max(1, columns_max))
    found = []
    for at in range(0, len(days), size):
        together = days[at]
        for day in days[at + 1 : at + size]:
            together = together.plus(day)
        found.append(together)
    return found


def chart(days: Sequence[Day], width: int, height: int) -> Text:
    """Draw days in at most `width` by `height` cells: columns, the line of all seats, denials, dates."""
    top = max([1, *(max(day.total, day.used_max) for day in days)])
    label_cells = len(formats.count(top))
    room = max(1, width - label_cells - 1)
    columns = merged(days, room)
    cells = max(1, min(CELLS_PER_DAY_MAX, room // len(columns)))
    rows = max(1, height - LEGEND_LINES - AXIS_LINES)
    lines = [_row(columns, row, rows, top, cells, label_cells) for row in range(rows - 1, -1, -1)]
    return Text("\n").join([*lines, *_axis(columns, cells, label_cells), _legend(columns)])


def _row(columns: Sequence[Day], row: int, rows: int, top: int, cells: int, label_cells: int) -> Text:
    """Draw one line of the columns, `row` counted from below."""
    label = {rows - 1: formats.count(top), 0: "0"}.get(row, "")
    line = Text(f"{label:>{label_cells}} ", style=FAINT, no_wrap=True)
    for day in columns:
        eighths = min(8, max(0, round(day.used_max * rows * 8 / top) - row * 8))
        if day.used_max and row == 0:
            eighths = max(1, eighths)
        body = cells - 1 if cells > 2 else cells
        if eighths:
            line.append(EIGHTHS[eighths] * body, _style(day))
        else:
            is_limit = day.total > 0 and min(rows - 1, (day.total * rows - 1) // top) == row
            line.append((LIMIT if is_limit else " ") * body, FAINT)
        line.append(" " * (cells - body))
    return line


def _style(day: Day) -> Style:
    if day.total and day.used_max >= day.total:
        return Level.BAD.style
    return Level.SOON.style if day.total and day.used_max >= ALMOST_FULL * day.total else Level.GOOD.style


def _axis(columns: Sequence[Day], cells: int, label_cells: int) -> list[Text]:
    """Mark the days with denials, and write as many dates below as there is room for."""
    marks = Text(" " * (label_cells + 1), no_wrap=True)
    for day in columns:
        marks.append((DENIED if day.denied else " ").ljust(cells), Level.BAD.style)
    every = -(-(DATE_CELLS + 1) // cells)
    dates = " " * (label_cells + 1)
    for at in range(0, len(columns), every):
        dates = dates.ljust(label_cells + 1 + at * cells) + columns[at].first.strftime("%m-%d")
    return [marks, Text(dates[: label_cells + 1 + max(DATE_CELLS, len(columns) * cells)], style=FAINT, no_wrap=True)]


def _legend(columns: Sequence[Day]) -> Text:
    many = (columns[0].last - columns[0].first).days + 1
    each = "a column is a day" if many == 1 else f"a column is {many} days"
    line = Text(no_wrap=True)
    for sign, style, words in (
        (EIGHTHS[8], Level.GOOD.style, "most seats used"),
        (EIGHTHS[8], Level.BAD.style, "all used"),
        (LIMIT, FAINT, "all seats"),
        (DENIED, Level.BAD.style, "refused"),
    ):
        line.append(sign, style).append(f" {words}   ", FAINT)
    return line.append(each, FAINT)


def summary(days: Sequence[Day]) -> str:
    """Say in a line what the chart comes to."""
    most = max(days, key=lambda day: day.used_max)
    granted, denied, lapsed = (sum(getattr(day, name) for day in days) for name in ("granted", "denied", "lapsed"))
    return (
        f"Most used: {formats.count(most.used_max)} of {formats.count(most.total)} on {most.first}.  "
        f"Granted {formats.count(granted)}, refused {formats.count(denied)}, lapsed {formats.count(lapsed)}."
    )
