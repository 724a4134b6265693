"""What time brings, in bounded steps: lapses, ends, removals, the hour's change, retention (R5, R14, R15).

Correctness never waits for it: requests decide by `now`. The sweep keeps listings, history and the store's size true.
"""

from als.ledger import ahead, computers, lives, mercy, products, seats, serialbook
from als.ledger.journal import Journal
from als.ledger.quick import repeats
from als.ledger.tally import HOUR_S, Tally
from als.records import (
    COMPUTERS_MAX,
    Computer,
    LeaseState,
    computer_key,
    due_key,
    event_key,
    event_number,
    hour_key,
    lease_key,
    pack_value,
    split_due_key,
    split_lease_key,
    unpack_value,
    usage_key,
)
from als.store.transaction import Table, Transaction

EVENTS_KEPT_S = 400 * 86_400
USAGE_KEPT_S = 5 * 366 * 86_400
DUE_AT_ONCE = 200  # entries looked up together: as many as a request in a cluster has room for
DUE_BETWEEN_LOOKS = 10  # entries after which to ask for room again: the largest leases have 10 KB
_SERVERS_MAX = 0xFFFF
_REMOVING = b"removing"
REMOVALS = "removals"  # in a transaction's memo, once `removals` has been asked


def sweep(tx: Transaction, journal: Journal, tally: Tally, now: int, bound: int) -> int:
    """Do at most about `bound` things that are due; give their number, 0 when nothing is left."""
    done = 0
    numbers = [lives.NO_PRODUCT, *products.known(tx)]
    for product in numbers:
        if product != lives.NO_PRODUCT:
            tally.usage(product, now)
            done += seats.end_serials(tx, tally, product, now, bound)
        if done < bound:
            done += work_off_due(tx, journal, tally, product, now, bound - done)
        if done >= bound:
            return done
    for step in (_work_off_removal, _merge_denials, _forget_old):
        if done < bound:
            done += step(tx, journal, tally, now, bound - done)
    return done


def work_off_due(tx: Transaction, journal: Journal, tally: Tally, product: int, now: int, bound: int) -> int:
    """Look at a product's due entries up to now: lapse, put back, or forget; give their number.

    At most `bound`, and while there is room.
    """
    start, stop = due_key(product, 0, 0), due_key(product, now, COMPUTERS_MAX) + b"\0"
    done = 0
    while done < bound and tx.has_room():
        limit = min(bound - done, DUE_AT_ONCE)
        rows = tx.scan(Table.DUE, start, stop, limit=limit)
        tx.expect(ahead.due(rows))
        for at in range(0, len(rows), DUE_BETWEEN_LOOKS):
            few = rows[at : at + DUE_BETWEEN_LOOKS]
            if not tx.has_room():
                return done
            tx.expect(ahead.serials_due(few, tx.get))
            for key, _ in few:
                _, due_at, computer = split_due_key(key)
                _come_due(tx, journal, tally, product, computer, due_at, now)
            done += len(few)
        if len(rows) < limit:
            break
        start = rows[-1][0] + b"\0"
    return done


def _come_due(
    tx: Transaction, journal: Journal, tally: Tally, product: int, computer: int, due_at: int, now: int
) -> None:
    """Do with a computer and its lease, or with one that has none, what is due."""
    if product == lives.NO_PRODUCT:
        _forget_computer(tx, tally, computer, due_at)
        return
    lease = lives.read(tx, product, computer)
    assert lease is not None and lease.due_at == due_at, "the due index agrees with the leases"
    if lease.state is LeaseState.LAPSED:
        lives.drop(tx, tally, product, computer, lease, now)
        return
    end = mercy.deadline(tx, lease)
    assert end is not None
    if end > now:
        lives.place(tx, product, computer, lease, end)
        lives.write(tx, product, computer, lease)
    else:
        lives.lapse(tx, journal, tally, product, computer, lease, now)


def _forget_computer(tx: Transaction, tally: Tally, number: int, due_at: int) -> None:
    """Forget a computer that has had no lease for RETENTION_S."""
    tx.delete(Table.DUE, due_key(lives.NO_PRODUCT, due_at, number))
    raw = tx.get(Table.COMPUTERS, computer_key(number))
    if raw is None or any(lives.read(tx, product, number) for product in products.known(tx)):
        return
    computers.forget(tx, tally, number, Computer.unpack(raw))


# Removal of a serial whose leases go with it: the list of jobs is [[product, serial, last computer seen], ...].


def removals(tx: Transaction) -> list[list[int]]:
    """The removals under way."""
    found: list[list[int]] | None = tx.memo.get(REMOVALS)
    if found is None:
        raw = tx.get(Table.META, _REMOVING)
        found = tx.memo[REMOVALS] = unpack_value(raw) if raw is not None else []
    return found


def _set_removals(tx: Transaction, jobs: list[list[int]]) -> None:
    tx.memo[REMOVALS] = jobs
    tx.put(Table.META, _REMOVING, pack_value(jobs))


def begin_removal(tx: Transaction, product: int, serial: int) -> None:
    """Enter a serial whose leases are to be deleted."""
    repeats.forget_all(tx)
    _set_removals(tx, [*removals(tx), [product, serial, 0]])


def _work_off_removal(tx: Transaction, journal: Journal, tally: Tally, now: int, bound: int) -> int:
    """Delete leases of the first serial that is being removed; look at no more than `bound` leases."""
    jobs = removals(tx)
    if not jobs:
        return 0
    (product, serial, after), *others = jobs
    start = lease_key(product, after)
    rows = tx.scan(Table.LEASES, start, lease_key(product, COMPUTERS_MAX), limit=bound)
    for key, _ in rows:
        _, computer = split_lease_key(key)
        lease = lives.read(tx, product, computer)
        if lease is not None and lease.serial == serial:
            if lease.state is LeaseState.ACTIVE:
                seats.give_back(tx, tally, product, serial, lease.expires_at, now)
            lives.drop(tx, tally, product, computer, lease, now)
    if len(rows) < bound:
        serialbook.forget(tx, tally, serial)
        _set_removals(tx, others)
    else:
        last = split_lease_key(rows[-1][0])[1]
        _set_removals(tx, [[product, serial, last + 1], *others])
    return max(len(rows), 1)


def _merge_denials(tx: Transaction, journal: Journal, tally: Tally, now: int, bound: int) -> int:
    return journal.merge_denials(now, bound)


def _forget_old(tx: Transaction, journal: Journal, tally: Tally, now: int, bound: int) -> int:
    """Delete what is past its retention: events, hourly usage, and R17's counts of hours that are over."""
    old_events = event_key(event_number(max(now - EVENTS_KEPT_S, 0), 0))
    done = 0
    for key, _ in tx.scan(Table.EVENTS, b"", old_events, limit=bound):
        tx.delete(Table.EVENTS, key)
        tally.store().events -= 1
        done += 1
    for product in products.known(tx):
        old_usage = usage_key(product, max(now - USAGE_KEPT_S, 0) // HOUR_S, 0)
        for key, _ in tx.scan(Table.USAGE, usage_key(product, 0, 0), old_usage, limit=max(bound - done, 0)):
            tx.delete(Table.USAGE, key)
            done += 1
    for key, _ in tx.scan(Table.NEWCOMERS, b"", hour_key(now // HOUR_S), limit=max(bound - done, 0)):
        tx.delete(Table.NEWCOMERS, key)
        done += 1
    return done
