"""The usual requests, in few looks: renewals with nothing new but the time, acquires of new computers or of held seats.

This file does them and gives None for every other request, which the rules of leases.py then decide. A renewal works on
the lease's bytes in place: the conditions below repeat, as comparisons of bytes, what `_standing` and `_touch` in
leases.py say in words, and the model test holds both against each other. An acquire only finds out that nothing stands
against it; seats are taken, and everything is written, by the functions that the rules use, too.
"""

from typing import Any

from als.catalog import Catalog, Component, Product
from als.ledger import computers, grants, leases, lives, newcomers, seats, sweep
from als.ledger.computers import OWNER, fingerprint
from als.ledger.desk import Desk
from als.ledger.rows import active_row
from als.records import HOLDER_BYTES, LEASE_HEAD, LEASE_HEAD_BYTES, SEEN, Computer, LeaseState, lease_key
from als.store.transaction import Table, Transaction
from als.usual import Usual, computer_of, front_mac, is_plain

_ACTIVE = int(LeaseState.ACTIVE)
_ADDRESSES = Table.ADDRESSES
_LEASES = Table.LEASES
_SEEN_BYTES = SEEN.size
_COMPONENT_AT = LEASE_HEAD_BYTES + 1  # the first component's length; its code follows
_unpack_owner, _unpack_head, _pack_head, _pack_seen = OWNER.unpack, LEASE_HEAD.unpack_from, LEASE_HEAD.pack, SEEN.pack


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
        return _grant(desk, usual, product, component)
    return _tell(desk, usual, product, mac)


def _grant(desk: Desk, usual: Usual, product: Product, component: Component) -> dict[str, Any] | None:
    """Give a seat to a computer whose first address is new, if all are, and there is a seat, and it may have it."""
    tx, computer = desk.tx, computer_of(usual)
    if computer is None or not is_plain(computer, usual.version):
        return None
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
    number, mark = _unpack_owner(raw)
    if mark != fingerprint(computer):
        return None  # its bytes are others than when they were read and judged
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
