"""The Add License Wizard: serials typed, pasted or from a file; what was found; what became of each.

Reading and importing are als_tools/import_file.py's; here are the three windows.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, ContentSwitcher, DataTable, Input, ProgressBar, Static, TextArea

from als import protocol, serial, serialtext
from als_tools import formats, import_file
from als_tools.columns import Row
from als_tools.console.dialogs import ChooseFile
from als_tools.console.folded import Folded
from als_tools.console.screen import ConsoleScreen, Trouble
from als_tools.console.table import Table
from als_tools.import_file import Entry, Tally
from als_tools.views import Level

SHOWN_MAX = 1_000  # nobody reads more; a longer list is counted
WRONG_SHOWN_MAX = 10_000  # but what went wrong may have to be looked up
RESULT_STYLES = {"added": Level.GOOD.style, "already_present": Level.SOON.style}


def read_text(text: str) -> list[Entry]:
    """Find the serials in what was typed or pasted."""
    return [Entry("text", found.line, found.text, found.token) for found in serialtext.find(text)]


def describe(entry: Entry) -> tuple[str, str]:
    """Say of an entry what it looks like and what it is."""
    text = entry.text or entry.token
    looks = " ".join(text.split())
    looks = looks if len(looks) <= 30 else f"{looks[:17]}…{looks[-8:]}"
    try:
        content = serial.decode(serial.read(text))
    except serial.SerialError as error:
        return looks, str(error)
    trial = ", trial" if content.trial else ""
    return looks, f"{formats.counted(content.seats, 'seat')} of product number {content.product_number}{trial}"


class AddLicenseScreen(ConsoleScreen):
    """Leads from serials to licenses. `added` is told how many serials were added when the wizard is left."""

    heading = "Add License Wizard"
    BINDINGS = [("escape", "leave", "Back")]  # noqa: RUF012 - textual's own type

    def __init__(self, added: Callable[[int], None]) -> None:
        super().__init__()
        self._tell_added = added
        self._entries: Sequence[Entry] = ()
        self._tally = Tally()
        self._is_running = False

    def body(self) -> ComposeResult:
        """Lay out the three windows of the wizard."""
        with ContentSwitcher(initial="choose", id="steps"):
            with Vertical(id="choose"):
                yield Static("1 of 3   Type or paste serial numbers, with whatever text is around them", classes="step")
                yield TextArea(id="serials", soft_wrap=True)
                yield Static("or give a text file that holds them", classes="step")
                with Horizontal(classes="row"):
                    yield Input(placeholder="path of a .txt, .csv or .eml file", id="path")
                    yield Button("Browse…", id="browse")
                yield Static(id="trouble", classes="trouble", markup=False)
                with Horizontal(classes="buttons"):
                    yield Button("Next", id="next", variant="primary")
                    yield Button("Cancel", id="leave")
            with Vertical(id="review"):
                yield Static("2 of 3   These will be added", classes="step")
                yield Table(id="found")
                yield Static(id="found-details", classes="details", markup=False)
                yield Static(id="found-summary", classes="summary", markup=False)
                with Horizontal(classes="buttons"):
                    yield Button("Proceed", id="proceed", variant="primary")
                    yield Button("Back", id="again")
            with Vertical(id="done"):
                yield Static("3 of 3   What became of each", classes="step")
                yield ProgressBar(id="progress", show_eta=False)
                yield Table(id="results")
                yield Static(id="results-details", classes="details", markup=False)
                yield Static(id="results-summary", classes="summary", markup=False)
                with Horizontal(classes="buttons"):
                    yield Button("Finish", id="finish", variant="primary")
                    yield Button("Add more", id="more")

    def on_mount(self) -> None:
        """Begin with the text."""
        self.query_one("#found", Table).add_columns("Line", "Serial", "What it is")
        self.query_one("#results", Table).add_columns("Line", "Result", "Serial", "Message")
        self.query_one("#serials").focus()

    def _go(self, step: str, focus: str) -> None:
        self.query_one(ContentSwitcher).current = step
        self.query_one(focus).focus()

    @on(Button.Pressed, "#browse")
    def browse(self) -> None:
        """Look for a file in the folders."""

        def take(path: Path | None) -> None:
            if path is not None:
                self.query_one("#path", Input).value = str(path)
                self.query_one("#next").focus()

        typed = Path(self.query_one("#path", Input).value or ".").expanduser()
        self.app.push_screen(ChooseFile(typed if typed.is_dir() else typed.parent), take)

    @on(Button.Pressed, "#next")
    @on(Input.Submitted, "#path")
    @work(exclusive=True, group="read")
    async def review(self) -> None:
        """Read what was given and show what was found in it."""
        text, path = self.query_one("#serials", TextArea).text, self.query_one("#path", Input).value.strip()
        trouble = self.query_one("#trouble", Static)
        trouble.update("reading …")
        try:
            entries = await asyncio.to_thread(self._read, text, path)
        except Trouble as error:
            trouble.update(formats.clean(str(error)))
            return
        if not entries:
            trouble.update("No serial was found: one has 160 letters and digits, mostly in 20 groups of 8.")
            return
        trouble.update("")
        self._entries = entries
        self._list_found(entries)
        self._go("review", "#proceed")

    @staticmethod
    def _read(text: str, path: str) -> list[Entry]:
        entries = read_text(text)
        return [*entries, *import_file.read_files([str(Path(path).expanduser())])] if path else entries

    def _list_found(self, entries: Sequence[Entry]) -> None:
        table = self.query_one("#found", Table)
        table.clear()
        table.add_lines(self._found_line(entry) for entry in entries[:SHOWN_MAX])
        whole = sum(entry.text is not None for entry in entries)
        words = f"{formats.counted(whole, 'serial')} found"
        if whole < len(entries):
            words += f", {len(entries) - whole} mistyped (will not be added)"
        if len(entries) > SHOWN_MAX:
            words += f"; the first {formats.count(SHOWN_MAX)} are shown"
        self.query_one("#found-summary", Static).update(f"{words}. Proceed adds them to this server.")

    @staticmethod
    def _found_line(entry: Entry) -> list[Text]:
        looks, what = (formats.clean(words) for words in describe(entry))
        return [Text(entry.place), Text(looks), Text(what, style=Level.BAD.style if entry.text is None else "")]

    @on(Button.Pressed, "#proceed")
    @work(exclusive=True, group="import")
    async def proceed(self) -> None:
        """Import, showing each result as it comes."""
        self._tally = Tally()
        self.query_one("#results", Table).clear()
        self.query_one("#progress", ProgressBar).update(total=len(self._entries), progress=0)
        self.query_one("#finish", Button).disabled = self._is_running = True
        self._go("done", "#results")
        try:
            await self.line.run(self._import, self._entries, self._tally)
        except Trouble as error:
            self._sum_up(f" It stopped: {error}. What was added stays; add the rest again.")
        else:
            self._sum_up("")
        finally:
            self.query_one("#finish", Button).disabled = self._is_running = False
        self.query_one("#finish").focus()

    def _import(self, entries: Sequence[Entry], tally: Tally) -> None:
        """Import in the line's thread, handing rows to the screen's thread as they come."""
        rows: list[tuple[Entry, Row]] = []
        try:
            for pair in import_file.send(self.line.request, entries, tally):
                rows.append(pair)
                if len(rows) == protocol.SERIALS_PER_IMPORT_MAX:
                    self.app.call_from_thread(self._show_results, rows)
                    rows = []
        finally:
            self.app.call_from_thread(self._show_results, rows)

    def _show_results(self, rows: Sequence[tuple[Entry, Row]]) -> None:
        """Show what became of serials; of a long list all that went wrong, as far as anybody would read."""
        table = self.query_one("#results", Table)
        room = SHOWN_MAX - table.row_count
        wrong = [pair for pair in rows if pair[1]["result"] not in import_file.FINE_RESULTS]
        shown = rows if room > 0 else wrong if table.row_count < WRONG_SHOWN_MAX else []
        table.add_lines(self._result_line(entry, row) for entry, row in shown)
        self.query_one("#progress", ProgressBar).advance(len(rows))

    @staticmethod
    def _result_line(entry: Entry, row: Row) -> list[Text]:
        style = RESULT_STYLES.get(row["result"], Level.BAD.style)
        serial_id, message = (formats.clean(str(row[key] or "")) for key in ("serial_id", "message"))
        return [Text(entry.place), Text(str(row["result"]), style=style), Text(serial_id), Text(message)]

    def _sum_up(self, trouble: str) -> None:
        tally = self._tally
        words = (
            f"{formats.counted(tally.added, 'serial')} added with {formats.counted(tally.licenses_added, 'license')}"
        )
        if tally.already_present:
            words += f", {formats.count(tally.already_present)} already present"
        if tally.refused:
            words += f", {formats.count(tally.refused)} refused"
        self.query_one("#results-summary", Static).update(formats.clean(f"{words}.{trouble}"))

    @on(DataTable.RowHighlighted)
    def describe(self, event: DataTable.RowHighlighted) -> None:
        """Show all of the line under the cursor, which may be wider than the window."""
        cells: list[Text] = event.data_table.get_row_at(event.cursor_row)
        words = "  ".join(cell.plain for cell in cells if cell.plain)
        self.query_one(f"#{event.data_table.id}-details", Static).update(Folded(words))

    @on(Button.Pressed, "#again")
    def again(self) -> None:
        """Go back to the text."""
        self._go("choose", "#serials")

    @on(Button.Pressed, "#more")
    def more(self) -> None:
        """Begin anew with other serials."""
        self.query_one("#serials", TextArea).text = ""
        self.query_one("#path", Input).value = ""
        self._tell_added(self._tally.added)
        self._go("choose", "#serials")

    @on(Button.Pressed, "#leave")
    @on(Button.Pressed, "#finish")
    def action_leave(self) -> None:
        """Leave the wizard, but not while it imports."""
        if self._is_running:
            self.notify("It is still adding; what is added stays.")
            return
        self.app.pop_screen()
        self._tell_added(self._tally.added)
