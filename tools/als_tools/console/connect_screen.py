"""Connect to a Remote Computer: the servers that a search finds, or an address that is typed."""

import asyncio
from collections.abc import Sequence

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, DataTable, Input, Static

from als import keyfile
from als_agents.discovery import FoundServer
from als_agents.server_address import address_text
from als_tools import formats
from als_tools.console import opening
from als_tools.console.dialogs import Answer, Question
from als_tools.console.screen import ConsoleScreen, Trouble
from als_tools.console.table import Table

HEADINGS = ("Name", "Address", "Key fingerprint", "Version")


class ConnectScreen(ConsoleScreen):
    """Lists servers; enter on one connects."""

    heading = "Connect to a Remote Computer"
    BINDINGS = [("f5", "search", "Search again"), ("escape", "back", "Back")]  # noqa: RUF012 - textual's own type

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[FoundServer, str]] = []

    def body(self) -> ComposeResult:
        """Lay out the address and the list."""
        with Horizontal(classes="row"):
            yield Input(placeholder="HOST, HOST:PORT, [V6]:PORT or a server's name", id="address")
            yield Button("Connect", id="connect", variant="primary")
        yield Static("You can connect only to computers that an ALS server runs on.", classes="note")
        yield Table(id="found")
        yield Static(id="trouble", classes="trouble", markup=False)

    def on_mount(self) -> None:
        """Begin with a search."""
        self.query_one(Table).add_columns(*HEADINGS)
        self.query_one(Input).focus()
        self.action_search()

    def tell(self, text: str) -> None:
        """Say below the list what goes on, or what went wrong."""
        self.query_one("#trouble", Static).update(formats.clean(text))

    @work(exclusive=True)
    async def action_search(self) -> None:
        """Search, and list what answers."""
        self.tell("searching …")
        try:
            found = await asyncio.to_thread(opening.search, self.console_app.access)
        except Trouble as error:
            self.tell(str(error))
            return
        self._list(found)
        self.tell(
            f"{formats.counted(len(found), 'server')} found; enter on one connects"
            if found
            else "No license server answered on this network. One behind a router is reached by its address."
        )

    def _list(self, found: Sequence[FoundServer]) -> None:
        table = self.query_one(Table)
        table.clear()
        self._places = [(server, address_text(*place)) for server in found for place in server.addresses]
        for server, place in self._places:
            words = (server.name, place, keyfile.fingerprint(server.key), server.version)
            table.add_lines([[Text(formats.clean(word)) for word in words]])
        if found and not self.query_one(Input).value:
            table.focus()

    @on(DataTable.RowSelected)
    def choose(self, event: DataTable.RowSelected) -> None:
        """Connect to the server under the cursor."""
        self._connect(self._places[event.cursor_row][1])

    @on(Button.Pressed, "#connect")
    @on(Input.Submitted)
    def connect_typed(self) -> None:
        """Connect to the address that was typed."""
        address = self.query_one(Input).value.strip()
        if address:
            self._connect(address)
        else:
            self.tell("Type an address, or choose a server in the list.")

    def _connect(self, address: str) -> None:
        self.tell(f"connecting to {address} …")
        self.console_app.connect_remote(address)


def trust_question(name: str, fingerprint: str) -> Question:
    """Ask whether a key is the server's. The answer is "trust" or None."""
    return Question(
        "Is this the server?",
        f"The key of {formats.clean(name)} was never confirmed on this computer.\n\n"
        f"{fingerprint}\n\n"
        "On the server itself, als status shows the fingerprint of its key. If it is the same, the console will "
        "hold the server to this key from now on; if it is not, somebody else is answering in its place.",
        (Answer("trust", "It is the same: trust it", "warning"),),
    )
