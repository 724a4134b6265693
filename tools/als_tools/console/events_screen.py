"""The log, the newest first; further down it goes back as far as the server remembers."""

from collections.abc import Iterable
from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input, Static

from als_tools import columns
from als_tools.columns import Row
from als_tools.console.dialogs import ChooseColumns
from als_tools.console.folded import Folded
from als_tools.console.history import newest_first
from als_tools.console.listing_panel import ListingPanel, View
from als_tools.console.screen import ConsoleScreen
from als_tools.rows import Ask

LISTING = replace(columns.EVENTS, shown=("time", "kind", "product", "host", "serial_id", "actor", "count", "detail"))


def open_events(ask: Ask) -> Iterable[Row]:
    """Begin with the newest event; the server's own time says which that is."""
    return newest_first(ask, int(ask("hello")["time"]))


class EventsScreen(ConsoleScreen):
    """Shows the log."""

    heading = "Events"
    BINDINGS = [  # noqa: RUF012 - textual's own type
        Binding("slash", "filter", "Filter", show=False),
        ("c", "columns", "Columns"),
        ("f5", "refresh", "Refresh"),
        ("escape", "back", "Back"),
    ]

    def body(self) -> ComposeResult:
        """Lay out the log."""
        yield ListingPanel(self.console_app.zone, View("The log", LISTING, open_events))
        yield Static(id="details", markup=False)

    def on_mount(self) -> None:
        """Read the newest."""
        self.query_one(ListingPanel).table.focus()
        self.action_refresh()

    @on(ListingPanel.Loaded)
    def on_data_table_row_highlighted(self) -> None:
        """Show all of the event under the cursor, however much of it the columns have."""
        row = self.query_one(ListingPanel).table.chosen
        self.query_one("#details", Static).update(Folded("" if row is None else self._details(row)))

    def _details(self, row: Row) -> str:
        zone = self.console_app.zone
        said = ((column.heading, column.text(row, zone)) for column in LISTING.columns)
        return "   ".join(f"{heading}: {text}" for heading, text in said if text)

    def action_refresh(self) -> None:
        """Read the log anew."""
        self.query_one(ListingPanel).show(self.line)

    def come_back(self) -> None:
        """Read again a log that could not be read."""
        self.query_one(ListingPanel).mend()

    def action_filter(self) -> None:
        """Type a text that narrows the list."""
        self.query_one("#filter", Input).focus()

    def action_columns(self) -> None:
        """Choose columns."""
        panel = self.query_one(ListingPanel)

        def take(chosen: tuple[str, ...] | None) -> None:
            if chosen:
                panel.view.shown = chosen
                panel.show_again()

        self.app.push_screen(ChooseColumns(LISTING, panel.view.shown), take)
