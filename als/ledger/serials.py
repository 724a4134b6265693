"""Import and removal of serials (R4, R6, PROTOCOL section 4)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from als import serial
from als.catalog import Product
from als.ledger import products, seats, serialbook, sweep
from als.ledger.desk import Desk
from als.ledger.leases import STILL_DUE, WORK_OFF_MAX, work_off
from als.protocol import Refusal, Request
from als.records import (
    NEVER,
    TIME_MAX,
    Event,
    Seats,
    SerialRecord,
    SerialState,
    serial_identity,
    serial_key,
)
from als.serial import Serial, SerialError
from als.store.transaction import Table

_SERVER_KEY = b"server key"  # by which the locks of serials were judged last
_SCANNED_ROWS = 1_000


class Trust(NamedTuple):
    """Whose serials count: this server's CURVE key, and the vendors' keys by name."""

    server_key: bytes
    vendors: Mapping[str, bytes]


class _Verdict(NamedTuple):
    """What became of one serial: the result's word, a sentence, its short id, and the seats it added."""

    result: str
    message: str
    serial_id: str | None = None
    seats: int = 0


def import_serials(desk: Desk, request: Request, trust: Trust) -> dict[str, Any]:
    """Import up to 20 serials; one bad serial never stops the others."""
    rows = []
    added = seats_added = 0
    for line, text in enumerate(request["serials"], 1):
        verdict = _import_one(desk, text, trust)
        rows.append(
            {
                "line": line,
                "serial_id": verdict.serial_id,
                "result": verdict.result,
                "message": verdict.message,
            }
        )
        if verdict.result == "added":
            added += 1
            seats_added += verdict.seats
    return {"rows": rows, "added": added, "licenses_added": seats_added}


def _import_one(desk: Desk, text: str, trust: Trust) -> _Verdict:
    """Check in the order of the protocol, then enter."""
    try:
        raw = serial.read(text)
        content = serial.decode(raw)
    except SerialError as error:
        return _Verdict(error.result, str(error))
    product = desk.catalog.by_number.get(content.product_number)
    short = serial.short_id(product.code, content.serial_id) if product is not None else None
    vendors = {name: key for name, key in trust.vendors.items() if serial.issuer_of(key) == content.issuer}
    if not vendors:
        return _Verdict(
            "unknown_vendor",
            "No vendor's key in this server issued the serial; see als-server add-vendor.",
            short,
        )
    vendor = next((name for name, key in vendors.items() if serial.verify(raw, key)), None)
    if vendor is None:
        return _Verdict("forged", "The vendor's signature does not fit the serial.", short)
    if product is None:
        message = f"The catalog has no product with the number {content.product_number}."
        return _Verdict("unknown_product", message)
    if product.vendor is not None and product.vendor != vendor:
        message = f"Serials of {product.name} count only from the vendor {product.vendor}."
        return _Verdict("unknown_vendor", message, short)
    if content.lock not in (serial.NO_LOCK, serial.lock_of(trust.server_key)):
        return _Verdict("wrong_server", "The serial is locked to another server's key.", short)
    return _enter(desk, raw, content, product, vendors[vendor], short)


def _enter(desk: Desk, raw: bytes, content: Serial, product: Product, vendor_key: bytes, short: str | None) -> _Verdict:
    """Enter a genuine serial, unless it has ended or is there."""
    tx, now = desk.tx, desk.now
    identity = serial_identity(content.serial_id, vendor_key)
    first_raw = tx.get(Table.TRIALS, identity)
    first_import = int.from_bytes(first_raw, "big") if first_raw is not None else now
    expires_at = serial.expires_at(content, first_import) or NEVER
    expires_at = min(expires_at, TIME_MAX - 1)  # four bytes in every lease: the year 2106
    if expires_at and expires_at <= now:
        return _Verdict("expired", "The serial's time is over.", short)
    number = serialbook.number_of_identity(tx, identity)
    kept = desk.tally.seats(number) if number is not None else None
    if kept is not None and kept.state in (SerialState.VALID, SerialState.ENDED):
        return _Verdict("already_present", "The serial was imported before.", short)
    products.meet(tx, product)
    if content.trial_days and first_raw is None:
        tx.put(Table.TRIALS, identity, now.to_bytes(8, "big"))
    desk.tally.store().serials += 1
    if number is not None and kept is not None and kept.state is SerialState.REMOVED:
        kind = "restored"
        old = serialbook.read(tx, number)
        assert old is not None
        record = old._replace(imported_at=now)
    else:
        kind = "imported"
        number = serialbook.next_number(tx)
        desk.tally.add_seats(number, Seats(content.seats, 0, SerialState.VALID))
        record = SerialRecord(
            raw, product.number, content.seats, content.serial_id, vendor_key, now, expires_at, content.trial
        )
    tx.put(Table.SERIALS, serial_key(number), record.pack())
    tx.put(Table.SERIAL_IDS, identity, serial_key(number))
    tx.memo.pop(("serial", number), None)
    seats.open_serial(tx, desk.tally, product.number, number, record.expires_at, now)
    desk.journal.write(Event(now, kind, product.number, content.serial_id, actor=desk.actor(), amount=record.seats))
    return _Verdict("added", f"{record.seats} licenses of {product.name} added.", short, record.seats)


def remove(desk: Desk, request: Request) -> dict[str, Any] | Refusal:
    """Take a serial out of the count at once; its leases follow in bounded steps, or are kept (R4)."""
    tx, tally = desk.tx, desk.tally
    number = serialbook.find(tx, desk.catalog, request["serial_id"])
    serial_seats = tally.seats(number) if number is not None else None
    if number is None or serial_seats is None or serial_seats.state in (SerialState.REMOVING, SerialState.REMOVED):
        return Refusal("unknown_serial", "This server has no such serial.")
    record = serialbook.read(tx, number)
    assert record is not None
    tally.pin()
    # What has lapsed holds no seat, swept or not (R5).
    is_all = not serial_seats.used or work_off(desk, record.product, WORK_OFF_MAX)
    if serial_seats.used and not request.get("force"):
        if not is_all:
            return STILL_DUE
        message = f"Licenses of this serial in use: {serial_seats.used}; remove it with force to take them too."
        return Refusal("serial_in_use", message, {"leases": serial_seats.used})
    return {"result": "removed", "leases": _take_out(desk, number, record, serial_seats.used)}


def _take_out(desk: Desk, number: int, record: SerialRecord, leases: int, detail: dict[str, Any] | None = None) -> int:
    """Take a serial that counts out of the count, and give the number of leases on it; `detail` goes into the event."""
    tx, tally = desk.tx, desk.tally
    known = desk.catalog.by_number.get(record.product)
    keeps = known is not None and not known.reusable
    state = SerialState.REMOVED if keeps else SerialState.REMOVING
    seats.close_serial(tx, tally, record.product, number, record.expires_at, state, desk.now)
    if not leases and not tally.pool_sum(record.product).lapsed:
        serialbook.forget(tx, tally, number)  # no lease can name it
    elif keeps:
        tally.store().serials -= 1
    else:
        sweep.begin_removal(tx, record.product, number)
    desk.journal.write(
        Event(
            desk.now,
            "removed",
            record.product,
            record.serial_id,
            actor=desk.actor(),
            amount=record.seats,
            detail={"leases": leases, **(detail or {})},
        )
    )
    return leases


def take_up_key(desk: Desk, server_key: bytes) -> int:
    """Take out what is locked to another key than this server's, when it has another than before; give their number.

    A copy that was given an identity of its own must not count what its original counts.
    """
    tx, tally = desk.tx, desk.tally
    if tx.get(Table.META, _SERVER_KEY) == server_key:
        return 0
    tx.put(Table.META, _SERVER_KEY, server_key)
    foreign, lock = [], serial.lock_of(server_key)
    start, full = b"", True
    while full:
        rows = tx.scan(Table.SERIALS, start, limit=_SCANNED_ROWS)
        for key, raw in rows:
            record = SerialRecord.unpack(raw)
            if serial.decode(record.raw).lock not in (serial.NO_LOCK, lock):
                foreign.append((int.from_bytes(key, "big"), record))
        full = len(rows) == _SCANNED_ROWS
        start = rows[-1][0] + b"\0" if rows else start
    taken = 0
    for number, record in foreign:
        held = tally.seats(number)
        if held is not None and held.state not in (SerialState.REMOVING, SerialState.REMOVED):
            _take_out(desk, number, record, held.used, {"reason": "wrong_server"})
            taken += 1
    return taken
