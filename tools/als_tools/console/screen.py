"""What all screens of the console have in common: a title, the status bar, the keys, and the way to the connection."""

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Label, Static

from als.protocol import Role
from als_agents.errors import ClientError
from als_tools import formats
from als_tools.console.line import Line
from als_tools.console.status_bar import Standing, StatusBar
from als_tools.failures import Failure

if TYPE_CHECKING:
    from als_tools.console.app import ConsoleApp

Trouble = (ClientError, Failure)
"""What a server, the network or a file may answer instead of a result; str() of it is for a person."""


class ConsoleScreen(Screen[None]):
    """A full screen. `heading` stands in its first line."""

    heading = ""

    def compose(self) -> ComposeResult:
        """Lay out heading, body, status bar and keys."""
        yield Label(self.heading, classes="heading", markup=False)
        yield from self.body()
        yield StatusBar()
        yield Footer()

    def body(self) -> ComposeResult:
        """Lay out what is the screen's own."""
        yield Static()

    @property
    def console_app(self) -> "ConsoleApp":
        """The console that the screen belongs to."""
        from als_tools.console.app import ConsoleApp

        assert isinstance(self.app, ConsoleApp), "the screens are the console's"
        return self.app

    @property
    def is_there(self) -> bool:
        """Whether its widgets are there: not before it is laid out, and not while it is taken down."""
        return self.is_mounted and bool(self.query(StatusBar))

    @property
    def line(self) -> Line:
        """The connection; these screens are there only while there is one."""
        line = self.console_app.line
        assert line is not None, "the screen was left with the connection"
        return line

    @property
    def role(self) -> Role:
        """What we may do on the server."""
        return self.console_app.standing.role

    def on_screen_resume(self) -> None:
        """Show the standing of the moment."""
        self.show_standing(self.console_app.standing)

    def show_standing(self, standing: Standing) -> None:
        """Show how the connection stands now; screens whose controls depend on the role override `allow`."""
        self.query_one(StatusBar).show(standing)
        self.allow(standing.role)

    def allow(self, role: Role) -> None:
        """Disable, with the reason, what a role may not do."""

    def come_back(self) -> None:
        """Read again what could not be read while nobody answered."""

    def complain(self, error: BaseException) -> None:
        """Tell a person what went wrong."""
        self.notify(formats.clean(str(error)), severity="error", timeout=10, markup=False)

    def action_back(self) -> None:
        """Leave the screen."""
        self.app.pop_screen()


class Dialog(ModalScreen[Any]):
    """A small window over a screen; escape closes it without a choice."""

    BINDINGS = [("escape", "dismiss(None)", "Cancel")]  # noqa: RUF012 - textual's own type
