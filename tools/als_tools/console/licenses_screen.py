"""Manage Available Licenses: the manual's two views, with adding, removing, columns and order.

The words of what a removal does are in removal.py.
"""

from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static

from als.protocol import Role
from als_tools import columns, formats, rows
from als_tools.columns import Row
from als_tools.console import removal
from als_tools.console.add_license_screen import AddLicenseScreen
from als_tools.console.dialogs import ChooseColumns
from als_tools.console.folded import Folded
from als_tools.console.listing_panel import ListingPanel, View
from als_tools.console.permission import why_not
from als_tools.console.screen import ConsoleScreen, Trouble
from als_tools.console.task import Reasons, Task

AVAILABLE, USED = "available", "used"
TITLES = {AVAILABLE: "Available Licenses", USED: "Used Licenses"}


def views() -> dict[str, View]:
    """Make the two views as they are at first."""
    return {
        AVAILABLE: View(TITLES[AVAILABLE], columns.LICENSES, lambda ask: rows.all_rows(ask, "licenses")),
        USED: View(TITLES[USED], columns.USED, lambda ask: rows.all_rows(ask, "leases")),
    }


class LicensesScreen(ConsoleScreen):
    """The window of the licenses."""

    heading = "Manage Available Licenses"
    BINDINGS = [  # noqa: RUF012 - textual's own type
        ("a", "add", "Add"),
        ("r,delete", "remove", "Remove"),
        ("v", "view", "View"),
        Binding("slash", "filter", "Filter", show=False),  # the field itself tells it
        ("c", "columns", "Columns"),
        ("f5", "refresh", "Refresh"),
        ("escape", "back", "Back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._views = views()
        self._at = AVAILABLE

    def body(self) -> ComposeResult:
        """Lay out the sidebar beside the list."""
        with Horizontal(classes="columns"):
            with Vertical(classes="sidebar"):
                yield Static("Task", classes="group")
                yield Task("add", "Add License")
                yield Static("License Management", classes="group")
                yield Task("remove", "Remove")
                yield Static("View", classes="group")
                yield Task("available", TITLES[AVAILABLE])
                yield Task("used", TITLES[USED])
                yield Task("columns", "Choose Columns")
                yield Task("refresh", "Refresh", classes="spare")
            yield Reasons()
            with Vertical():
                yield Static(id="view-title")
                yield ListingPanel(self.console_app.zone, self._views[AVAILABLE])
                yield Static(id="details", markup=False)

    def on_mount(self) -> None:
        """Begin with the available licenses."""
        self.query_one(ListingPanel).table.focus()
        self._show(AVAILABLE)

    def allow(self, role: Role) -> None:
        """Adding is the operator's, removing the operator's or the administrator's."""
        self._task_of("add").allow(why_not("import", role))
        self._task_of("remove").allow(why_not(removal.least_operation(self._at == USED), role))
        self.query_one(Reasons).tell(self.query(Task))

    def _task_of(self, name: str) -> Task:
        task = self.query_one(f"#task-{name}").parent
        assert isinstance(task, Task), "the button is in its task"
        return task

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show the keys of what the role does not allow, but as disabled."""
        needed = {"add": "import", "remove": removal.least_operation(self._at == USED)}.get(action)
        return None if needed is not None and why_not(needed, self.role) is not None else True

    def _show(self, name: str) -> None:
        """Show one of the views."""
        self._at = name
        self.query_one("#view-title", Static).update(TITLES[name])
        for other in TITLES:
            self.query_one(f"#task-{other}").set_class(other == name, "chosen")
        self.query_one("#details", Static).update("")
        self.query_one(ListingPanel).show(self.line, self._views[name])
        self.allow(self.role)
        self.refresh_bindings()

    @on(Button.Pressed)
    async def _press(self, event: Button.Pressed) -> None:
        event.stop()
        name = (event.button.id or "").removeprefix("task-")
        if name in TITLES:
            self._show(name)
        else:
            await self.run_action(f"screen.{name}")

    @on(ListingPanel.Loaded)
    def _tell_loss(self, event: ListingPanel.Loaded) -> None:
        self._describe()

    def on_data_table_row_highlighted(self) -> None:
        """Show all of the row under the cursor, however many columns there are."""
        self._describe()

    def _describe(self) -> None:
        row = self.query_one(ListingPanel).table.chosen
        words = "" if row is None else removal.details(row, self._at == USED)
        self.query_one("#details", Static).update(Folded(words))

    def action_view(self) -> None:
        """Show the other view."""
        self._show(USED if self._at == AVAILABLE else AVAILABLE)

    def action_refresh(self) -> None:
        """Read the list anew."""
        self.query_one(ListingPanel).show(self.line)

    def come_back(self) -> None:
        """Read again a list that could not be read."""
        self.query_one(ListingPanel).mend()

    def action_filter(self) -> None:
        """Type a text that narrows the list."""
        self.query_one("#filter", Input).focus()

    def action_columns(self) -> None:
        """Choose columns."""
        view = self._views[self._at]

        def take(chosen: tuple[str, ...] | None) -> None:
            if chosen:
                view.shown = chosen
                self.action_refresh()

        self.app.push_screen(ChooseColumns(view.listing, view.shown), take)

    def action_add(self) -> None:
        """Add licenses, and read the list anew when there are new ones."""
        self.app.push_screen(AddLicenseScreen(self._added))

    def _added(self, count: int) -> None:
        if count:
            self.action_refresh()

    @work(exclusive=True, group="remove")
    async def action_remove(self) -> None:
        """Free a seat, or take a serial out, after the person has read what that does."""
        row = self.query_one(ListingPanel).table.chosen
        if row is None:
            self.notify("Choose a row first.")
            return
        wanted = await self._wanted(row)
        if wanted is None:
            return
        operation, fields = wanted
        try:
            reply = await self.line.ask(operation, **fields)
        except Trouble as error:
            self.complain(error)
            return
        self.notify(formats.clean(removal.done(operation, row, reply)), markup=False)
        self.action_refresh()

    async def _wanted(self, row: Row) -> tuple[str, dict[str, Any]] | None:
        """Ask what is to be done with a row; give the operation and its fields, None for nothing."""
        if self._at == USED:
            answer = await self.app.push_screen_wait(removal.seat_question(row, self.role))
            if answer == "free":
                return "revoke", {"product": row["product"], "mac": row["mac"]}
            if answer is None:
                return None
            found = await self._serial_of(row)
            if found is None:
                return None
            row = found
        if await self.app.push_screen_wait(removal.serial_question(row, self.role)) is None:
            return None
        return "remove", {"serial_id": row["serial_id"], "force": bool(row["used"])}

    async def _serial_of(self, lease: Row) -> Row | None:
        """Find the serial that a lease is on, with its seats."""
        try:
            return await self.line.run(removal.find_serial, self.line.request, lease)
        except Trouble as error:
            self.complain(error)
            return None
