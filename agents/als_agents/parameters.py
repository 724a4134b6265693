"""What a computer keeps of its server between two runs: which servers were chosen, and what the catalog said.

It knows the file, not how a server is found. The catalog's part is what a program needs to know when no
server answers: whether a component is licensed at all, and whether it may work offline.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from als import folders, keyfile
from als_agents import documents

FILE_NAME = "parameters.json"
FORMAT = 1


@dataclass(frozen=True)
class StoredServer:
    """A server that was chosen: `host` as the user gave it or a search found it, its TCP port, its key."""

    host: str
    port: int
    key: bytes
    server_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class ComponentFacts:
    """What a server's catalog says of one component."""

    licensed: bool
    works_offline: bool


@dataclass(frozen=True)
class Parameters:
    """All that is kept: servers, the preferred one first, and facts by (product code, component code)."""

    servers: tuple[StoredServer, ...] = ()
    components: Mapping[tuple[str, str], ComponentFacts] = field(default_factory=dict)

    def works_offline(self, product: str, component: str) -> bool:
        """Say whether this component may run without a server; False when it was never heard of."""
        facts = self.components.get((product, component))
        return facts is not None and facts.works_offline


class ParametersFile:
    """The parameters of one user's client on disk; several processes may use it at once."""

    def __init__(self, path: Path | None = None) -> None:
        """Use `path`, by default `parameters.json` in the client's folder."""
        self.path = path if path is not None else folders.client_dir() / FILE_NAME

    def read(self) -> Parameters:
        """Give what is stored, nothing when there is none or it was damaged. Raises FolderUnusable."""
        return documents.read(self.path, _parse, Parameters())

    def choose_servers(self, servers: Iterable[StoredServer]) -> None:
        """Store the servers to use from now on, each once, the preferred one first. Raises FolderUnusable."""
        chosen = tuple(dict.fromkeys(servers))
        self._change(lambda parameters: replace(parameters, servers=chosen))

    def remember_catalog(self, products: Iterable[Mapping[str, Any]]) -> None:
        """Keep what `hello` tells in `products`; other products' facts stay.

        Writes only when something is new, so it may be called after every hello. Raises FolderUnusable.
        """
        facts = facts_of(products)
        if facts.items() <= dict(self.read().components).items():
            return
        self._change(lambda old: replace(old, components={**old.components, **facts}))

    def _change(self, edit: Callable[[Parameters], Parameters]) -> None:
        documents.change(self.path, _parse, Parameters(), lambda old: _as_json(edit(old)))


def facts_of(products: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], ComponentFacts]:
    """Take the facts out of a hello's products, by (product code, component code). Raises TypeError, AttributeError."""
    return {
        (product["code"], row["code"]): ComponentFacts(
            row.get("licensed") is not False, row.get("works_offline") is True
        )
        for product in products
        for row in product.get("components", ())
        if type(product.get("code")) is str and type(row.get("code")) is str
    }


def _parse(document: Any) -> Parameters:
    if document["format"] != FORMAT:
        raise ValueError("an unknown format")
    servers = tuple(
        StoredServer(
            host=documents.text(row["host"]),
            port=documents.port(row["port"]),
            key=keyfile.from_z85(row["key"]),
            server_id=documents.text(row["server_id"]),
            name=documents.text(row["name"]),
        )
        for row in document["servers"]
    )
    components = {
        (documents.text(row["product"]), documents.text(row["component"])): ComponentFacts(
            licensed=row["licensed"] is not False, works_offline=row["works_offline"] is True
        )
        for row in document["components"]
    }
    return Parameters(servers, components)


def _as_json(parameters: Parameters) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "servers": [
            {
                "host": server.host,
                "port": server.port,
                "key": keyfile.to_z85(server.key),
                "server_id": server.server_id,
                "name": server.name,
            }
            for server in parameters.servers
        ],
        "components": [
            {
                "product": product,
                "component": component,
                "licensed": facts.licensed,
                "works_offline": facts.works_offline,
            }
            for (product, component), facts in parameters.components.items()
        ],
    }
