"""The options that commands share, each with its environment variable and default, and how a command takes them.

A command declares parameters of type Access, Form or Selection; `expanded` spreads their fields out as options.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from als import folders, protocol
from als_agents.client import TIMEOUT_S_DEFAULT
from als_tools.formats import Zone
from als_tools.output import Output

CONNECTION_PANEL = "Connection"
OUTPUT_PANEL = "Output"
LIST_WAIT_S_DEFAULT = 1.0
PORT_MAX = 65_535

SERVER_FORMS = "HOST, HOST:PORT, \\[V6]:PORT, or a name that als list shows."
SERVER_HELP = (
    f"{SERVER_FORMS} Left out: what ALS_SERVER names (several with commas), else the stored one, else the only one "
    "that answers a search."
)
ServerArgument = Annotated[str | None, typer.Argument(metavar="SERVER", help=SERVER_HELP, show_default=False)]


def read_port(port: int) -> int:
    """Check an option that is a port. Raises typer.BadParameter."""
    if not 0 <= port <= PORT_MAX:
        raise typer.BadParameter(f"a port is a number from 0 (no search) to {PORT_MAX}")
    return port


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a server and who we are to it."""

    server_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="ALS_SERVER_KEY",
            help="The server's public key (Z85, hexadecimal or a .key file); nothing is asked or remembered then.",
            rich_help_panel=CONNECTION_PANEL,
        ),
    ] = None
    identity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="ALS_IDENTITY",
            help="Your key pair, a .key_secret file. Default: the server's own admin.key_secret when you can read "
            "it, else yours (als keygen).",
            rich_help_panel=CONNECTION_PANEL,
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar=folders.DATA_DIR_VARIABLE,
            help="The data folder of a server on this computer.",
            show_default="this platform's",
            rich_help_panel=CONNECTION_PANEL,
        ),
    ] = None
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            envvar="ALS_TIMEOUT",
            min=0.1,
            help="How long to wait for an answer.",
            rich_help_panel=CONNECTION_PANEL,
        ),
    ] = TIMEOUT_S_DEFAULT
    discovery_port: Annotated[
        int,
        typer.Option(
            metavar="PORT",
            envvar="ALS_DISCOVERY_PORT",
            callback=read_port,
            help="The UDP port that servers are searched on.",
            rich_help_panel=CONNECTION_PANEL,
        ),
    ] = protocol.PORT


@dataclass(frozen=True, slots=True)
class Form:
    """How a result is written."""

    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON document with the wire's keys.", rich_help_panel=OUTPUT_PANEL),
    ] = False
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Tab-separated lines without headings or color, times in ISO 8601.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False
    utc: Annotated[
        bool,
        typer.Option(
            "--utc",
            help="Times in UTC instead of this computer's zone.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False

    def output(self) -> Output:
        """Give what the command writes with. Raises typer.BadParameter for two forms at once."""
        if self.json and self.plain:
            raise typer.BadParameter("--json and --plain exclude each other")
        return Output("json" if self.json else "plain" if self.plain else "table", Zone(self.utc))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which columns of a listing, in which order, and how many rows."""

    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help='Columns by name, separated by commas, or "all". A wrong name lists them.',
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Order by any column, shown or not; -NAME from the greatest down.",
            show_default="the server's order",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None
    reverse: Annotated[bool, typer.Option("--reverse", help="Turn the order round.", rich_help_panel=OUTPUT_PANEL)] = (
        False
    )
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="At most so many rows.",
            show_default="all",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None


_GROUPS = (Access, Form, Selection)


def expanded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command whose parameters of a group's type are replaced by that group's fields, put together again."""
    hints = get_type_hints(function, include_extras=True)
    spread: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if hints[name] in _GROUPS:
            groups[name] = hints[name]
            spread += _spread(hints[name])
        else:
            spread.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def command(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return function(**values)

    command.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    del command.__wrapped__
    return command


def _spread(group: type) -> list[inspect.Parameter]:
    assert is_dataclass(group), "a group of options is a dataclass"
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
