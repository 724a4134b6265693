"""A table as lines of text: column widths, folding, headings. Long values are folded, never cut.

A rich renderable of its own, because rich's Table needs all rows before the first line and half a second for a
thousand of them; a sheet's widths are settled on its first page, so a hundred thousand rows pass through.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

GAP = 2
BREAKS = " -,./"  # behind these a long value may go on in the next line
BREAK_CHARS_MIN = 2  # a shorter head would look like a slip
HEADING_STYLE = Style(bold=True)
_NEWLINE = Segment("\n")


@dataclass(frozen=True, slots=True)
class Field:
    """How one column of a sheet is laid out: `width_min` is the narrowest it may be squeezed to."""

    heading: str
    right: bool = False
    width_min: int = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a style, where the plain text alone would not catch the eye."""

    text: str
    style: Style = Style.null()  # noqa: RUF009 - immutable


Value = str | Cell
Lines = list[tuple[list[str], Style]]


class Sheet:
    """Rows under their headings. `widths` are settled beforehand by `settle`; no headings for a further page."""

    def __init__(
        self,
        fields: Sequence[Field],
        rows: Sequence[Sequence[Value]],
        widths: Sequence[int] | None = None,
        headings: bool = True,
    ) -> None:
        self._fields, self._rows, self._widths, self._headings = fields, rows, widths, headings

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths or settle(self._fields, self._rows, options.max_width)
        if self._headings:
            heads = [Cell(field.heading, HEADING_STYLE) for field in self._fields]
            yield from self._lines(heads, widths)
        for row in self._rows:
            yield from self._lines(row, widths)

    def _lines(self, row: Sequence[Value], widths: Sequence[int]) -> Iterable[Segment]:
        """Lay out one row, as many lines high as its longest folded cell."""
        cells: Lines = []
        for value, width, field in zip(row, widths, self._fields, strict=True):
            text, style = (value.text, value.style) if isinstance(value, Cell) else (value, Style.null())
            is_number = field.right and text is not field.heading
            cells.append(([text] if is_number else fold(text, width), style))
        for number in range(max(len(lines) for lines, _ in cells)):
            texts = [lines[number] if number < len(lines) else "" for lines, _ in cells]
            last = max((at for at, text in enumerate(texts) if text), default=-1)
            for at in range(last + 1):
                yield Segment(_set(texts[at], widths[at], self._fields[at].right, at == last), cells[at][1])
                if at < last:
                    yield Segment(" " * GAP)
            yield _NEWLINE


def _set(text: str, width: int, right: bool, is_last: bool) -> str:
    """Fill `text` up to `width`; the last column of a line leaves no blanks behind."""
    blanks = " " * (width - cell_len(text))
    if right:
        return blanks + text
    return text if is_last else text + blanks


def settle(fields: Sequence[Field], rows: Iterable[Sequence[Value]], width_max: int) -> list[int]:
    """Give each column its width: what its cells need, less where all of them together would be wider than `width_max`.

    The widest are squeezed first, none below its `width_min`; when even that is too wide, all give way further,
    for a fold in the wrong place is still better than a cut.
    """
    needed = natural_widths(fields, rows)
    room = width_max - GAP * (len(fields) - 1)
    widths = squeeze(needed, _least(fields, needed), room)
    return _stretch(squeeze(widths, [1] * len(fields), room), fields, room)


def _stretch(widths: Sequence[int], fields: Sequence[Field], room: int) -> list[int]:
    """Give headings that would be folded what is left of the room, one whole heading after the other."""
    result = list(widths)
    for at, field in enumerate(fields):
        more = cell_len(field.heading) - result[at]
        if 0 < more <= room - sum(result):
            result[at] += more
    return result


def least_width(fields: Sequence[Field], rows: Iterable[Sequence[Value]]) -> int:
    """Give the width of the narrowest line in which every column can still be read."""
    return GAP * (len(fields) - 1) + sum(_least(fields, natural_widths(fields, rows)))


def natural_widths(fields: Sequence[Field], rows: Iterable[Sequence[Value]]) -> list[int]:
    """Give each column the width of its widest cell, or of a word of its heading."""
    widths = [_widest_word(field.heading) for field in fields]
    for row in rows:
        for at, value in enumerate(row):
            widths[at] = max(widths[at], cell_len(value.text if isinstance(value, Cell) else value))
    return widths


def _least(fields: Sequence[Field], natural: Sequence[int]) -> list[int]:
    """Give each column the least width that it can be read in: numbers are never folded, nor words of a heading."""
    return [
        need if field.right else min(need, max(field.width_min, _widest_word(field.heading)))
        for need, field in zip(natural, fields, strict=True)
    ]


def _widest_word(heading: str) -> int:
    return max(cell_len(word) for word in heading.split() or [""])


def squeeze(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take from the widest column, one by one, until all fit into `room` or none can give more."""
    result = list(widths)
    over = sum(result) - room
    while over > 0:
        able = [at for at, width in enumerate(result) if width > least[at]]
        if not able:
            break
        widest = max(able, key=lambda at: result[at])
        result[widest] -= 1
        over -= 1
    return result


def fold(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` cells, behind a blank or mark where there is one."""
    if cell_len(text) <= width:
        return [text]
    lines = []
    rest = text
    while cell_len(rest) > width:
        head = chop_cells(rest, width)[0]
        cut = _break_before(rest, len(head))
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*lines, rest] if rest else lines


def _break_before(text: str, most: int) -> int:
    """Find where to break so that at most `most` characters stay: behind a mark where there is one, else at `most`."""
    for at in range(most, BREAK_CHARS_MIN, -1):
        if text[at - 1] in BREAKS or (at < len(text) and text[at] == " "):
            return at
    return max(1, most)
