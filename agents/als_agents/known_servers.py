"""The servers whose keys this user has seen and holds them to: address as given, server id, key.

It knows what contradicts what. Whether a new key may be believed is the caller's to say.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from als import folders, keyfile
from als_agents import documents
from als_agents.discovery import Address
from als_agents.errors import KeyChanged
from als_agents.server_address import address_text

FILE_NAME = "known_servers.json"
FORMAT = 1


@dataclass(frozen=True)
class Pin:
    """One server's key, held to.

    `address` is what the user gave, normalized ("" when a search found the server); `host` and `port` are
    where it was last, `more` the other addresses of a cluster; `server_id` and `name` are "" when only the key is
    known.
    """

    address: str
    server_id: str
    key: bytes
    name: str
    host: str
    port: int
    more: tuple[Address, ...] = ()

    @property
    def is_from_search(self) -> bool:
        """Say whether a search found the server, and with it all its addresses."""
        return self.address == ""

    @property
    def places(self) -> list[Address]:
        """Give every address at which the server was."""
        return [(self.host, self.port), *self.more]

    def contradicts(self, other: "Pin") -> bool:
        """Say whether both speak of the same address or the same server id and name different keys."""
        same = (self.address == other.address and self.address != "") or (
            self.server_id == other.server_id and self.server_id != ""
        )
        return same and self.key != other.key

    def replaces(self, other: "Pin") -> bool:
        """Say whether `other` has nothing left to say beside this one."""
        if self.address or other.address:
            return self.address == other.address
        return self.server_id == other.server_id


class KnownServers:
    """The pins of one user, in one file; several processes may use it at once."""

    def __init__(self, path: Path | None = None) -> None:
        """Use `path`, by default `known_servers.json` in the client's folder."""
        self.path = path if path is not None else folders.client_dir() / FILE_NAME

    def pins(self) -> list[Pin]:
        """Give every pin, the oldest first. Raises FolderUnusable."""
        return documents.read(self.path, _parse, _nothing())

    def by_address(self, address: str) -> Pin | None:
        """Find what was pinned under this address."""
        return next((pin for pin in self.pins() if pin.address == address), None)

    def by_name(self, name: str) -> list[Pin]:
        """Find the pins of the servers that call themselves `name`, in any case.

        One for each key: the newest from a search if there is one, else the newest.
        """
        pins = sorted(self.pins(), key=lambda pin: pin.is_from_search)
        found = {(pin.server_id, pin.key): pin for pin in pins if pin.name.casefold() == name.casefold()}
        return list(found.values())

    def holds(self, seen: Pin) -> bool:
        """Say whether the key of `seen` is pinned for its address or its server.

        Raises KeyChanged when another key is.
        """
        pins = self.pins()
        _refuse_contradiction(pins, seen)
        return any(pin.key == seen.key for pin in pins)

    def remember(self, seen: Pin) -> None:
        """Pin a key. Raises KeyChanged when another is pinned already (by a process that was faster, too)."""

        def edit(pins: list[Pin]) -> dict[str, Any]:
            _refuse_contradiction(pins, seen)
            return _as_json([pin for pin in pins if not seen.replaces(pin)] + [seen])

        if seen not in self.pins():
            documents.change(self.path, _parse, _nothing(), edit)

    def trust(self, seen: Pin) -> None:
        """Pin a key and drop what contradicts it: a person has compared the fingerprint."""

        def edit(pins: list[Pin]) -> dict[str, Any]:
            kept = [pin for pin in pins if not seen.contradicts(pin) and not seen.replaces(pin)]
            return _as_json([*kept, seen])

        documents.change(self.path, _parse, _nothing(), edit)


def key_changed(pinned: Pin, seen: Pin, remedy: str = "als trust") -> KeyChanged:
    """Say that `seen` has another key than `pinned`, and which command believes the new one."""
    where = seen.address or pinned.address or address_text(seen.host, seen.port)
    return KeyChanged(
        f"the server {where} shows the key {keyfile.fingerprint(seen.key)}, but "
        f"{keyfile.fingerprint(pinned.key)} is known for it: somebody may be posing as the server. "
        f"If it was set up anew, compare the fingerprint there and run: {remedy} {where}"
    )


def _refuse_contradiction(pins: list[Pin], seen: Pin) -> None:
    for pin in pins:
        if pin.contradicts(seen):
            raise key_changed(pin, seen)


def _nothing() -> list[Pin]:
    return []


def _parse(document: Any) -> list[Pin]:
    if document["format"] != FORMAT:
        raise ValueError("an unknown format")
    return [
        Pin(
            address=documents.text(row["address"]),
            server_id=documents.text(row["server_id"]),
            key=keyfile.from_z85(row["key"]),
            name=documents.text(row["name"]),
            host=documents.text(row["host"]),
            port=documents.port(row["port"]),
            more=tuple((documents.text(place["host"]), documents.port(place["port"])) for place in row.get("more", ())),
        )
        for row in document["servers"]
    ]


def _as_json(pins: list[Pin]) -> dict[str, Any]:
    rows = [
        {
            "address": pin.address,
            "server_id": pin.server_id,
            "key": keyfile.to_z85(pin.key),
            "name": pin.name,
            "host": pin.host,
            "port": pin.port,
            "more": [{"host": host, "port": port} for host, port in pin.more],
        }
        for pin in pins
    ]
    return {"format": FORMAT, "servers": rows}
