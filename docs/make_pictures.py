"""Makes the pictures in docs/pictures: the dashboard and the console, of a real server with a plausible company.

Run it with the project's Python from anywhere: python docs/make_pictures.py. The company is that of the tests
(tests/fleet.py); its two months are written by the real ledger, the server is a real process, and while the pictures
are taken its computers really renew.
"""

import asyncio
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from rich.console import Console  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from als import clock, keyfile  # noqa: E402
from als_agents.client import Client  # noqa: E402
from als_tools.console.app import ConsoleApp  # noqa: E402
from als_tools.formats import Zone  # noqa: E402
from als_tools.options import Access  # noqa: E402
from als_tools.top.facts import Block, Facts, Wish  # noqa: E402
from als_tools.top.fetch import Fetcher  # noqa: E402
from als_tools.top.paper import Paper  # noqa: E402
from als_tools.top.picture import draw  # noqa: E402
from als_tools.top.state import State  # noqa: E402
from fleet import Company, Machine, machines  # noqa: E402
from server_process import ServerProcess  # noqa: E402

PICTURES = HERE / "pictures"
NAME, SHOWN_ADDRESS = "licenses", "192.0.2.10:9876"
TOP_SIZE = (104, 34)
CONSOLE_SIZE = (112, 32)
LOOKS, LOOK_S = 60, 0.5  # a history line of so many points
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALS_CLIENT_DIR"] = f"{folder}/client"
        data_dir = Path(folder) / "data"
        agent = keyfile.generate()
        Company(data_dir, clock.wall_s(), agent=agent.public).live()
        with ServerProcess(data_dir, "--name", NAME) as server:
            facts = watched(server, data_dir, agent)
            for view in ("overview", "leases"):
                save(f"top-{view}", dashboard(facts, view))
            asyncio.run(console(server, data_dir))


def save(name: str, svg: str) -> None:
    """Write a picture; it fetches no font from anywhere when it is looked at."""
    text = FONT_FACE.sub("", svg).replace("Fira Code,", "Fira Code, DejaVu Sans Mono, Menlo, Consolas,")
    (PICTURES / f"{name}.svg").write_text(text, encoding="utf-8")


def watched(server: ServerProcess, data_dir: Path, key_pair: keyfile.KeyPair) -> Facts:
    """Look at the server as the dashboard does, again and again, while its computers renew now more, now less."""
    key = keyfile.read_public(data_dir / "server.key")
    with (
        Client("127.0.0.1", server.port, key, keyfile.read(data_dir / "admin.key_secret")) as admin,
        Client("127.0.0.1", server.port, key, key_pair) as agent,
    ):
        fetcher = Fetcher(admin.request, SHOWN_ADDRESS)
        running = [machine for machine in machines() if machine.last_day > 60]
        latecomer = Machine(400, "web-07", "ATIES", 60)
        for look in range(LOOKS):
            facts = fetcher.fetch(Wish(1.0, Block()))
            for number in range(20 + 8 * abs(look % 34 - 17)):
                agent.request("renew", **running[(look * 31 + number) % len(running)].fields)
            if look == LOOKS // 2:
                agent.forget(agent.send("acquire", **latecomer.fields))
            time.sleep(LOOK_S)
        return facts


def dashboard(facts: Facts, view: str) -> str:
    """Draw the dashboard."""
    width, height = TOP_SIZE
    paper = Paper(width, height, facts.status.now, Zone(utc=True))
    screen = Console(width=width, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in draw(facts, State(view=view), paper, facts.status.now).lines:
        screen.print(line, end="\n", soft_wrap=True)
    return screen.export_svg(title=f"als top {NAME}")


async def console(server: ServerProcess, data_dir: Path) -> None:
    """Walk through the console and take a picture of each window."""
    app = ConsoleApp(Access(data_dir=data_dir), Zone(utc=True), f"127.0.0.1:{server.port}")
    async with app.run_test(size=CONSOLE_SIZE) as pilot:
        for name, keys, seen in WINDOWS:
            await pilot.press(*keys)
            await until(pilot, lambda seen=seen: seen in screen_text(app))  # type: ignore[misc]
            await pilot.pause(0.3)  # a cursor and a button have their animations
            save(f"console-{name}", app.export_screenshot().replace(f"127.0.0.1:{server.port}", SHOWN_ADDRESS))


WINDOWS = (
    ("server", (), "FULL"),
    ("available", ("m",), "that is all"),
    ("used", ("v",), "more at the end"),
    ("remove", ("down", "down", "r"), "Free this seat"),
    ("add", ("escape", "a"), "1 of 3"),
    ("events", ("escape", "escape", "e"), "denied"),
    ("usage", ("escape", "u"), "all seats"),
)


def screen_text(app: ConsoleApp) -> str:
    """Give what is on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def until(pilot: Pilot[Any], condition: Callable[[], bool]) -> None:
    """Wait until something is to be seen."""
    for _ in range(1_000):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError("it never came")


if __name__ == "__main__":
    main()
