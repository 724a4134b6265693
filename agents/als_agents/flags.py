"""The flags of `als-agent`, each with its environment variable and default, and the workplace that they describe.

Flag > environment > agent.toml > default. Knows no command.
"""

import argparse
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from als import folders, keyfile
from als.protocol import parse_mac
from als_agents import identity
from als_agents.errors import ClientError
from als_agents.server import read_server_key
from als_agents.workplace import Workplace

CONFIG_NAME = "agent.toml"
CONFIG_KEYS = frozenset({"server", "server_key", "product", "component", "version", "licenses", "release_at_stop"})


class BadSettings(ClientError):
    """A flag, a variable or agent.toml that cannot be meant; the message names it."""

    exit_code = 2


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add what says which server, and as whom."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        help="the license server, several with commas; ALS_SERVER; default: the stored one (als-agent configure), "
        "else found by broadcast",
    )
    group.add_argument(
        "--server-key",
        metavar="KEY",
        default=os.environ.get("ALS_SERVER_KEY"),
        help="the server's public key; then nothing is searched; ALS_SERVER_KEY; default: pinned at first use",
    )
    group.add_argument(
        "--client-dir",
        metavar="DIR",
        type=Path,
        default=folders.client_dir(),
        help="folder of this agent's key pair, known servers and stored server; ALS_CLIENT_DIR; default: %(default)s",
    )
    group.add_argument(
        "--identity",
        metavar="FILE",
        type=Path,
        default=os.environ.get("ALS_IDENTITY"),
        help="key pair to use instead, a .key_secret file; ALS_IDENTITY; default: this agent's own",
    )


def add_computer(parser: argparse.ArgumentParser) -> None:
    """Add what stands in for this computer, for deployments and pretended computers."""
    group = parser.add_argument_group("computer")
    group.add_argument(
        "--mac", action="append", metavar="MAC", help="its address; may be repeated; ALS_MACS; default: the adapters'"
    )
    group.add_argument("--host", metavar="NAME", help="its name; ALS_HOST; default: this computer's")
    group.add_argument("--address", metavar="IP", help="its IP address; default: the one that reaches the server")


def add_component(parser: argparse.ArgumentParser, *, needed: bool = True, with_component: bool = True) -> None:
    """Add which product and component; `run` may have them in agent.toml instead."""
    code = " (or product, component in agent.toml)" if not needed else ""
    parser.add_argument("--product", metavar="CODE", required=needed, help=f"the product's code{code}")
    if with_component:
        parser.add_argument("--component", metavar="CODE", required=needed, help="the component's code")
        parser.add_argument("--version-of-product", metavar="TEXT", help="what the server shows as its version")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the forms of output."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", action="store_true", help="one JSON document with the wire's keys")
    group.add_argument("--plain", action="store_true", help="tab-separated values")


def read_config(path: Path | None, folder: Path) -> dict[str, Any]:
    """Read agent.toml; one that was not asked for may be absent. Raises BadSettings."""
    file = path if path is not None else folder / CONFIG_NAME
    if path is None and not file.exists():
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{file}: {error}") from None
    unknown = sorted(values.keys() - CONFIG_KEYS)
    if unknown:
        raise BadSettings(f"{file}: {unknown[0]}: unknown key; known are {', '.join(sorted(CONFIG_KEYS))}")
    return values


def workplace(arguments: argparse.Namespace, config: Mapping[str, Any]) -> Workplace:
    """Put together what a command works with. Raises ClientError, KeyFileError."""
    text = arguments.server_key or config.get("server_key")
    try:
        key = read_server_key(text) if text else None
    except ValueError as error:
        raise BadSettings(f"--server-key: {error}") from None
    server = arguments.server or (None if os.environ.get("ALS_SERVER") else config.get("server"))
    return Workplace(
        server=server,
        server_key=key,
        folder=arguments.client_dir,
        pair=keyfile.read(Path(arguments.identity)) if arguments.identity else None,
        computer=given_computer(arguments),
    )


def given_computer(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Give the computer that the flags describe, None when they name none. Raises BadSettings, BadIdentity."""
    macs, host, address = (getattr(arguments, name, None) for name in ("mac", "host", "address"))
    if not (macs or host or address):
        return None
    try:
        parsed = [parse_mac(text) for text in macs or []]
    except ValueError as error:
        raise BadSettings(f"--mac: {error}") from None
    if parsed:  # another computer: nothing of this one belongs to it
        return {"macs": parsed, "host": host or f"pc-{parsed[0].hex()}", "address": address or ""}
    own = identity.computer()
    return {**own, "host": host or own["host"], "address": address or own["address"]}
