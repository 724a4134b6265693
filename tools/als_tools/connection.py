"""From the options of a command to an open connection: which server, whose key, and whether a person believes it.

Trust is decided in als_agents/servers.py; here is only the question at the terminal.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from als import keyfile
from als_agents import key_pairs
from als_agents.client import Client
from als_agents.errors import Refused
from als_agents.network import Network
from als_agents.server_address import address_text
from als_agents.servers import Finder, Server
from als_tools import formats
from als_tools.arguments import read_key
from als_tools.failures import Exit, Failure
from als_tools.options import Access

ENVELOPE = frozenset({"v", "id", "ok", "time"})
YES = frozenset({"y", "yes"})
PRODUCTS_NAMED_MAX = 12  # of a long catalog enough to see how a code is written


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection to a server. `name` is what the user would type to mean it."""

    server: Server
    name: str
    client: Client
    keys: keyfile.KeyPair
    finder: Finder
    timeout_s: float

    def content(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Send a request and give what the operation says, without the keys that every reply has."""
        reply = self.ask(operation, **fields)
        return {key: value for key, value in reply.items() if key not in ENVELOPE}

    @property
    def address(self) -> str:
        """Where it is, as "host:port"."""
        return address_text(self.server.host, self.server.port)

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Send a request and give the reply. Raises Refused, ServerNotFound for silence, KeyChanged for another key."""
        try:
            with self.finder.explained(self.server):
                return self.client.request(operation, timeout_s=self.timeout_s, **fields)
        except Refused as error:
            if error.code == "not_authorized":
                raise Failure(Exit.REFUSED, self._how_to_be_authorized(error)) from None
            if error.code == "unknown_product":
                raise Failure(Exit.REFUSED, self._which_products(error)) from None
            raise

    def _which_products(self, error: Refused) -> str:
        """Name the products that there are, for whoever mistyped one."""
        codes = [formats.clean(str(product["code"])) for product in self.ask("hello")["products"]]
        more = f" and {len(codes) - PRODUCTS_NAMED_MAX} more" if len(codes) > PRODUCTS_NAMED_MAX else ""
        return f"{error} It knows {', '.join(codes[:PRODUCTS_NAMED_MAX])}{more}." if codes else str(error)

    def _how_to_be_authorized(self, error: Refused) -> str:
        role = error.detail.get("role", "viewer")
        return (
            f"{error} On the server's computer name its folder (--data-dir), or let an administrator run: "
            f"als admins SERVER add {self.keys.public.hex()} NAME {formats.clean(str(role))}"
        )


def finder(access: Access) -> Finder:
    """Make what finds servers for a command with these options."""
    return Finder(access.data_dir, net=Network(access.discovery_port))


@contextmanager
def connect(argument: str | None, access: Access, changes_state: bool = False) -> Iterator[Link]:
    """Connect to the server that is meant. A command that changes something wants a key that a person confirmed.

    Raises ClientError, Failure.
    """
    finds = finder(access)
    server = finds.find_one(
        argument,
        trust=("ask" if _can_ask() else "refuse") if changes_state else "pin",
        confirm=_confirmed,
        server_key=None if access.server_key is None else read_key(access.server_key),
    )
    name = argument or address_text(server.host, server.port)
    keys = own_keys(access, server)
    with Client(server.host, server.port, server.key, keys) as client:
        yield Link(server, name, client, keys, finds, access.timeout)


def own_keys(access: Access, server: Server | None) -> keyfile.KeyPair:
    """Choose the key pair that we show to `server`. Raises Failure, FolderUnusable."""
    try:
        return key_pairs.identity_for(access.data_dir, access.identity, None if server is None else server.key)
    except keyfile.KeyFileError as error:
        raise Failure(Exit.WRONG_USAGE, str(error)) from None


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirmed(server: Server) -> bool:
    """Ask the person at the terminal whether a key is the server's."""
    question = (
        f"The key of {formats.clean(str(server))} was never confirmed on this computer.\n"
        f"  {server.fingerprint}\n"
        "On the server, als status shows its fingerprint. Is it the same? [y/N] "
    )
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in YES
