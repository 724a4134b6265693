"""One server as a client knows it: where it is, which key it must show, and where that key comes from.

Servers with one key are one server with several addresses: a cluster, or a machine with several networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from als import keyfile
from als.protocol import KEY_BYTES
from als_agents.discovery import Address
from als_agents.errors import BadServerArgument
from als_agents.known_servers import Pin
from als_agents.parameters import StoredServer
from als_agents.server_address import address_text

Origin = Literal["given", "local", "known", "stored", "found"]
"""Where a key comes from: the user, this machine's data folder, the pins, the stored parameters, or the
server's own answer, which alone proves nothing."""


@dataclass(frozen=True)
class Server:
    """A server to connect to. `address` is what the user gave, normalized; "" when a search found it.

    `server_id` and `name` are "" where only the key is known. `host_name` is the name that `host` is one of several
    addresses of, "" otherwise.
    """

    host: str
    port: int
    key: bytes
    server_id: str = ""
    name: str = ""
    address: str = ""
    origin: Origin = "found"
    host_name: str = ""

    def __str__(self) -> str:
        """Name it for a person."""
        where = address_text(self.host, self.port)
        return f"{self.name} ({where})" if self.name else where

    @property
    def fingerprint(self) -> str:
        """Its key as people compare it."""
        return keyfile.fingerprint(self.key)

    @property
    def place(self) -> Address:
        """Where it is, as (host, TCP port)."""
        return self.host, self.port

    def as_pin(self) -> Pin:
        """Say it as the known servers remember it."""
        return Pin(self.address, self.server_id, self.key, self.name, self.host, self.port)

    def as_stored(self) -> StoredServer:
        """Say it as the stored parameters remember it."""
        return StoredServer(self.host_name or self.host, self.port, self.key, self.server_id, self.name)

    @classmethod
    def from_pin(cls, pin: Pin) -> list[Self]:
        """Read what the known servers remember: one for each address."""
        return [cls(*place, pin.key, pin.server_id, pin.name, pin.address, "known") for place in pin.places]

    @classmethod
    def from_stored(cls, stored: StoredServer) -> Self:
        """Read what the stored parameters remember."""
        return cls(stored.host, stored.port, stored.key, stored.server_id, stored.name, origin="stored")


def pin_of(servers: Sequence[Server]) -> Pin:
    """Say all addresses of one server as the known servers remember it, whatever their order."""
    first, *more = sorted(servers, key=lambda server: server.place)
    return replace(first.as_pin(), more=tuple(dict.fromkeys(server.place for server in more)))


def spread(servers: Sequence[Server], shuffle: Callable[[list[Address]], None]) -> list[Server]:
    """Put the addresses of each server in an order that `shuffle` makes, so that a fleet spreads over them.

    The servers stay in their order, and this machine's addresses come first. None comes twice.
    """
    by_key: dict[bytes, dict[Address, Server]] = {}
    for server in servers:
        by_key.setdefault(server.key, {}).setdefault(server.place, server)
    ordered: list[Server] = []
    for at in by_key.values():
        places = list(at)
        shuffle(places)
        places.sort(key=lambda place: not place[0].startswith("127."))
        ordered += [at[place] for place in places]
    return ordered


def read_server_key(text: str | bytes) -> bytes:
    """Read a server's public key as users give it: its 40 characters, the path of a `server.key`, or its 32 bytes.

    Raises BadServerArgument.
    """
    if isinstance(text, bytes):
        if len(text) != KEY_BYTES:
            raise BadServerArgument(f"a server's key has {KEY_BYTES} bytes, not {len(text)}")
        return text
    try:
        return keyfile.from_z85(text)
    except ValueError:
        pass
    try:
        return keyfile.read_public(Path(text))
    except keyfile.KeyFileError:
        raise BadServerArgument(f"{text} is neither a key of 40 characters nor a readable server.key") from None
