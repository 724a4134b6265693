"""Two servers with one ledger each over one etcd, their transactions interleaved at will, answers lost now and then.

Every reply that a server could send must be the model's answer when all requests come in the order in which they were
written; and in the end the listings, the log and the books are those of the model.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als import protocol, renewal
from als.catalog import Catalog, Component, Product
from als.ledger import Ledger, Rules, Sender, sweep
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
    """One server of the cluster: requests wait in `inbox`; `open` begins a transaction with them, `submit` ends it."""

    def __init__(self, number: int, client: EtcdClient, prefix: bytes, pair: Pair, rules: Rules) -> None:
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
        usual = renewal.of(request) if post.operation == "renew" else None
        if usual is not None:
            answer = self._ledger.renew_quickly(tx, usual, post.sender, self._pair.now)
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


computers = st.builds(
    lambda number, host: {"macs": [bytes([2, 0, 0, 0, 0, number])], "host": host, "address": ""},
    st.integers(1, 5),
    st.sampled_from(["pc", "pc", "other"]),
)
runs = st.fixed_dictionaries(
    {"product": st.sampled_from(["HOUR", "HOUR", "ONCE"]), "component": st.sampled_from("ab"), "computer": computers}
)
posts = st.builds(
    Post,
    st.sampled_from(["acquire", "acquire", "renew", "renew", "renew", "release"]),
    st.sampled_from(KEYS),
    st.just("192.0.2.1"),
    runs,
)
turns = st.builds(
    Turn,
    st.lists(posts, min_size=1, max_size=4),
    st.sampled_from([True, True, False]),
    st.sampled_from([0, 0, 1, 5]),
    st.lists(st.sampled_from([Fault.NONE, Fault.NONE, *Fault]), max_size=2),
)
rounds = st.builds(
    Round,
    st.tuples(turns, turns),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([0, 0, 0, 1, 600, HOUR_S]),
)


class Race:
    """Two servers beside the pair of ledger and model that has set the cluster up."""

    def __init__(self, client: EtcdClient, rules: Rules) -> None:
        prefix = next(PREFIXES)
        self.pair = Pair(lambda: open_over(UnsureClient(client, iter(())), prefix, 0), CATALOG, rules)
        for number, code in enumerate(["HOUR", "ONCE", "HOUR"], 1):
            text, slip = print_serial(CATALOG.by_code[code], number, SEATS)
            self.pair.slips[text] = slip
            self.pair.ask("import", ROOT, ROOT_ADDRESS, serials=[text])
        self.servers = [Server(number, client, prefix, self.pair, rules) for number in (1, 2)]

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
        self.pair.check_events()
        self.pair.check_books()


@pytest.fixture(scope="module")
def client(etcd_endpoint: str) -> Iterator[EtcdClient]:
    """The way to etcd that all servers take."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=st.lists(rounds, min_size=2, max_size=8), limit=st.sampled_from([0, 2]))
def test_every_reply_is_right_in_the_order_of_writing(client: EtcdClient, program: list[Round], limit: int) -> None:
    """No seat is given twice, no acknowledged change is lost, whatever two servers do at once."""
    race = Race(client, Rules(new_seats_per_address_h=limit))
    for step in program:
        race.take(step)
    race.finish()


def acquire(number: int) -> Post:
    """A new computer that wants a seat."""
    computer = {"macs": [number.to_bytes(6, "big")], "host": "pc", "address": ""}
    return Post("acquire", KEYS[0], f"10.0.0.{number}", {"product": "HOUR", "component": "a", "computer": computer})


@pytest.mark.parametrize("first", [0, 1])
def test_the_last_seats_go_to_who_is_written_first(client: EtcdClient, first: int) -> None:
    """Two servers that have both seen the last four seats free grant four in all; the later one's are applied again."""
    race = Race(client, Rules())
    for place, server in enumerate(race.servers):
        server.inbox = [acquire(10 * place + number) for number in range(1, 4)]
        server.open(0)
    winner, loser = race.servers[first], race.servers[1 - first]
    winner.submit([])
    loser.submit([])
    assert not winner.inbox and len(loser.inbox) == 3
    race.finish()
    assert race.pair.model.pool("HOUR", race.pair.now)["used"] == 2 * SEATS
