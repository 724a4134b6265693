"""A pretended network with servers at some of its places, and finders of one user on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from als import keyfile
from als_agents.discovery import Address, FoundServer
from als_agents.known_servers import KnownServers
from als_agents.network import Network
from als_agents.parameters import ParametersFile
from als_agents.server_address import ServerAddress
from als_agents.servers import Finder

KEY, OTHER_KEY, THIRD_KEY = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))


def found(name: str, key: bytes = KEY, *places: tuple[str, int], server_id: str = "") -> FoundServer:
    return FoundServer(server_id or f"id of {name}", name, "1.0", key, places)


class PretendedNetwork(Network):
    """A network with these names and servers; a server answers at every place that it has."""

    def __init__(self, *servers: FoundServer, names: dict[str, str] | None = None, broadcasts: bool = True) -> None:
        super().__init__(discovery_port=1)
        self.servers = list(servers)
        self.names = names or {}
        self.broadcasts = broadcasts
        self.asked = 0
        self.searches = 0

    def addresses(self, host: str) -> list[str]:
        """Look into the pretended name service."""
        if host in self.names:
            return self.names[host].split()
        return [host] if ServerAddress(host, None).is_numeric else []

    def is_here(self, host: str) -> bool:
        """Only loopback is this machine."""
        return any(address.startswith("127.") for address in self.addresses(host))

    def ask(self, host: str, port: int | None, wait_s: float = 1.0) -> FoundServer | None:
        """Ask the server that stands at the host's address."""
        self.asked += 1
        for server in self.servers:
            for place, place_port in server.addresses:
                if place in self.addresses(host) and port in (None, place_port):
                    return server._replace(addresses=((host, place_port),))
        return None

    def search(self) -> list[FoundServer]:
        """Everybody hears a broadcast, or nobody."""
        self.searches += 1
        return list(self.servers) if self.broadcasts else []


MAIN = found("main", KEY, ("10.0.0.1", 9876))
BRANCH = found("branch", OTHER_KEY, ("10.0.0.2", 7000))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Finder]:
    """Make a finder of this user on a pretended network."""

    def make_finder(
        *servers: FoundServer,
        names: dict[str, str] | None = None,
        broadcasts: bool = True,
        data_dir: Path | None = None,
        variable: str = "",
        net: PretendedNetwork | None = None,
        shuffle: Callable[[list[Address]], None] = list.sort,
    ) -> Finder:
        return Finder(
            data_dir,
            known=KnownServers(tmp_path / "known_servers.json"),
            parameters=ParametersFile(tmp_path / "parameters.json"),
            net=net or PretendedNetwork(*servers, names=names, broadcasts=broadcasts),
            environment={"ALS_SERVER": variable},
            server_dir=tmp_path / "no data folder",
            shuffle=shuffle,
        )

    return make_finder


Make = Callable[..., Finder]


def data_dir_with(tmp_path: Path, key: bytes) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    keyfile.write(folder, "server", keyfile.KeyPair(key, bytes(32)))
    return folder
