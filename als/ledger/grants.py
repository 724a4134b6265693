"""A new license written: the seat taken, the lease with its place in the due index, the hour's history, the event."""

from als.catalog import Component, Product
from als.ledger import lives, products, seats, serialbook
from als.ledger.desk import Desk
from als.records import HOLDER_BYTES, NEVER, Computer, Event, Holder, Lease


def write(
    desk: Desk,
    product: Product,
    component: Component,
    free: seats.Free,
    number: int,
    who: Computer,
    version: str,
    old: Lease | None = None,
    acquired_at: int | None = None,
) -> Lease:
    """Give the free seat to computer `number`, which holds none; `old` is the record of a lease that it once had.

    `acquired_at` is when a lease that goes on was first acquired; without it, that is now.
    """
    tx, now, tally, code = desk.tx, desk.now, desk.tally, product.number
    seats.take(tx, tally, code, free, now)
    period_s = product.period_s or NEVER
    due_at = now + period_s if period_s else NEVER
    if old is not None:
        lives.place(tx, code, number, old, NEVER)
    holders = {component.code: Holder(desk.sender.key[:HOLDER_BYTES], now)}
    lease = Lease(
        free.number,
        now if acquired_at is None else acquired_at,
        now,
        period_s,
        due_at,
        free.expires_at,
        components=holders,
        version=version,
    )
    lives.engage(tx, tally, code, number, lease, is_new=old is None)
    products.meet(tx, product)
    tally.usage(code, now).granted += 1
    serial_id = serialbook.id_of(tx, free.number)
    desk.journal.write(Event(now, "granted", code, serial_id, who.macs[0], who.host, component.code))
    return lease
