"""Seats for new computers, many in a transaction: what their rows and answers have in common is written once.

A grant writes a lease, its due entry, an event, a computer and its addresses. Two grants of a component from one serial
in one second differ in the computer and the holder alone; so the records' own functions write one that has nothing in
these places, and it is filled in for each. What is no such grant is left to the rules of leases.py, and
tests/test_usual.py holds the replies and rows of both against each other, byte by byte.
"""

from typing import Any

from als.catalog import Catalog, Component, Product
from als.ledger import computers, grants, leases, newcomers, products, seats
from als.ledger.computers import fingerprint
from als.ledger.desk import Desk, Rules, Sender
from als.ledger.rows import active_row
from als.records import (
    DUE_PREFIX_BYTES,
    HOLDER_BYTES,
    LEASE_LONE,
    Computer,
    EventForm,
    computer_key,
    due_key,
    product_key,
)
from als.store.transaction import Table, Transaction
from als.usual import Usual, computer_of, is_plain

_ADDRESSES, _DUE, _LEASES = Table.ADDRESSES, Table.DUE, Table.LEASES
_NOBODY = Computer([b""], "", "", None, None)


class _Form:
    """What all grants of a component from one serial have in common in one transaction."""

    def __init__(self, desk: Desk, product: Product, component: Component, free: seats.Free) -> None:
        """Write a grant that has nobody's computer and no holder."""
        tx, tally, number = desk.tx, desk.tally, product.number
        lease = grants.new_lease(desk, product, component, free, b"", "")
        self._lease = lease.pack()  # the holder and the version come last
        self._lease_key = product_key(number)
        self._due = due_key(number, lease.due_at, 0)[:DUE_PREFIX_BYTES] if lease.due_at else None
        self._event = EventForm(grants.event(desk, product, lease, b"", ""))
        self._row = active_row(tx, desk.catalog, number, lease, _NOBODY)
        self._heartbeat_s = product.heartbeat_s
        self._memo, self._place = tx.memo, seats.memo_of_first(number)
        self._first = tx.memo[self._place]
        self._take = seats.taking(tx, tally, number, free, desk.now)
        self._usage, self._counts, self._journal = tally.usage(number, desk.now), tally.store(), desk.journal
        self._insert = tx.insert
        products.meet(tx, product)

    def serves(self) -> bool:
        """Say whether the serial is still the one that R2 takes next."""
        return self._memo.get(self._place) is self._first

    def fill_in(self, number: bytes, who: Computer, holder: bytes, version: str) -> dict[str, Any]:
        """Write the grant for a computer, whose number is as in keys; give the answer."""
        mac, host = who.macs[0], who.host
        self._take()
        if self._due is not None:
            self._insert(_DUE, self._due + number, b"")
        self._insert(_LEASES, self._lease_key + number, self._lease + holder + version.encode())
        self._counts.leases += 1
        self._usage.granted += 1
        self._journal.fill_in(self._event, mac, host)
        row = self._row.copy()
        row["host"], row["address"], row["mac"], row["kind"] = host, who.address, mac, who.kind
        row["version"] = version or None
        return {"result": "granted", "lease": row, "heartbeat_s": self._heartbeat_s}


class Granting:
    """Grants in one transaction, by one catalog."""

    def __init__(self, tx: Transaction, catalog: Catalog, rules: Rules, server: int, now: int) -> None:
        self._tx = tx
        self._catalog = catalog
        self._rules = rules
        self._server = server
        self._now = now
        self._forms: dict[tuple[str, str], _Form] = {}

    def grant(self, usual: Usual, mac: bytes, key: bytes, address: str) -> dict[str, Any] | None:
        """Give a seat to a computer whose front address `mac` nobody owns; None when the rules have to decide.

        `key` is the sender's, `address` where the acquire came from.
        """
        form = self._form_of(usual)
        computer = computer_of(usual) if form is not None else None
        if form is None or computer is None or computer.macs[0] != mac or not is_plain(computer, usual.version):
            return None  # a first address other than the front one: the key came twice
        for other in computer.macs[1:]:
            if self._tx.get(_ADDRESSES, other) is not None:
                return None
        if not newcomers.is_exempt(self._rules, address):
            desk = self._desk(Sender(key, address))
            if newcomers.refuse(desk) is not None:
                return None
            newcomers.count(desk)
        new = Computer(computer.macs, computer.host, computer.address, computer.machine_id or None, computer.kind)
        number, who = computers.enter(self._tx, self._server, new, fingerprint(usual.computer))
        return form.fill_in(computer_key(number), who, key[:HOLDER_BYTES], usual.version or "")

    def _form_of(self, usual: Usual) -> _Form | None:
        """Give the form that serves an acquire; None when it is not licensed, or no seat is there for certain."""
        form = self._forms.get((usual.product, usual.component))
        return form if form is not None and form.serves() else self._new_form(usual)

    def _new_form(self, usual: Usual) -> _Form | None:
        product = self._catalog.by_code.get(usual.product)
        component = product.components.get(usual.component) if product is not None else None
        if product is None or component is None or not component.licensed or len(component.code) > LEASE_LONE:
            return None
        if not leases.is_worked_off(self._tx, product.number, self._now):
            return None
        free = seats.find_free(self._tx, product.number, self._now)
        if free is None:
            return None
        form = self._forms[usual.product, usual.component] = _Form(
            self._desk(Sender(b"", "")), product, component, free
        )
        return form

    def _desk(self, sender: Sender) -> Desk:
        return Desk(self._tx, self._catalog, self._rules, sender, self._now, self._server)
