"""A listing with all that goes with it: the text that narrows it, its table, and a line that says how far it goes."""

from dataclasses import dataclass, field

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from als_tools import formats
from als_tools.columns import Listing
from als_tools.console.line import Line
from als_tools.console.listing_table import ListingTable
from als_tools.console.source import Open, Order, Source
from als_tools.formats import Zone


@dataclass(slots=True)
class View:
    """One way to look at a server: its listing, how its rows are begun, and how the person wants it."""

    name: str
    listing: Listing
    open_rows: Open
    order: Order = field(default_factory=Order)
    text: str = ""
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Show the listing's own columns at first."""
        self.shown = self.shown or self.listing.shown


class Filter(Input):
    """The text that narrows a list. Escape shows all of it again, instead of leaving the screen."""

    BINDINGS = [Binding("escape", "widen", "All rows")]  # noqa: RUF012 - textual's own type

    def action_widen(self) -> None:
        """Look for nothing."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class ListingPanel(Vertical):
    """Shows one view at a time."""

    class Loaded(Message):
        """Rows have come, or could not."""

    def __init__(self, zone: Zone, view: View) -> None:
        super().__init__()
        self._zone = zone
        self._line: Line | None = None
        self._is_broken = False
        self.view = view

    def compose(self) -> ComposeResult:
        """Lay out the text, the table and the line below it."""
        yield Filter(placeholder="only rows with this text (/)", id="filter", compact=True)
        yield ListingTable(self._zone, id="table")
        yield Static(id="extent", markup=False)

    @property
    def table(self) -> ListingTable:
        """The table."""
        return self.query_one(ListingTable)

    def show(self, line: Line, view: View | None = None) -> None:
        """Show a view, or the present one anew."""
        self._line = line
        if view is not None:
            self.view = view
        field_of_text = self.query_one(Input)
        with field_of_text.prevent(Input.Changed):
            field_of_text.value = self.view.text
        listing = self.view.listing
        columns = [listing.column(key) for key in self.view.shown]
        source = Source(self.view.open_rows, listing, self.view.order, self.view.text, self._zone)
        self.query_one("#extent", Static).update("reading …")
        is_chosen = self.view.shown != listing.shown
        self.table.begin(line, source, columns, () if is_chosen else listing.left_out_first)

    def show_again(self) -> None:
        """Read the present view anew."""
        if self._line is not None:
            self.show(self._line)

    def mend(self) -> None:
        """Read anew what could not be read to its end."""
        if self._is_broken:
            self.show_again()

    @on(ListingTable.Ordered)
    def _order(self, event: ListingTable.Ordered) -> None:
        event.stop()
        self.view.order = event.order
        self.show_again()

    @on(Input.Submitted, "#filter")
    def _narrow(self, event: Input.Submitted) -> None:
        event.stop()
        before, self.view.text = self.view.text, event.value.strip()
        self.table.focus()
        if self.view.text != before:
            self.show_again()

    @on(ListingTable.Progress)
    def _tell(self, event: ListingTable.Progress) -> None:
        event.stop()
        self._is_broken = bool(event.trouble)
        self.query_one("#extent", Static).update(formats.clean(self._words(event)))
        self.post_message(self.Loaded())

    def _words(self, event: ListingTable.Progress) -> str:
        """Say how far the listing has come, and what is not on the screen."""
        extent = event.extent
        words = formats.counted(extent.read, "row")
        if event.trouble:
            return f"{words}; no more could be read: {event.trouble}. F5 reads again."
        if not extent.read:
            words = self._nothing()
        elif extent.stop < extent.read or extent.start:
            here = f"{formats.count(extent.start + 1)}-{formats.count(extent.stop)}"
            words = f"rows {here} of {formats.count(extent.read)}{'' if extent.is_at_end else ', more at the end'}"
        else:
            words += ", that is all" if extent.is_at_end else ", more at the end"
        if self.view.text and extent.seen > extent.read:
            words += f", out of {formats.counted(extent.seen, 'row')} looked through"
        if event.left_out:
            words += f"; left out for room: {', '.join(event.left_out)}"
        return words

    def _nothing(self) -> str:
        return f'nothing has "{self.view.text}" in it' if self.view.text else f"{self.view.name}: nothing yet"
