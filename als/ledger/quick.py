"""The usual renewal, in one get of the address and one get and one replacement of the lease.

Most requests are renewals in which nothing but the time is new. This file does those and gives None for every other,
which the rules of leases.py then decide; it works on the lease's bytes in place. That is what speed costs here: the
conditions below repeat, as comparisons of bytes, what `_standing` and `_touch` in leases.py say in words, and the model
test holds both against each other.
"""

from typing import Any

from als.catalog import Catalog
from als.ledger import sweep
from als.ledger.computers import OWNER, fingerprint_of
from als.records import HOLDER_BYTES, LEASE_HEAD, LEASE_HEAD_BYTES, SEEN, LeaseState, lease_key
from als.renewal import Renewal
from als.store.transaction import Table, Transaction

_ACTIVE = int(LeaseState.ACTIVE)
_ADDRESSES = Table.ADDRESSES
_LEASES = Table.LEASES
_SEEN_BYTES = SEEN.size
_COMPONENT_AT = LEASE_HEAD_BYTES + 1  # the first component's length; its code follows
_unpack_owner, _unpack_head, _pack_head, _pack_seen = OWNER.unpack, LEASE_HEAD.unpack_from, LEASE_HEAD.pack, SEEN.pack


def renew(tx: Transaction, catalog: Catalog, renewal: Renewal, key: bytes, now: int) -> dict[str, Any] | None:
    """Renew a lease that nothing else happens to; None when something else does, or may.

    All renewals of a product in one transaction get the same answer object, so that it need be written only once.
    """
    product = catalog.by_code.get(renewal.product)
    if product is None or not product.reusable or renewal.want_lease:
        return None
    component = product.components.get(renewal.component)
    if component is None or not component.licensed:
        return None
    computer = renewal.computer
    macs = computer.macs
    raw = tx.get(_ADDRESSES, macs[0])
    if raw is None:
        return None
    number, mark = _unpack_owner(raw)
    if mark != fingerprint_of(macs, computer.host, computer.address, computer.machine_id, computer.kind):
        return None
    if sweep.removals(tx):
        return None
    lease = lease_key(product.number, number)
    raw = tx.get(_LEASES, lease)
    if raw is None:
        return None
    state, serial, acquired_at, renewed_at, period_s, due_at, expires_at = _unpack_head(raw)
    renew_by = now + period_s
    if state != _ACTIVE or period_s != product.period_s or now >= renewed_at + period_s or renew_by < due_at:
        return None  # `period_s` is not zero: a product that never lapses differs here from its None
    if expires_at and now >= expires_at:
        return None
    seen = _place_of_seen(raw, component.code.encode(), key[:HOLDER_BYTES])
    if seen is None or (renewal.version is not None and not _has_version(raw, renewal.version)):
        return None
    head = _pack_head(state, serial, acquired_at, now, period_s, due_at, expires_at)
    tx.replace(_LEASES, lease, head + raw[LEASE_HEAD_BYTES:seen] + _pack_seen(now) + raw[seen + _SEEN_BYTES :])
    answer: dict[str, Any] | None = tx.memo.get(product.number)
    if answer is None:
        answer = {"result": "renewed", "renew_by": renew_by, "heartbeat_s": product.heartbeat_s, "lease": None}
        tx.memo[product.number] = answer
    return answer


def _place_of_seen(raw: bytes, code: bytes, holder: bytes) -> int | None:
    """Find where a component of this holder keeps its time in a lease's bytes; None when there is no such."""
    place = _COMPONENT_AT
    if raw.startswith(code + holder, place + 1) and raw[place] == len(code):
        return place + 1 + len(code) + HOLDER_BYTES  # the first is the usual one
    for _ in range(raw[LEASE_HEAD_BYTES]):
        code_end = place + 1 + raw[place]
        holder_end = code_end + HOLDER_BYTES
        if raw[place + 1 : code_end] == code:
            return holder_end if raw[code_end:holder_end] == holder else None
        place = holder_end + _SEEN_BYTES
    return None


def _has_version(raw: bytes, version: str) -> bool:
    """Say whether the lease's bytes end in this version, and in no longer one."""
    place = _COMPONENT_AT
    for _ in range(raw[LEASE_HEAD_BYTES]):
        place += 1 + raw[place] + HOLDER_BYTES + _SEEN_BYTES
    return raw[place:] == version.encode()
