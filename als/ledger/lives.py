"""The life of a lease's record: where it stands, lapse, end, and its place in the due index (R4, R5, R15).

The due index holds every lease that time will change: an active one at the earliest second at which it may lapse (a
renewal does not touch it; the sweep looks and puts a renewed one back), a lapsed one at the second at which it is
forgotten. Under product 0 stand computers that have no lease any more.
"""

from als.ledger import computers, mercy, seats, serialbook
from als.ledger.journal import Journal
from als.ledger.quick import repeats
from als.ledger.tally import Tally
from als.records import Event, Lease, LeaseState, SerialState, computer_key, due_key, lease_key
from als.store.transaction import Table, Transaction

RETENTION_S = 400 * 86_400  # a year and some: last year's log can still be compared
NO_PRODUCT = 0


def read(tx: Transaction, product: int, computer: int) -> Lease | None:
    """Read a computer's lease of a product."""
    raw = tx.get(Table.LEASES, lease_key(product, computer))
    return Lease.unpack(raw) if raw is not None else None


def has_lapsed(tx: Transaction, lease: Lease, now: int) -> bool:
    """Say whether a lease has lapsed, swept or not."""
    if lease.state is LeaseState.LAPSED:
        return True
    if not lease.period_s or lease.renewed_at + lease.period_s > now:
        return False
    end = mercy.deadline(tx, lease)
    return end is not None and end <= now


def is_gone(tally: Tally, lease: Lease) -> bool:
    """Say whether a lease's serial was taken out of the count by an administrator."""
    return is_serial_gone(tally, lease.serial)


def is_serial_gone(tally: Tally, number: int) -> bool:
    """Say whether a serial was taken out of the count by an administrator."""
    serial = tally.seats(number)
    return serial is None or serial.state in (SerialState.REMOVING, SerialState.REMOVED)


def has_ended(lease: Lease, now: int) -> bool:
    """Say whether a lease's serial is past its last second."""
    return bool(lease.expires_at) and lease.expires_at <= now


def place(tx: Transaction, product: int, computer: int, lease: Lease, due_at: int) -> None:
    """Move a lease to another second of the due index (0: none)."""
    if lease.due_at != due_at:
        if lease.due_at:
            tx.delete(Table.DUE, due_key(product, lease.due_at, computer))
        if due_at:
            tx.insert(Table.DUE, due_key(product, due_at, computer), b"")
        lease.due_at = due_at


def engage(tx: Transaction, tally: Tally, product: int, computer: int, lease: Lease, is_new: bool) -> None:
    """Store a lease that has just got its seat; `is_new` says that the computer has no record of this product."""
    if lease.due_at:
        tx.insert(Table.DUE, due_key(product, lease.due_at, computer), b"")
    if is_new:
        tally.store().leases += 1
        tx.insert(Table.LEASES, lease_key(product, computer), lease.pack())
    else:
        write(tx, product, computer, lease)


def write(tx: Transaction, product: int, computer: int, lease: Lease) -> None:
    """Store a lease."""
    repeats.change(tx, computer)
    tx.put(Table.LEASES, lease_key(product, computer), lease.pack())


def lapse(tx: Transaction, journal: Journal, tally: Tally, product: int, computer: int, lease: Lease, now: int) -> None:
    """Free the seat of a lease whose time is over; the record stays, to be forgotten after RETENTION_S."""
    end = mercy.deadline(tx, lease)
    assert end is not None and lease.state is LeaseState.ACTIVE
    seats.give_back(tx, tally, product, lease.serial, lease.expires_at, now)
    lease.state = LeaseState.LAPSED
    place(tx, product, computer, lease, end + RETENTION_S)
    write(tx, product, computer, lease)
    tally.pool(product).lapsed += 1
    if is_gone(tally, lease):
        return  # its serial is being removed, and the lease with it: that has its event
    tally.usage(product, now).lapsed += 1
    who = computers.read(tx, computer)
    journal.write(Event(now, "lapsed", product, serialbook.id_of(tx, lease.serial), who.macs[0], who.host))


def drop(tx: Transaction, tally: Tally, product: int, computer: int, lease: Lease, now: int) -> None:
    """Delete a lease's record; the computer's retention begins when it has no other."""
    if lease.due_at:
        tx.delete(Table.DUE, due_key(product, lease.due_at, computer))
    repeats.change(tx, computer)
    tx.delete(Table.LEASES, lease_key(product, computer))
    tally.store().leases -= 1
    if lease.state is LeaseState.LAPSED:
        tally.pool(product).lapsed -= 1
    who = computers.read(tx, computer)
    if who.left_at:
        tx.delete(Table.DUE, due_key(NO_PRODUCT, who.left_at + RETENTION_S, computer))
    tx.put(Table.DUE, due_key(NO_PRODUCT, now + RETENTION_S, computer), b"")
    tx.put(Table.COMPUTERS, computer_key(computer), who._replace(left_at=now).pack())
