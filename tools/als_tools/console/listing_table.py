"""A table of a listing, however long: near an end of the rows that it holds the next or the previous ones come.

Sorted by a click on a column's head, or by keys. Knows sources and columns, not what the rows are about.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual import on, work
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable

from als_tools.columns import Column, Row
from als_tools.console.fitting import Fitting, fit
from als_tools.console.line import Line
from als_tools.console.screen import Trouble
from als_tools.console.source import PAGE_ROWS, Order, Source, StoppedError
from als_tools.console.table import Table
from als_tools.console.window import Window
from als_tools.formats import Zone
from als_tools.output import STATE_STYLES, WIDEST

NEAR_END_ROWS = 30
CELL_CHARS_MAX = 60  # a serial number has 179; the row's details have all of it
UP, DOWN = "▲", "▼"
EVENT_STYLE = STATE_STYLES | {"denied": STATE_STYLES["expired"]}


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a listing has come: the table holds rows `start` to `stop` of the `read` ones, `seen` were looked at."""

    start: int
    stop: int
    read: int
    seen: int
    is_at_end: bool


class ListingTable(Table):
    """Shows one source after another."""

    BINDINGS = [  # noqa: RUF012 - textual's own type
        Binding("s", "sort", "Sort"),
        Binding("S", "turn", "Turn order", show=False),
        Binding("home", "scroll_top", "First row", show=False),  # there is no cursor among the columns to move
        Binding("end", "scroll_bottom", "Last row", show=False),
    ]

    class Ordered(Message):
        """Another order is wanted."""

        def __init__(self, order: Order) -> None:
            super().__init__()
            self.order = order

    class Progress(Message):
        """Rows have come, or could not."""

        def __init__(self, extent: Extent, left_out: Sequence[str], trouble: str) -> None:
            super().__init__()
            self.extent, self.left_out, self.trouble = extent, left_out, trouble

    def __init__(self, zone: Zone, **options: Any) -> None:
        super().__init__(**options)
        self._zone = zone
        self._line: Line | None = None
        self._source: Source | None = None
        self._columns: Sequence[Column] = ()
        self._expendable: Sequence[str] = ()
        self._fitting = Fitting()
        self._window = Window(PAGE_ROWS)
        self._rows: list[Row] = []
        self._is_loading = False

    def begin(self, line: Line, source: Source, columns: Sequence[Column], expendable: Sequence[str] = ()) -> None:
        """Show a source from its first row on; where it is too narrow for all columns, `expendable` ones go first."""
        if self._source is not None:
            self._source.stop()
        self._line, self._source = line, source
        self._columns, self._expendable = columns, expendable
        self._fitting, self._window, self._rows = Fitting(tuple(columns)), Window(source.page_rows), []
        self._draw_columns()
        self._load(source, 0, 1)

    def _draw_columns(self) -> None:
        assert self._source is not None, "it has begun"
        self.clear(columns=True)
        for column in self._fitting.columns:
            width = self._fitting.widths.get(column.key)
            self.add_column(self._heading(column, self._source.order), key=column.key, width=width)

    def _fit(self) -> None:
        """Choose the columns that there is room for, as the rows that have come have them."""
        needed = {column.key: self._width_of(column) for column in self._columns}
        room = self.outer_size.width - self.scrollbar_size_vertical
        # Columns that somebody chose are as wide as they are: one scrolls to them.
        expendable, room = (self._expendable, room) if self._expendable else ((), sum(needed.values()) * 9)
        self._fitting = fit(self._columns, needed, expendable, room, 2 * self.cell_padding)

    def _width_of(self, column: Column) -> int:
        cells = [self._cell(column, row).cell_len for row in self._rows]
        later = len(WIDEST.get(column.kind, "")) if len(self._rows) >= self._window.page_rows else 0
        return max([self._heading(column, Order(column.key)).cell_len, later, *cells])

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self.cursor_row] if 0 <= self.cursor_row < len(self._rows) else None

    def _heading(self, column: Column, order: Order) -> Text:
        mark = (DOWN if order.reverse else UP) if column.key == order.sort else ""
        return Text(column.title(self._zone) + mark, justify="right" if column.is_number else "left")

    def _cell(self, column: Column, row: Row) -> Text:
        text = column.text(row, self._zone)
        width = self._fitting.widths.get(column.key, CELL_CHARS_MAX)
        shown = text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
        style = EVENT_STYLE.get(text, "") if column.key in ("state", "kind") else ""
        return Text(shown, style=style, justify="right" if column.is_number else "left")

    def _lines(self, rows: Sequence[Row]) -> Iterator[list[Text]]:
        return ([self._cell(column, row) for column in self._fitting.columns] for row in rows)

    def _load(self, source: Source, first: int, last: int, to_top: bool = False) -> None:
        """Have the window hold the pages from `first` up to `last`."""
        self._is_loading = True
        self._fetch(source, first, last, to_top)

    @work(exclusive=True, group="load")
    async def _fetch(self, source: Source, first: int, last: int, to_top: bool) -> None:
        assert self._line is not None, "it has begun"
        try:
            pages = await self._line.run(source.pages, self._line.request, first, last)
        except StoppedError:
            return
        except Trouble as error:
            if source is self._source:
                self._source = None  # what it had under way is lost: it begins anew, or not at all
                self._tell(source, str(error))
            return
        if source is self._source:
            self._take(Window(source.page_rows, first, tuple(pages)), to_top)
            self._is_loading = False
            self._tell(source)

    def _take(self, window: Window, to_top: bool) -> None:
        """Show the rows of a window: more of them at the end, or others around those that are on the screen."""
        before, count = self._window, len(self._rows)
        self._window, self._rows = window, window.rows
        if not count:
            self._fit()
            self._draw_columns()
            self.add_lines(self._lines(self._rows))
        elif window.first == before.first:
            self.add_lines(self._lines(self._rows[count:]))
        else:
            self._draw_anew_around(0 if to_top else before.start - window.start)

    def _draw_anew_around(self, shift: int) -> None:
        """Draw all rows, those that were on the screen where they were; each is `shift` rows further down now."""
        bottom = min(self.scroll_offset.y + self.size.height - 2, len(self._rows))
        cursor = self.cursor_row
        with self.prevent(DataTable.RowHighlighted):
            self._draw_columns()
            self.add_lines(self._lines(self._rows))
            self.move_cursor(row=self._within(bottom + shift if shift else 0))
        if shift:
            self.call_after_refresh(self.move_cursor, row=self._within(cursor + shift))

    def _within(self, row: int) -> int:
        return min(max(0, row), len(self._rows) - 1)

    def _tell(self, source: Source, trouble: str = "") -> None:
        start = self._window.start
        extent = Extent(start, start + len(self._rows), source.read, source.seen, source.is_at_end)
        self.post_message(self.Progress(extent, self._fitting.left_out, trouble))

    def on_resize(self) -> None:
        """Choose the columns anew: there may be more room, or less."""
        before = self._fitting
        if self._rows and self._source is not None:
            self._fitting = Fitting(tuple(self._columns))
            self._fit()
            if self._fitting != before:
                self._draw_anew_around(0)
                self._tell(self._source)

    def _go_on(self) -> None:
        """Go on past the end of the window, if there is more and nothing is under way."""
        source, window = self._source, self._window
        if source is None or self._is_loading:
            return
        if not source.is_at_end or window.start + len(self._rows) < source.read:
            self._load(source, *window.onward())

    def _go_back(self) -> None:
        """Go back before the beginning of the window, if something comes before it and nothing is under way."""
        if self._source is not None and not self._is_loading and self._window.first:
            self._load(self._source, *self._window.backward())

    @on(DataTable.RowHighlighted)
    def _near_an_end_by_key(self, event: DataTable.RowHighlighted) -> None:
        if event.cursor_row >= len(self._rows) - NEAR_END_ROWS:
            self._go_on()
        elif event.cursor_row < NEAR_END_ROWS:
            self._go_back()

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Go on near an end also when it is the mouse's wheel that comes there."""
        super().watch_scroll_y(old, new)
        if new > old and new + self.size.height >= len(self._rows) - NEAR_END_ROWS:
            self._go_on()
        elif 0 < new < old and new < NEAR_END_ROWS:
            self._go_back()

    def action_scroll_top(self) -> None:
        """Go to the first row of all."""
        if self._source is not None and self._window.first:
            self._load(self._source, 0, 1, to_top=True)
        else:
            super().action_scroll_top()

    @on(DataTable.HeaderSelected)
    def _sort_by_head(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        if self._source is not None:
            self.post_message(self.Ordered(self._source.order.by(str(event.column_key.value))))

    def action_sort(self) -> None:
        """Sort by the next column that is shown; after the last as the rows come."""
        if self._source is None:
            return
        keys = [column.key for column in self._fitting.columns]
        now = self._source.order.sort
        at = keys.index(now) + 1 if now in keys else 0
        self.post_message(self.Ordered(Order(keys[at]) if at < len(keys) else Order()))

    def action_turn(self) -> None:
        """Turn the order round."""
        if self._source is not None:
            order = self._source.order
            self.post_message(self.Ordered(Order(order.sort, not order.reverse)))
