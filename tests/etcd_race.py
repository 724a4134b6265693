"""Two servers with one ledger each over one etcd, whose transactions lie across each other as a test wants it.

Every reply that a server could send must be the model's answer when all requests come in the order in which they were
written. Import it where there is an etcd.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from als import protocol
from als.catalog import Catalog, Component, Product
from als.ledger import Ledger, Rules, Sender, sweep
from als.ledger.journal import LAST_EVENT
from als.ledger.quick import usual
from als.protocol import Refusal
from als.store.etcd.client import EtcdClient
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import StoreUnavailableError
from comparison import Reply, differences
from etcd_stores import open_over
from pair import ROOT, ROOT_ADDRESS, Pair, Post
from press import SERVER_KEY, VENDORS, print_serial
from unsure_client import Fault, UnsureClient

HOUR_S = 3_600
PARTS = {"a": Component("a", "A"), "b": Component("b", "B")}
CATALOG = Catalog(
    [
        Product("HOUR", 901, "HOUR", PARTS, HOUR_S, 600, True),
        Product("ONCE", 904, "ONCE", PARTS, None, HOUR_S, False),
    ]
)
SEATS = 2
KEYS = [b"a" * 32, b"b" * 32]
PREFIXES = (b"race/%d/" % number for number in count())
TRIES_MAX = 30


class Server:
    """One server of the cluster: requests wait in `inbox`; `open` begins a transaction with them, `submit` ends it.

    One that knows its own events (`own_log`) does not look for the newest of all, as real servers do not.
    """

    def __init__(
        self, number: int, client: EtcdClient, prefix: bytes, pair: Pair, rules: Rules, own_log: bool = False
    ) -> None:
        self._last_event = 0 if own_log else None
        self.faults: list[Fault] = []
        self.client = UnsureClient(client, self._next_faults())
        self.store = open_over(self.client, prefix, number)
        self.inbox: list[Post] = []
        self._pair = pair
        self._ledger = Ledger(
            CATALOG, server_id="race", server_key=SERVER_KEY, vendors=VENDORS, settings=rules, server=number
        )
        self.tx: EtcdTransaction | None = None
        self._replies: dict[int, Reply | Refusal] = {}

    def _next_faults(self) -> Iterator[Fault]:
        while True:
            yield self.faults.pop(0) if self.faults else Fault.NONE

    def open(self, sweep_bound: int) -> None:
        """Apply what waits, each request as a unit, and sweep a little."""
        tx = self.store.begin()
        if self._last_event is not None:
            tx.memo[LAST_EVENT] = self._last_event
        self._replies = {}
        try:
            sweep.removals(tx)
            for place, post in enumerate(self.inbox):
                if tx.is_full:
                    break
                tx.begin_unit(place)
                self._replies[place], alone = self._apply(tx, post)
                tx.end_unit(alone)
            if sweep_bound:
                self._ledger.sweep(tx, self._pair.now, sweep_bound)
        except (AssertionError, LookupError, ValueError):
            assert self.store.is_outdated(tx), "the ledger stumbled over sights that are right"
            return
        self.tx = tx

    def _apply(self, tx: EtcdTransaction, post: Post) -> tuple[Reply | Refusal, bool]:
        request = _decoded(post)
        renewal = usual.of(request) if post.operation == "renew" else None
        if renewal is not None:
            answer = self._ledger.renew_quickly(tx, renewal, post.sender, self._pair.now)
            if answer is not None:
                return answer, True
        return self._ledger.apply(tx, request, Sender(post.sender, post.address), self._pair.now), False

    def submit(self, faults: list[Fault]) -> None:
        """Submit; hold the replies of what was written against the model, and keep the rest waiting."""
        if self.tx is None:
            return
        tx, self.tx = self.tx, None
        self.faults = list(faults)
        try:
            rejected = self.store.submit(tx).rejected
        except StoreUnavailableError:
            assert Fault.REFUSED in faults, "all else is found out"
            return
        finally:
            self.faults = []
            self.client.catch_up()
            if self._last_event is not None:
                self._last_event = tx.memo[LAST_EVENT]
        waiting = []
        for place, post in enumerate(self.inbox):
            if place in rejected or place not in self._replies:
                waiting.append(post)
                continue
            answer = self._pair.model.apply(_decoded(post), post.sender, post.address, self._pair.now)
            found = differences(post.operation, self._replies[place], answer)
            assert not found, (post, self._replies[place], answer, found)
        self.inbox = waiting


def _decoded(post: Post) -> dict[str, Any]:
    return protocol.decode(protocol.encode_request(1, post.operation, post.fields))


class Turn(NamedTuple):
    """What one server does in a round; one that does not submit keeps its transaction open."""

    posts: list[Post]
    submits: bool
    sweep_bound: int
    faults: list[Fault]


class Round(NamedTuple):
    """Both servers begin, `first` before the other, and then submit; time passes before, unless one is still open."""

    turns: tuple[Turn, Turn]
    first: int
    first_to_submit: int
    seconds: int


class Race:
    """Two servers beside the pair of ledger and model that has set the cluster up."""

    def __init__(self, client: EtcdClient, rules: Rules, seats: int = SEATS, own_log: bool = False) -> None:
        self._own_log = own_log
        prefix = next(PREFIXES)
        self.pair = Pair(lambda: open_over(UnsureClient(client, iter(())), prefix, 0), CATALOG, rules)
        for number, code in enumerate(["HOUR", "ONCE", "HOUR"], 1):
            text, slip = print_serial(CATALOG.by_code[code], number, seats)
            self.pair.slips[text] = slip
            self.pair.ask("import", ROOT, ROOT_ADDRESS, serials=[text])
        self.servers = [Server(number, client, prefix, self.pair, rules, own_log) for number in (1, 2)]

    def take(self, step: Round) -> None:
        """Do one round."""
        if not any(server.tx for server in self.servers):
            self.pair.now += step.seconds
        for place in (step.first, 1 - step.first):
            server, turn = self.servers[place], step.turns[place]
            if server.tx is None:
                server.inbox += turn.posts
                server.open(turn.sweep_bound)
        for place in (step.first_to_submit, 1 - step.first_to_submit):
            if step.turns[place].submits:
                self.servers[place].submit(step.turns[place].faults)

    def finish(self) -> None:
        """Serve all that waits, and compare everything, as a server sees it that starts now."""
        for server in self.servers:
            server.submit([])
        for tried in range(TRIES_MAX):
            if not any(server.inbox for server in self.servers):
                break
            for server in self.servers[:: 1 if tried % 2 else -1]:
                server.open(0)
                server.submit([])
        assert not any(server.inbox for server in self.servers), "requests that nobody disturbs are written"
        self.pair.restart()
        self.pair.check_listings()
        if not self._own_log:  # else their order is by the servers' clocks
            self.pair.check_events()
        self.pair.check_books()


def acquire(number: int) -> Post:
    """A new computer that wants a seat."""
    computer = {"macs": [number.to_bytes(6, "big")], "host": "pc", "address": ""}
    return Post("acquire", KEYS[0], f"10.0.0.{number}", {"product": "HOUR", "component": "a", "computer": computer})
