"""What commands write: a JSON document, tab-separated lines or a table on stdout, sentences for people on stderr.

Rows go out page by page as they come, in every form; nothing here keeps more than a page.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.style import Style

from als import streams
from als_tools import formats, sheet
from als_tools.columns import Column, Listing, Row
from als_tools.formats import Zone

Form = Literal["table", "json", "plain"]

PAGE_ROWS = 1_000
WIDEST = {  # what later pages may hold
    "number": "999,999",
    "time": "2026-12-31 23:59",
    "moment": "2026-12-31 23:59:59",
    "address": "192.168.100.100",
}
EXACT_INTEGER_MAX = 2**53  # beyond, readers of JSON that know only doubles would lose digits
STATE_STYLES = {
    "expired": Style(color="red"),
    "lapsed": Style(color="yellow"),
    "removing": Style(color="yellow"),
}
ENDLESS_COLUMNS = 100_000  # the width of a file or pipe: nothing needs to be folded for it


class ClosedPipe(Exception):
    """Nothing more can be written."""


class _Screen(Console):
    """A console that lets a closed pipe be seen by the program instead of ending it with code 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise ClosedPipe


def screen(file: TextIO | None = None) -> Console:
    """Make the console for `file` (stdout): colour only on a terminal, and no folding for a pipe without COLUMNS."""
    target = file or sys.stdout
    is_terminal = target.isatty()
    console = _Screen(
        file=target,
        force_terminal=is_terminal,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )
    if not is_terminal and "COLUMNS" not in console._environ:
        console.width = ENDLESS_COLUMNS
    return console


def say(sentence: str) -> None:
    """Tell the person something beside the result: one line on stderr."""
    streams.complain(sentence)


def jsonable(value: Any) -> Any:
    """Give a value of the wire as the JSON documents write it: binary as text, great integers as text."""
    if isinstance(value, bytes):
        return formats.binary(value)
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT_INTEGER_MAX:
        return str(value)
    return value


def in_pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Cut rows into pages of at most PAGE_ROWS, as they come."""
    source = iter(rows)
    while page := list(islice(source, PAGE_ROWS)):
        yield page


@dataclass(frozen=True, slots=True)
class Output:
    """How this command writes: its `form`, and the `zone` of its times."""

    form: Form = "table"
    zone: Zone = Zone()  # noqa: RUF009 - immutable

    def document(self, content: Mapping[str, Any], picture: RenderableType, plain: Iterable[str]) -> None:
        """Write something that is not a list: the JSON of `content`, the `plain` lines, or the `picture`."""
        if self.form == "json":
            _write(json.dumps(jsonable(content)) + "\n")
        elif self.form == "plain":
            _write("".join(f"{line}\n" for line in plain))
        elif isinstance(picture, str):
            _write(f"{picture}\n")  # folded by the terminal itself, so that it can be copied whole
        else:
            screen().print(picture)

    def rows(
        self,
        listing: Listing,
        rows: Iterable[Row],
        columns: str | None = None,
        tail: Mapping[str, Any] | None = None,
    ) -> int:
        """Write rows with the chosen `columns` and give their number.

        The JSON document has all keys whatever the columns are, then those of `tail`. Raises UnknownColumnError.
        """
        chosen = listing.choose(columns)
        if self.form == "json":
            return _write_json(rows, {} if tail is None else tail)
        if self.form == "plain":
            return self._write_plain(chosen, rows)
        return self._write_table(chosen, rows, listing.left_out_first if columns is None else ())

    def _write_plain(self, columns: Sequence[Column], rows: Iterable[Row]) -> int:
        number = 0
        for page in in_pages(rows):
            lines = ("\t".join(column.plain(row, self.zone) for column in columns) for row in page)
            _write("".join(f"{line}\n" for line in lines))
            number += len(page)
        return number

    def _write_table(self, columns: Sequence[Column], rows: Iterable[Row], expendable: Sequence[str]) -> int:
        """Write a table whose column widths are settled by its first page."""
        console = screen()
        number = 0
        widths: list[int] = []
        for page in in_pages(rows):
            if not number:
                columns = self._fitting(columns, page, expendable, console.width)
            fields = [_field(column, self.zone) for column in columns]
            cells = [[self._cell(column, row) for column in columns] for row in page]
            widths = widths or sheet.settle(fields, [*cells, *_room(columns, page)], console.width)
            console.print(sheet.Sheet(fields, cells, widths, headings=not number), end="", soft_wrap=True)
            number += len(page)
        return number

    def _cell(self, column: Column, row: Row) -> str | sheet.Cell:
        """Write one cell; what is not as it should be catches the eye."""
        text = column.text(row, self.zone)
        style = STATE_STYLES.get(text) if column.kind == "state" else None
        return text if style is None else sheet.Cell(text, style)

    def _fitting(
        self, columns: Sequence[Column], page: Sequence[Row], expendable: Sequence[str], width: int
    ) -> Sequence[Column]:
        """Leave out expendable columns until the rest can be read in `width`, and say which."""
        kept = list(columns)
        left_out = []
        for key in expendable:
            cells = [[column.text(row, self.zone) for column in kept] for row in page]
            if sheet.least_width([_field(column, self.zone) for column in kept], cells) <= width:
                break
            left_out.append(key)
            kept = [column for column in kept if column.key != key]
        if left_out:
            say(f"Left out in {width} columns: {', '.join(left_out)}. --columns chooses, --plain shows all.")
        return kept


def _room(columns: Sequence[Column], page: Sequence[Row]) -> list[list[str]]:
    """Give a row that is as wide as those of further pages may be, where there may be further pages."""
    return [] if len(page) < PAGE_ROWS else [[WIDEST.get(column.kind, "") for column in columns]]


def _field(column: Column, zone: Zone) -> sheet.Field:
    return sheet.Field(column.title(zone), column.is_number, column.width_min)


def _write_json(rows: Iterable[Row], tail: Mapping[str, Any]) -> int:
    """Write {"rows": [...], ...} as the rows come, one on a line."""
    number = 0
    for page in in_pages(rows):
        _write(",\n" if number else '{"rows": [\n')
        _write(",\n".join(json.dumps(jsonable(row)) for row in page))
        number += len(page)
    rest = "".join(f", {json.dumps(key)}: {json.dumps(jsonable(value))}" for key, value in tail.items())
    _write(f"\n]{rest}}}\n" if number else f'{{"rows": []{rest}}}\n')
    return number


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise ClosedPipe from None
