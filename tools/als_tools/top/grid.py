"""Rows in columns, a line each: columns give way by their rank where the paper is too narrow for all.

Unlike the sheets of the command line nothing is folded, since a screen has only so many lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from als_tools.columns import Row
from als_tools.top.paper import PLAIN, STRONG, Paper

GAP = 2
EXTRA_RANK = 4  # columns of this rank are left out before any other is cut
CELLS_MIN = 4  # narrower, no word can be told from another

Written = str | tuple[str, Style]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `text` writes a row's cell; `order` is what rows are sorted by.

    `rank` 0 is never left out, the highest goes first. A cell is cut to `width_max`. A `stretch` column is drawn by
    `draw` into whatever room the others leave, at least `width_min` cells.
    """

    heading: str
    text: Callable[[Row, Paper], Written]
    order: Callable[[Row], Any]
    rank: int = 0
    right: bool = False
    width_min: int = 4
    width_max: int = 40
    stretch: bool = False
    draw: Callable[[Row, Paper, int], list[tuple[str, Style]]] | None = None


def in_order(rows: Sequence[Row], column: Column, reverse: bool) -> list[Row]:
    """Sort rows by a column; what is absent comes last either way."""
    there = [row for row in rows if column.order(row) is not None]
    absent = [row for row in rows if column.order(row) is None]
    return [*sorted(there, key=column.order, reverse=reverse), *absent]


def grid(
    columns: Sequence[Column],
    rows: Sequence[Row],
    paper: Paper,
    marked: tuple[Column, bool] | None = None,
    headings: bool = True,
) -> list[Text]:
    """Draw rows under their headings; `marked` is the column that they are sorted by, and whether downwards."""
    cells = [[_written(column.text(row, paper)) for column in columns] for row in rows]
    heads = [_heading(column, marked, paper) for column in columns]
    kept, widths = _fitted(columns, heads, cells, paper.width)
    lines = []
    if headings:
        lines.append(_line([[(heads[at], STRONG)] for at in kept], kept, widths, columns, paper))
    for row, texts in zip(rows, cells, strict=True):
        parts = [_parts(columns[at], row, texts[at], width, paper) for at, width in zip(kept, widths, strict=True)]
        lines.append(_line(parts, kept, widths, columns, paper))
    return lines


def _written(value: Written) -> tuple[str, Style]:
    return (value, PLAIN) if isinstance(value, str) else value


def _heading(column: Column, marked: tuple[Column, bool] | None, paper: Paper) -> str:
    if marked is None or marked[0] is not column:
        return column.heading
    up, down = "^v" if paper.signs.more == "~" else "▲▼"
    return f"{column.heading}{down if marked[1] else up}"


def _fitted(
    columns: Sequence[Column], heads: Sequence[str], cells: Sequence[Sequence[tuple[str, Style]]], width: int
) -> tuple[list[int], list[int]]:
    """Choose the columns that can be shown in `width`, and give each its width."""
    needs = []
    for at, column in enumerate(columns):
        widest = max([cell_len(row[at][0]) for row in cells], default=0)
        need = column.width_min if column.stretch else max(cell_len(heads[at]), min(widest, column.width_max))
        needs.append(need)
    kept = list(range(len(columns)))
    while len(kept) > 1:
        worst = max(kept, key=lambda at: (columns[at].rank, at))
        is_extra = columns[worst].rank >= EXTRA_RANK
        taken = sum((needs[at] if is_extra else _least(columns[at], needs[at])) + GAP for at in kept) - GAP
        if taken <= width or not columns[worst].rank:
            break
        kept.remove(worst)
    widths = _squeezed(columns, kept, [needs[at] for at in kept], width - GAP * (len(kept) - 1))
    return kept, widths


def _least(column: Column, need: int) -> int:
    """Give the narrowest that a column can be read in; numbers and bars are not cut."""
    return need if column.right or column.stretch else min(need, max(column.width_min, len(column.heading)))


def _squeezed(columns: Sequence[Column], kept: Sequence[int], widths: list[int], room: int) -> list[int]:
    """Take from the widest what is too much, give what is left to the column that stretches."""
    over = sum(widths) - room
    while over > 0:
        words = [n for n, at in enumerate(kept) if not columns[at].right and not columns[at].stretch]
        able = [n for n in words if widths[n] > _least(columns[kept[n]], widths[n])]
        able = able or [n for n in words if widths[n] > CELLS_MIN]
        if not able:
            break
        widths[max(able, key=lambda n: widths[n])] -= 1
        over -= 1
    for n, at in enumerate(kept):
        if columns[at].stretch and over < 0:
            widths[n] -= over
            over = 0
    return widths


def _parts(column: Column, row: Row, text: tuple[str, Style], width: int, paper: Paper) -> list[tuple[str, Style]]:
    return [text] if column.draw is None else column.draw(row, paper, width)


def _line(
    parts: Sequence[Sequence[tuple[str, Style]]],
    kept: Sequence[int],
    widths: Sequence[int],
    columns: Sequence[Column],
    paper: Paper,
) -> Text:
    joined: list[tuple[str, Style]] = []
    for n, (cell, width) in enumerate(zip(parts, widths, strict=True)):
        if n:
            joined.append((" " * GAP, PLAIN))
        if len(cell) == 1:
            text, style = cell[0]
            joined.append((paper.fit(text, width, columns[kept[n]].right), style))
        else:
            joined += cell
    return paper.line(*joined)
