"""Ledger and model driven by the same random requests, over each store; the books checked after every step.

A failure prints the steps that lead to it, shortened. A difference that was found stays as a line of a table.
"""

import random
import tempfile
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from als.catalog import Catalog, Component, Product
from als.ledger import Rules
from als.protocol import Role
from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import Store
from etcd_stores import open_etcd
from pair import ROOT, ROOT_ADDRESS, START, Pair, Post
from press import print_serial

DAY_S = 86_400
DAY_ZERO = 10_957  # 2000-01-01, in days since 1970
LENGTH_MAX_S = 300 * DAY_S  # the model never forgets, and the ledger does after 400 days
MAP_BYTES = 1 << 26
SERIALS_MAX = 8  # seats are to be scarce


def _product(code: str, number: int, period_s: int | None, heartbeat_s: int, reusable: bool) -> Product:
    parts = {"a": Component("a", "A"), "b": Component("b", "B"), "free": Component("free", "Free", licensed=False)}
    return Product(code, number, code, parts, period_s, heartbeat_s, reusable)


CATALOG = Catalog(
    [
        _product("HOUR", 901, 3_600, 600, reusable=True),
        _product("MONTH", 902, 30 * DAY_S, 3_600, reusable=True),
        _product("EVER", 903, None, 3_600, reusable=True),
        _product("ONCE", 904, None, 3_600, reusable=False),
    ]
)
KEYS = [random.Random(name).randbytes(32) for name in ("alice", "bob", "deployer")]
MACS = [bytes([2, 0, 0, 0, 0, number]) for number in range(7)]

codes = st.sampled_from(["HOUR", "HOUR", "MONTH", "ONCE", "EVER"])
components = st.sampled_from(["a", "a", "b", "free"])
computers = st.fixed_dictionaries(
    {
        "macs": st.lists(st.sampled_from(MACS), min_size=1, max_size=3),
        "host": st.sampled_from(["pc1", "pc2"]),
        "address": st.sampled_from(["", "10.0.0.1"]),
    },
    optional={
        "machine_id": st.sampled_from(["", "M1", "M2"]),
        "kind": st.sampled_from(["server", "workstation"]),
    },
)
runs = st.fixed_dictionaries(
    {"product": codes, "component": components, "computer": computers},
    optional={"version": st.sampled_from(["1", "2"])},
)
senders = st.sampled_from(KEYS)
addresses = st.sampled_from(["192.0.2.1", "192.0.2.1", "192.0.2.2", "127.0.0.1", "::1"])
acquisitions = st.builds(Post, st.just("acquire"), senders, addresses, runs)
agents_posts = st.one_of(
    acquisitions,
    st.builds(Post, st.just("renew"), senders, addresses, runs),
    st.builds(
        lambda sender, address, fields: Post("renew", sender, address, {**fields, "want_lease": True}),
        senders,
        addresses,
        runs,
    ),
    st.builds(Post, st.just("release"), senders, addresses, runs),
    st.builds(
        Post,
        st.just("check"),
        senders,
        addresses,
        st.fixed_dictionaries({"product": codes}, optional={"computer": computers}),
    ),
)
revocations = st.builds(
    lambda product, mac: Post("revoke", ROOT, ROOT_ADDRESS, {"product": product, "mac": mac}),
    codes,
    st.sampled_from(MACS),
)
turns = st.lists(st.one_of(agents_posts, agents_posts, agents_posts, revocations), min_size=1, max_size=4)
tries = st.sampled_from([1, 1, 1, 2, 3])
sweep_bounds = st.sampled_from([0, 0, 1, 2, 100])
lengths_s = st.sampled_from([1, 60, 599, 600, 1_200, 1_799, 3_599, 3_600, 7_200, DAY_S, 30 * DAY_S])


class LedgerAgainstModel(RuleBasedStateMachine):
    """The requests of a small world: seven addresses, four products, serials with few seats."""

    texts = Bundle("texts")
    regulars = Bundle("regulars")

    def __init__(self) -> None:
        super().__init__()
        self.printed: dict[str, str] = {}  # text -> short id
        self.pair = Pair(self.open_store, CATALOG)

    def open_store(self) -> Store:
        """Give the same store again at each restart."""
        raise NotImplementedError

    @initialize(
        target=texts,
        limit=st.sampled_from([0, 1, 2, 100]),
        agents=st.sampled_from(["open", "open", "open", "listed"]),
        days=st.lists(st.sampled_from([1, 0, 2]), min_size=4, max_size=4),
    )
    def begin(self, limit: int, agents: str, days: list[int]) -> MultipleResults[str]:
        """Choose the settings, and let there be seats."""
        self.pair.store.close()
        self.pair = Pair(self.open_store, CATALOG, Rules(agents, limit))
        self.pair.ask("admin_add", key=KEYS[0], name="alice", role=Role.AGENT.text)
        self.pair.ask("admin_add", key=KEYS[2], name="deployer", role=Role.DEPLOYER.text)
        for code, days_of_one in zip(CATALOG.by_code, days, strict=True):
            self.pair.ask("import", serials=[self._print(code, 1, days_of_one, 0, "")])
        return multiple(*self.printed)

    @initialize(target=regulars, posts=st.lists(acquisitions, min_size=3, max_size=3))
    def choose_regulars(self, posts: list[Post]) -> MultipleResults[Post]:
        """Some components run often, so that what takes several requests of one happens often."""
        return multiple(*posts)

    def _print(self, code: str, seats: int, days: int, trial_days: int, fault: str) -> str:
        last_day = self.pair.now // DAY_S - DAY_ZERO + days - 1 if days else 0
        text, slip = print_serial(
            CATALOG.by_code[code],
            len(self.printed) + 1,
            seats,
            last_day=last_day,
            trial_days=trial_days,
            fault=fault,
        )
        self.printed[text] = slip.id
        self.pair.slips[text] = slip
        return text

    @precondition(lambda self: len(self.printed) < SERIALS_MAX)
    @rule(
        target=texts,
        code=codes,
        seats=st.sampled_from([1, 1, 1, 2]),
        days=st.sampled_from([0, 0, 1, 2, 40]),
        trial_days=st.sampled_from([0, 0, 0, 1, 3]),
        fault=st.sampled_from(["", "", "", "", "", "forged", "wrong_server"]),
    )
    def print_one(self, code: str, seats: int, days: int, trial_days: int, fault: str) -> str:
        """A vendor sells a serial, which is imported at once."""
        text = self._print(code, seats, days, trial_days, fault)
        self.pair.ask("import", serials=[text])
        return text

    @rule(serials=st.lists(texts, min_size=1, max_size=3), tries=tries)
    def import_again(self, serials: list[str], tries: int) -> None:
        """Serials are imported again, some after they were removed."""
        self.pair.turn([Post("import", ROOT, ROOT_ADDRESS, {"serials": serials})], tries=tries)

    @rule(posts=turns, tries=tries, sweep_bound=sweep_bounds)
    def take_turn(self, posts: list[Post], tries: int, sweep_bound: int) -> None:
        """Several requests in one transaction."""
        self.pair.turn(posts, tries=tries, sweep_bound=sweep_bound)

    @rule(target=regulars, sender=senders, address=addresses, fields=runs)
    def begin_using(self, sender: bytes, address: str, fields: dict[str, Any]) -> Post:
        """A component that will run more often."""
        post = Post("acquire", sender, address, fields)
        self.pair.turn([post])
        return post

    @rule(
        post=regulars,
        operations=st.lists(
            st.sampled_from(["renew", "renew", "renew", "acquire", "check", "release"]), min_size=1, max_size=3
        ),
        sender=st.sampled_from([None, None, None, *KEYS]),
        seconds=st.sampled_from([0, 1, 599, 1_200, 3_599, 3_600, 7_200]),
    )
    def use_again(self, post: Post, operations: list[str], sender: bytes | None, seconds: int) -> None:
        """Such a component runs again, a little later."""
        self.pair.now += seconds
        again = post._replace(sender=sender or post.sender)
        self.pair.turn([again._replace(operation=operation) for operation in operations])

    @rule(post=agents_posts)
    def repeat(self, post: Post) -> None:
        """The same request again: the second takes no further seat, and lets none go."""
        self.pair.turn([post])
        held = {code: self.pair.model.pool(code, self.pair.now)["used"] for code in CATALOG.by_code}
        self.pair.turn([post])
        assert held == {code: self.pair.model.pool(code, self.pair.now)["used"] for code in CATALOG.by_code}

    @rule(text=texts, force=st.booleans(), posts=turns, tries=tries)
    def remove(self, text: str, force: bool, posts: list[Post], tries: int) -> None:
        """A serial is removed, and others ask in the same turn."""
        fields: dict[str, Any] = {"serial_id": self.printed[text], "force": force}
        removal = Post("remove", ROOT, ROOT_ADDRESS, fields)
        self.pair.turn([*posts[:1], removal, *posts[1:]], tries=tries)

    @rule(post=regulars, posts=turns)
    def remove_and_restore(self, post: Post, posts: list[Post]) -> None:
        """The serial of a component's lease is removed and imported again, and others ask in between."""
        lease = self.pair.model.lease_of(post.fields["product"], post.fields["computer"])
        texts = [text for text, serial_id in self.printed.items() if lease and lease["serial"] == serial_id]
        for text in texts:
            fields: dict[str, Any] = {"serial_id": self.printed[text], "force": True}
            self.pair.turn([Post("remove", ROOT, ROOT_ADDRESS, fields), *posts])
            self.pair.turn([Post("import", ROOT, ROOT_ADDRESS, {"serials": [text]})])
        self.pair.turn([post._replace(operation="renew")])

    @precondition(lambda self: len(self.printed) < 2 * SERIALS_MAX)
    @rule(post=regulars, days=st.sampled_from([0, 1, 3]), wanted=st.sampled_from(["renew", "acquire"]))
    def sell_another(self, post: Post, days: int, wanted: str) -> None:
        """A day goes by and serials end with it; the vendor sells another, and a component runs."""
        self.pair.now += DAY_S
        text = self._print(post.fields["product"], 1, days, 0, "")
        self.pair.turn([post._replace(operation="renew")])
        self.pair.turn([Post("import", ROOT, ROOT_ADDRESS, {"serials": [text]})])
        self.pair.turn([post._replace(operation=wanted)])

    @precondition(lambda self: self.pair.now - START < LENGTH_MAX_S)
    @rule(length_s=lengths_s)
    def tick(self, length_s: int) -> None:
        """Time passes."""
        self.pair.now += length_s

    @precondition(lambda self: self.pair.now - START < LENGTH_MAX_S)
    @rule(length_s=lengths_s)
    def outage(self, length_s: int) -> None:
        """Time passes in which the server does not run."""
        self.pair.outage(length_s)

    @rule()
    def restart(self) -> None:
        """The server starts anew on what is stored."""
        self.pair.restart()

    @rule(bound=st.integers(1, 4))
    def sweep_a_little(self, bound: int) -> None:
        """The sweep does a part of its work."""
        transaction = self.pair.store.begin()
        self.pair.ledger.sweep(transaction, self.pair.now, bound)
        self.pair.store.submit(transaction)

    @rule()
    def look_at_everything(self) -> None:
        """All listings, after a whole sweep."""
        self.pair.check_listings()

    @rule()
    def look_at_the_log(self) -> None:
        """All events, after a whole sweep."""
        self.pair.check_events()

    @invariant()
    def books_are_right(self) -> None:
        """No sum and no index of the store is wrong."""
        self.pair.check_books()

    def teardown(self) -> None:
        """Look at everything at the end, unless something was found before."""
        if self.pair.agrees:
            self.pair.check_listings()
            self.pair.check_events()
            self.pair.check_books()
        self.pair.store.close()


class OverMemory(LedgerAgainstModel):
    """The same over the store of tests."""

    def open_store(self) -> Store:
        """Memory outlives a restart here as a disk does."""
        if not hasattr(self, "memory"):
            self.memory = MemoryStore()
        return self.memory


class OverLmdb(LedgerAgainstModel):
    """The same over the store of a server."""

    def open_store(self) -> Store:
        """Open the folder."""
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
        return LmdbStore(self.folder.name, map_bytes=MAP_BYTES)

    def teardown(self) -> None:
        """Close the store, then delete the folder."""
        super().teardown()
        self.folder.cleanup()


class OverEtcd(LedgerAgainstModel):
    """The same over the store of several servers; it takes its etcd from the test below."""

    endpoint = ""
    numbers = count()

    def open_store(self) -> Store:
        """Open what stands under this run's prefix."""
        if not hasattr(self, "prefix"):
            self.prefix = b"model/%d/" % next(self.numbers)
        return open_etcd(self.endpoint, self.prefix)


TestOverMemory = OverMemory.TestCase
TestOverMemory.settings = settings(max_examples=100, stateful_step_count=40, suppress_health_check=list(HealthCheck))
TestOverLmdb = OverLmdb.TestCase
TestOverLmdb.settings = settings(max_examples=20, stateful_step_count=40, suppress_health_check=list(HealthCheck))


def test_over_etcd(etcd_endpoint: str) -> None:
    """Ledger and model agree over etcd too."""
    OverEtcd.endpoint = etcd_endpoint
    few = settings(max_examples=20, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(OverEtcd, settings=few)
