"""The usual requests, in few looks: renewals with nothing new but the time, acquires of new computers or of held seats.

This file does them and gives None for every other request, which the rules of leases.py then decide. A renewal works on
the lease's bytes in place: the conditions below repeat, as comparisons of bytes, what `_standing` and `_touch` in
leases.py say in words, and the model test holds both against each other. An acquire only finds out that nothing stands
against it; seats are taken, and everything is written, by the functions that the rules use, too.
"""

import struct
from typing import Any

from als.catalog import Catalog, Component, Product
from als.ledger import computers, grants, leases, lives, newcomers, seats, sweep
from als.ledger.computers import fingerprint
from als.ledger.desk import Desk
from als.ledger.rows import active_row
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
    Computer,
    LeaseState,
    product_key,
)
from als.store.transaction import Table, Transaction
from als.usual import Usual, computer_of, front_mac, is_plain

_ACTIVE = LeaseState.ACTIVE << LEASE_STATE_SHIFT
_ACTIVE_ENDS = _ACTIVE | LEASE_ENDS
_ADDRESSES = Table.ADDRESSES
_LEASES = Table.LEASES
_RENEWED_AT, _RENEWED_END = RENEWED.start, RENEWED.stop
_ENDS_HEAD_BYTES = LEASE_HEAD_BYTES + TIME_BYTES
_unpack_head = struct.Struct(">B8xIII").unpack_from  # state and form, renewed, period, due
_pack_time, _unpack_time = TIME.pack, TIME.unpack_from


def acquire(desk: Desk, usual: Usual) -> dict[str, Any] | None:
    """Give a seat to a computer that is new, or tell one of the seat that it holds; None when it is neither."""
    product = desk.catalog.by_code.get(usual.product)
    if product is None or usual.want_lease is not None:
        return None
    component = product.components.get(usual.component)
    if component is None or not component.licensed:
        return None
    mac = front_mac(bytes(usual.computer))
    if mac is None:
        return None
    if desk.tx.get(_ADDRESSES, mac) is None:
        return _grant(desk, usual, product, component, mac)
    return _tell(desk, usual, product, mac)


def _grant(desk: Desk, usual: Usual, product: Product, component: Component, mac: bytes) -> dict[str, Any] | None:
    """Give a seat to a computer whose front address is new, if all are, and there is a seat, and it may have it."""
    tx, computer = desk.tx, computer_of(usual)
    if computer is None or computer.macs[0] != mac or not is_plain(computer, usual.version):
        return None  # a first address other than the front one: the key came twice
    for mac in computer.macs[1:]:
        if tx.get(_ADDRESSES, mac) is not None:
            return None
    if not leases.is_worked_off(tx, product.number, desk.now):
        return None
    free = seats.find_free(tx, product.number, desk.now)
    if free is None or newcomers.refuse(desk) is not None:
        return None
    new = Computer(computer.macs, computer.host, computer.address, computer.machine_id or None, computer.kind)
    number, who = computers.enter(tx, desk.server, new, fingerprint(bytes(usual.computer)))
    lease = grants.write(desk, product, component, free, number, who, usual.version or "")
    newcomers.count(desk)
    row = active_row(tx, desk.catalog, product.number, lease, who)
    return {"result": "granted", "lease": row, "heartbeat_s": product.heartbeat_s}


def _tell(desk: Desk, usual: Usual, product: Product, mac: bytes) -> dict[str, Any] | None:
    """Renew the lease that a computer holds, if nothing else happens to it, and tell of it."""
    if renew(desk.tx, desk.catalog, usual, desk.sender.key, desk.now) is None:
        return None
    number = computers.owner_of(desk.tx, mac)
    lease = lives.read(desk.tx, product.number, number) if number is not None else None
    assert number is not None and lease is not None, "it was just renewed"
    row = active_row(desk.tx, desk.catalog, product.number, lease, computers.read(desk.tx, number))
    return {"result": "already_held", "lease": row, "heartbeat_s": product.heartbeat_s}


def renew(tx: Transaction, catalog: Catalog, renewal: Usual, key: bytes, now: int) -> dict[str, Any] | None:
    """Renew a lease that nothing else happens to; None when something else does, or may.

    All renewals of a product in one transaction get the same answer object, so that it need be written only once.
    """
    product = catalog.by_code.get(renewal.product)
    if product is None or not product.reusable or renewal.want_lease:
        return None
    component = product.components.get(renewal.component)
    if component is None or not component.licensed:
        return None
    computer = bytes(renewal.computer)
    mac = front_mac(computer)
    raw = tx.get(_ADDRESSES, mac) if mac is not None else None
    if raw is None:
        return None
    if raw[COMPUTER_BYTES:] != _pack_time(fingerprint(computer)):
        return None  # its bytes are others than when they were read and judged
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
