"""The table of administrators: which key may do what."""

from typing import Any

from als.ledger.desk import Desk
from als.protocol import Refusal, Request, Role
from als.records import Admin, Event
from als.store.transaction import Table, Transaction

ADMINS_SCANNED_MAX = 100_000  # far above what anybody lists by hand


def add(desk: Desk, request: Request) -> dict[str, Any] | Refusal:
    """Add a key, or change its name and role."""
    key, name, role = request["key"], request["name"], request["role"]
    raw = desk.tx.get(Table.ADMINS, key)
    old = Admin.unpack(raw) if raw is not None else None
    if old is not None and (old.name, old.role) == (name, role):
        return {"result": "already_present"}
    if old is not None and role != Role.ADMIN.text and _is_last_admin(desk.tx, key):
        return Refusal("last_admin", "This is the last admin; add another before changing its role.")
    if old is not None:
        new = old._replace(name=name, role=role)
    else:
        new = Admin(name, role, desk.now, desk.actor() or "")
    detail: dict[str, Any] = {"key": key.hex(), "name": name, "role": role}
    if old is not None:
        detail["old_name"], detail["old_role"] = old.name, old.role
    kind = "admin_added" if old is None else "admin_changed"
    desk.journal.write(Event(desk.now, kind, actor=desk.actor(), detail=detail))
    desk.tx.put(Table.ADMINS, key, new.pack())
    return {"result": "added" if old is None else "changed"}


def remove(desk: Desk, request: Request) -> dict[str, Any] | Refusal:
    """Take a key's role away; it is an agent's key from then on."""
    key = request["key"]
    raw = desk.tx.get(Table.ADMINS, key)
    if raw is None:
        return {"result": "not_present"}
    if _is_last_admin(desk.tx, key):
        return Refusal("last_admin", "This is the last admin; add another before removing it.")
    old = Admin.unpack(raw)
    detail = {"key": key.hex(), "name": old.name, "role": old.role}
    desk.journal.write(Event(desk.now, "admin_removed", actor=desk.actor(), detail=detail))
    desk.tx.delete(Table.ADMINS, key)
    return {"result": "removed"}


def _is_last_admin(tx: Transaction, key: bytes) -> bool:
    """Say whether `key` is an admin's and no other is."""
    admins = [
        row_key
        for row_key, raw in tx.scan(Table.ADMINS, limit=ADMINS_SCANNED_MAX)
        if Admin.unpack(raw).role == Role.ADMIN.text
    ]
    return admins == [key]
