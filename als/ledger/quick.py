"""The usual renewal, in one get of the address and one get and one put of the lease.

Most requests are renewals in which nothing but the time is new. This file does those and gives None for every other,
which the rules of leases.py then decide; it works on the lease's bytes in place. That is what speed costs here: the
conditions below repeat, as comparisons of bytes, what `_standing` and `_touch` in leases.py say in words, and the model
test holds both against each other.
"""

from typing import Any

from als.catalog import Catalog
from als.ledger import sweep
from als.ledger.computers import OWNER, fingerprint
from als.protocol import Request
from als.records import HOLDER_BYTES, LEASE_HEAD, LEASE_HEAD_BYTES, SEEN, LeaseState, lease_key
from als.store.transaction import Table, Transaction

_ACTIVE = int(LeaseState.ACTIVE)
_ADDRESSES = Table.ADDRESSES
_LEASES = Table.LEASES
_SEEN_BYTES = SEEN.size


def renew(tx: Transaction, catalog: Catalog, request: Request, key: bytes, now: int) -> dict[str, Any] | None:
    """Renew a lease that nothing else happens to; None when something else does, or may.

    All renewals of a product in one transaction get the same answer object, so that it need be written only once.
    """
    product = catalog.by_code.get(request["product"])
    if product is None or not product.reusable or request.get("want_lease"):
        return None
    code = request["component"]
    component = product.components.get(code)
    if component is None or not component.licensed:
        return None
    computer = request["computer"]
    raw = tx.get(_ADDRESSES, computer["macs"][0])
    if raw is None:
        return None
    number, mark = OWNER.unpack(raw)
    if mark != fingerprint(computer) or sweep.removals(tx):
        return None
    lease = lease_key(product.number, number)
    raw = tx.get(_LEASES, lease)
    if raw is None:
        return None
    state, serial, acquired_at, renewed_at, period_s, due_at, expires_at = LEASE_HEAD.unpack_from(raw)
    renew_by = now + period_s
    if state != _ACTIVE or period_s != product.period_s or now >= renewed_at + period_s or renew_by < due_at:
        return None  # `period_s` is not zero: a product that never lapses differs here from its None
    if expires_at and now >= expires_at:
        return None
    seen = _place_of_seen(raw, code.encode("ascii"), key[:HOLDER_BYTES])
    version = request.get("version")
    if seen is None or (version is not None and not _has_version(raw, version)):
        return None
    head = LEASE_HEAD.pack(state, serial, acquired_at, now, period_s, due_at, expires_at)
    rest = raw[seen + _SEEN_BYTES :]
    tx.put(_LEASES, lease, b"".join((head, raw[LEASE_HEAD_BYTES:seen], SEEN.pack(now), rest)))
    answer: dict[str, Any] | None = tx.memo.get(("renewed", product.number))
    if answer is None:
        answer = {"result": "renewed", "renew_by": renew_by, "heartbeat_s": product.heartbeat_s, "lease": None}
        tx.memo["renewed", product.number] = answer
    return answer


def _place_of_seen(raw: bytes, code: bytes, holder: bytes) -> int | None:
    """Find where a component of this holder keeps its time in a lease's bytes; None when there is no such."""
    place = LEASE_HEAD_BYTES + 1
    for _ in range(raw[LEASE_HEAD_BYTES]):
        code_end = place + 1 + raw[place]
        holder_end = code_end + HOLDER_BYTES
        if raw[place + 1 : code_end] == code:
            return holder_end if raw[code_end:holder_end] == holder else None
        place = holder_end + _SEEN_BYTES
    return None


def _has_version(raw: bytes, version: str) -> bool:
    """Say whether the lease's bytes end in this version, and in no longer one."""
    place = LEASE_HEAD_BYTES + 1
    for _ in range(raw[LEASE_HEAD_BYTES]):
        place += 1 + raw[place] + HOLDER_BYTES + _SEEN_BYTES
    return raw[place:] == version.encode()
