"""`als-agent`: the command line of a computer that runs licensed components. Parses, calls, and ends."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from als import __version__, keyfile
from als_agents import commands, daemon, execute, flags
from als_agents.errors import ClientError

EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="als-agent",
        description="Licenses for the programs of this computer.",
        epilog=execute.environment_note(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"als-agent {__version__}")
    sub = top.add_subparsers(title="commands", metavar="COMMAND  ", required=True)
    for name, function, summary in (
        ("acquire", commands.acquire, "take a license, or share the computer's"),
        ("renew", commands.renew, "renew the license, as a run of the component does"),
        ("release", commands.release, "give the license back, as an uninstallation does"),
    ):
        command = _command(sub, name, function, summary)
        flags.add_component(command)
        _add_common(command)
    command = _command(sub, "check", commands.check, "ask whether licenses are free, and take none")
    flags.add_component(command, with_component=False)
    _add_common(command)
    _add_run(sub)
    _add_exec(sub)
    command = _command(sub, "identity", commands.show_identity, "show what is sent for this computer, and why")
    _add_common(command)
    command = _command(sub, "configure", commands.configure, "store which server to use")
    command.add_argument("--search", action="store_true", help="search the local network, and ask nothing")
    flags.add_connection(command)
    return top


def _command(
    sub: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, function: object, summary: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = sub.add_parser(name, help=summary, description=summary[0].upper() + summary[1:])
    command.set_defaults(function=function)
    return command


def _add_common(command: argparse.ArgumentParser) -> None:
    flags.add_connection(command)
    flags.add_computer(command)
    flags.add_output(command)


def _add_run(sub: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(sub, "run", daemon.run, "keep licenses by heartbeats until SIGTERM or ctrl-C")
    flags.add_component(command, needed=False)
    command.add_argument(
        "--license", action="append", metavar="PRODUCT/COMPONENT", help="one more to keep; may be repeated"
    )
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="settings; default: agent.toml in the client's folder"
    )
    command.add_argument(
        "--release-at-stop", action="store_true", help="give the licenses back at the end; default: they are kept"
    )
    flags.add_connection(command)
    flags.add_computer(command)


def _add_exec(sub: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(sub, "exec", execute.execute, "run a program while it is licensed; its exit code is passed on")
    flags.add_component(command)
    command.add_argument(
        "--on-lost",
        choices=execute.ON_LOST,
        default="term",
        help="when the license is lost meanwhile: end the program (killed after the grace time), kill it, or only "
        "warn; default: %(default)s",
    )
    command.add_argument(
        "--grace",
        type=float,
        default=execute.GRACE_S_DEFAULT,
        metavar="SECONDS",
        help="how long a program may take to end; default: %(default)s",
    )
    command.add_argument(
        "--release-at-end", action="store_true", help="give the license back when the program ends; default: kept"
    )
    flags.add_connection(command)
    flags.add_computer(command)
    command.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ARGS", help="what to run")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and end with its exit code."""
    arguments = parser().parse_args(argv)
    try:
        code = arguments.function(arguments)
    except ClientError as error:
        commands.complain(f"als-agent: {error}")
        code = error.exit_code
    except keyfile.KeyFileError as error:
        commands.complain(f"als-agent: {error}")
        code = flags.BadSettings.exit_code
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
