"""Several real servers over one etcd: a `Site` whose first server has others beside it."""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from contract_client import Client, Keys, new_keys
from server_process import ServerProcess, Site

_COPIED = ("catalog.d", "vendors", "als.toml")


def cluster_options(folder: Path, endpoints: Sequence[str], prefix: bytes) -> list[str]:
    """Give the flags by which a server takes part in a cluster; makes the secret in `folder` when there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "cluster-secret"
    if not secret.exists():
        secret.write_text(secrets.token_hex(32))
        secret.chmod(0o600)
    store = "etcd://" + ",".join(endpoints)
    return ["--store", store, "--cluster-secret", str(secret), "--etcd-prefix", prefix.decode()]


class ClusterSite(Site):
    """A vendor, a catalog and `size` servers on one etcd; `server` and `admin` of a Site are the first one's."""

    def __init__(
        self,
        folder: Path,
        endpoints: Sequence[str],
        prefix: bytes,
        *,
        size: int = 2,
        settings: str = "",
        arguments: Sequence[str] = (),
        variables_of: Callable[[int], Mapping[str, str]] = lambda place: {},
        **options: Any,
    ) -> None:
        self.options = [*cluster_options(folder, endpoints, prefix), *arguments]
        super().__init__(folder / "n0", settings=settings, **options)
        self.server.close()
        self.servers = [self._server(self.server.data_dir, variables=variables_of(0), **options)]
        self.server = self.servers[0]
        for number in range(1, size):
            data_dir = folder / f"n{number}" / "data"
            self.copy_settings(data_dir)
            self.servers.append(self._server(data_dir, variables=variables_of(number), **options))
        self.admins: list[Client] = []

    def _server(self, data_dir: Path, **options: Any) -> ServerProcess:
        return ServerProcess(data_dir, *self.options, **options)

    def copy_settings(self, data_dir: Path) -> None:
        """Write catalog, vendors and settings into another server's folder."""
        data_dir.mkdir(parents=True)
        for name in _COPIED:
            source = self.server.data_dir / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, data_dir / name)

    def client_of(self, place: int, keys: Keys | None = None, **options: Any) -> Client:
        """Open a connection to one of the servers."""
        server = self.servers[place]
        client = Client(server.port, server.server_key, keys or new_keys(), host=server.address, **options)
        self._clients.append(client)
        return client

    def connect_admins(self) -> None:
        """Connect anew to every server that runs, as the administrator of the first."""
        keys = self.server.admin_keys
        self.admins = [self.client_of(place, keys) for place in range(len(self.servers))]

    def __enter__(self) -> Self:
        try:
            super().__enter__()
            for server in self.servers[1:]:
                server.start()
            self.connect_admins()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.close()

    def close(self) -> None:
        """Kill all servers that run."""
        for server in self.servers:
            server.close()


class TwinSite(ClusterSite):
    """Two servers whose clients come to either in turn: what tests of one server say must be true of both."""

    def client(self, keys: Keys | None = None, **options: Any) -> Client:
        """Open a connection to one of the servers that run."""
        running = [place for place, server in enumerate(self.servers) if server.port]
        return self.client_of(running[len(self._clients) % len(running)], keys, **options)


ENGINES = ("lmdb", "etcd")


def site_on(engine: str, folder: Path, request: pytest.FixtureRequest) -> Site:
    """Give a site for a module that is run on each engine."""
    if engine == "lmdb":
        return Site(folder)
    endpoint = request.getfixturevalue("etcd_endpoint")
    return TwinSite(folder, [endpoint], f"{request.module.__name__}/".encode())
