"""Which server is meant, where it is, and whether its key may be believed.

It joins what was given, what is stored, what is pinned and what the network says. It opens no connection.
"""

import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from als import folders, keyfile
from als.protocol import PORT
from als_agents import network, server_address
from als_agents.discovery import Address, FoundServer
from als_agents.errors import (
    BadServerArgument,
    ClientError,
    FolderUnusable,
    KeyChanged,
    NoAnswer,
    NotTrusted,
    ServerNotFound,
    SeveralServers,
)
from als_agents.known_servers import KnownServers, key_changed
from als_agents.parameters import ParametersFile
from als_agents.server import Origin, Server, pin_of, read_server_key, spread
from als_agents.server_address import ServerAddress, address_text

__all__ = ["SERVER_VARIABLE", "Confirm", "Finder", "Origin", "Server", "Trust", "read_server_key"]

SERVER_VARIABLE = "ALS_SERVER"
HERE = ServerAddress("127.0.0.1", None)

Trust = Literal["pin", "refuse", "ask"]
"""What to do with a key that was never seen: pin it (agents, and commands that read), refuse it (commands
that change something), or ask a person."""

REMEDIES: Mapping[Origin, str] = {"stored": "als-agent configure --server"}
"""The command that believes a new key, where it is not the pins that hold the old one."""

Confirm = Callable[[Server], bool]
_LookUp = Callable[[], list[Server]]

logger = logging.getLogger(__name__)


class Finder:
    """Finds servers for one command or one agent.

    `data_dir` is the data folder that the user named; without one, `server_dir` (the platform's) is looked into
    for the key of a server on this machine. Everything else has a default and is replaced in tests.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        known: KnownServers | None = None,
        parameters: ParametersFile | None = None,
        net: network.Network | None = None,
        environment: Mapping[str, str] = os.environ,
        server_dir: Path | None = None,
        shuffle: Callable[[list[Address]], None] = random.shuffle,
    ) -> None:
        """Raises BadServerArgument when the environment names an impossible discovery port."""
        self.known = known if known is not None else KnownServers()
        self.parameters = parameters if parameters is not None else ParametersFile()
        self._data_dir = data_dir
        self._server_dir = data_dir or server_dir or folders.server_dir()
        self._net = net if net is not None else network.Network(environment=environment)
        self._environment = environment
        self._shuffle = shuffle

    def find_one(
        self,
        argument: str | None = None,
        *,
        trust: Trust = "pin",
        confirm: Confirm | None = None,
        server_key: bytes | None = None,
    ) -> Server:
        """Find the one server that is meant; of several in a list the first that answers.

        One that poses as a known server, with another key, is passed over where the known one is there too.
        `server_key` is believed, and nobody else is: it needs no search where a host is named. `confirm` is asked
        where `trust` is "ask". Raises BadServerArgument, ServerNotFound, SeveralServers, KeyChanged, NotTrusted,
        FolderUnusable.
        """
        lists = self._chosen(argument, server_key)
        if not lists:
            found = self.search(server_key)
            genuine = [servers for servers in found if self._standing(servers[0]) < 2] or found
            return self._trusted(_only(genuine), trust, confirm)[0]
        servers = self._usable(lists, trust, confirm)
        if len(servers) == 1:
            return servers[0]
        return next((server for server in servers if self._answers(server)), servers[0])

    def find_all(
        self,
        argument: str | None = None,
        *,
        trust: Trust = "pin",
        confirm: Confirm | None = None,
        server_key: bytes | None = None,
    ) -> list[Server]:
        """Find every server that may be used, in the order in which to try them; at least one.

        They are those of `argument` or else of ALS_SERVER (both with commas between them), or else the stored
        ones, or else all that a search finds, known ones first. A server with several addresses (a cluster)
        comes once for each, in random order, so that a fleet spreads. One that cannot be used is passed over
        with a warning as long as another can. Raises what find_one raises, but several servers are none too
        many.
        """
        lists = self._chosen(argument, server_key)
        if not lists:
            found = sorted(self.search(server_key), key=lambda servers: self._standing(servers[0]))
            lists = [_constant(servers) for servers in found]
        servers = self._usable(lists, trust, confirm)
        return spread([place for server in servers for place in self._places(server)], self._shuffle)

    def likely_host(self, argument: str | None = None) -> str | None:
        """Give the host that would be asked first, as far as it is known without asking anybody. Raises as find_one."""
        text = argument if argument is not None else self._environment.get(SERVER_VARIABLE, "")
        named = next((name for name in text.split(",") if name.strip()), None)
        if named is not None:
            return server_address.parse(named).host
        stored = self.parameters.read().servers
        return stored[0].host if stored else None

    def look(self, argument: str | None = None) -> Server:
        """See which server is there now, whatever is stored or pinned: what `als trust` shows to a person.

        Raises BadServerArgument, ServerNotFound, SeveralServers.
        """
        return self.look_everywhere(argument)[0]

    def look_everywhere(self, argument: str | None = None) -> list[Server]:
        """See which server is there now as `look` does; give each address at which it was seen."""
        if argument is not None:
            return self._asked_or_searched(server_address.parse(argument))
        return _only(self.search())

    def find_elsewhere(self, servers: Sequence[Server]) -> list[Server]:
        """Search for servers that are silent where they used to be; their keys tell them from all others.

        Gives the addresses that are not among `servers`, in random order.
        """
        silent = {(server.key, server.place) for server in servers}
        return [server for server in self._wherever(servers) if (server.key, server.place) not in silent]

    def _wherever(self, servers: Sequence[Server]) -> list[Server]:
        """Search for these servers: one for each address at which one of their keys answers now."""
        by_key = {server.key: server for server in reversed(servers)}
        found = [
            replace(by_key[row.key], host=host, port=port, server_id=row.server_id, name=row.name, host_name="")
            for row in self._net.search()
            if row.key in by_key
            for host, port in row.addresses
        ]
        return spread(found, self._shuffle)

    @contextmanager
    def explained(self, server: Server) -> Iterator[None]:
        """Turn the silence of `server` within this block into what is behind it, see explain_silence."""
        try:
            yield
        except NoAnswer as silence:
            raise self.explain_silence(server) from silence

    def explain_silence(self, server: Server) -> ClientError:
        """Ask a silent server for its key: give KeyChanged if it has another one now, else ServerNotFound."""
        found = self._net.ask(server.host, server.port)
        if found is None:
            return _nobody_at(str(server))
        if found.key != server.key:
            seen = replace(server, key=found.key, server_id=found.server_id, name=found.name)
            return key_changed(server.as_pin(), seen.as_pin(), REMEDIES.get(server.origin, "als trust"))
        return ServerNotFound(
            f"{server} answers a search but no request; check that no firewall closes TCP port {server.port}"
        )

    # What was chosen: by argument, environment or stored parameters. Each entry is looked up on its own, later.

    def _chosen(self, argument: str | None, server_key: bytes | None) -> list[_LookUp]:
        text = argument if argument is not None else self._environment.get(SERVER_VARIABLE, "")
        names = [name for name in text.split(",") if name.strip()]
        if argument is not None and not names:
            raise BadServerArgument("the server's name is empty; leave it out to search, or give HOST:PORT")
        if names:
            addresses = [server_address.parse(name) for name in names]
            return [partial(self._given, address, server_key) for address in addresses]
        if self._data_dir is not None and self._local_key() is not None:
            return []  # the server of the folder that the user named is meant; a search finds it
        stored = self.parameters.read().servers
        return [_constant([replace(Server.from_stored(server), key=server_key or server.key)]) for server in stored]

    def _given(self, address: ServerAddress, server_key: bytes | None) -> list[Server]:
        """Look up what the user gave, in the order of the protocol's section 3."""
        if server_key is not None:
            port = address.port or PORT
            return [Server(address.host, port, server_key, address=address.text, origin="given")]
        return (
            self._local(address)
            or self._known_by_address(address)
            or self._known_by_name(address)
            or self._asked_or_searched(address)
        )

    def _known_by_address(self, address: ServerAddress) -> list[Server]:
        pin = self.known.by_address(address.text)
        return Server.from_pin(pin) if pin is not None else []

    def _known_by_name(self, address: ServerAddress) -> list[Server]:
        """Find a pinned server by its name: where a search saw it last, or wherever its key answers now."""
        if address.is_numeric or address.port is not None:
            return []
        pins = self.known.by_name(address.host)
        if len(pins) > 1:
            raise _several([Server.from_pin(pin)[0] for pin in pins])
        if not pins:
            return []
        servers = spread(Server.from_pin(pins[0]), self._shuffle)
        if pins[0].is_from_search and any(self._answers(server) for server in servers):
            return servers
        found = [replace(server, address="") for server in self._wherever(servers)]
        if found:
            self._remember(found)
        return found or servers

    def _local(self, address: ServerAddress) -> list[Server]:
        """Take this machine's server with the key in its folder, unless another one answers there."""
        key = self._local_key()
        if key is None or not self._net.is_here(address.host):
            return []
        found = self._net.ask(address.host, address.port, network.HERE_WAIT_S)
        if found is None:
            return [Server(address.host, address.port or PORT, key, address=address.text, origin="local")]
        return self._servers(found, address) if found.key == key else []

    def _local_key(self) -> bytes | None:
        try:
            return keyfile.read_public(self._server_dir / "server.key")
        except keyfile.KeyFileError:
            return None

    # What the network says.

    def _asked_or_searched(self, address: ServerAddress) -> list[Server]:
        """Ask the host, or search for a server of this name. Raises ServerNotFound, SeveralServers."""
        if self._net.addresses(address.host):
            found = self._net.ask(address.host, address.port)
            if found is not None:
                return self._servers(found, address)
        if address.is_numeric or address.port is not None:
            raise _nobody_at(address.text)
        named = [
            server
            for server in self._net.search()
            if address.host.casefold() in (server.name.casefold(), server.server_id.casefold())
        ]
        if not named:
            raise ServerNotFound(f"no license server is called {address.host}; als --list shows all")
        if len(named) > 1:
            raise _several([self._servers(server)[0] for server in named])
        return self._servers(named[0])

    def search(self, server_key: bytes | None = None) -> list[list[Server]]:
        """Search: for each server found its addresses. This machine's own server is there without a search.

        Where the user named a data folder, its server is meant and no other. With `server_key` only who has this key
        is found, and believed. Raises ServerNotFound.
        """
        found = self._whoever()
        if server_key is None:
            return found
        genuine = [servers for servers in found if servers[0].key == server_key]
        if not genuine:
            raise ServerNotFound(
                f"no license server with the key {keyfile.fingerprint(server_key)} was found on this network; "
                "give one as HOST or HOST:PORT, or check the key"
            )
        return [[replace(server, origin="given") for server in servers] for servers in genuine]

    def _whoever(self) -> list[list[Server]]:
        found = self._net.search()
        local_key = self._local_key()
        own = [server for server in found if server.key == local_key]
        if self._data_dir is not None and own:
            found = own
        elif self._data_dir is not None or not found:
            local = self._local(HERE)
            if local:
                return [local]
        if not found:
            raise ServerNotFound("no license server was found on this network; give one as HOST or HOST:PORT")
        return [self._servers(server) for server in found]

    def _servers(self, found: FoundServer, address: ServerAddress | None = None) -> list[Server]:
        """Make a server of each address of what was found, those on this machine first."""
        places = sorted(found.addresses, key=lambda place: not place[0].startswith("127."))
        origin: Origin = "local" if found.key == self._local_key() else "found"
        text = address.text if address is not None else ""
        return [Server(host, port, found.key, found.server_id, found.name, text, origin) for host, port in places]

    def _places(self, server: Server) -> list[Server]:
        """Give a server at each address of its host: a name may stand for a whole cluster."""
        addresses = [] if server_address.is_ip(server.host) else self._net.addresses(server.host)
        if len(addresses) < 2:
            return [server]  # by its name, so that it may move
        return [replace(server, host=address, host_name=server.host) for address in addresses]

    def _answers(self, server: Server) -> bool:
        found = self._net.ask(server.host, server.port)
        return found is not None and found.key == server.key

    # Whether a key may be believed.

    def _usable(self, lists: list[_LookUp], trust: Trust, confirm: Confirm | None) -> list[Server]:
        """Look every entry up and keep what may be used; raise the gravest error when nothing is left."""
        servers: list[Server] = []
        errors: list[ClientError] = []
        for look_up in lists:
            try:
                servers += self._trusted(look_up(), trust, confirm)
            except (ServerNotFound, SeveralServers, KeyChanged, NotTrusted) as error:
                errors.append(error)
        if not servers:
            raise max(errors, key=lambda reason: reason.exit_code)
        for reason in errors:
            logger.warning("%s", reason)
        return servers

    def _trusted(self, servers: list[Server], trust: Trust, confirm: Confirm | None) -> list[Server]:
        """Give back the addresses of one server if its key may be believed. Raises KeyChanged, NotTrusted."""
        server = servers[0]
        if server.origin != "found":
            return servers
        if not self.known.holds(server.as_pin()) and not (
            trust == "pin" or (trust == "ask" and confirm is not None and confirm(server))
        ):
            raise NotTrusted(
                f"the key of {server} was never confirmed here ({server.fingerprint}); "
                f"compare it with the server's and run: als trust "
                f"{server.address or address_text(server.host, server.port)}"
            )
        self._remember(servers)
        return servers

    def _remember(self, servers: Sequence[Server]) -> None:
        """Pin the key of one server, and its addresses."""
        try:
            self.known.remember(pin_of(servers))
        except FolderUnusable as error:
            logger.warning("the key of %s is not remembered: %s", servers[0], error)

    def _standing(self, server: Server) -> int:
        """Order what a search found: 0 for a known server, 1 for a new one, 2 for one that poses as a known one."""
        try:
            return 0 if server.origin != "found" or self.known.holds(server.as_pin()) else 1
        except KeyChanged:
            return 2


def _constant(servers: list[Server]) -> _LookUp:
    return lambda: servers


def _nobody_at(place: str) -> ServerNotFound:
    return ServerNotFound(f"no license server answers at {place}; check the address, and that it runs")


def _only(found: list[list[Server]]) -> list[Server]:
    if len(found) > 1:
        raise _several([servers[0] for servers in found])
    return found[0]


def _several(servers: list[Server]) -> SeveralServers:
    names = ", ".join(str(server) for server in servers)
    return SeveralServers(f"{len(servers)} license servers could be meant; say which of them: {names}")
