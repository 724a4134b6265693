"""Acquires of computers that hold their seat, or are new, in few looks; None for every other, for leases.py to decide.

An acquire is only looked at for who owns its address: granting.py gives seats to new computers.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from als import protocol
from als.catalog import Catalog
from als.ledger import computers, lives
from als.ledger.desk import Rules
from als.ledger.quick.granting import Granted, Granting
from als.ledger.quick.renewing import IsGone, none_is_gone, renew
from als.ledger.quick.usual import Usual, front_mac
from als.ledger.rows import active_row
from als.store.transaction import Table, Transaction

_ADDRESSES = Table.ADDRESSES


class Told(msgspec.Struct, gc=False):
    """An answer that tells of a seat which is held."""

    now: int
    fields: dict[str, Any]

    def as_fields(self) -> dict[str, Any]:
        """Give the reply's own keys."""
        return self.fields

    def encode(self, request_id: int) -> bytes:
        """Write the reply."""
        return protocol.encode_reply(request_id, self.now, self.fields)


Acquire = Callable[[Usual, bytes, str], Granted | Told | None]


def in_transaction(
    tx: Transaction, catalog: Catalog, rules: Rules, server: int, now: int, is_gone: IsGone = none_is_gone
) -> Acquire:
    """Give the function that gives seats to new computers, and tells others of the seats that they hold.

    It takes an acquire, its sender's key and the address that it came from, and gives None for all else.
    """
    grant, get = Granting(tx, catalog, rules, server, now).grant, tx.get

    def acquire(usual: Usual, key: bytes, address: str) -> Granted | Told | None:
        mac = front_mac(usual.computer)
        if mac is None or usual.want_lease is not None:
            return None
        if get(_ADDRESSES, mac) is None:
            return grant(usual, mac, key, address)
        return _tell(tx, catalog, usual, mac, key, now, is_gone)

    return acquire


def _tell(
    tx: Transaction, catalog: Catalog, usual: Usual, mac: bytes, key: bytes, now: int, is_gone: IsGone
) -> Told | None:
    """Renew the lease that a computer holds, if nothing else happens to it, and tell of it."""
    product = catalog.by_code.get(usual.product)
    number = computers.owner_of(tx, mac)
    lease = lives.read(tx, product.number, number) if product is not None and number is not None else None
    if lease is None or is_gone(lease.serial) or renew(tx, catalog, usual, key, now) is None:
        return None
    assert product is not None and number is not None
    lease = lives.read(tx, product.number, number)
    assert lease is not None, "it was just renewed"
    row = active_row(tx, catalog, product.number, lease, computers.read(tx, number))
    return Told(now, {"result": "already_held", "lease": row, "heartbeat_s": product.heartbeat_s})
