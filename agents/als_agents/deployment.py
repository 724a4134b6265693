"""A deployment server: asks whether seats are free, keeps the server's parameters, acquires for its targets.

It takes no seat for itself. Its key should have the role `deployer`, which no limit on new seats applies to.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from als import keyfile
from als.protocol import Role, parse_mac
from als_agents import arguments
from als_agents.errors import ClientError, Refused
from als_agents.server import Server, read_server_key
from als_agents.workplace import Caller, Workplace

PRODUCT_DEFAULT = "ASD"
COMPONENT_DEFAULT = "deployment"


@dataclass(frozen=True)
class Target:
    """A computer to deploy to: its MAC address as text, and what is known of it besides."""

    mac: str
    host: str
    address: str = ""
    kind: str | None = None

    def as_computer(self) -> dict[str, Any]:
        """Write it as on the wire. Raises ValueError for a MAC address that is none."""
        return {"macs": [parse_mac(self.mac)], "host": self.host, "address": self.address, "kind": self.kind}


class Seats(NamedTuple):
    """How many computers a product may be deployed to, and how many are left."""

    total: int
    used: int
    free: int


class Deployment(NamedTuple):
    """What became of one target: "granted" or "already_held" with the lease, or a refusal's code and message.

    The lease is None, and `result` "not_counted", where the component takes no license.
    """

    target: Target
    result: str
    lease: Mapping[str, Any] | None = None
    message: str = ""

    @property
    def is_licensed(self) -> bool:
        """Say whether the target may be deployed to."""
        return self.lease is not None or self.result == "not_counted"


class DeploymentServer:
    """Acquires licenses for other computers. `server` is chosen once and kept for later deployments.

    Arguments as of LicensedComponent. May be used from several threads, whose requests go one after the other.
    Raises ClientError.
    """

    def __init__(
        self,
        product: str = PRODUCT_DEFAULT,
        component: str = COMPONENT_DEFAULT,
        *,
        version: str | None = None,
        server: str | Sequence[str] | None = None,
        server_key: bytes | str | None = None,
        client_dir: Path | str | None = None,
        identity: keyfile.KeyPair | None = None,
    ) -> None:
        self.product = product
        self.component = component
        self.version = version
        self._workplace = Workplace(
            server=arguments.as_server(server),
            server_key=None if server_key is None else read_server_key(server_key),
            folder=arguments.as_folder(client_dir),
            pair=identity,
        )
        self._caller: Caller | None = None
        self._asking = threading.RLock()  # a connection serves one request at a time

    def __enter__(self) -> Self:
        """Give the deployment server itself; leaving closes its connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        with self._asking:
            if self._caller is not None:
                self._caller.close()
                self._caller = None

    @property
    def key(self) -> str:
        """Give the public key that an administrator gives the role `deployer` to (40 characters)."""
        return keyfile.to_z85(self._workplace.pair.public)

    def role(self) -> Role:
        """Ask which role the server gives this key."""
        return Role.from_text(self._ask("hello")["your_role"])

    def check(self) -> Seats:
        """Ask whether seats are free, take none, and keep the server's parameters. Raises Refused, ClientError."""
        with self._asking:
            reply = self._ask("check", product=self.product)
            self._workplace.parameters.choose_servers(server.as_stored() for server in self._connected().addresses)
        return Seats(reply["total"], reply["used"], reply["free"])

    def acquire(self, target: Target) -> Deployment:
        """Acquire for one target. A target that has its license already costs nothing; a refusal is a result.

        Raises ClientError when no server answers, ValueError for a MAC address that is none.
        """
        try:
            reply = self._ask(
                "acquire",
                product=self.product,
                component=self.component,
                version=self.version,
                computer=target.as_computer(),
            )
        except Refused as refused:
            return Deployment(target, refused.code, None, refused.message)
        return Deployment(target, reply["result"], reply["lease"])

    def deploy(self, targets: Iterable[Target]) -> Iterator[Deployment]:
        """Acquire for each target, in their order, as the results are taken.

        A MAC address that is none is a result, too: "bad_request".
        """
        for target in targets:
            try:
                target.as_computer()
            except ValueError as error:
                yield Deployment(target, "bad_request", None, str(error))
            else:
                yield self.acquire(target)

    @property
    def server(self) -> Server:
        """Give the server that answered last; asks for one where none has yet. Raises ClientError when none answers."""
        with self._asking:
            if not self._connected().has_answer:
                self._ask("hello")
            return self._connected().server

    def _connected(self) -> Caller:
        if self._caller is None:
            workplace = self._workplace
            self._caller = Caller(workplace.find(), workplace.pair, workplace.explain)
        return self._caller

    def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        with self._asking:
            try:
                return self._connected().ask(operation, lambda server: fields)
            except Refused:
                raise
            except ClientError:
                self.close()  # the next request looks for servers anew
                raise
