"""Servers over one etcd without their sockets, for tests: a turn is a call, and the time is the test's.

Import this after `etcd_nodes`, and skip when its `MISSING` says why.
"""

from collections.abc import Callable, Sequence
from typing import Any

from als import catalog, protocol
from als.catalog import Catalog
from als.clock import Reading
from als.ledger import Ledger
from als.protocol import Role
from als.server.cluster.house import House
from als.server.cluster.peers import Card, Peers
from als.server.cluster.report import Report
from als.server.cluster.turns import SharedCore
from als.server.cluster.writing import Writing
from als.server.letters import Letter
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.ops import Compare, Op, RangeResult, TxnResult
from als.store.etcd.store import EtcdStore
from als.store.etcd.upkeep import Upkeep
from als.store.transaction import Transaction
from etcd_stores import open_over
from press import SERVER_KEY, VENDORS, print_serial

WALL_S = 1_790_000_000
ADMIN = b"admin".ljust(32, b".")
STRANGER = b"stranger".ljust(32, b".")
PERIOD_S = 100
PRODUCT = catalog.builtin().by_code["ATIES"]
CATALOG = Catalog(
    [catalog.Product(PRODUCT.code, PRODUCT.number, PRODUCT.name, PRODUCT.components, PERIOD_S, 10, reusable=True)]
)


class World:
    """The time of a test, in which each server's clock may be wrong, and an etcd whose calls can be looked into."""

    def __init__(self, endpoint: str, prefix: bytes, sold: Catalog = CATALOG) -> None:
        self.endpoint = endpoint
        self.prefix = prefix
        self.sold = sold
        self.passed_s = 0.0
        self.servers: list[Server] = []

    def server(self, wrong_s: float = 0.0) -> "Server":
        """Start another server."""
        server = Server(self, len(self.servers), wrong_s)
        self.servers.append(server)
        server.begin()
        return server

    def close(self) -> None:
        """Let go of etcd."""
        for server in self.servers:
            server.door.is_shut = False
            server.store.close()

    def pass_time(self, seconds: float, *running: "Server") -> None:
        """Let time pass, with a turn a second of the servers that run."""
        whole, rest = divmod(seconds, 1.0)
        for step in [1.0] * int(whole) + [rest] * bool(rest):
            self.passed_s += step
            for server in running:
                server.turn()


class Door:
    """The way of one server to etcd: `is_shut` lets nothing through.

    `before_txn` runs before each transaction, `before_look` before each read as of an earlier revision.
    """

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self.is_shut = False
        self.knocks = 0
        self.before_txn: Callable[[], object] = lambda: None
        self.before_look: Callable[[], object] = lambda: None
        self.sent: list[bytes] = []
        self.largest_bytes = 0  # of a message

    def range(
        self,
        start: bytes,
        stop: bytes | None = None,
        *,
        limit: int = 0,
        descending: bool = False,
        revision: int = 0,
    ) -> RangeResult:
        """Read."""
        self._knock()
        if revision:
            self.before_look()
        return self._client.range(start, stop, limit=limit, descending=descending, revision=revision)

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Compare and apply."""
        self._knock()
        self.before_txn()
        self.sent.append(b"".join(success))
        size = sum(len(item) for part in (compares, success, failure) for item in part)
        self.largest_bytes = max(self.largest_bytes, size)
        return self._client.txn(compares, success, failure)

    def _knock(self) -> None:
        self.knocks += 1
        if self.is_shut:
            raise EtcdUnavailableError("nobody opens", maybe_applied=False)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


class Server:
    """One server without sockets, whose clock is `wrong_s` ahead."""

    def __init__(self, world: World, number: int, wrong_s: float) -> None:
        self.number = number
        self.wrong_s = wrong_s
        self.is_back = True
        self._world = world
        self.door = Door(EtcdClient([world.endpoint]))
        self.store: EtcdStore = open_over(self.door, world.prefix, number)
        self.core: SharedCore

    def read(self) -> Reading:
        """Look at this server's clocks."""
        passed_s = self._world.passed_s
        return Reading(WALL_S + passed_s + self.wrong_s, 1_000.0 + passed_s)

    def begin(self) -> None:
        """Put the server together, and let the administrator in."""
        writing = Writing(self.store, lambda: 0.5)
        sold = self._world.sold
        self.ledger = Ledger(sold, server_id="0" * 32, server_key=SERVER_KEY, vendors=VENDORS, server=self.number)

        def let_in(tx: Transaction) -> None:
            self.ledger.add_admin(tx, ADMIN, "admin", Role.ADMIN, WALL_S)

        assert writing.run(let_in)
        card = Card("pc", f"pc:{self.number}", "1.0", "", 0, 0, 0.0)
        peers = Peers(self.number)
        house = House(writing, self.ledger, peers, card, self, lambda: 0.5, lambda: self.is_back)
        report = Report(house, Upkeep(EtcdClient([self._world.endpoint]), self.store.fence.name))
        house.look()
        self.core = SharedCore(writing, self.ledger, house, report, lambda: None)

    def turn(self, *letters: Letter) -> list[dict[str, Any]]:
        """Have a turn; give the replies."""
        return [protocol.decode_reply(reply) for reply in self.core.turn(letters, self.read())]

    def letter(self, operation: str, sender: bytes = STRANGER, number: int = 1, **fields: Any) -> Letter:
        """A request that comes now."""
        body = protocol.encode_request(number, operation, fields)
        return Letter((), body, sender, {b"Peer-Address": "127.0.0.1"}, self.read().monotonic_s)

    def ask(self, operation: str, sender: bytes = STRANGER, **fields: Any) -> dict[str, Any]:
        """Make one request in a turn of its own; give the reply."""
        (reply,) = self.turn(self.letter(operation, sender, **fields))
        return reply

    def fill(self, numbers: range) -> None:
        """Have computers of these numbers acquire, in turns of many."""
        for first in range(0, len(numbers), 100):
            letters = [self.letter("acquire", **wish(number)) for number in numbers[first : first + 100]]
            assert {reply.get("result") for reply in self.turn(*letters)} == {"granted"}

    def import_seats(self, seats: int) -> None:
        """Import a serial."""
        text, _ = print_serial(self._world.sold.by_code["ATIES"], seats, seats)
        assert self.ask("import", ADMIN, serials=[text])["added"] == 1

    @property
    def now(self) -> int:
        """The time of a reply."""
        return int(self.ask("hello")["time"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Give the events of a kind."""
        rows = self.ask("events", ADMIN, kind=kind)["rows"]
        return list(rows)

    @property
    def used(self) -> int:
        """The seats in use, as status counts them."""
        (pool,) = self.ask("status", ADMIN)["pools"]
        return int(pool["used"])


def wish(number: int) -> dict[str, Any]:
    """The fields by which a computer asks for a license."""
    computer = {"macs": [number.to_bytes(6)], "host": f"pc{number}", "address": ""}
    return {"product": "ATIES", "component": "agent", "computer": computer}
