"""A new license written: the seat taken, the lease with its place in the due index, the hour's history, the event."""

from als.catalog import Component, Product
from als.ledger import lives, products, seats, serialbook
from als.ledger.desk import Desk
from als.records import NEVER, Computer, Event, Holder, Lease


def write(desk: Desk, lease: Lease, product: Product, number: int, who: Computer, old: Lease | None = None) -> None:
    """Give a free seat to computer `number`, which holds none, as `new_lease` says.

    `old` is the record of a lease that it once had.
    """
    tx, now, tally, code = desk.tx, desk.now, desk.tally, product.number
    seats.take(tx, tally, code, seats.Free(lease.serial, lease.expires_at), now)
    if old is not None:
        lives.place(tx, code, number, old, NEVER)
    lives.engage(tx, tally, code, number, lease, is_new=old is None)
    products.meet(tx, product)
    tally.usage(code, now).granted += 1
    desk.journal.write(event(desk, product, lease, who.macs[0], who.host))


def new_lease(
    desk: Desk,
    product: Product,
    component: Component,
    free: seats.Free,
    holder: bytes,
    version: str,
    acquired_at: int | None = None,
) -> Lease:
    """Make the lease of a free seat, which begins now, with the component that has just run.

    `holder` is the first HOLDER_BYTES of its key. `acquired_at` is when a lease that goes on was first acquired;
    without it, that is now.
    """
    now = desk.now
    period_s = product.period_s or NEVER
    return Lease(
        free.number,
        now if acquired_at is None else acquired_at,
        now,
        period_s,
        now + period_s if period_s else NEVER,
        free.expires_at,
        components={component.code: Holder(holder, now)},
        version=version,
    )


def event(desk: Desk, product: Product, lease: Lease, mac: bytes, host: str) -> Event:
    """Make the event of a grant, whose lease has one component."""
    (component,) = lease.components
    serial_id = serialbook.id_of(desk.tx, lease.serial)
    return Event(desk.now, "granted", product.number, serial_id, mac, host, component)
