"""Seats for new computers, many in a transaction: what their rows and replies have in common is written once.

A grant writes a lease, its due entry, an event, a computer and its addresses. Two grants of a component from one serial
in one second differ in the computer and the holder alone; so the records' own functions write one that has nothing in
these places, and it is filled in for each. What is no such grant is left to the rules of leases.py, and
tests/test_usual.py holds the replies and rows of both against each other, byte by byte.
"""

from functools import partial
from typing import Any

import msgspec

from als import computer as records_of_computers
from als import protocol
from als.catalog import Catalog, Component, Product
from als.ledger import grants, leases, newcomers, products, seats
from als.ledger.computers import Entrance, fingerprint
from als.ledger.desk import Desk, Rules, Sender
from als.ledger.quick.usual import Usual, computer_of, is_plain
from als.ledger.rows import active_row
from als.records import (
    DUE_PREFIX_BYTES,
    HOLDER_BYTES,
    LEASE_LONE,
    Computer,
    EventForm,
    due_key,
    product_key,
)
from als.store.transaction import Table, Transaction

_ADDRESSES = Table.ADDRESSES
_NOBODY = Computer([b""], "", "", None, None)
_HOLES = dict.fromkeys(("host", "address", "mac", "kind", "version"), protocol.HOLE)  # as they stand in a lease's row
_encode = protocol.encode


class _Form:
    """What all grants of a component from one serial have in common in one transaction. Making it changes nothing."""

    def __init__(self, desk: Desk, product: Product, component: Component, free: seats.Free) -> None:
        """Write a grant that has nobody's computer and no holder."""
        tx, tally, number = desk.tx, desk.tally, product.number
        lease = grants.new_lease(desk, product, component, free, b"", "")
        self.lease = lease.pack()  # the holder and the version come last
        self.product = product_key(number)
        self.due = due_key(number, lease.due_at, 0)[:DUE_PREFIX_BYTES] if lease.due_at else None
        self.event = EventForm(grants.event(desk, product, lease, b"", ""))
        row = active_row(tx, desk.catalog, number, lease, _NOBODY)
        self.row = row
        self.answer: dict[str, Any] = {"result": "granted", "lease": row, "heartbeat_s": product.heartbeat_s}
        holes = {**self.answer, "lease": {**row, **_HOLES}}
        self.reply_start, self.reply = protocol.encode_start(holes), protocol.encode_around_holes(desk.now, holes)
        self.journal, self._tally = desk.journal, tally
        self._memo, self._place = tx.memo, seats.memo_of_first(number)
        self._first = tx.memo[self._place]
        self.sold = product
        self.room = 0  # seats that it may give before anybody has to look again
        self._found = 0  # of these at first
        self._take = partial(seats.take, tx, tally, number, free, desk.now)
        self._serial, self._now = free.number, desk.now

    def serves(self) -> bool:
        """Say whether the serial is still the one that R2 takes next."""
        return self._memo.get(self._place) is self._first

    def begin(self) -> None:
        """Give seats from here on without counting each: all that are free, unless others look at numbers before."""
        self._tally.defer(self._serial, self._settle)
        serial = self._tally.seats(self._serial)
        assert serial is not None
        self.room = self._found = serial.total - serial.used
        assert self.room > 0, "it is in the pool"

    def settle(self) -> None:
        """Count what was given."""
        self._tally.settle(self._serial)

    def _settle(self) -> None:
        given = self._found - self.room
        self.room = self._found = 0
        if given:
            self._take(given)
            counts = self._tally.store()
            counts.leases += given
            counts.computers += given
            counts.events += given
            self._tally.usage(self.sold.number, self._now).granted += given


class Granted(msgspec.Struct, gc=False):
    """An answer that grants."""

    form: _Form
    host: str
    address: str
    mac: bytes
    kind: str | None
    version: str | None

    def as_fields(self) -> dict[str, Any]:
        """Give the reply's own keys."""
        own = {name: getattr(self, name) for name in _HOLES}
        return {**self.form.answer, "lease": {**self.form.row, **own}}

    def encode(self, request_id: int) -> bytes:
        """Write the reply."""
        form = self.form
        to_host, to_address, to_mac, to_kind, to_version, end = form.reply
        return b"".join(
            (
                form.reply_start,
                _encode(request_id),
                to_host,
                _encode(self.host),
                to_address,
                _encode(self.address),
                to_mac,
                _encode(self.mac),
                to_kind,
                _encode(self.kind),
                to_version,
                _encode(self.version),
                end,
            )
        )


class Granting:
    """Grants in one transaction, by one catalog."""

    def __init__(self, tx: Transaction, catalog: Catalog, rules: Rules, server: int, now: int) -> None:
        self._tx = tx
        self._catalog = catalog
        self._rules = rules
        self._server = server
        self._now = now
        self._forms: dict[tuple[str, str], _Form] = {}
        self._insert_due, self._insert_lease = tx.inserting(Table.DUE), tx.inserting(Table.LEASES)

    def grant(self, usual: Usual, mac: bytes, key: bytes, address: str) -> Granted | None:
        """Give a seat to a computer whose front address `mac` nobody owns; None when the rules have to decide.

        `key` is the sender's, `address` where the acquire came from.
        """
        form = self._forms.get((usual.product, usual.component))
        if form is None or not form.serves():
            form = self._new_form(usual)
        computer = computer_of(usual) if form is not None else None
        if form is None or computer is None or computer.macs[0] != mac or not is_plain(computer, usual.version):
            return None  # a first address other than the front one: the key came twice
        macs, tx = computer.macs, self._tx
        if len(macs) > 1:
            macs = list(dict.fromkeys(macs))
            if any(tx.get(_ADDRESSES, other) is not None for other in macs[1:]):
                return None
        if not newcomers.is_exempt(self._rules, address):
            desk = self._desk(Sender(key, address))
            if newcomers.refuse(desk) is not None:
                return None
            newcomers.count(desk)
        host, where, kind, version = computer.host, computer.address, computer.kind, usual.version or None
        packed = records_of_computers.pack(macs, host, where, computer.machine_id or None, kind)
        if not form.room:
            form.begin()
            products.meet(tx, form.sold)
        number = Entrance.of(tx, self._server).enter(macs, fingerprint(usual.computer), packed)
        if form.due is not None:
            self._insert_due(form.due + number, b"")
        lease = form.lease + key[:HOLDER_BYTES]
        self._insert_lease(form.product + number, lease if version is None else lease + version.encode())
        form.journal.fill_in(form.event, mac, host)
        form.room -= 1
        if not form.room:
            form.settle()  # the serial leaves the pool
        return Granted(form, host, where, mac, kind, version)

    def _new_form(self, usual: Usual) -> _Form | None:
        """Make the form that serves an acquire; None when it is not licensed, or no seat is there for certain."""
        product = self._catalog.by_code.get(usual.product)
        component = product.components.get(usual.component) if product is not None else None
        if product is None or component is None or not component.licensed or len(component.code) > LEASE_LONE:
            return None
        if not leases.is_worked_off(self._tx, product.number, self._now):
            return None
        free = seats.find_free(self._tx, product.number, self._now)
        if free is None:
            return None
        form = _Form(self._desk(Sender(b"", "")), product, component, free)
        self._forms[usual.product, usual.component] = form
        return form

    def _desk(self, sender: Sender) -> Desk:
        return Desk(self._tx, self._catalog, self._rules, sender, self._now, self._server)
