"""`als-agent configure`: asks which license server to use, as the manual's installer does, and stores it."""

import argparse
import sys
from collections.abc import Callable

from als_agents import flags
from als_agents.commands import EXIT_DONE, say
from als_agents.errors import KeyChanged, ServerNotFound, SeveralServers
from als_agents.network import Network
from als_agents.server import Server
from als_agents.server_address import address_text
from als_agents.workplace import Caller, Workplace


def configure(settings: argparse.Namespace, ask: Callable[[str], str] = input, is_terminal: bool | None = None) -> int:
    """Store the server to use: by name or address, or searched; asks where there is a terminal.

    A key that contradicts a remembered one is taken only with --server-key, or when a person says so.
    """
    asks = sys.stdin.isatty() if is_terminal is None else is_terminal
    workplace = flags.workplace(settings)
    argument = settings.server
    if argument is None and not settings.search and asks:
        say("License server: type its name or address, or press Enter to search the local network.")
        argument = ask("> ").strip() or None
    servers = _named(workplace, argument) if argument is not None else _searched(ask if asks else None)
    for server in servers:
        _believe(workplace, server, ask if asks else None)
    with Caller(servers, workplace.pair, workplace.explain) as caller:
        products = caller.ask("hello", lambda server: {})["products"]
    workplace.parameters.choose_servers([server.as_stored() for server in servers])
    workplace.parameters.remember_catalog(products)
    for server in servers:
        say(f"stored {server}, key {server.fingerprint}")
    codes = ", ".join(product["code"] for product in products)
    say(f"{caller.server} answers; it knows {codes or 'no product yet'}")
    return EXIT_DONE


def _named(workplace: Workplace, argument: str) -> list[Server]:
    """See what is there under each name or address. Raises ClientError."""
    if workplace.server_key is not None:
        return workplace.finder.find_all(argument, server_key=workplace.server_key)
    return [workplace.finder.look(name) for name in argument.split(",") if name.strip()]


def _searched(ask: Callable[[str], str] | None) -> list[Server]:
    """Search, and let a person choose among several. Raises ServerNotFound, SeveralServers."""
    found = Network().search()
    servers = [Server(*row.addresses[0], row.key, row.server_id, row.name) for row in found]
    if not servers:
        raise ServerNotFound("no license server was found on this network; give one with --server HOST or HOST:PORT")
    if len(servers) == 1:
        return servers
    if ask is None:
        names = ", ".join(str(server) for server in servers)
        raise SeveralServers(f"{len(servers)} license servers were found; say which with --server: {names}")
    for number, server in enumerate(servers, 1):
        say(f"{number}  {server}, key {server.fingerprint}")
    answer = ask(f"Which one? [1-{len(servers)}] ").strip()
    if not answer.isdecimal() or not 1 <= int(answer) <= len(servers):
        raise flags.BadSettings(f"{answer!r} is none of 1 to {len(servers)}")
    return [servers[int(answer) - 1]]


def _believe(workplace: Workplace, server: Server, ask: Callable[[str], str] | None) -> None:
    """Remember a server's key. Raises KeyChanged where another is known and nobody says that this one is right."""
    known = workplace.finder.known
    if workplace.server_key is not None:
        known.trust(server.as_pin())
        return
    try:
        known.remember(server.as_pin())
    except KeyChanged as error:
        where = server.address or address_text(server.host, server.port)
        if ask is None:
            raise KeyChanged(
                f"{error}, or here: als-agent configure --server {where} --server-key KEY (what its server.key holds)"
            ) from None
        say(str(error))
        if ask(f"Is {server.fingerprint} the server's key? [y/N] ").strip().lower() not in ("y", "yes"):
            raise
        known.trust(server.as_pin())
