"""Ledger and model side by side: every request goes to both, and their answers are held against each other.

Knows how a request is brought to a ledger (one transaction each, committed) and which parts of an answer
the rules fix. Texts for people are not compared.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from als import protocol
from als.catalog import Catalog
from als.ledger import Ledger, Rules, Sender
from als.protocol import Refusal, Role
from als.store.transaction import Store
from comparison import AUDITOR, Comparison, Reply, differences
from model import Model
from press import SERVER_KEY, VENDORS, Slip

START = 20_834 * 86_400  # a midnight in 2027: days and hours begin with the test
ROOT = b"R" * 32
ROOT_ADDRESS = "127.0.0.1"
MODELED = frozenset({"acquire", "renew", "release", "check", "import", "remove", "revoke"})


class Post(NamedTuple):
    """A request on its way: who sends it, from where."""

    operation: str
    sender: bytes
    address: str
    fields: dict[str, Any]


def _make_ledger(catalog: Catalog, rules: Rules) -> Ledger:
    return Ledger(catalog, server_id="test-server", server_key=SERVER_KEY, vendors=VENDORS, settings=rules)


class Pair(Comparison):
    """A ledger on a store, and the model of what it should say; each restart calls `open_store` again."""

    def __init__(self, open_store: Callable[[], Store], catalog: Catalog, rules: Rules | None = None) -> None:
        self.rules = rules if rules is not None else Rules()
        self.modeled = MODELED
        self.slips: dict[str, Slip] = {}
        self._open_store = open_store
        listed = self.rules.agents == "listed"
        model = Model(catalog, self.slips, self.rules.new_seats_per_address_h, listed)
        super().__init__(_make_ledger(catalog, self.rules), open_store(), model, catalog, START)
        transaction = self.store.begin()
        self.ledger.add_admin(transaction, ROOT, "root", Role.ADMIN, self.now)
        self.ledger.add_admin(transaction, AUDITOR, "auditor", Role.VIEWER, self.now)
        self.store.submit(transaction)
        self.model.roles.update({ROOT: Role.ADMIN, AUDITOR: Role.VIEWER})

    def restart(self) -> None:
        """Stop the server and start it on the same store, in no time."""
        self.store.close()
        self.store = self._open_store()
        self.ledger = _make_ledger(self.catalog, self.rules)

    def change_catalog(self, catalog: Catalog) -> None:
        """Let the server read another catalog, as it does before an import."""
        self.catalog = self.ledger.catalog = catalog
        self.model.products = catalog.by_code

    def outage(self, length_s: int) -> None:
        """Let time pass in which the server does not run."""
        start, self.now = self.now, self.now + length_s
        self.restart()
        transaction = self.store.begin()
        self.ledger.add_outage(transaction, start, self.now)
        self.store.submit(transaction)
        self.model.lapse(start)
        self.model.outages.append((start, self.now))

    def ask(self, operation: str, sender: bytes = ROOT, address: str = ROOT_ADDRESS, **fields: Any) -> Reply | Refusal:
        """Send one request to both and compare their answers."""
        return self.turn([Post(operation, sender, address, fields)])[0]

    def turn(self, posts: list[Post], *, tries: int = 1, sweep_bound: int = 0) -> list[Reply | Refusal]:
        """Apply several requests, then a bounded sweep, in one transaction, as the server's loop does.

        All tries but the last are thrown away before their commit, and must leave nothing behind.
        """
        requests = [protocol.decode(protocol.encode_request(1, post.operation, post.fields)) for post in posts]
        earlier: list[Reply | Refusal] | None = None
        for attempt in range(tries):
            transaction = self.store.begin()
            replies = [
                self.ledger.apply(transaction, request, Sender(post.sender, post.address), self.now)
                for post, request in zip(posts, requests, strict=True)
            ]
            if sweep_bound:
                self.ledger.sweep(transaction, self.now, sweep_bound)
            if attempt == tries - 1:
                self.store.submit(transaction)
            else:
                transaction.abort()
            if earlier not in (None, replies):
                raise self._difference(f"a batch applied again gives {replies}, and gave {earlier}")
            earlier = replies
        for post, request, reply in zip(posts, requests, replies, strict=True):
            protocol.decode_reply(self._encode(reply))
            self._note_roles(request, reply)
            if post.operation in self.modeled:
                self._compare(post, request, reply)
        return replies

    def _compare(self, post: Post, request: dict[str, Any], reply: Reply | Refusal) -> None:
        answer = self.model.apply(request, post.sender, post.address, self.now)
        found = differences(post.operation, reply, answer)
        if found:
            raise self._difference(f"{post}\nledger {reply}\nmodel {answer}\n{found}")

    def _note_roles(self, request: Mapping[str, Any], reply: Reply | Refusal) -> None:
        """Tell the model who is who, since it does not look after administrators."""
        if isinstance(reply, Refusal):
            return
        if request["op"] == "admin_add":
            self.model.roles[request["key"]] = Role.from_text(request["role"])
        elif request["op"] == "admin_remove":
            self.model.roles.pop(request["key"], None)

    def _encode(self, reply: Reply | Refusal) -> bytes:
        """Make sure that an answer fits on the wire."""
        if isinstance(reply, Refusal):
            assert reply.code in protocol.CODES
            return protocol.encode_refusal(1, self.now, reply)
        return protocol.encode_reply(1, self.now, reply)
