"""The console as a whole: which server it is connected to, how that stands, and which screen is on top."""

import asyncio
from dataclasses import replace

from textual import work
from textual.app import App
from textual.binding import Binding

from als_agents.errors import NotTrusted
from als_agents.server import Server
from als_tools import formats
from als_tools.console import opening
from als_tools.console.connect_screen import ConnectScreen, trust_question
from als_tools.console.line import Line
from als_tools.console.opening import Greeting
from als_tools.console.screen import ConsoleScreen, Trouble
from als_tools.console.server_screen import ServerScreen
from als_tools.console.start_screen import StartScreen
from als_tools.console.status_bar import Standing
from als_tools.formats import Zone
from als_tools.options import Access

POLL_S = 2.0
TICK_S = 0.5  # how the connection stands is on the screen within this
WAITING_SHOWN_S = 1.5  # a server that is well answers in a hundredth of it


class ConsoleApp(App[None]):
    """The Management Console. `argument` is a server to connect to at once."""

    TITLE = "ALS Management Console"
    CSS_PATH = "console.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - textual's own type
    VERTICAL_BREAKPOINTS = [(0, "-low"), (24, "-high")]  # noqa: RUF012 - textual's own type
    ENABLE_COMMAND_PALETTE = False  # every key is in the footer and in the help
    BINDINGS = [  # noqa: RUF012 - textual's own type
        Binding("f1", "help", "Help"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, access: Access, zone: Zone, argument: str | None = None) -> None:
        super().__init__()
        self.access, self.zone = access, zone
        self.line: Line | None = None
        self.standing = Standing()
        self.products: tuple[tuple[str, str], ...] = ()
        self._argument = argument
        self._is_polling = False

    async def on_mount(self) -> None:
        """Begin with the first window, and go on to the server that was named."""
        await self.push_screen(StartScreen())
        self.set_interval(POLL_S, self.poll)
        self.set_interval(TICK_S, self.tick)
        if self._argument is not None:
            self.connect_remote(self._argument)

    def on_unmount(self) -> None:
        """Let go of the connection."""
        if self.line is not None:
            self.line.close()

    @work(exclusive=True, group="connect")
    async def connect_local(self) -> None:
        """Connect to the server on this computer."""
        self._tell("looking for the server on this computer …")
        try:
            argument = await asyncio.to_thread(opening.local_argument, self.access)
        except Trouble as error:
            self._tell(str(error))
            return
        await self._connect(argument)

    @work(exclusive=True, group="connect")
    async def connect_remote(self, argument: str) -> None:
        """Connect to the server that is meant."""
        self._tell(f"connecting to {argument} …")
        await self._connect(argument)

    async def _connect(self, argument: str) -> None:
        """Connect, after asking a person where a key was never confirmed."""
        while True:
            try:
                link, greeting = await asyncio.to_thread(opening.open_link, argument, self.access)
                break
            except NotTrusted:
                if not await self._is_trusted(argument):
                    return
            except Trouble as error:
                self._tell(str(error))
                return
        self.disconnect()
        self.line = Line(link)
        self.standing = Standing(greeting.name, link.address, greeting.role)
        self.products = greeting.products
        self._tell("")
        self.push_screen(ServerScreen())

    async def _is_trusted(self, argument: str) -> bool:
        """Show the key that a server has now, and pin it if a person says that it is the right one."""
        try:
            seen: Server = await asyncio.to_thread(opening.look, argument, self.access)
            if await self.push_screen_wait(trust_question(str(seen), seen.fingerprint)) != "trust":
                self._tell("Not connected: the key was not confirmed.")
                return False
            await asyncio.to_thread(opening.trust, seen, self.access)
        except Trouble as error:
            self._tell(str(error))
            return False
        return True

    def disconnect(self) -> None:
        """Leave the server and come back to the first window."""
        line, self.line = self.line, None
        self.standing, self.products = Standing(), ()
        while not isinstance(self.screen, StartScreen) and len(self.screen_stack) > 1:
            self.pop_screen()
        if line is not None:
            line.close()

    def _tell(self, text: str) -> None:
        """Say on the window from which one connects what goes on, or what went wrong."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, StartScreen | ConnectScreen):
                screen.tell(formats.clean(text))
                return

    @work(group="poll")
    async def poll(self) -> None:
        """See whether the server answers, and what we may do there by now."""
        line = self.line
        if line is None or self._is_polling:
            return
        self._is_polling = True
        try:
            greeting: Greeting = await line.run(opening.greet, line.request)
        except Trouble:
            pass  # the line knows it, and the tick tells it
        else:
            if line is self.line:
                self.products = greeting.products
                self._stand(replace(self.standing, name=greeting.name, role=greeting.role))
        finally:
            self._is_polling = False
        self.tick()

    def tick(self) -> None:
        """Show how the connection is."""
        if self.line is None:
            return
        health = self.line.health
        waiting_s = int(health.waiting_s) if health.waiting_s >= WAITING_SHOWN_S else 0
        lost_at = "" if health.lost_at is None else self.zone.second(health.lost_at)
        reason = formats.clean(health.reason)
        self._stand(replace(self.standing, waiting_s=waiting_s, lost_at=lost_at, reason=reason))

    def _stand(self, standing: Standing) -> None:
        before, self.standing = self.standing, standing
        if standing == before:
            return
        for screen in self.screen_stack:
            if isinstance(screen, ConsoleScreen) and screen.is_there:
                screen.show_standing(standing)
                screen.refresh_bindings()
                if before.lost_at and not standing.lost_at:
                    screen.come_back()

    def action_help(self) -> None:
        """Show or hide what every key does here."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()
