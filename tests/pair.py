"""Ledger and model side by side: every request goes to both, and their answers are held against each other.

Knows how a request is brought to a ledger (one transaction each, committed) and which parts of an answer
the rules fix. Texts for people are not compared.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from als import protocol
from als.catalog import Catalog
from als.ledger import Ledger, Rules, Sender
from als.protocol import Refusal, Role
from als.store.transaction import Store
from books import mistakes
from model import Model
from press import SERVER_KEY, VENDORS, Slip

START = 20_834 * 86_400  # a midnight in 2027: days and hours begin with the test
SWEEP_BOUND = 50
ROOT = b"R" * 32
AUDITOR = b"A" * 32  # a viewer who looks at the listings, so that any administrator may be removed
ROOT_ADDRESS = "127.0.0.1"
MODELED = frozenset({"acquire", "renew", "release", "check", "import", "remove", "revoke"})

Reply = dict[str, Any]


class DifferenceError(AssertionError):
    """Ledger and model do not agree, or the books are wrong."""


class Post(NamedTuple):
    """A request on its way: who sends it, from where."""

    operation: str
    sender: bytes
    address: str
    fields: dict[str, Any]


class Pair:
    """A ledger on a store, and the model of what it should say; each restart calls `open_store` again."""

    def __init__(self, open_store: Callable[[], Store], catalog: Catalog, rules: Rules | None = None) -> None:
        self.rules = rules if rules is not None else Rules()
        self.catalog = catalog
        self.now = START
        self.modeled = MODELED
        self.agrees = True
        self.slips: dict[str, Slip] = {}
        listed = self.rules.agents == "listed"
        self.model = Model(catalog, self.slips, self.rules.new_seats_per_address_h, listed)
        self._open_store = open_store
        self._start()
        transaction = self.store.begin()
        self.ledger.add_admin(transaction, ROOT, "root", Role.ADMIN, self.now)
        self.ledger.add_admin(transaction, AUDITOR, "auditor", Role.VIEWER, self.now)
        self.store.submit(transaction)
        self.model.roles.update({ROOT: Role.ADMIN, AUDITOR: Role.VIEWER})

    def _start(self) -> None:
        self.store = self._open_store()
        self.ledger = Ledger(
            self.catalog,
            server_id="test-server",
            server_key=SERVER_KEY,
            vendors=VENDORS,
            settings=self.rules,
        )

    def restart(self) -> None:
        """Stop the server and start it on the same store, in no time."""
        self.store.close()
        self._start()

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

    def _difference(self, text: str) -> DifferenceError:
        """Make the error, and remember that nothing more is to be learned here."""
        self.agrees = False
        return DifferenceError(text)

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

    def get(self, operation: str, sender: bytes = AUDITOR, **fields: Any) -> Reply:
        """Look at something that must be shown."""
        reply = self.ask(operation, sender, **fields)
        assert not isinstance(reply, Refusal), reply
        return reply

    def rows(self, operation: str, **fields: Any) -> list[dict[str, Any]]:
        """All rows of a listing, page by page."""
        rows: list[dict[str, Any]] = []
        after = None
        while True:
            page = self.get(operation, after=after, **fields)
            rows += page["rows"]
            after = page["next"]
            if after is None:
                return rows

    def sweep(self) -> None:
        """Let the ledger work off all that is due."""
        for _ in range(10_000):
            transaction = self.store.begin()
            done = self.ledger.sweep(transaction, self.now, SWEEP_BOUND)
            self.store.submit(transaction)
            if not done:
                self.model.lapse(self.now)
                return
        raise self._difference("the sweep never ends")

    def check_books(self) -> None:
        """Look for mistakes in the store's tables."""
        transaction = self.store.begin()
        found = mistakes(transaction, self.catalog)
        transaction.abort()
        if found:
            raise self._difference("the books are wrong: " + "; ".join(found[:10]))

    def check_listings(self) -> None:
        """Sweep, then compare all that can be seen: pools, serials, leases, kinds of events."""
        self.sweep()
        pools = {pool["product"]: pool for pool in self.get("status")["pools"]}
        for code in self.model.products:
            expected = self.model.pool(code, self.now)
            seen = pools.get(code, dict.fromkeys(expected, 0))
            if {key: seen[key] for key in expected} != expected:
                raise self._difference(f"the pool of {code} is {seen}, and should be {expected}")
        self._check_licenses()
        self._check_leases()

    def _check_licenses(self) -> None:
        seen = {}
        for row in self.rows("licenses"):
            if row["state"] != "removing":
                seen[row["serial_id"]] = (
                    row["total"],
                    row["used"],
                    row["free"],
                    row["expires_at"],
                    row["state"],
                )
        expected = {}
        for serial_id, serial in self.model.serials.items():
            if not serial["removed"]:
                total, used = serial["slip"].seats, self.model.used(serial_id)
                valid = serial["expires_at"] is None or serial["expires_at"] > self.now
                free, state = (total - used, "valid") if valid else (0, "expired")
                expected[serial_id] = (total, used, free, serial["expires_at"], state)
        if seen != expected:
            raise self._difference(f"the serials are {seen}, and should be {expected}")

    def _check_leases(self) -> None:
        seen = {(row["product"], row["mac"]): _comparable(row) for row in self.rows("leases")}
        expected = {}
        for code, number in self.model.leases:
            row = self.model.row(code, number, self.now)
            if row["state"] != "gone":
                expected[code, row["mac"]] = row
        if seen != expected:
            wrong = {key for key in seen.keys() | expected.keys() if seen.get(key) != expected.get(key)}
            pairs = [(seen.get(key), expected.get(key)) for key in wrong]
            raise self._difference(f"leases (as listed, as they should be): {pairs}")

    def events_of_ledger(self) -> Counter[tuple[str | None, ...]]:
        """The log as (kind, product, serial id, component), counted; denials are merged and left out."""
        rows = (row for row in self.rows("events") if row["kind"] in EVENTS_COMPARED)
        return Counter(_event(row["kind"], row["product"], row["serial_id"], row["component"]) for row in rows)

    def events_of_model(self) -> Counter[tuple[str | None, ...]]:
        """The same of the model."""
        rows = (row for row in self.model.events if row[0] in EVENTS_COMPARED)
        return Counter(_event(str(kind), *about) for kind, *about in rows)

    def check_events(self) -> None:
        """Compare the logs, once all that is due has been worked off."""
        self.sweep()
        seen, expected = self.events_of_ledger(), self.events_of_model()
        if seen != expected:
            raise self._difference(f"events too many {seen - expected}, missing {expected - seen}")
        denied = Counter[tuple[str, str]]()
        for row in self.rows("events", kind="denied"):
            denied[row["product"], row["detail"]["reason"]] += row["count"]
        hour = self.now // 3_600
        of_hours_over = Counter[tuple[str, str]]()
        for (code, _, reason, then), count in self.model.denials.items():
            of_hours_over[code, reason] += count if then < hour else 1
        if denied != of_hours_over:
            raise self._difference(f"denials in the log {denied}, and should be {of_hours_over}")


EVENTS_COMPARED = frozenset(
    {
        "imported",
        "removed",
        "restored",
        "granted",
        "component_added",
        "component_removed",
        "freed",
        "kept",
        "lapsed",
        "moved",
        "revoked",
        "holder_changed",
    }
)
_WITH_COMPONENT = frozenset({"component_added", "component_removed", "holder_changed"})


def _event(kind: str, product: Any, serial_id: Any, component: Any = None) -> tuple[str | None, ...]:
    """Keep of an event what the rules fix: a component only where the event is about one."""
    return (
        kind,
        product,
        None if kind in _WITH_COMPONENT else serial_id,
        component if kind in _WITH_COMPONENT else None,
    )


def _comparable(lease: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is only printed; the order of components is nobody's promise."""
    kept = {key: value for key, value in lease.items() if key not in ("product_name", "serial")}
    kept["components"] = sorted(kept["components"])
    return kept


def differences(operation: str, reply: Reply | Refusal, answer: Reply) -> list[str]:
    """Say where the ledger's reply is not what the model answers."""
    if isinstance(reply, Refusal) or "refused" in answer:
        return _refusal_differences(reply, answer)
    compare = {"import": _import_differences, "acquire": _run_differences, "renew": _run_differences}
    if operation in compare:
        return compare[operation](operation, reply, answer)
    keys = {"release": ["result"], "check": ["total", "free", "used", "engaged"], "revoke": ["result"]}
    return [key for key in keys.get(operation, []) if reply[key] != answer[key]]


def _refusal_differences(reply: Reply | Refusal, answer: Reply) -> list[str]:
    if not isinstance(reply, Refusal) or "refused" not in answer:
        return ["one refuses and the other does not"]
    if reply.code != answer["refused"]:
        return ["the codes differ"]
    if reply.code == "no_free_license" and set(reply.detail) != {"total", "used", "free"}:
        return ["the detail has other keys"]
    if reply.code == "serial_in_use" and set(reply.detail) != {"leases"}:
        return ["the detail has other keys"]
    return [f"{key} differs" for key in answer if key in reply.detail and answer[key] != reply.detail[key]]


def _import_differences(operation: str, reply: Reply, answer: Reply) -> list[str]:
    wrong = [key for key in ("added", "licenses_added") if reply[key] != answer[key]]
    if [row["result"] for row in reply["rows"]] != answer["results"]:
        wrong.append("results differ")
    if [row["line"] for row in reply["rows"]] != list(range(1, len(reply["rows"]) + 1)):
        wrong.append("lines are not 1, 2, ...")
    return wrong


def _run_differences(operation: str, reply: Reply, answer: Reply) -> list[str]:
    wrong = [key for key in ("result", "heartbeat_s") if reply[key] != answer[key]]
    if operation == "renew" and reply["renew_by"] != answer.get("renew_by"):
        wrong.append("renew_by")
    told = answer["lease"] if answer.get("lease_is_told") else None
    if told is None or reply["lease"] is None:
        return wrong if told is reply["lease"] else [*wrong, "a lease is told or not"]
    lease = _comparable(reply["lease"])
    return wrong + [f"lease.{key}" for key in told.keys() | lease.keys() if told.get(key) != lease.get(key)]
