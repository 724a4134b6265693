"""A server at a glance, and the way to its licenses, its events and its usage."""

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Static

from als.protocol import Role
from als_tools import formats, snapshot, views
from als_tools.console.events_screen import EventsScreen
from als_tools.console.licenses_screen import LicensesScreen
from als_tools.console.permission import how_to_get, why_not
from als_tools.console.screen import ConsoleScreen, Trouble
from als_tools.console.task import Reasons, Task
from als_tools.console.usage_screen import UsageScreen
from als_tools.formats import Zone
from als_tools.snapshot import Snapshot
from als_tools.top.bars import legend
from als_tools.top.facts import Facts
from als_tools.top.grid import grid
from als_tools.top.listings import POOLS
from als_tools.top.paper import Paper

REFRESH_S = 5.0


class _Pools:
    """The pools with their bars, in as many columns as there is room for."""

    def __init__(self, status: Snapshot, zone: Zone) -> None:
        self._status, self._zone = status, zone

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(options.max_width, 1, self._status.now, self._zone)
        lines = grid(POOLS.columns, POOLS.rows(Facts(self._status)), paper)
        yield Text("\n").join([*lines, paper.line(*legend(paper))])


def at_a_glance(status: Snapshot, zone: Zone) -> RenderableType:
    """Show how a server is: what is wrong, its pools, then who it is."""
    warnings = views.warnings(status, zone)
    parts: list[RenderableType] = [views.warning_lines(warnings), Text()] if warnings else []
    parts.append(_Pools(status, zone) if any(pool.is_in_use for pool in status.pools) else Text(POOLS.empty))
    return Group(*parts, Text(), views.server_view(status, zone), Text(), views.counts_view(status))


class ServerScreen(ConsoleScreen):
    """The main window of a server that the console is connected to."""

    heading = "License Server"
    BINDINGS = [  # noqa: RUF012 - textual's own type
        ("m", "licenses", "Licenses"),
        ("e", "events", "Events"),
        ("u", "usage", "Usage"),
        ("f5", "refresh", "Refresh"),
        ("escape", "disconnect", "Disconnect"),
        Binding("down,pagedown", "scroll(1)", "Further down", show=False),
        Binding("up,pageup", "scroll(-1)", "Further up", show=False),
    ]

    def body(self) -> ComposeResult:
        """Lay out what can be done beside how the server is."""
        with Horizontal(classes="columns"):
            with Vertical(classes="sidebar"):
                yield Static("Tasks", classes="group")
                yield Task("licenses", "Manage Available Licenses")
                yield Task("events", "Events")
                yield Task("usage", "Usage")
                yield Static("Server", classes="group")
                yield Task("refresh", "Refresh")
                yield Task("disconnect", "Disconnect")
            yield Reasons()
            with VerticalScroll(id="overview", can_focus=False):
                yield Static(" reading …", id="status")

    def on_mount(self) -> None:
        """Show the server, and go on doing so."""
        self.query_one("#task-licenses").focus()
        self.set_interval(REFRESH_S, self.action_refresh)
        self.action_refresh()

    def allow(self, role: Role) -> None:
        """Who is no viewer sees nothing."""
        for name, operation in (("licenses", "licenses"), ("events", "events"), ("usage", "usage")):
            task = self.query_one(f"#task-{name}").parent
            assert isinstance(task, Task), "the button is in its task"
            task.allow(why_not(operation, role))
        self.query_one(Reasons).tell(self.query(Task))

    @on(Button.Pressed)
    async def _press(self, event: Button.Pressed) -> None:
        event.stop()
        await self.run_action((event.button.id or "").replace("task-", "screen."))

    @work(exclusive=True, group="status")
    async def action_refresh(self) -> None:
        """Ask how the server is and show it."""
        if self.console_app.line is None:
            return
        shown, role, link = self.query_one("#status", Static), self.role, self.line.link
        if why_not("status", role) is not None:
            shown.update(how_to_get(role, Role.VIEWER, link.keys.public, link.name))
            return
        try:
            reply = await self.line.ask("status")
        except Trouble:
            self.console_app.tick()  # it tells why
            return
        zone = self.console_app.zone
        shown.update(at_a_glance(snapshot.take(reply, link.address, link.server.fingerprint), zone))

    def come_back(self) -> None:
        """Show how the server is by now."""
        self.action_refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show the keys of what the role does not allow, but as disabled."""
        if action in ("licenses", "events", "usage") and why_not(action, self.role) is not None:
            return None
        return True

    def action_scroll(self, pages: int) -> None:
        """Show more of how the server is, where it does not fit."""
        overview = self.query_one("#overview")
        overview.scroll_relative(y=pages * max(1, overview.size.height - 2), animate=False)

    def action_licenses(self) -> None:
        """Go to the licenses."""
        self.app.push_screen(LicensesScreen())

    def action_events(self) -> None:
        """Go to the log."""
        self.app.push_screen(EventsScreen())

    def action_usage(self) -> None:
        """Go to the history."""
        products = self.console_app.products
        if not products:
            self.notify("This server's catalog has no products.")
            return
        self.app.push_screen(UsageScreen(products))

    def action_disconnect(self) -> None:
        """Leave the server."""
        name = formats.clean(self.console_app.standing.name)
        self.console_app.disconnect()
        self.console_app.notify(f"Disconnected from {name}", markup=False)
