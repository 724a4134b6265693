"""The programs `als` and `LicenseServerCmdLine`: which word runs which command, and what every ending looks like.

A further command is a function (parameters as in options.py) and a row in COMMANDS.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer

import als
from als_tools import (
    commands_admins,
    commands_demo,
    commands_listings,
    commands_serials,
    commands_servers,
    formats,
    program,
)
from als_tools.console.command import console
from als_tools.failures import Exit
from als_tools.options import expanded
from als_tools.output import say
from als_tools.top.command import top

SERVERS, LICENSES, ADMINISTRATION, FIRST = "Servers", "Licenses", "Administration", "To begin with"


class Command(NamedTuple):
    """One word of the command line, what it runs, and the panel of the help that it stands in."""

    name: str
    run: Callable[..., Any]
    panel: str


COMMANDS: tuple[Command, ...] = (
    Command("demo", commands_demo.demo, FIRST),
    Command("list", commands_servers.list_servers, SERVERS),
    Command("status", commands_servers.status, SERVERS),
    Command("trust", commands_servers.trust, SERVERS),
    Command("top", top, SERVERS),
    Command("console", console, SERVERS),
    Command("import", commands_serials.import_serials, LICENSES),
    Command("import-file", commands_serials.import_files, LICENSES),
    Command("licenses", commands_listings.licenses, LICENSES),
    Command("used", commands_listings.used, LICENSES),
    Command("events", commands_listings.events, LICENSES),
    Command("usage", commands_listings.usage, LICENSES),
    Command("revoke", commands_serials.revoke, LICENSES),
    Command("remove", commands_serials.remove, LICENSES),
    Command("keygen", commands_admins.keygen, ADMINISTRATION),
    Command("admins", commands_admins.admins, ADMINISTRATION),
)

HELP_WORDS = frozenset({"help", "--help", "-h", "/?", "-?"})
MANUAL_COMMANDS = ("list", "status", "import", "import-file")
MANUAL_HELP = """\
LicenseServerCmdLine [command] [option1] [option2]

  --list
      Displays the list of the License Servers available in the local network.
  --status [server name or server IP-address]
      Displays specified License Server status.
  --import [server name] [serial key]
      Adds information about new license (new serial key). Several serial
      numbers are separated by spaces.
  --import-file [server name] [filename]
      Imports license serial keys from a text file.
  --help
      Shows usage.

The program als knows the same commands and more: als --help
"""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"als {als.__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Look after license servers. Every command is also understood with two dashes: als --status SERVER."""


def _application() -> typer.Typer:
    """Make the application of all COMMANDS. An option that names no environment variable has ALS_COMMAND_OPTION."""
    application = typer.Typer(
        name="als",
        callback=_root,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    for command in COMMANDS:
        prefix = f"ALS_{command.name}".upper().replace("-", "_")
        register = application.command(
            command.name, rich_help_panel=command.panel, context_settings={"auto_envvar_prefix": prefix}
        )
        register(expanded(command.run))
    return application


app = _application()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `als` and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    names = {command.name for command in COMMANDS}
    _exit(program.run(app, _without_dashes(words, names), "als"))


def manual_main(arguments: Sequence[str] | None = None) -> None:
    """Run `LicenseServerCmdLine`, the manual's five commands letter by letter, and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in HELP_WORDS:
        _exit(_shown(MANUAL_HELP, Exit.DONE))
    if words[:1] == ["--version"]:  # which the manual does not have, and every program of ours does
        _exit(_shown(f"LicenseServerCmdLine {als.__version__}\n", Exit.DONE))
    if words and words[0].startswith("--") and words[0][2:] in MANUAL_COMMANDS:
        _exit(program.run(app, [words[0][2:], *words[1:]], "LicenseServerCmdLine"))
    known = ", ".join(f"--{name}" for name in (*MANUAL_COMMANDS, "help"))
    given = f'"{formats.clean(words[0])}" is not one' if words else "none was given"
    say(f"LicenseServerCmdLine: its commands are {known}, and {given}")
    _exit(Exit.WRONG_USAGE)


def _without_dashes(words: list[str], names: set[str]) -> list[str]:
    """Take the manual's dashes off the command's name; "help NAME" is "NAME --help"."""
    if not words:
        return ["--help"]
    first, rest = words[0], words[1:]
    if first.startswith("--") and first[2:] in names:
        return [first[2:], *rest]
    if first in HELP_WORDS:
        return [rest[0].removeprefix("--"), "--help"] if rest else ["--help"]
    return words


def _shown(text: str, code: Exit) -> int:
    sys.stdout.write(text)
    return code


def _exit(code: int) -> None:
    sys.exit(int(code))
