"""The first window, as in the manual: manage the local computer, or connect to a remote one."""

from textual import on
from textual.app import ComposeResult
from textual.containers import Center, Vertical
from textual.widgets import Button, Static

from als_tools.console.connect_screen import ConnectScreen
from als_tools.console.screen import ConsoleScreen


class StartScreen(ConsoleScreen):
    """Where the console begins, and where it comes back to when a server is left."""

    heading = "ALS Management Console"
    BINDINGS = [  # noqa: RUF012 - textual's own type
        ("l", "local", "Local computer"),
        ("r", "remote", "Remote computer"),
        ("q", "quit_console", "Quit"),
    ]

    def body(self) -> ComposeResult:
        """Lay out the ways to a server."""
        with Center(), Vertical(id="start"):
            yield Button("Manage Licenses on the Local Computer", id="local", variant="primary")
            yield Button("Connect to a Remote Computer", id="remote")
            yield Button("Quit", id="quit")
            yield Static(id="trouble", classes="trouble", markup=False)

    def on_mount(self) -> None:
        """Begin with the first button."""
        self.query_one("#local").focus()

    def tell(self, text: str) -> None:
        """Say below the buttons what goes on, or what went wrong."""
        self.query_one("#trouble", Static).update(text)

    @on(Button.Pressed, "#local")
    def action_local(self) -> None:
        """Connect to the server on this computer."""
        self.console_app.connect_local()

    @on(Button.Pressed, "#remote")
    def action_remote(self) -> None:
        """Choose a remote server."""
        self.app.push_screen(ConnectScreen())

    @on(Button.Pressed, "#quit")
    def action_quit_console(self) -> None:
        """Leave the console."""
        self.app.exit()
