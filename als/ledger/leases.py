"""The agents' operations: acquire, renew, release, check (R1-R11, R17).

Each checks everything before its first write, so a refusal changes nothing but the log of denials. Lapse and end are
decided by `now` at the moment of the request, never by whether the sweep has come by.
"""

from typing import Any, NamedTuple

from als.catalog import Component, Product
from als.ledger import computers, grants, lives, newcomers, products, seats, serialbook, sweep
from als.ledger.desk import AGENTS_LISTED, Desk
from als.ledger.rows import active_row
from als.protocol import Refusal, Request, Role
from als.records import (
    HOLDER_BYTES,
    NEVER,
    Computer,
    Event,
    Holder,
    Lease,
    LeaseState,
)
from als.store.transaction import Transaction

Answer = dict[str, Any] | Refusal

WORK_OFF_MAX = 1_000  # due entries before a refusal: some 10 ms
HOLDER_SILENT_LEAST_S = 3_600
RETRY_AFTER_S = 1
STILL_DUE = Refusal(
    "unavailable", "Lapsed licenses are being worked off; ask again in a second.", {"retry_after_s": RETRY_AFTER_S}
)
_WORKED_OFF = "worked off"


class _Claim(NamedTuple):
    """A checked request for a license."""

    product: Product
    component: Component
    found: computers.Found
    request: Request


class _Standing(NamedTuple):
    """The lease that a claim finds. `holds` says that it keeps its seat; else `lease` is only a record (or None)."""

    lease: Lease | None
    holds: bool
    lapsed: bool = False
    ended: bool = False
    gone: bool = False


def acquire(desk: Desk, request: Request) -> Answer:
    """Take a seat, or share the one that the computer has."""
    claim = _claim(desk, request)
    if isinstance(claim, Refusal):
        return claim
    if not claim.component.licensed:
        return {"result": "not_counted", "lease": None, "heartbeat_s": claim.product.heartbeat_s}
    standing = _standing(desk, claim)
    outcome = _hold(desk, claim, standing)
    if isinstance(outcome, Refusal):
        return outcome
    lease, who, result = outcome
    return {
        "result": "granted" if result == "granted" else "already_held",
        "lease": active_row(desk.tx, desk.catalog, claim.product.number, lease, who),
        "heartbeat_s": claim.product.heartbeat_s,
    }


def renew(desk: Desk, request: Request) -> Answer:
    """Renew a lease; without one this is an acquire."""
    claim = _claim(desk, request)
    if isinstance(claim, Refusal):
        return claim
    heartbeat_s = claim.product.heartbeat_s
    if not claim.component.licensed:
        return {"result": "not_counted", "renew_by": None, "heartbeat_s": heartbeat_s, "lease": None}
    outcome = _hold(desk, claim, _standing(desk, claim))
    if isinstance(outcome, Refusal):
        return outcome
    lease, who, result = outcome
    row = None
    if result != "renewed" or request.get("want_lease"):
        row = active_row(desk.tx, desk.catalog, claim.product.number, lease, who)
    return {
        "result": "granted" if result == "granted" else "renewed",
        "renew_by": desk.now + lease.period_s if lease.period_s else None,
        "heartbeat_s": heartbeat_s,
        "lease": row,
    }


def _claim(desk: Desk, request: Request) -> _Claim | Refusal:
    """Look product, component and computer up."""
    product = desk.catalog.by_code.get(request["product"])
    if product is None:
        return Refusal("unknown_product", "This server knows no such product.", {"product": request["product"]})
    component = product.components.get(request["component"])
    if component is None:
        message = f"{product.name} has no such component."
        return Refusal("unknown_component", message, {"component": request["component"]})
    claim = _Claim(product, component, computers.identify(desk.tx, request["computer"]), request)
    if desk.rules.agents == AGENTS_LISTED and desk.admin() is None:
        key = desk.sender.key.hex()
        message = f"This server serves listed agents only; an administrator must add the key {key} with the role agent."
        refusal = Refusal("not_authorized", message, {"role": Role.AGENT.text})
        _deny(desk, claim, refusal, {"key": key})
        return refusal
    return claim


def _standing(desk: Desk, claim: _Claim) -> _Standing:
    """Say how the computer's lease stands at this second."""
    if claim.found.number is None:
        return _Standing(None, False)
    lease = lives.read(desk.tx, claim.product.number, claim.found.number)
    if lease is None:
        return _Standing(None, False)
    lapsed = lives.has_lapsed(desk.tx, lease, desk.now)
    gone = lives.is_gone(desk.tally, lease)
    ended = lives.has_ended(lease, desk.now)
    return _Standing(lease, not (lapsed or gone or ended), lapsed, ended, gone)


_Outcome = tuple[Lease, Computer, str]


def _hold(desk: Desk, claim: _Claim, standing: _Standing) -> _Outcome | Refusal:
    """Make the computer hold a seat: keep it, move it, or engage one; say which as renewed, moved or granted."""
    if standing.holds:
        assert standing.lease is not None
        return _keep(desk, claim, standing.lease)
    free = _find_seat(desk, claim.product)
    if standing.lease is not None:
        standing = _standing(desk, claim)  # it may have been worked off
    moves = standing.lease is not None and not standing.lapsed and not standing.holds
    if standing.gone and claim.product.reusable:
        moves = False  # the record is as good as deleted
    if isinstance(free, seats.Free):
        too_many = None if moves else newcomers.refuse(desk)
        if too_many is None:
            return _move(desk, claim, standing, free) if moves else _engage(desk, claim, standing, free)
        free = too_many
    elif free.code == "no_free_license" and moves and not standing.gone:
        free = Refusal("license_expired", _ENDED_MESSAGE, free.detail)
    if free.code != "unavailable":
        _deny(desk, claim, free)
    return free


_ENDED_MESSAGE = "The license's serial has ended, and no other serial has a free license."


def _find_seat(desk: Desk, product: Product) -> seats.Free | Refusal:
    """Work off what is due, since a lapsed seat is free and may be the one that R2 takes next (R5)."""
    is_all = work_off(desk, product.number, WORK_OFF_MAX)
    free = seats.find_free(desk.tx, product.number, desk.now)
    if free is not None:
        return free
    if not is_all:
        return STILL_DUE
    pool = desk.tally.pool_sum(product.number)
    detail = {"total": pool.total, "used": pool.used, "free": 0}
    if pool.total == 0 and pool.ended:
        return Refusal("license_expired", f"All serials of {product.name} have ended.", detail)
    if pool.total == 0:
        return Refusal("no_free_license", f"No serial of {product.name} has been imported.", detail)
    return Refusal("no_free_license", f"All {pool.total} licenses of {product.name} are in use.", detail)


def work_off(desk: Desk, product: int, bound: int) -> bool:
    """Apply to a product what time has brought: ended serials and lapsed leases; say whether that is all.

    At most `bound` entries, and while the transaction has room.
    """
    if is_worked_off(desk.tx, product, desk.now):
        return True
    done = seats.end_serials(desk.tx, desk.tally, product, desk.now, bound)
    if done < bound:
        done += sweep.work_off_due(desk.tx, desk.journal, desk.tally, product, desk.now, bound - done)
    if done >= bound or not desk.tx.has_room():
        return False
    desk.tx.memo[_WORKED_OFF, product] = desk.now
    return True


def is_worked_off(tx: Transaction, product: int, now: int) -> bool:
    """Say whether nothing more of a product is due: what is written in this transaction is due later than now."""
    return bool(tx.memo.get((_WORKED_OFF, product)) == now)


def _deny(desk: Desk, claim: _Claim, refusal: Refusal, detail: dict[str, Any] | None = None) -> None:
    """Log a denial; the computer is told by what is known of it, and not entered. `detail` is told with the first."""
    request = claim.request["computer"]
    mac = request["macs"][0]
    if claim.found.number is not None:
        mac = computers.read(desk.tx, claim.found.number).macs[0]
    products.meet(desk.tx, claim.product)
    desk.tally.usage(claim.product.number, desk.now).denied += 1
    event = Event(
        desk.now,
        "denied",
        claim.product.number,
        mac=mac,
        host=request["host"],
        component=claim.component.code,
        detail=detail,
    )
    desk.journal.deny(event, refusal.code)


def _keep(desk: Desk, claim: _Claim, lease: Lease) -> _Outcome:
    """Renew a lease that holds its seat."""
    number, who = _remember(desk, claim)
    _touch(desk, claim, lease, number, who)
    lives.write(desk.tx, claim.product.number, number, lease)
    return lease, who, "renewed"


def _move(desk: Desk, claim: _Claim, standing: _Standing, free: seats.Free) -> _Outcome:
    """Move a lease from a serial that counts no longer to one with a free seat (R6)."""
    lease = standing.lease
    assert lease is not None
    number, who = _remember(desk, claim)
    product = claim.product.number
    old = serialbook.id_of(desk.tx, lease.serial)
    seats.give_back(desk.tx, desk.tally, product, lease.serial, lease.expires_at, desk.now)
    seats.take(desk.tx, desk.tally, product, free, desk.now)
    lease.serial, lease.expires_at = free.number, free.expires_at
    new = serialbook.id_of(desk.tx, free.number)
    from_serial = serialbook.short_id(desk.tx, desk.catalog, product, old) if old is not None else None
    _log(desk, claim, "moved", new, who, {"from": from_serial})
    _touch(desk, claim, lease, number, who)
    lives.write(desk.tx, product, number, lease)
    return lease, who, "moved"


def _engage(desk: Desk, claim: _Claim, standing: _Standing, free: seats.Free) -> _Outcome:
    """Take a seat for a computer that has none, or has lost it by lapse or removal."""
    product = claim.product.number
    tx, tally, old = desk.tx, desk.tally, standing.lease
    number, who = _remember(desk, claim)
    acquired_at = None
    if old is not None:
        if old.state is LeaseState.ACTIVE and standing.lapsed:
            lives.lapse(tx, desk.journal, tally, product, number, old, desk.now)
        elif old.state is LeaseState.ACTIVE:
            seats.give_back(tx, tally, product, old.serial, old.expires_at, desk.now)
        if old.state is LeaseState.LAPSED:
            tally.pool(product).lapsed -= 1
        if not standing.gone:
            acquired_at = old.acquired_at
    holder, version = desk.sender.key[:HOLDER_BYTES], claim.request.get("version") or ""
    lease = grants.new_lease(desk, claim.product, claim.component, free, holder, version, acquired_at)
    grants.write(desk, lease, claim.product, number, who, old)
    newcomers.count(desk)
    return lease, who, "granted"


def _remember(desk: Desk, claim: _Claim) -> tuple[int, Computer]:
    request = claim.request["computer"]
    return computers.remember(desk.tx, desk.journal, claim.found, request, desk.now, desk.server)


def _log(
    desk: Desk,
    claim: _Claim,
    kind: str,
    serial_id: int | None,
    who: Computer,
    detail: dict[str, Any] | None = None,
) -> None:
    desk.journal.write(
        Event(
            desk.now,
            kind,
            claim.product.number,
            serial_id,
            who.macs[0],
            who.host,
            claim.component.code,
            detail=detail,
        )
    )


def _touch(desk: Desk, claim: _Claim, lease: Lease, number: int, who: Computer) -> None:
    """Write a run of a component into its lease: time, version, component and holder (R3, R11)."""
    now, product = desk.now, claim.product
    lease.renewed_at = now
    lease.period_s = product.period_s or NEVER
    due_at = now + lease.period_s if lease.period_s else NEVER
    if not due_at or not lease.due_at or due_at < lease.due_at:
        lives.place(desk.tx, product.number, number, lease, due_at)
    version = claim.request.get("version")
    if version is not None:
        lease.version = version
    code = claim.component.code
    key = desk.sender.key[:HOLDER_BYTES]
    holder = lease.components.get(code)
    serial_id = serialbook.id_of(desk.tx, lease.serial)
    if holder is None:
        lease.components[code] = Holder(key, now)
        _log(desk, claim, "component_added", serial_id, who)
    elif holder.key == key:
        lease.components[code] = Holder(key, now)
    elif now - holder.seen_at >= max(2 * product.heartbeat_s, HOLDER_SILENT_LEAST_S):
        lease.components[code] = Holder(key, now)
        _log(desk, claim, "holder_changed", serial_id, who)


def release(desk: Desk, request: Request) -> Answer:
    """Take a component out of a lease; the last one frees the seat of a reusable product (R4)."""
    product = products.number_of(desk.tx, desk.catalog, request["product"])
    found = computers.identify(desk.tx, request["computer"])
    if product is None or found.number is None:
        return {"result": "not_held"}
    lease = lives.read(desk.tx, product, found.number)
    code = request["component"]
    if lease is None or code not in lease.components or lives.is_gone(desk.tally, lease):
        return {"result": "not_held"}
    if lives.has_lapsed(desk.tx, lease, desk.now):
        return {"result": "not_held"}
    if lease.components[code].key != desk.sender.key[:HOLDER_BYTES]:
        message = "Another key acquired this component: only its holder may release it, or an operator revokes it."
        return Refusal("not_holder", message)
    del lease.components[code]
    result = _let_go(desk, product, found.number, lease)
    who = computers.read(desk.tx, found.number)
    serial_id = serialbook.id_of(desk.tx, lease.serial)
    desk.journal.write(Event(desk.now, result, product, serial_id, who.macs[0], who.host, code))
    return {"result": result}


def _let_go(desk: Desk, product: int, computer: int, lease: Lease) -> str:
    """Store a lease that has lost a component, or free its seat with the last; give the result's word."""
    if not lease.components and is_reusable(desk, product, lease):
        free_seat(desk, product, computer, lease)
        return "freed"
    lives.write(desk.tx, product, computer, lease)
    return "component_removed" if lease.components else "kept"


def is_reusable(desk: Desk, product: int, lease: Lease) -> bool:
    """Say whether a lease's seat may come back; a product that vanished is judged by its leases' period."""
    known = desk.catalog.by_number.get(product)
    return known.reusable if known is not None else lease.period_s != NEVER


def free_seat(desk: Desk, product: int, computer: int, lease: Lease) -> None:
    """Give an active lease's seat back and delete its record."""
    seats.give_back(desk.tx, desk.tally, product, lease.serial, lease.expires_at, desk.now)
    lives.drop(desk.tx, desk.tally, product, computer, lease, desk.now)


def check(desk: Desk, request: Request) -> Answer:
    """Tell a deployment server whether seats are free; takes none (R9)."""
    product = desk.catalog.by_code.get(request["product"])
    if product is None:
        return Refusal("unknown_product", "This server knows no such product.", {"product": request["product"]})
    is_all = work_off(desk, product.number, WORK_OFF_MAX)
    pool = desk.tally.pool_sum(product.number)
    if not is_all and pool.used >= pool.total:
        return STILL_DUE
    engaged = False
    if request.get("computer") is not None:
        found = computers.identify(desk.tx, request["computer"])
        lease = lives.read(desk.tx, product.number, found.number) if found.number is not None else None
        engaged = lease is not None and not (
            lives.has_lapsed(desk.tx, lease, desk.now)
            or lives.has_ended(lease, desk.now)
            or lives.is_gone(desk.tally, lease)
        )
    return {"total": pool.total, "used": pool.used, "free": pool.total - pool.used, "engaged": engaged}


def revoke(desk: Desk, request: Request) -> Answer:
    """Free a computer's seat on an operator's word."""
    product = products.number_of(desk.tx, desk.catalog, request["product"])
    if product is None:
        return Refusal("unknown_product", "This server knows no such product.", {"product": request["product"]})
    computer = computers.owner_of(desk.tx, request["mac"])
    lease = lives.read(desk.tx, product, computer) if computer is not None else None
    if lease is None or lives.has_lapsed(desk.tx, lease, desk.now) or lives.is_gone(desk.tally, lease):
        return Refusal("unknown_lease", "This computer holds no license of this product.")
    if not is_reusable(desk, product, lease):
        return Refusal("not_reusable", "A license of this product stays with its computer for good.")
    assert computer is not None
    who = computers.read(desk.tx, computer)
    free_seat(desk, product, computer, lease)
    serial_id = serialbook.id_of(desk.tx, lease.serial)
    desk.journal.write(Event(desk.now, "revoked", product, serial_id, who.macs[0], who.host, actor=desk.actor()))
    return {"result": "freed"}
