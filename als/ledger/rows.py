"""Rows of replies: what the wire calls a lease and a license, made from records."""

from typing import Any

from als.catalog import Catalog
from als.ledger import lives, mercy, products, serialbook
from als.ledger.tally import Tally
from als.records import Computer, Lease, SerialRecord, SerialState
from als.store.transaction import Transaction


def lease_row(tx: Transaction, catalog: Catalog, product: int, lease: Lease, who: Computer, now: int) -> dict[str, Any]:
    """Write a lease with its computer and serial."""
    row = active_row(tx, catalog, product, lease, who)
    row["state"] = lease_state(tx, lease, now)
    return row


def active_row(tx: Transaction, catalog: Catalog, product: int, lease: Lease, who: Computer) -> dict[str, Any]:
    """Write a lease that is known to hold its seat."""
    code, name = products.name_of(tx, catalog, product)
    serial, serial_id = serialbook.texts(tx, lease.serial, code)
    return {
        "product": code,
        "product_name": name,
        "serial": serial,
        "serial_id": serial_id,
        "host": who.host,
        "address": who.address,
        "mac": who.macs[0],
        "kind": who.kind,
        "components": sorted(lease.components),
        "version": lease.version or None,
        "acquired_at": lease.acquired_at,
        "renewed_at": lease.renewed_at,
        "renew_by": mercy.deadline(tx, lease),
        "state": "active",
    }


def lease_state(tx: Transaction, lease: Lease, now: int) -> str:
    """Say how a lease stands, as the wire calls it."""
    if lives.has_lapsed(tx, lease, now):
        return "lapsed"
    if lives.has_ended(lease, now) or lives.is_gone(Tally.of(tx), lease):
        return "expired"
    return "active"


def license_row(
    tx: Transaction, catalog: Catalog, tally: Tally, number: int, record: SerialRecord, now: int
) -> dict[str, Any]:
    """Write a serial with its seats. `total` is always its own, `free` is 0 when it has ended."""
    code, name = products.name_of(tx, catalog, record.product)
    seats = tally.seats(number)
    assert seats is not None
    tally.pin()
    if seats.state in (SerialState.REMOVING, SerialState.REMOVED):
        state = "removing"
    elif record.expires_at and record.expires_at <= now:
        state = "expired"
    else:
        state = "valid"
    return {
        "product": code,
        "product_name": name,
        "serial": serialbook.text(record.raw),
        "serial_id": serialbook.short_id_of(code, record.serial_id),
        "imported_at": record.imported_at,
        "expires_at": record.expires_at or None,
        "trial": record.trial,
        "total": seats.total,
        "free": seats.total - seats.used if state == "valid" else 0,
        "used": seats.used,
        "state": state,
    }
