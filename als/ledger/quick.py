"""The usual renewal, in one get of the address and one get and one replacement of the lease.

Most requests are renewals in which nothing but the time is new. This file does those and gives None for every other,
which the rules of leases.py then decide; it works on the lease's bytes in place. That is what speed costs here: the
conditions below repeat, as comparisons of bytes, what `_standing` and `_touch` in leases.py say in words, and the model
test holds both against each other.
"""

import struct
from typing import Any

from als.catalog import Catalog
from als.ledger import sweep
from als.ledger.computers import fingerprint_of
from als.records import (
    COMPUTER_BYTES,
    HOLDER_BYTES,
    LEASE_ENDS,
    LEASE_HEAD_BYTES,
    LEASE_LONE,
    LEASE_STATE_SHIFT,
    RENEWED,
    TIME,
    TIME_BYTES,
    LeaseState,
    product_key,
)
from als.renewal import Renewal
from als.store.transaction import Table, Transaction

_ACTIVE = LeaseState.ACTIVE << LEASE_STATE_SHIFT
_ACTIVE_ENDS = _ACTIVE | LEASE_ENDS
_ADDRESSES = Table.ADDRESSES
_LEASES = Table.LEASES
_RENEWED_AT, _RENEWED_END = RENEWED.start, RENEWED.stop
_ENDS_HEAD_BYTES = LEASE_HEAD_BYTES + TIME_BYTES
_unpack_head = struct.Struct(">B8xIII").unpack_from  # state and form, renewed, period, due
_pack_time, _unpack_time = TIME.pack, TIME.unpack_from


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
    mark = fingerprint_of(macs, computer.host, computer.address, computer.machine_id, computer.kind)
    if raw[COMPUTER_BYTES:] != _pack_time(mark):
        return None
    if sweep.removals(tx):
        return None
    lease = product_key(product.number) + raw[:COMPUTER_BYTES]
    raw = tx.get(_LEASES, lease)
    if raw is None:
        return None
    what, renewed_at, period_s, due_at = _unpack_head(raw)
    renew_by = now + period_s
    if period_s != product.period_s or now >= renewed_at + period_s or renew_by < due_at:
        return None  # `period_s` is not zero: a product that never lapses differs here from its None
    lone = what & LEASE_LONE
    state = what - lone
    place = LEASE_HEAD_BYTES
    if state == _ACTIVE_ENDS and now < _unpack_time(raw, place)[0]:
        place = _ENDS_HEAD_BYTES
    elif state != _ACTIVE:
        return None
    code, version = component.code, renewal.version
    own = code.encode() + key[:HOLDER_BYTES]
    if lone:
        if lone != len(code) or not raw.startswith(own, place):
            return None
        if version is not None and raw[place + len(own) :] != version.encode():
            return None
        renewed = raw[:_RENEWED_AT] + _pack_time(now) + raw[_RENEWED_END:]
    else:
        several = _renew_counted(raw, place, bytes((len(code),)) + own, version, now)
        if several is None:
            return None
        renewed = several
    tx.replace(_LEASES, lease, renewed)
    answer: dict[str, Any] | None = tx.memo.get(product.number)
    if answer is None:
        answer = {"result": "renewed", "renew_by": renew_by, "heartbeat_s": product.heartbeat_s, "lease": None}
        tx.memo[product.number] = answer
    return answer


def _renew_counted(raw: bytes, place: int, own: bytes, version: str | None, now: int) -> bytes | None:
    """Renew a lease whose components are counted at `place`, each with its length and time; None when none is `own`.

    A lone one loses these (see LEASE_LONE), since it is heard as the lease is renewed.
    """
    count, start = raw[place], place + 1
    seen = 0
    end = start
    for _ in range(count):
        if raw.startswith(own, end):
            seen = end + len(own)
        end += 1 + raw[end] + HOLDER_BYTES + TIME_BYTES
    if not seen or (version is not None and raw[end:] != version.encode()):
        return None
    if count == 1 and raw[start] <= LEASE_LONE:
        head = bytes((raw[0] | raw[start],)) + raw[1:_RENEWED_AT] + _pack_time(now) + raw[_RENEWED_END:place]
        return head + raw[start + 1 : seen] + raw[end:]
    time = _pack_time(now)
    return raw[:_RENEWED_AT] + time + raw[_RENEWED_END:seen] + time + raw[seen + TIME_BYTES :]
