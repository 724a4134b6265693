"""The command `als console`: from its options to the Management Console on the terminal."""

import sys
from typing import Annotated

import typer

from als_tools.failures import Exit, Failure
from als_tools.formats import Zone
from als_tools.options import Access, ServerArgument


def console(
    access: Access,
    server: ServerArgument = None,
    utc: Annotated[bool, typer.Option("--utc", help="Times in UTC instead of this computer's zone.")] = False,
) -> None:
    """Manage licenses in full-screen windows, with keyboard and mouse: add, view, remove, events, usage."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Failure(Exit.WRONG_USAGE, "the console needs a terminal; als --help lists the commands for scripts")
    from als_tools.console.app import ConsoleApp  # textual takes a quarter of a second that no other command needs

    ConsoleApp(access, Zone(utc), server).run()
