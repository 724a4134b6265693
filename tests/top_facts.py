"""Facts for pictures of the dashboard: a server at three in the morning, with most of what can be wrong."""

from dataclasses import replace
from typing import Any

from als_tools.formats import Zone
from als_tools.snapshot import Outage, Pool, Snapshot
from als_tools.top.facts import Block, Ending, Facts, Rate, Refused
from als_tools.top.paper import UNICODE, Paper, Signs
from als_tools.top.picture import draw
from als_tools.top.state import State

NOW = 1_767_582_000  # 2026-01-05 03:00:00 UTC
HOUR_S, DAY_S = 3_600, 86_400


def pool(product: str, total: int, used: int, **changes: Any) -> Pool:
    """Make a pool."""
    numbers: dict[str, Any] = {"lapsed": 0, "on_expired": 0, "denied_24h": 0, "expiring_30d": 0, "next_expiry": None}
    name = f"Product {product}"
    return Pool(product, name, total, total - used, used, **(numbers | changes))


def status(*pools: Pool, **changes: Any) -> Snapshot:
    """Make a status of a server on which nothing is wrong but what the pools say."""
    quiet = Snapshot(
        address="192.0.2.9:9876",
        fingerprint="SHA256:0",
        now=NOW,
        server_id="0f1e2d3c",
        name="licenses",
        version="1.0",
        engine="lmdb",
        started_at=NOW - 3 * DAY_S - 4 * HOUR_S,
        clock_state="ok",
        clock_behind_s=0,
        outages=(),
        replies_dropped=0,
        cluster=None,
        pools=pools,
        serials=7,
        leases=269,
        computers=269,
        events=3,
        requests_per_s=120.0,
        renewals_per_s=80.5,
    )
    return replace(quiet, **changes)


def event(seq: int, seconds_ago: int, kind: str, **changes: Any) -> dict[str, Any]:
    """Make a row of the log."""
    row: dict[str, Any] = dict.fromkeys(("product", "serial_id", "mac", "host", "component", "actor", "detail"))
    return row | {"seq": seq, "time": NOW - seconds_ago, "kind": kind, "count": 1} | changes


def denial(seq: int, seconds_ago: int, host: str, **changes: Any) -> dict[str, Any]:
    """Make a row of the log that says that a computer was refused."""
    known = {"product": "STUDIO", "host": host, "component": "editor", "detail": {"reason": "no_free_license"}}
    return event(seq, seconds_ago, "denied", **(known | changes))


def ending(product: str, days: int, seats: int, used: int, state: str = "valid") -> dict[str, Any]:
    """Make a license row of a serial that ends, or has ended, in so many days."""
    return {
        "product": product,
        "product_name": f"Product {product}",
        "serial_id": f"{product}-0123456789ABC",
        "expires_at": NOW + days * DAY_S,
        "trial": False,
        "total": seats,
        "used": used,
        "state": state,
    }


def lease(number: int, host: str = "", **changes: Any) -> dict[str, Any]:
    """Make a lease row."""
    return {
        "product": "STUDIO",
        "product_name": "Product STUDIO",
        "serial": "0" * 160,
        "serial_id": "STUDIO-0123456789ABC",
        "host": host or f"pc-{number}",
        "address": f"192.0.2.{number}",
        "mac": number.to_bytes(6),
        "kind": "workstation",
        "components": ["editor"],
        "version": "9.1",
        "acquired_at": NOW - 40 * DAY_S,
        "renewed_at": NOW - HOUR_S,
        "renew_by": NOW + 30 * DAY_S - HOUR_S,
        "state": "active",
    } | changes


def bad_night() -> Facts:
    """Give a server with a full pool, serials that end, one that has ended, an outage, and a wrong clock."""
    denials = (
        denial(9, 12, "pc-17"),
        denial(8, 61, "pc-3"),
        denial(7, 3_700, "web-2", count=40),
    )
    return Facts(
        status=status(
            pool("STUDIO", 40, 40, denied_24h=57),
            pool("VIEWER", 1_000, 700, lapsed=90, expiring_30d=200, next_expiry=NOW + 3 * DAY_S),
            pool("OFFICE", 10, 4, on_expired=2),
            clock_state="set_back",
            clock_behind_s=610,
            outages=(Outage(NOW - 5 * HOUR_S, NOW - 4 * HOUR_S),),
            replies_dropped=3,
        ),
        rates=(*(Rate(10.0 * n, 8.0 * n) for n in range(11)), None, Rate(120.0, 80.5)),
        events=(
            denials[0],
            event(6, 40, "imported", product="VIEWER", serial_id="VIEWER-0123456789ABC", count=50, actor="Eva"),
            denials[1],
            event(5, 300, "granted", product="VIEWER", host="pc-8", component="viewer"),
        ),
        denials=denials,
        refused=(Refused("STUDIO", 57, NOW - HOUR_S),),
        ending=Ending((ending("OFFICE", -2, 5, 2, "expired"), ending("VIEWER", 3, 200, 120)), is_complete=True),
        leases=Block(tuple(lease(number) for number in range(1, 41))),
    )


def quiet_night() -> Facts:
    """Give a server on which nothing is wrong."""
    return Facts(status=status(pool("STUDIO", 40, 20)), rates=(Rate(1.0, 1.0),))


def picture(
    facts: Facts,
    state: State | None = None,
    width: int = 80,
    height: int = 26,
    here: int = NOW,
    signs: Signs = UNICODE,
) -> list[str]:
    """Draw facts as lines of plain text, without the blanks at their ends."""
    paper = Paper(width, height, facts.status.now, Zone(utc=True), signs)
    return [line.plain.rstrip() for line in draw(facts, state or State(), paper, here).lines]
