"""What administrators read: status, licenses, leases, events, usage, admins. Changes nothing.

Lists are paged: a page reads at most SCANNED_MAX records (and the rest of an hour's), so that no request holds the loop
for long; it may hold fewer rows than asked for, even none, and still have a next page.
"""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from als import serial
from als.ledger import computers, products, serialbook
from als.ledger.desk import Desk
from als.ledger.rows import lease_row, lease_state, license_row
from als.ledger.tally import HOUR_S
from als.protocol import ROWS_PER_PAGE_MAX, Refusal, Request
from als.records import (
    EVENT_KINDS,
    LEASE_KEY_BYTES,
    TIME_MAX,
    Admin,
    Event,
    Lease,
    SerialRecord,
    SerialState,
    Usage,
    end_key,
    product_key,
    split_lease_key,
    usage_key,
)
from als.store.transaction import Rows, Table, prefix_stop

SCANNED_MAX = 2_000  # records read for a page: about 5 ms; the protocol allows 10,000
DAY_S = 86_400
EXPIRING_S = 30 * DAY_S
EXPIRING_SCANNED_MAX = 10_000
_SERVERS_MAX = 0xFFFF
_HOUR_BYTES = 6  # of a key of USAGE: product and hour; the server follows

Page = dict[str, Any]


def pools(desk: Desk) -> list[dict[str, Any]]:
    """Every pool that the store has met, in the order of product numbers."""
    return [_pool(desk, number) for number in sorted(products.known(desk.tx))]


def _pool(desk: Desk, product: int) -> dict[str, Any]:
    code, name = products.name_of(desk.tx, desk.catalog, product)
    pool = desk.tally.pool_sum(product)
    desk.tally.flush()
    since = usage_key(product, max(desk.now - DAY_S, 0) // HOUR_S + 1, 0)
    hours = desk.tx.scan(Table.USAGE, since, prefix_stop(product_key(product)), limit=_SERVERS_MAX)
    start, stop = end_key(product, desk.now + 1, 0), end_key(product, TIME_MAX, 0)
    next_end = desk.tx.scan(Table.ENDS, start, stop, limit=1)
    soon = desk.tx.scan(Table.ENDS, start, end_key(product, desk.now + EXPIRING_S, 0), limit=EXPIRING_SCANNED_MAX)
    return {
        "product": code,
        "product_name": name,
        "total": pool.total,
        "free": pool.total - pool.used,
        "used": pool.used,
        "lapsed": pool.lapsed,
        "on_expired": pool.on_ended,
        "denied_24h": sum(Usage.unpack(raw).denied for _, raw in hours),
        "expiring_30d": sum(int.from_bytes(raw, "big") for _, raw in soon),
        "next_expiry": int.from_bytes(next_end[0][0][2:6], "big") if next_end else None,
    }


def counts(desk: Desk) -> dict[str, int]:
    """How many of each thing the store holds."""
    store = desk.tally.store_sum()
    return {
        "serials": store.serials,
        "leases": store.leases,
        "computers": store.computers,
        "events": store.events,
    }


class _BadCursorError(Exception):
    """An `after` that no page of this listing gave."""


def paged(listing: Callable[[Desk, Request], Page | Refusal]) -> Callable[[Desk, Request], Page | Refusal]:
    """Refuse a cursor that is not ours."""

    def operation(desk: Desk, request: Request) -> Page | Refusal:
        try:
            return listing(desk, request)
        except _BadCursorError:
            return Refusal("bad_request", "The key after is no cursor of this listing.", {"key": "after"})

    return operation


def _after(request: Request, length: int) -> bytes | None:
    """Give the first key of the page, None for the first page. A cursor is the last key seen, in hexadecimal."""
    text = request.get("after")
    if text is None:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise _BadCursorError from None
    if len(key) != length:
        raise _BadCursorError
    return key


class _Filler:
    """Fills one page from the rows of a scan, and knows the cursor of the next."""

    def __init__(self, request: Request, found: Rows, exhausted: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self._limit = request.get("limit") or ROWS_PER_PAGE_MAX
        self._found = found
        self._exhausted = exhausted
        self._last: bytes | None = None

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for place, (key, raw) in enumerate(self._found):
            if len(self.rows) >= self._limit:
                return
            self._last = key
            yield key, raw
            if place == len(self._found) - 1 and self._exhausted:
                self._last = None

    def page(self) -> Page:
        """The reply's keys."""
        return {"rows": self.rows, "next": self._last.hex() if self._last is not None else None}


def _scan(desk: Desk, request: Request, table: Table, start: bytes, stop: bytes | None, length: int) -> _Filler:
    """Read one page's records from `start`, or from the request's cursor."""
    after = _after(request, length)
    if after is not None:
        start = max(start, after + b"\0")
    found = desk.tx.scan(table, start, stop, limit=SCANNED_MAX)
    return _Filler(request, found, exhausted=len(found) < SCANNED_MAX)


def _number_filter(desk: Desk, request: Request) -> tuple[bool, int | None]:
    """Give (whether a product is asked for, its number or None when nothing has that code)."""
    code = request.get("product")
    return code is not None, products.number_of(desk.tx, desk.catalog, code) if code is not None else None


_NOTHING: Page = {"rows": [], "next": None}


def licenses(desk: Desk, request: Request) -> Page:
    """The serials in the order of their import."""
    asked, product = _number_filter(desk, request)
    filler = _scan(desk, request, Table.SERIALS, b"", None, 4)
    for key, raw in filler:
        record, number = SerialRecord.unpack(raw), int.from_bytes(key, "big")
        seats = desk.tally.seats(number)
        if seats is None or seats.state is SerialState.REMOVED or (asked and record.product != product):
            continue
        filler.rows.append(license_row(desk.tx, desk.catalog, desk.tally, number, record, desk.now))
    return filler.page()


def leases(desk: Desk, request: Request) -> Page:
    """The leases by product, then in the order in which computers were met."""
    asked, product = _number_filter(desk, request)
    serial_number = None
    if request.get("serial_id") is not None:
        serial_number = serialbook.find(desk.tx, desk.catalog, request["serial_id"])
        if serial_number is None:
            return _NOTHING
    if asked and product is None:
        return _NOTHING
    prefix = product_key(product) if product is not None else b""
    filler = _scan(desk, request, Table.LEASES, prefix, prefix_stop(prefix) if prefix else None, LEASE_KEY_BYTES)
    state, host = request.get("state"), (request.get("host") or "").lower()
    for key, raw in filler:
        lease = Lease.unpack(raw)
        if serial_number is not None and lease.serial != serial_number:
            continue
        if state is not None and lease_state(desk.tx, lease, desk.now) != state:
            continue
        number, computer = split_lease_key(key)
        who = computers.read(desk.tx, computer)
        if host and not fnmatchcase(who.host.lower(), host):
            continue
        filler.rows.append(lease_row(desk.tx, desk.catalog, number, lease, who, desk.now))
    return filler.page()


def events(desk: Desk, request: Request) -> Page:
    """The log, the oldest first."""
    asked, product = _number_filter(desk, request)
    kind = request.get("kind")
    if kind is not None and kind not in EVENT_KINDS:
        return _NOTHING
    filler = _scan(desk, request, Table.EVENTS, b"", None, 8)
    for key, raw in filler:
        event = Event.unpack(int.from_bytes(key, "big"), raw)
        if (kind is not None and event.kind != kind) or (asked and event.product != product):
            continue
        filler.rows.append(_event_row(desk, key, event))
    return filler.page()


def _event_row(desk: Desk, key: bytes, event: Event) -> dict[str, Any]:
    code = products.name_of(desk.tx, desk.catalog, event.product)[0] if event.product else None
    serial_id = None
    if event.serial_id is not None and code is not None:
        serial_id = serial.short_id(code, event.serial_id)
    return {
        "seq": int.from_bytes(key, "big"),
        "time": event.time,
        "kind": event.kind,
        "product": code,
        "serial_id": serial_id,
        "mac": event.mac,
        "host": event.host,
        "component": event.component,
        "actor": event.actor,
        "count": event.amount,
        "detail": event.detail,
    }


def usage(desk: Desk, request: Request) -> Page | Refusal:
    """A product's hours from `since` to before `until`; servers of a cluster are added up."""
    product = products.number_of(desk.tx, desk.catalog, request["product"])
    if product is None:
        return Refusal("unknown_product", "This server knows no such product.", {"product": request["product"]})
    desk.tally.flush()
    since = min(request["since"], TIME_MAX) // HOUR_S
    until = (min(request["until"], TIME_MAX) + HOUR_S - 1) // HOUR_S
    filler = _hours(desk, request, usage_key(product, since, 0), usage_key(product, until, 0))
    for key, raw in filler:
        hour = Usage.unpack(raw)
        filler.rows.append(
            {
                "hour": int.from_bytes(key[2:_HOUR_BYTES], "big") * HOUR_S,
                "used_max": hour.used_max,
                "total": hour.total,
                "denied": hour.denied,
                "granted": hour.granted,
                "lapsed": hour.lapsed,
            }
        )
    return filler.page()


def _hours(desk: Desk, request: Request, start: bytes, stop: bytes) -> _Filler:
    """Read a page's hours, each as one record whichever servers wrote one.

    No page ends within an hour: it reads on to the hour's end, and the next page begins with another hour.
    """
    after = _after(request, len(start))
    if after is not None:
        start = max(start, prefix_stop(after[:_HOUR_BYTES]) or after)
    found = desk.tx.scan(Table.USAGE, start, stop, limit=SCANNED_MAX)
    exhausted = len(found) < SCANNED_MAX
    if not exhausted:
        last = found[-1][0]
        found = found + desk.tx.scan(Table.USAGE, last + b"\0", prefix_stop(last[:_HOUR_BYTES]), limit=_SERVERS_MAX)
    hours: Rows = []
    for key, raw in found:
        if hours and hours[-1][0][:_HOUR_BYTES] == key[:_HOUR_BYTES]:
            hours[-1] = key, _add_up(hours[-1][1], raw)
        else:
            hours.append((key, raw))
    return _Filler(request, hours, exhausted)


def _add_up(raw: bytes, other: bytes) -> bytes:
    """Add two servers' records of an hour: seats are what either saw at most, happenings are summed."""
    one, two = Usage.unpack(raw), Usage.unpack(other)
    return Usage(
        max(one.used_max, two.used_max),
        max(one.total, two.total),
        one.denied + two.denied,
        one.granted + two.granted,
        one.lapsed + two.lapsed,
    ).pack()


def admins(desk: Desk, request: Request) -> Page:
    """The table of administrators, by key."""
    filler = _scan(desk, request, Table.ADMINS, b"", None, 32)
    for key, raw in filler:
        admin = Admin.unpack(raw)
        filler.rows.append(
            {
                "key": key,
                "name": admin.name,
                "role": admin.role,
                "added_at": admin.added_at,
                "added_by": admin.added_by,
            }
        )
    return filler.page()
