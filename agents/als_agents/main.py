"""`als-agent`: the command line of a computer that runs licensed components. Parses, calls, and ends."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from als import __version__, keyfile, streams
from als_agents import commands, configure, daemon, execute, flags
from als_agents.errors import ClientError

EXIT_INTERRUPTED = 130

CONNECTION = ("server", "server_key", "identity", "client_dir", "config")
COMPUTER = ("mac", "host", "address")
LICENSE = ("product", "component", "version_of_product")

EPILOG = """\
exit codes: 0 done; 1 refused; 2 wrong usage; 3 no server found or reachable; 4 a server's key changed; 130 ctrl-C
exec ends as its program does; 125 when not licensed, 126 and 127 when the program cannot be run or found
"""


class Command(NamedTuple):
    """One command: what it calls with the resolved settings, which it has, and the forms of its output.

    `unneeded` are settings that it takes only because the other commands do.
    """

    call: Callable[[argparse.Namespace], int]
    summary: str
    settings: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    has_computer: bool = True
    has_forms: bool = True


COMMANDS = {
    "acquire": Command(commands.acquire, "take a license, or share the one that the computer has", LICENSE),
    "renew": Command(commands.renew, "renew the license, as each run of the component does", LICENSE),
    "check": Command(commands.check, "ask whether licenses are free, and take none", LICENSE[:1], LICENSE[1:2]),
    "release": Command(commands.release, "give the license back, as an uninstallation does", LICENSE[:2]),
    "run": Command(
        daemon.run,
        "keep licenses by heartbeats until SIGTERM or ctrl-C",
        (*LICENSE, "licenses", "release_at_end"),
        has_forms=False,
    ),
    "exec": Command(
        execute.execute,
        "run a program only while it is licensed, and end as it does",
        (*LICENSE, "works_offline", "on_lost", "grace", "release_at_end"),
        has_forms=False,
    ),
    "identity": Command(commands.show_identity, "show what is sent for this computer, and why", unneeded=LICENSE[:2]),
    "configure": Command(
        configure.configure,
        "choose the license server and store it",
        unneeded=LICENSE[:2],
        has_computer=False,
        has_forms=False,
    ),
}


def parser() -> argparse.ArgumentParser:
    """Make the parser of all COMMANDS."""
    top = argparse.ArgumentParser(
        prog="als-agent",
        description="Licenses for the programs of this computer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"als-agent {__version__}")
    sub = top.add_subparsers(title="commands", metavar="COMMAND  ", required=True)
    for name, command in COMMANDS.items():
        summary = command.summary[0].upper() + command.summary[1:] + "."
        one = sub.add_parser(name, help=command.summary, description=summary)
        one.set_defaults(call=command.call)
        if command.settings:
            flags.add(one, *command.settings)
        flags.add_unneeded(one, *command.unneeded)
        if name == "configure":
            one.add_argument("--search", action="store_true", help="search the local network, and do not ask")
        flags.add(one, *CONNECTION, group="connection")
        if command.has_computer:
            flags.add(one, *COMPUTER, group="computer")
        if command.has_forms:
            forms = one.add_mutually_exclusive_group()
            forms.add_argument("--json", action="store_true", help="print one JSON document with the wire's keys")
            forms.add_argument("--plain", action="store_true", help="print tab-separated values")
        if name == "exec":
            one.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ARGS", help="what to run")
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and end with its exit code."""
    with streams.told("als-agent"):
        sys.exit(_run(argv))


def _run(argv: Sequence[str] | None) -> int:
    """Run the command that was named; give its exit code."""
    logging.basicConfig(format="als-agent: %(message)s", level=logging.WARNING)
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.call(flags.resolve(arguments)))
    except ClientError as error:
        commands.complain(f"als-agent: {error}")
        return error.exit_code
    except keyfile.KeyFileError as error:
        commands.complain(f"als-agent: {error}")
        return flags.BadSettings.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
