"""A table of a listing that is as long as one scrolls: near its end the next page is asked for.

Sorted by a click on a column's head, or by keys. Knows sources and columns, not what the rows are about.
"""

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import on, work
from textual.binding import Binding
from textual.message import Message
from textual.widgets import DataTable

from als_tools.columns import Column, Row
from als_tools.console.line import Line
from als_tools.console.screen import Trouble
from als_tools.console.source import Order, Source, StoppedError
from als_tools.console.table import Table
from als_tools.formats import Zone
from als_tools.output import STATE_STYLES

PAGE_ROWS = 200  # some screens full; a page of the wire is five of them
NEAR_END_ROWS = 30
CELL_CHARS_MAX = 60  # a serial number has 179; the row's details have all of it
UP, DOWN = "▲", "▼"
EVENT_STYLE = STATE_STYLES | {"denied": STATE_STYLES["expired"]}


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
        """Rows have come, or could not: `shown` there are now, `seen` were read for them."""

        def __init__(self, shown: int, seen: int, is_at_end: bool, trouble: str = "") -> None:
            super().__init__()
            self.shown, self.seen, self.is_at_end, self.trouble = shown, seen, is_at_end, trouble
            self.left_out: tuple[str, ...] = ()

    def __init__(self, zone: Zone, **options: Any) -> None:
        super().__init__(**options)
        self._zone = zone
        self._line: Line | None = None
        self._source: Source | None = None
        self._columns: Sequence[Column] = ()
        self._expendable: Sequence[str] = ()
        self._left_out: tuple[str, ...] = ()
        self._shown: list[Row] = []
        self._is_loading = False

    def begin(self, line: Line, source: Source, columns: Sequence[Column], expendable: Sequence[str] = ()) -> None:
        """Show a source from its first row on; where it is too narrow for all columns, `expendable` ones go first."""
        if self._source is not None:
            self._source.stop()
        self._line, self._source, self._shown = line, source, []
        self._expendable, self._left_out = expendable, ()
        self._set_columns(columns)
        self._is_loading = True
        self._load(source)

    def _set_columns(self, columns: Sequence[Column]) -> None:
        assert self._source is not None, "it has begun"
        self._columns = columns
        self.clear(columns=True)
        for column in columns:
            self.add_column(self._heading(column, self._source.order), key=column.key)

    def _fit(self, page: Sequence[Row]) -> None:
        """Leave out expendable columns until the rest is as wide as the table, as the first page has it."""
        kept, left_out = list(self._columns), []
        for key in self._expendable:
            if sum(self._width(column, page) for column in kept) <= self.size.width:
                break
            left_out += [column.heading for column in kept if column.key == key]
            kept = [column for column in kept if column.key != key]
        if left_out:
            self._left_out = tuple(left_out)
            self._set_columns(kept)

    def _width(self, column: Column, page: Sequence[Row]) -> int:
        cells = [self._cell(column, row).cell_len for row in page]
        return max([len(column.title(self._zone)), *cells]) + 2 * self.cell_padding

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        return self._shown[self.cursor_row] if 0 <= self.cursor_row < len(self._shown) else None

    @property
    def rows_shown(self) -> Sequence[Row]:
        """The rows that have come so far."""
        return self._shown

    def _heading(self, column: Column, order: Order) -> Text:
        mark = (DOWN if order.reverse else UP) if column.key == order.sort else ""
        return Text(column.title(self._zone) + mark, justify="right" if column.is_number else "left")

    def _cell(self, column: Column, row: Row) -> Text:
        text = column.text(row, self._zone)
        shown = text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"
        style = EVENT_STYLE.get(text, "") if column.key in ("state", "kind") else ""
        return Text(shown, style=style, justify="right" if column.is_number else "left")

    @work(exclusive=True, group="load")
    async def _load(self, source: Source) -> None:
        """Fetch the next page and show it."""
        assert self._line is not None, "it has begun"
        try:
            found = await self._line.run(source.page, self._line.link.ask, PAGE_ROWS)
        except StoppedError:
            return
        except Trouble as error:
            if source is self._source:
                self._source = None  # what it had under way is lost: it begins anew, or not at all
                self.post_message(self.Progress(len(self._shown), source.seen, False, str(error)))
            return
        if source is not self._source:
            return
        if not self._shown:
            self._fit(found)
        self._shown += found
        self.add_lines([self._cell(column, row) for column in self._columns] for row in found)
        self._is_loading = False
        progress = self.Progress(len(self._shown), source.seen, source.is_at_end)
        progress.left_out = self._left_out
        self.post_message(progress)

    def _go_on(self) -> None:
        """Fetch the next page, if there is one and none is under way."""
        source = self._source
        if source is not None and not source.is_at_end and not self._is_loading:
            self._is_loading = True
            self._load(source)

    @on(DataTable.RowHighlighted)
    def _near_end_by_key(self, event: DataTable.RowHighlighted) -> None:
        if event.cursor_row >= len(self._shown) - NEAR_END_ROWS:
            self._go_on()

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Go on near the end also when it is the mouse's wheel that comes there."""
        super().watch_scroll_y(old, new)
        if new > old and new >= self.max_scroll_y - NEAR_END_ROWS:
            self._go_on()

    @on(DataTable.HeaderSelected)
    def _sort_by_head(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        if self._source is not None:
            self.post_message(self.Ordered(self._source.order.by(str(event.column_key.value))))

    def action_sort(self) -> None:
        """Sort by the next column that is shown; after the last as the rows come."""
        if self._source is None:
            return
        keys = [column.key for column in self._columns]
        now = self._source.order.sort
        at = keys.index(now) + 1 if now in keys else 0
        self.post_message(self.Ordered(Order(keys[at]) if at < len(keys) else Order()))

    def action_turn(self) -> None:
        """Turn the order round."""
        if self._source is not None:
            order = self._source.order
            self.post_message(self.Ordered(Order(order.sort, not order.reverse)))
