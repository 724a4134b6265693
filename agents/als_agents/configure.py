"""`als-agent configure`: asks which license server to use, as the manual's installer does, and stores it."""

import argparse
import sys
from collections.abc import Callable

from als_agents import flags
from als_agents.commands import EXIT_DONE, say
from als_agents.errors import KeyChanged, SeveralServers
from als_agents.server import Server, pin_of
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
    found = _named(workplace, argument) if argument is not None else [_searched(workplace, ask if asks else None)]
    for addresses in found:
        _believe(workplace, addresses, ask if asks else None)
    servers = [server for addresses in found for server in addresses]
    with Caller(servers, workplace.pair, workplace.explain) as caller:
        products = caller.ask("hello", lambda server: {})["products"]
    workplace.parameters.choose_servers([server.as_stored() for server in servers])
    workplace.parameters.remember_catalog(products)
    for addresses in found:
        say(f"stored {_with_addresses(addresses)}, key {addresses[0].fingerprint}")
    codes = ", ".join(product["code"] for product in products)
    say(f"{caller.server} answers; it knows {codes or 'no product yet'}")
    return EXIT_DONE


def _named(workplace: Workplace, argument: str) -> list[list[Server]]:
    """See what is there under each name or address: all addresses of each server. Raises ClientError."""
    if workplace.server_key is not None:
        return [[server] for server in workplace.finder.find_all(argument, server_key=workplace.server_key)]
    return [workplace.finder.look_everywhere(name) for name in argument.split(",") if name.strip()]


def _searched(workplace: Workplace, ask: Callable[[str], str] | None) -> list[Server]:
    """Search, and let a person choose among several; give its addresses. Raises ServerNotFound, SeveralServers."""
    found = workplace.finder.search(workplace.server_key)
    if len(found) == 1:
        return found[0]
    names = [_with_addresses(servers) for servers in found]
    if ask is None:
        raise SeveralServers(f"{len(found)} license servers were found; say which with --server: {', '.join(names)}")
    for number, (servers, name) in enumerate(zip(found, names, strict=True), 1):
        say(f"{number}  {name}, key {servers[0].fingerprint}")
    answer = ask(f"Which one? [1-{len(found)}] ").strip()
    if not answer.isdecimal() or not 1 <= int(answer) <= len(found):
        raise flags.BadSettings(f"{answer!r} is none of 1 to {len(found)}")
    return found[int(answer) - 1]


def _with_addresses(servers: list[Server]) -> str:
    """Name a server and all its addresses: "office (10.0.0.1:9876, 10.0.0.2:9876)"."""
    addresses = ", ".join(address_text(*server.place) for server in servers)
    return f"{servers[0].name} ({addresses})" if servers[0].name else addresses


def _believe(workplace: Workplace, addresses: list[Server], ask: Callable[[str], str] | None) -> None:
    """Remember a server's key. Raises KeyChanged where another is known and nobody says that this one is right."""
    known, server, pin = workplace.finder.known, addresses[0], pin_of(addresses)
    if workplace.server_key is not None:
        known.trust(pin)
        return
    try:
        known.remember(pin)
    except KeyChanged as error:
        where = server.address or address_text(server.host, server.port)
        if ask is None:
            raise KeyChanged(
                f"{error}, or here: als-agent configure --server {where} --server-key KEY (what its server.key holds)"
            ) from None
        say(str(error))
        if ask(f"Is {server.fingerprint} the server's key? [y/N] ").strip().lower() not in ("y", "yes"):
            raise
        known.trust(pin)
