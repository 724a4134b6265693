"""The ledger: every operation over a transaction, with the time as an argument.

It keeps nothing outside the transaction, so a batch that is applied again counts nothing twice, and a restart forgets
nothing. Adding an operation is a function and a row of the table.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from als.catalog import Catalog
from als.ledger import admins, leases, listings, lives, mercy, serials, sweep
from als.ledger.desk import AGENTS_OPEN, Desk, Rules, Sender
from als.ledger.journal import Journal
from als.ledger.quick import acquiring, renewing, repeats, usual
from als.ledger.quick.repeats import Repeats
from als.ledger.quick.usual import Usual
from als.ledger.tally import Tally
from als.protocol import OPERATIONS, Refusal, Request, Role
from als.records import Admin, Event
from als.store.transaction import Table, Transaction

Answer = dict[str, Any] | Refusal
StatusOf = Callable[[Transaction], dict[str, Any]]


class Ledger:
    """The rules R1 to R17 over any store.

    `server_key` is the server's CURVE public key (locks of serials), `vendors` the vendors' keys by name, `server` this
    server's number in a cluster. `catalog` and `vendors` may be replaced between transactions.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        server_id: str,
        server_key: bytes,
        vendors: Mapping[str, bytes],
        settings: Rules | None = None,
        name: str = "",
        version: str = "",
        server: int = 0,
    ) -> None:
        self.catalog = catalog
        self._told: tuple[Catalog, list[dict[str, Any]]] | None = None
        self.vendors = dict(vendors)
        self.server_id = server_id
        self.server_key = server_key
        self.rules = settings or Rules()
        self.name = name
        self.version = version
        self.server = server
        self.status_of_server: StatusOf = lambda tx: {}
        self._operations: dict[str, Callable[[Desk, Request], Answer]] = {
            "hello": self._hello,
            "acquire": leases.acquire,
            "renew": leases.renew,
            "release": leases.release,
            "check": leases.check,
            "status": self._status,
            "licenses": listings.paged(listings.licenses),
            "leases": listings.paged(listings.leases),
            "import": self._import,
            "revoke": leases.revoke,
            "remove": serials.remove,
            "events": listings.paged(listings.events),
            "usage": listings.paged(listings.usage),
            "admins": listings.paged(listings.admins),
            "admin_add": admins.add,
            "admin_remove": admins.remove,
        }
        assert self._operations.keys() == OPERATIONS.keys()
        self._roles = {name: operation.role for name, operation in OPERATIONS.items()}

    def apply(self, tx: Transaction, request: Request, sender: Sender, now: int) -> Answer:
        """Apply one checked request; give the reply's own keys, or the refusal."""
        operation = request["op"]
        if operation == "renew" or operation == "acquire":
            request_as_usual = usual.of(request)
            quickly = self._apply_quickly(tx, request_as_usual, sender, now) if request_as_usual is not None else None
            if quickly is not None:
                return quickly
        return self.decide(tx, request, sender, now)

    def decide(self, tx: Transaction, request: Request, sender: Sender, now: int) -> Answer:
        """Do `apply`'s work by the rules alone, for a request that is known not to be a usual one."""
        operation = request["op"]
        desk = Desk(tx, self.catalog, self.rules, sender, now, self.server)
        needed = self._roles[operation]
        if needed is not Role.AGENT and desk.role() < needed:
            message = f"This needs the role {needed.text}; the key has the role {desk.role().text}."
            return Refusal("not_authorized", message, {"role": needed.text})
        return self._operations[operation](desk, request)

    def allows(self, tx: Transaction, operation: str, key: bytes) -> bool:
        """Say whether a key has the role that an operation needs."""
        return Desk(tx, self.catalog, self.rules, Sender(key, ""), 0).role() >= self._roles[operation]

    def _apply_quickly(self, tx: Transaction, usual: Usual, sender: Sender, now: int) -> dict[str, Any] | None:
        if usual.op == "renew":
            return self.renew_quickly(tx, usual, sender.key, now)
        made: tuple[Catalog, acquiring.Acquire] | None = tx.memo.get("acquiring")
        if made is None or made[0] is not self.catalog:
            made = tx.memo["acquiring"] = self.catalog, self.acquiring(tx, now)
        answer = made[1](usual, sender.key, sender.address)
        return answer.as_fields() if answer is not None else None

    def _is_gone(self, tx: Transaction) -> renewing.IsGone:
        """Give the function that says whether a serial was removed, for the short ways.

        Not in a cluster: what a request reads is compared at its commit, so renewals would wait for all who acquire.
        """
        return partial(lives.is_serial_gone, Tally.of(tx)) if not self.server else renewing.none_is_gone

    def renewing(
        self, tx: Transaction, now: int, known: Repeats, monotonic_s: float
    ) -> tuple[repeats.Renew, renewing.Renew]:
        """Give the functions that renew what is known, and what is usual, in one transaction and one catalog."""
        answer_of = renewing.answering(self.catalog, now)
        renew = renewing.in_transaction(tx, self.catalog, now, answer_of, known, self._is_gone(tx))
        if self.rules.agents == AGENTS_OPEN:
            return known.renewing(tx, self.catalog, now, monotonic_s, answer_of), renew

        def renew_of_admins(renewal: Usual, key: bytes, request: bytes = b"") -> dict[str, Any] | None:
            return renew(renewal, key) if tx.get(Table.ADMINS, key) is not None else None

        return (lambda requests, first, replies: first), renew_of_admins

    def renew_quickly(self, tx: Transaction, usual: Usual, key: bytes, now: int) -> dict[str, Any] | None:
        """Apply a renewal in which nothing but the time is new; None for any other, which `apply` then takes."""
        if self.rules.agents != AGENTS_OPEN and tx.get(Table.ADMINS, key) is None:
            return None
        return renewing.renew(tx, self.catalog, usual, key, now)

    def acquiring(self, tx: Transaction, now: int) -> acquiring.Acquire:
        """Give the function that applies acquires of new computers, or of those that hold their seats, and no other."""
        acquire = acquiring.in_transaction(tx, self.catalog, self.rules, self.server, now, self._is_gone(tx))
        if self.rules.agents == AGENTS_OPEN:
            return acquire
        return lambda usual, key, address: (
            acquire(usual, key, address) if tx.get(Table.ADMINS, key) is not None else None
        )

    def sweep(self, tx: Transaction, now: int, bound: int) -> int:
        """Do at most about `bound` things that are due; give their number, 0 when nothing is left."""
        return sweep.sweep(tx, Journal.of(tx, self.server), Tally.of(tx, self.server), now, bound)

    def take_up_key(self, tx: Transaction, now: int) -> int:
        """Take out serials that are locked to another key, when this server has a new one; give their number."""
        desk = Desk(tx, self.catalog, self.rules, Sender(b"", ""), now, self.server)
        return serials.take_up_key(desk, self.server_key)

    def add_outage(self, tx: Transaction, start: int, end: int) -> None:
        """Store a time in which no server was there (R12), with its event."""
        mercy.add_outage(tx, start, end)
        self.log(tx, end, "outage", {"from": start, "to": end})

    def log(self, tx: Transaction, now: int, kind: str, detail: dict[str, Any] | None = None) -> None:
        """Write an event of the server itself."""
        Journal.of(tx, self.server).write(Event(now, kind, detail=detail))

    def add_admin(self, tx: Transaction, key: bytes, name: str, role: Role, now: int) -> bool:
        """Enter an administrator from the server's own machine; False when the key was there with this role."""
        raw = tx.get(Table.ADMINS, key)
        if raw is not None and Admin.unpack(raw).role == role.text:
            return False
        tx.put(Table.ADMINS, key, Admin(name, role.text, now, "").pack())
        detail = {"key": key.hex(), "name": name, "role": role.text}
        self.log(tx, now, "admin_added" if raw is None else "admin_changed", detail)
        return True

    def drop_admin(self, tx: Transaction, key: bytes, now: int) -> None:
        """Take a key's role away from the server's own machine; a key without one is no error."""
        raw = tx.get(Table.ADMINS, key)
        if raw is not None:
            old = Admin.unpack(raw)
            tx.delete(Table.ADMINS, key)
            self.log(tx, now, "admin_removed", {"key": key.hex(), "name": old.name, "role": old.role})

    def has_admin(self, tx: Transaction) -> bool:
        """Say whether anybody may administer this store."""
        return bool(tx.scan(Table.ADMINS, limit=1))

    def _hello(self, desk: Desk, request: Request) -> Answer:
        return {
            "server_id": self.server_id,
            "name": self.name,
            "version": self.version,
            "your_role": desk.role().text,
            "products": self._products_told(),
        }

    def _products_told(self) -> list[dict[str, Any]]:
        """Write the products as `hello` tells them, once for a catalog."""
        if self._told is None or self._told[0] is not self.catalog:
            products = [
                {
                    "code": product.code,
                    "name": product.name,
                    "components": [
                        {
                            "code": component.code,
                            "name": component.name,
                            "licensed": component.licensed,
                            "works_offline": component.works_offline,
                        }
                        for component in product.components.values()
                    ],
                }
                for product in self.catalog.products
            ]
            self._told = (self.catalog, products)
        return self._told[1]

    def _status(self, desk: Desk, request: Request) -> Answer:
        return self.status(desk.tx, desk.now)

    def status(self, tx: Transaction, now: int) -> dict[str, Any]:
        """Tell the server's state, pools and counts, as the operation `status` does."""
        desk = Desk(tx, self.catalog, self.rules, Sender(b"", ""), now, self.server)
        return {**self.status_of_server(tx), "pools": listings.pools(desk), "counts": listings.counts(desk)}

    def _import(self, desk: Desk, request: Request) -> Answer:
        return serials.import_serials(desk, request, serials.Trust(self.server_key, self.vendors))
