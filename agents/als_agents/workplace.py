"""All that a program on this computer needs to reach its license servers: keys, files, the finder, the computer.

It joins the parts for the SDK, the commands and the deployment server, and sends single requests with failover.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from als import clock, folders, keyfile
from als_agents import identity
from als_agents.client import Client
from als_agents.discovery import Address
from als_agents.errors import ClientError, NoAnswer, Refused
from als_agents.key_pairs import own_pair
from als_agents.known_servers import FILE_NAME as KNOWN_SERVERS_NAME
from als_agents.known_servers import KnownServers
from als_agents.parameters import FILE_NAME as PARAMETERS_NAME
from als_agents.parameters import ParametersFile
from als_agents.patience import SHUN_S, patience_s
from als_agents.servers import Finder, Server

Computer = Mapping[str, Any]


class Workplace:
    """What a program works with. `server` is a server argument (commas between several), None to find one.

    `computer` replaces this computer: a deployment's target, or a simulated one. Raises KeyPairUnusable,
    FolderUnusable and BadServerArgument.
    """

    def __init__(
        self,
        *,
        server: str | None = None,
        server_key: bytes | None = None,
        folder: Path | None = None,
        pair: keyfile.KeyPair | None = None,
        computer: Computer | None = None,
    ) -> None:
        self.folder = folder if folder is not None else folders.client_dir()
        self.pair = pair if pair is not None else own_pair(self.folder)
        self.parameters = ParametersFile(self.folder / PARAMETERS_NAME)
        known = KnownServers(self.folder / KNOWN_SERVERS_NAME)
        self.finder = Finder(known=known, parameters=self.parameters)
        self.server = server
        self.server_key = server_key
        self._computer = computer
        self._computers: dict[str, Computer] = {}  # by server host: looking at all adapters takes milliseconds
        self._silent: set[tuple[bytes, Address]] = set()  # what was found before: nobody searches twice but in silence

    def computer(self, server_host: str | None = None) -> Computer:
        """Give the computer as a request to this server names it. Raises BadIdentity."""
        if self._computer is not None:
            return self._computer
        key = server_host or ""
        if key not in self._computers:
            self._computers[key] = identity.computer(server_host)
        return self._computers[key]

    def find(self) -> list[Server]:
        """Find the servers to use, the preferred first; again, when those that were found fell silent.

        Then they are searched for by their keys too, at whatever address they are now, unless the key was given:
        who gives it wants no search. Raises ClientError.
        """
        self._computers.clear()  # an adapter may have come or gone
        servers = self.finder.find_all(self.server, server_key=self.server_key)
        places = {(server.key, server.place) for server in servers}
        silent, self._silent = self._silent, places
        if silent == places and self.server_key is None:
            return [*servers, *self.finder.find_elsewhere(servers)]
        return servers

    def explain(self, server: Server) -> ClientError:
        """Say what is behind the silence of a server."""
        return self.finder.explain_silence(server)

    def ask(self, operation: str, **fields: Any) -> tuple[dict[str, Any], Server]:
        """Send one request to the first server that answers; give its reply and who it was.

        Raises Refused for a server's no, and ServerNotFound, KeyChanged or another ClientError when none answers.
        """
        with Caller(self.find(), self.pair, self.explain) as caller:
            reply = caller.ask(operation, lambda server: fields)
            return reply, caller.server

    def ask_for_computer(
        self, operation: str, *, within_s: float = math.inf, **fields: Any
    ) -> tuple[dict[str, Any], Server]:
        """Send one request that names the computer; otherwise as `ask`.

        `within_s` is how long all servers together may take, once they are found; then it raises NoAnswer.
        """
        with Caller(self.find(), self.pair, self.explain) as caller:
            give_up_at = clock.monotonic_s() + within_s
            reply = caller.ask(operation, lambda server: {**fields, "computer": self.computer(server.host)}, give_up_at)
            return reply, caller.server


class Caller:
    """Blocking requests to several servers: to the preferred one, to the next when it is silent, later back again.

    `server` is the one that answered last, the preferred one as long as `has_answer` is false.
    """

    def __init__(
        self, servers: Sequence[Server], pair: keyfile.KeyPair, explain: Callable[[Server], ClientError]
    ) -> None:
        assert servers, "a search gives at least one server, or raises"
        self.server = servers[0]
        self.has_answer = False
        self._servers = list(servers)
        self._clients = {
            server: Client(server.host, server.port, server.key, pair, reconnects=False) for server in servers
        }
        self._answered: set[Server] = set()
        self._shunned_until: dict[Server, float] = {}
        self._explain = explain

    @property
    def addresses(self) -> list[Server]:
        """Give every address that is known of the server that answered last."""
        return [server for server in self._servers if server.key == self.server.key]

    def __enter__(self) -> "Caller":
        """Give the caller itself; leaving closes its connections."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.close()

    def ask(
        self, operation: str, fields: Callable[[Server], Mapping[str, Any]], give_up_at: float = math.inf
    ) -> dict[str, Any]:
        """Send a request, with the fields that `fields` makes for a server, until one answers.

        Raises Refused, its code `unavailable` only when every server that answered said so; KeyChanged and
        ServerNotFound when none answered; NoAnswer when none has by `give_up_at`, in monotonic seconds.
        """
        now = clock.monotonic_s()
        left = sorted(self._servers, key=lambda server: self._shunned_until.get(server, now) > now)
        busy: Refused | None = None
        for server, following in zip_longest(left, left[1:]):
            left_s = give_up_at - clock.monotonic_s()
            if left_s <= 0:
                break
            try:
                reply = self._request(server, operation, min(patience_s(server, following), left_s), fields(server))
            except NoAnswer:
                self._shunned_until[server] = clock.monotonic_s() + SHUN_S
                continue
            except Refused as refused:
                if refused.code != "unavailable":
                    self.server, self.has_answer = server, True
                    raise
                busy = refused
                continue
            self.server, self.has_answer = server, True
            return reply
        if busy is None and clock.monotonic_s() >= give_up_at:
            raise NoAnswer(f"{left[0]} did not answer in time; check that it runs there, and try again")
        raise busy if busy is not None else self._explain(left[0])

    def _request(self, server: Server, operation: str, timeout_s: float, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request; once more, over a new connection, where the one that worked before has ended meanwhile."""
        give_up_at = clock.monotonic_s() + timeout_s
        try:
            reply = self._clients[server].request(operation, timeout_s=timeout_s, **fields)
        except NoAnswer:
            if server not in self._answered or clock.monotonic_s() >= give_up_at:
                raise
            self._answered.discard(server)
            return self._request(server, operation, timeout_s, fields)
        self._answered.add(server)
        return reply
