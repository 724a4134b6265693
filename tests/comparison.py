"""Holds what a ledger shows against what the model knows: replies, listings, the log, and the books underneath.

Texts for people are not compared, and nothing that the rules leave open.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from als import protocol
from als.catalog import Catalog
from als.ledger import Ledger, Sender
from als.protocol import Refusal
from als.store.transaction import Store
from books import mistakes
from model import Model

SWEEP_BOUND = 50
AUDITOR = b"A" * 32  # a viewer who looks at the listings, so that any administrator may be removed

Reply = dict[str, Any]


class DifferenceError(AssertionError):
    """Ledger and model do not agree, or the books are wrong."""


class Comparison:
    """A ledger over its store at one time, and the model. The key AUDITOR must have the role viewer."""

    def __init__(self, ledger: Ledger, store: Store, model: Model, catalog: Catalog, now: int) -> None:
        self.ledger = ledger
        self.store = store
        self.model = model
        self.catalog = catalog
        self.now = now
        self.agrees = True

    def _difference(self, text: str) -> DifferenceError:
        """Make the error, and remember that nothing more is to be learned here."""
        self.agrees = False
        return DifferenceError(text)

    def get(self, operation: str, sender: bytes = AUDITOR, **fields: Any) -> Reply:
        """Look at something that must be shown."""
        request = protocol.decode(protocol.encode_request(1, operation, fields))
        transaction = self.store.begin()
        reply = self.ledger.apply(transaction, request, Sender(sender, ""), self.now)
        transaction.abort()
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
            if row["state"] == "gone":
                row["state"] = "expired"  # kept in mind (R4): the wire has no word of its own for it
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
        "computers_conflict",
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
