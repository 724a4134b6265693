"""The console driven by textual's pilot, against real servers: conditions are waited for, screens read as text."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from als import keyfile
from als_tools.console.app import ConsoleApp
from als_tools.formats import Zone
from als_tools.options import Access
from server_process import ServerProcess, Site

TIMEOUT_S = 20.0  # far above what anything takes, for machines that do much else
LOOK_AGAIN_S = 0.02
SIZE = (110, 34)


class Desk:
    """A person at the console: presses keys, clicks, and waits until something is to be seen."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        """Press keys one after another."""
        await self.pilot.press(*keys)

    async def click(self, selector: str, offset: tuple[int, int] = (0, 0)) -> None:
        """Click on a widget, in its middle unless an offset from its corner is given."""
        # A button that was just pressed takes no second click for a fifth of a second.
        await self.until(lambda: not self.app.screen.query_one(selector).has_class("-active"))
        clicked = await self.pilot.click(selector, offset=offset) if any(offset) else await self.pilot.click(selector)
        assert clicked, f"{selector} is behind something else"

    async def fill(self, selector: str, text: str) -> None:
        """Put a text into a field, as if it had been typed, and press enter."""
        field = self.app.screen.query_one(selector, Input)
        field.focus()
        field.value = text
        await self.press("enter")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true."""
        waited_s = 0.0
        while not condition():
            assert waited_s < TIMEOUT_S, "\n".join(["it never came; on the screen is:", *self.lines])
            await self.pilot.pause(LOOK_AGAIN_S)
            waited_s += LOOK_AGAIN_S

    async def see(self, text: str) -> None:
        """Wait until a text is on the screen."""
        await self.until(lambda: text in self.text)

    async def see_screen(self, name: str) -> None:
        """Wait until the screen of a class is on top."""
        await self.until(lambda: type(self.app.screen).__name__ == name)
        await self.pilot.pause()

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without the blanks at their ends."""
        return screen_lines(self.app)

    @property
    def text(self) -> str:
        """The screen's lines as one text."""
        return "\n".join(self.lines)

    def shows(self, selector: str) -> bool:
        """Say whether there is such a widget on the screen."""
        return bool(self.app.screen.query(selector))

    def is_disabled(self, selector: str) -> bool:
        """Say whether a widget is disabled."""
        return self.app.screen.query_one(selector).disabled


class Office(Site):
    """A site whose server has arguments of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder)
        self.server.close()  # it was never started
        self.server = ServerProcess(folder / "data", "--name", "office", *arguments)


def screen_lines(app: App[Any]) -> list[str]:
    """Give what is on the screen, with the screens below it, as a terminal would show it."""
    strips = app.screen._compositor.render_strips()
    return [strip.text.rstrip() for strip in strips]


def at_the_console(
    scene: Callable[[Desk], Awaitable[None]],
    access: Access,
    argument: str | None = None,
    size: tuple[int, int] = SIZE,
) -> None:
    """Play a scene in a console of its own."""

    async def play() -> None:
        app = ConsoleApp(access, Zone(utc=True), argument)
        async with app.run_test(size=size, notifications=True) as pilot:
            await scene(Desk(app, pilot))

    asyncio.run(play())


def access_of(site: Site, role: str, folder: Path) -> Access:
    """Give what a person with a role has: the server's key, and a key pair of their own in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = keyfile.read_or_make(folder, role)
    if role != "agent":
        site.admin.ask("admin_add", key=pair.public, name=f"{role} at the console", role=role)
    key = keyfile.to_z85(keyfile.read_public(site.server.data_dir / "server.key"))
    return Access(server_key=key, identity=folder / f"{role}.key_secret")


def address_of(site: Site) -> str:
    """Give where a server is, as it is typed."""
    return f"127.0.0.1:{site.server.port}"
