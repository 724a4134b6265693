"""Outage mercy (R12): time in which no server was running does not count against a lease."""

from als.records import Lease, Outage, pack_value, unpack_value
from als.store.transaction import Table, Transaction

OUTAGES_MAX = 1_000  # with one restart a day, more than the longest retention
_KEY = b"outages"


def outages(tx: Transaction) -> list[Outage]:
    """The stored outages, the oldest first."""
    found: list[Outage] | None = tx.memo.get("outages")
    if found is None:
        raw = tx.get(Table.META, _KEY)
        found = [Outage(*item) for item in unpack_value(raw)] if raw is not None else []
        tx.memo["outages"] = found
    return found


def add_outage(tx: Transaction, start: int, end: int) -> None:
    """Store an outage; when there are too many, as after a night of restarts, the shortest goes of those before it."""
    kept = [*outages(tx), Outage(start, end)]
    if len(kept) > OUTAGES_MAX:
        kept.remove(min(kept[:-1], key=lambda outage: outage.end - outage.start))
    _store(tx, kept)


def cut_outages(tx: Transaction, now: int) -> None:
    """Forget what of the outages lies after `now`, to which a wrong clock was set back."""
    known = outages(tx)
    kept = [Outage(outage.start, min(outage.end, now)) for outage in known if outage.start < now]
    if kept != known:
        _store(tx, kept)


def _store(tx: Transaction, kept: list[Outage]) -> None:
    tx.put(Table.META, _KEY, pack_value(kept))
    tx.memo["outages"] = kept


def deadline(tx: Transaction, lease: Lease) -> int | None:
    """The second from which an active lease is lapsed; None when it never lapses."""
    if not lease.period_s:
        return None
    end = lease.renewed_at + lease.period_s
    known = outages(tx)
    if not known or known[-1].end <= lease.renewed_at:
        return end  # the usual one was renewed since
    for outage in known:
        if outage.start >= end:
            break  # it began after the lapse, which nothing revives
        missed = outage.end - max(outage.start, lease.renewed_at)
        if missed > 0:
            end += min(missed, lease.period_s)
    return end
