"""Ways to a server: the one on this computer, those that a search finds, an address. All of it waits for the network.

Whether a key may be believed is decided in als_agents/servers.py; here nothing is pinned without a person's word.
"""

from pathlib import Path
from typing import NamedTuple

from als import folders, keyfile
from als.protocol import Role
from als_agents import discovery
from als_agents.client import Client
from als_agents.discovery import FoundServer
from als_agents.network import Network
from als_agents.server import Server
from als_agents.server_address import address_text
from als_tools import connection
from als_tools.arguments import read_key
from als_tools.connection import Link
from als_tools.options import Access
from als_tools.rows import Ask

LOCAL = "127.0.0.1"
LOCAL_WAIT_S = 0.5  # this computer answers within a millisecond
ROLE_UNKNOWN = Role.AGENT


class Greeting(NamedTuple):
    """What a server says to `hello`: its name, what our key may do, and its products' (code, name)."""

    name: str
    role: Role
    products: tuple[tuple[str, str], ...]


def open_link(argument: str | None, access: Access) -> tuple[Link, Greeting]:
    """Connect, and see that somebody answers. Raises ClientError (NotTrusted for a key nobody confirmed), Failure."""
    finder = connection.finder(access)
    given = None if access.server_key is None else read_key(access.server_key)
    server = finder.find_one(argument, trust="refuse", server_key=given)
    keys = connection.own_keys(access, server)
    client = Client(server.host, server.port, server.key, keys)
    link = Link(server, argument or address_text(server.host, server.port), client, keys, finder, access.timeout)
    try:
        return link, greet(link.ask)
    except BaseException:
        client.close()
        raise


def greet(ask: Ask) -> Greeting:
    """Ask who is there and what we may do. Raises ClientError, Failure."""
    reply = ask("hello")
    products = tuple((str(product["code"]), str(product["name"])) for product in reply["products"])
    try:
        role = Role.from_text(reply["your_role"])
    except KeyError:
        role = ROLE_UNKNOWN  # a newer server's word for what we do not know: nothing is promised
    return Greeting(str(reply["name"]), role, products)


def search(access: Access) -> list[FoundServer]:
    """Find the servers of the local network, for about a second."""
    return discovery.discover(port=access.discovery_port)


def local_argument(access: Access) -> str:
    """Give the address of the server on this computer: the one with the data folder's key, else any that is here."""
    here = Network(access.discovery_port)
    found = discovery.discover(LOCAL_WAIT_S, access.discovery_port)
    places = [(server, place) for server in found for place in server.addresses if here.is_here(place[0])]
    # A server that is bound to 127.0.0.1 alone answers a broadcast from whatever address the way out has.
    own_key = _local_key(access.data_dir)
    places.sort(key=lambda pair: (pair[0].key != own_key, not pair[1][0].startswith("127.")))
    return address_text(*places[0][1]) if places else LOCAL


def _local_key(data_dir: Path | None) -> bytes | None:
    folder = data_dir if data_dir is not None else folders.server_dir()
    try:
        return keyfile.read_public(folder / "server.key")
    except keyfile.KeyFileError:
        return None


def look(argument: str | None, access: Access) -> Server:
    """See which server is there and what key it shows, whatever is pinned. Raises ClientError."""
    return connection.finder(access).look(argument)


def trust(server: Server, access: Access) -> None:
    """Pin a server's key: a person has compared the fingerprint. Raises FolderUnusable."""
    connection.finder(access).known.trust(server.as_pin())
