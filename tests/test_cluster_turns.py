"""The turns of servers over one etcd without their sockets: rivals, silence, clocks, and what is swept."""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from msgspec import structs

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als import catalog, protocol
from als.catalog import Catalog
from als.clock import Reading
from als.ledger import Ledger, Rules
from als.protocol import Role
from als.server.cluster import house, serving
from als.server.cluster.house import OUTAGE_S, SLACK_S, House
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
from als.store.transaction import Table, Transaction
from contract_client import DAY_S, day_number
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

    def __init__(self, endpoint: str, prefix: bytes) -> None:
        self.endpoint = endpoint
        self.prefix = prefix
        self.passed_s = 0.0
        self.servers: list[Server] = []

    def server(self, wrong_s: float = 0.0) -> "Server":
        """Start another server."""
        server = Server(self, len(self.servers), wrong_s)
        self.servers.append(server)
        server.begin()
        return server

    def pass_time(self, seconds: float, *running: "Server") -> None:
        """Let time pass, with a turn a second of the servers that run."""
        whole, rest = divmod(seconds, 1.0)
        for step in [1.0] * int(whole) + [rest] * bool(rest):
            self.passed_s += step
            for server in running:
                server.turn()


class Door:
    """The way of one server to etcd: `before_txn` runs before each transaction, `is_shut` lets nothing through."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self.is_shut = False
        self.knocks = 0
        self.before_txn: Callable[[], object] = lambda: None
        self.sent: list[bytes] = []

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
        return self._client.range(start, stop, limit=limit, descending=descending, revision=revision)

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Compare and apply."""
        self._knock()
        self.before_txn()
        self.sent.append(b"".join(success))
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
        self.ledger = Ledger(CATALOG, server_id="0" * 32, server_key=SERVER_KEY, vendors=VENDORS, server=self.number)

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

    def import_seats(self, seats: int) -> None:
        """Import a serial."""
        text, _ = print_serial(CATALOG.by_code["ATIES"], seats, seats)
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


@pytest.fixture
def world(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[World]:
    """A world without servers yet."""
    world = World(etcd_endpoint, etcd_prefix)
    yield world
    for server in world.servers:
        server.door.is_shut = False
        server.store.close()


def wish(number: int) -> dict[str, Any]:
    """The fields by which a computer asks for a license."""
    computer = {"macs": [number.to_bytes(6)], "host": f"pc{number}", "address": ""}
    return {"product": "ATIES", "component": "agent", "computer": computer}


# Rivals.


def test_the_last_seat_goes_to_the_faster(world: World) -> None:
    """A seat that a rival takes after this server looked, and before it wrote, is denied and not given twice."""
    one, other = world.server(), world.server()
    one.import_seats(2)
    one.ask("acquire", **wish(1))
    one.door.before_txn = lambda: other.turn(other.letter("acquire", **wish(2)))
    assert one.ask("acquire", **wish(3))["code"] == "no_free_license"
    assert (one.used, other.used) == (2, 2)
    assert len(one.events("denied")) == 1


def test_renewals_do_not_wait_for_rivals(world: World) -> None:
    """Of a turn that a rival meets, the renewals are written at once, and the rest is applied again."""
    one, other = world.server(), world.server()
    one.import_seats(10)
    one.ask("acquire", **wish(1))
    world.pass_time(5)
    seen: list[list[int]] = []

    def meet() -> None:
        """Take a seat before the first message, and look at the leases before each further one."""
        if not seen:
            other.ask("acquire", **wish(2))
        seen.append([row["renewed_at"] for row in other.ask("leases", ADMIN)["rows"]])

    one.turn()
    one.door.before_txn = meet
    renewed, granted = one.turn(one.letter("renew", **wish(1)), one.letter("acquire", number=2, **wish(3)))
    assert (renewed["result"], granted["result"]) == ("renewed", "granted")
    assert renewed["renew_by"] == WALL_S + 5 + PERIOD_S
    assert seen[-1] == [WALL_S + 5, WALL_S + 5]  # before the last message: the renewal is there, the third seat is not
    assert other.used == 3


def test_renewals_of_listed_agents_do_not_wait_either(world: World) -> None:
    """Where agents must be listed, their renewals stand alone as well; who is not listed is refused."""
    one, other = world.server(), world.server()
    one.ledger.rules = other.ledger.rules = Rules(agents="listed")
    one.import_seats(10)
    one.ask("acquire", ADMIN, **wish(1))
    world.pass_time(5)
    renewals: list[int] = []

    def meet() -> None:
        """Take a seat before the first message, and look at the first lease before each further one."""
        if not renewals:
            other.ask("acquire", ADMIN, **wish(2))
        renewals.append(other.ask("leases", ADMIN)["rows"][0]["renewed_at"])

    one.turn()
    one.door.before_txn = meet
    wishes = [("renew", ADMIN, 1), ("acquire", ADMIN, 3), ("renew", STRANGER, 1)]
    replies = one.turn(*(one.letter(operation, key, **wish(number)) for operation, key, number in wishes))
    assert [reply.get("result") for reply in replies] == ["renewed", "granted", None]
    assert replies[2]["code"] == "not_authorized"
    assert renewals[-1] == WALL_S + 5
    assert other.used == 3


def test_a_rival_that_never_rests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written for rivals within the bound is refused as unavailable, and nothing of it is kept."""
    monkeypatch.setattr(serving, "RIVALRY_S", 0.05)
    one, other = world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    hosts = (f"pc-{number}" for number in count())

    def meet() -> None:
        """Have the same computer come to the other server with another name."""
        asked = wish(1)
        asked["computer"]["host"] = next(hosts)
        assert other.ask("renew", **asked)["result"] == "renewed"

    one.door.before_txn = meet
    refused = one.ask("acquire", **wish(1) | {"component": "local-console"})
    assert (refused["code"], refused["detail"]) == ("unavailable", {"retry_after_s": 1})
    one.door.before_txn = lambda: None
    assert one.events("component_added") == []
    assert one.ask("acquire", **wish(1) | {"component": "local-console"})["result"] == "already_held"
    assert len(other.events("component_added")) == 1


def test_servers_at_once(world: World) -> None:
    """Two servers in threads of their own that share out too few seats give exactly those."""
    servers = [world.server(), world.server()]
    servers[0].import_seats(25)
    replies: list[dict[str, Any]] = []

    def work(server: Server) -> None:
        replies.extend(server.ask("acquire", **wish(1 + server.number + 2 * number)) for number in range(20))

    threads = [threading.Thread(target=work, args=[server]) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 40
    assert sum(reply["ok"] for reply in replies) == 25
    assert [server.used for server in servers] == [25, 25]


# Silence.


def test_a_store_that_is_silent(world: World) -> None:
    """Without an answer everything is refused, at first after trying, then at once; it goes on when etcd is back."""
    server = world.server()
    server.import_seats(1)
    server.ask("status", ADMIN)
    server.door.is_shut, server.is_back = True, False
    refused = server.ask("acquire", **wish(1))
    assert (refused["code"], refused["detail"]) == ("unavailable", {"retry_after_s": 1})
    knocks = server.door.knocks
    world.pass_time(3, server)
    assert server.ask("acquire", **wish(1))["code"] == "unavailable"
    assert server.ask("status", ADMIN)["server"]["cluster"]["state"] == "unavailable"
    assert server.door.knocks == knocks
    server.door.is_shut, server.is_back = False, True
    world.pass_time(1)
    assert server.ask("acquire", **wish(1))["result"] == "granted"
    assert server.ask("status", ADMIN)["server"]["cluster"]["state"] == "ok"


def test_garbage_is_refused_without_the_store(world: World) -> None:
    """What is no request gets its own refusal, also when etcd is away."""
    server = world.server()
    server.door.is_shut, server.is_back = True, False
    bad = structs.replace(server.letter("hello"), body=b"\xc1")
    assert [reply["code"] for reply in server.turn(bad, server.letter("hello"))] == ["bad_request", "unavailable"]


# Time.


def test_times_are_in_order(world: World) -> None:
    """No server's time is behind another's tick, and events of both are in the order in which they happened."""
    one, other = world.server(), world.server(wrong_s=-1.0)
    one.import_seats(20)
    for number in range(1, 9):
        world.pass_time(1.5)
        turn_of = one if number % 2 else other
        before = one.core.guard.now
        assert turn_of.ask("acquire", **wish(number))["time"] >= before - 1
    seen = [int(event["mac"][-1]) for event in one.events("granted")]
    assert seen == list(range(1, 9))


def test_an_outage_of_all_is_written_once(world: World) -> None:
    """When no server was there for long, the first one back writes the outage, before anything can lapse by it."""
    one, other = world.server(), world.server()
    one.import_seats(2)
    one.ask("acquire", **wish(1))
    world.pass_time(PERIOD_S + 10)
    assert one.ask("renew", **wish(1))["result"] == "renewed"
    other.turn()
    (outage,) = one.events("outage")
    assert outage["detail"]["to"] - outage["detail"]["from"] >= PERIOD_S
    assert other.ask("status", ADMIN)["server"]["outages"] == [outage["detail"]]


def test_one_server_away_is_no_outage(world: World) -> None:
    """While one server is there, another's absence extends no lease."""
    one, other = world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    world.pass_time(PERIOD_S + 20, one)
    assert other.ask("acquire", **wish(2))["result"] == "granted"
    assert other.events("outage") == []
    assert OUTAGE_S < PERIOD_S


def test_the_sweep_leaves_slack(world: World) -> None:
    """A lapsed lease is swept when clocks cannot differ about it, by one server; whoever asks decides by the time."""
    one, other = world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    world.pass_time(PERIOD_S + 1, one, other)
    assert one.events("lapsed") == []
    world.pass_time(SLACK_S + 3, one, other)
    assert len(one.events("lapsed")) == 1
    assert one.used == 0


def test_a_wrong_clock_sweeps_nothing(world: World) -> None:
    """A server whose clock differs from most others' leaves the sweep to them."""
    one, other, wrong = world.server(), world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    world.pass_time(4, one, other, wrong)
    wrong.wrong_s = 3.0
    world.pass_time(PERIOD_S - 4, one, other, wrong)
    world.pass_time(SLACK_S + 3, wrong)  # less than after which the others are silent
    assert wrong.events("lapsed") == []
    troubles = wrong.ask("status", ADMIN)["server"]["cluster"]["troubles"]
    assert any("sweeps nothing" in trouble for trouble in troubles)
    world.pass_time(3, one, other, wrong)
    assert len(one.events("lapsed")) == 1


def test_serials_revive_by_as_many_as_a_message_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was wrong by days, and accepted, ends serials; set right and accepted it revives them, in pages."""
    monkeypatch.setattr(house, "REVIVED_MAX", 10)
    server = world.server()
    last_day = day_number(WALL_S) + 5
    for number in range(1, 36):
        text, _ = print_serial(CATALOG.by_code["ATIES"], number, 1, last_day=last_day)
        assert server.ask("import", ADMIN, serials=[text])["added"] == 1
    for wrong_s, total in ((10.0 * DAY_S, 0), (0.0, 35)):
        server.wrong_s = wrong_s
        server.turn()
        server.core.accept_clock()
        server.door.sent.clear()
        server.turn()
        sent = list(server.door.sent)
        assert server.ask("check", product="ATIES")["total"] == total
    ends = server.store.view.keys.name(Table.ENDS, b"")
    assert [message.count(ends) for message in sent if ends in message] == [10, 10, 10, 5]


def test_a_server_that_stops_at_once_revives_as_well(world: World) -> None:
    """A clock that is set right just before the server ends has revived what a wrong one had ended."""
    server = world.server()
    text, _ = print_serial(CATALOG.by_code["ATIES"], 1, 1, last_day=day_number(WALL_S) + 5)
    assert server.ask("import", ADMIN, serials=[text])["added"] == 1
    for wrong_s in (10.0 * DAY_S, 0.0):
        server.wrong_s = wrong_s
        server.turn()
        server.core.accept_clock()
        if wrong_s:
            assert server.ask("check", product="ATIES")["total"] == 0
    server.core.stop(server.read())
    assert world.server().ask("check", product="ATIES")["total"] == 1
