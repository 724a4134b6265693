"""The dashboard's lists: for each its columns, its rows out of the facts, and the choices that narrow it.

Adding a list is a row in LISTS. Knows what a person reads, not keys or the layout of the screen.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.style import Style

from als_tools import columns, formats, views
from als_tools.columns import Row
from als_tools.snapshot import Pool
from als_tools.top.bars import fullness_style, pool_bar
from als_tools.top.facts import Facts
from als_tools.top.grid import Column, Written
from als_tools.top.paper import BAD, FAINT, GOOD, PLAIN, SOON, STRONG, Paper
from als_tools.top.problems import clock_time

REASONS = {
    "no_free_license": "no free seat",
    "license_expired": "its serial has ended",
    "too_many": "too many new seats from one address",
    "not_authorized": "its key is not listed",
    "summed": "more computers than are listed",
}
EVENT_STYLES = {
    "denied": BAD,
    "outage": SOON,
    "clock_set_back": BAD,
    "clock_jumped": BAD,
    "lapsed": SOON,
    "holder_changed": SOON,
    "computers_conflict": SOON,
    "removed": SOON,
    "revoked": SOON,
}
STATE_STYLES = {"active": GOOD, "lapsed": SOON, "expired": BAD}
BY_PEOPLE = frozenset({"imported", "removed", "restored", "revoked", "admin_added", "admin_changed", "admin_removed"})
OF_SEATS = frozenset({"granted", "freed", "kept", "lapsed", "moved", "revoked", "denied"})


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to narrow a list: a `test` for its rows, or, for the leases, the `state` that the server is asked for."""

    name: str
    test: Callable[[Row], bool] | None = None
    state: str | None = None


ALL = Choice("all")


@dataclass(frozen=True, slots=True)
class List:
    """One list. `sort` is the column that it is ordered by at first (None: as it comes), `reverse` downwards."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Callable[[Facts], tuple[Row, ...]]
    empty: str
    choices: tuple[Choice, ...] = (ALL,)
    sort: int | None = None
    reverse: bool = False


def _plain(key: str, heading: str, rank: int = 0, **options: Any) -> Column:
    """Make a column of text."""
    listed = columns.Column(key, heading, options.pop("kind", "text"))
    return Column(
        heading,
        lambda row, paper: listed.text(row, paper.zone),
        lambda row: None if row.get(key) is None else listed.sort_key(row),
        rank,
        **options,
    )


def _number(key: str, heading: str, rank: int = 0, alarm: Style = PLAIN) -> Column:
    """Make a column of counts; one that is not 0 is written in the style `alarm`."""

    def text(row: Row, paper: Paper) -> Written:
        return formats.count(row[key]), alarm if row[key] else FAINT

    return Column(heading, text, lambda row: row[key], rank, right=True)


def _time(key: str, heading: str, rank: int = 0, absent: str = "") -> Column:
    def text(row: Row, paper: Paper) -> Written:
        return absent if row[key] is None else clock_time(row[key], paper.now, paper.zone)

    return Column(heading, text, lambda row: row[key], rank, width_min=11)


# Pools


def _pool(row: Row) -> Pool:
    pool: Pool = row["pool"]
    return pool


def _pool_rows(facts: Facts) -> tuple[Row, ...]:
    return tuple({"pool": pool, **asdict(pool)} for pool in facts.status.pools if pool.is_in_use)


def _fullness(row: Row) -> float:
    pool = _pool(row)
    return pool.used / pool.total if pool.total else 2.0 if pool.denied_24h or pool.on_expired else -1.0


def _fullness_word(row: Row, paper: Paper) -> Written:
    cell = views.fullness(_pool(row))
    return cell.text, cell.style


def _used_of_total(row: Row, paper: Paper) -> Written:
    return f"{formats.count(row['used'])}/{formats.count(row['total'])}", fullness_style(_pool(row))


POOL_BAR = Column(
    "",
    lambda row, paper: "",
    _fullness,
    stretch=True,
    width_min=12,
    draw=lambda row, paper, width: pool_bar(_pool(row), width, paper.signs),
)
POOLS = List(
    "pools",
    "Pools",
    (
        Column("Product", lambda row, paper: (row["product"], STRONG), lambda row: row["product"]),
        POOL_BAR,
        Column("Full", _fullness_word, _fullness, right=True),
        Column("Used/total", _used_of_total, lambda row: row["used"], right=True),
        _number("free", "Free", 1),
        _number("denied_24h", "Refused 24 h", 2, BAD),
        _number("lapsed", "Lapsed", 3),
        _number("expiring_30d", "Ends 30 d", 4, SOON),
        _number("on_expired", "On ended", 5, BAD),
        _plain("product_name", "Name", 6),
    ),
    _pool_rows,
    "No serials yet. Import some: als import-file SERVER FILE",
    (
        ALL,
        Choice("full", lambda row: not row["free"]),
        Choice("refusing", lambda row: row["denied_24h"] > 0),
        Choice("ending", lambda row: row["expiring_30d"] > 0 or row["on_expired"] > 0),
    ),
    sort=2,
    reverse=True,
)

# Events


def event_words(row: Row) -> str:
    """Say in a few words what an event's keys say."""
    detail = row["detail"] or {}
    words = []
    if row["kind"] == "denied":
        reason = str(detail.get("reason", ""))
        words.append(REASONS.get(reason, reason))
        if row["count"] > 1:
            words.append(f"{formats.count(row['count'])} times more")
    elif row["kind"] in ("imported", "restored", "removed"):
        words.append(formats.counted(row["count"], "seat"))
    if row["kind"] in ("outage",) and {"from", "to"} <= detail.keys():
        words.append(formats.duration(int(detail["to"]) - int(detail["from"])))
    elif row["kind"] != "denied":
        words += [f"{key} {value}" for key, value in detail.items() if isinstance(value, str | int) and key != "key"]
    if row["serial_id"]:
        words.append(str(row["serial_id"]))
    if row["actor"]:
        words.append(f"by {row['actor']}")
    return formats.clean(", ".join(word for word in words if word))


def _kind(row: Row, paper: Paper) -> Written:
    return str(row["kind"]), EVENT_STYLES.get(row["kind"], PLAIN)


EVENT_COLUMNS = (
    _time("time", "Time"),
    Column("Event", _kind, lambda row: row["kind"], width_max=18),
    _plain("product", "Product", 2),
    _plain("host", "Host", 1, width_min=8, width_max=30),
    Column("What", lambda row, paper: event_words(row), event_words, 3, width_min=12, width_max=70),
    _plain("component", "Component", 4),
    _plain("mac", "MAC address", 5, width_min=17),
)
EVENTS = List(
    "events",
    "Newest events",
    EVENT_COLUMNS,
    lambda facts: facts.events,
    "Nothing has happened yet.",
    (
        ALL,
        Choice("seats", lambda row: row["kind"] in OF_SEATS),
        Choice("people", lambda row: row["kind"] in BY_PEOPLE or row["actor"] is not None),
        Choice("server", lambda row: row["product"] is None and row["kind"] not in BY_PEOPLE),
    ),
)
DENIALS = List(
    "denials",
    "Denials",
    (EVENT_COLUMNS[0], EVENT_COLUMNS[2], EVENT_COLUMNS[3], EVENT_COLUMNS[4], *EVENT_COLUMNS[5:]),
    lambda facts: facts.denials,
    "Nobody was refused.",
    (
        ALL,
        *(
            Choice(words, lambda row, reason=reason: (row["detail"] or {}).get("reason") == reason)  # type: ignore[misc]
            for reason, words in REASONS.items()
        ),
    ),
)

# Serials that end


def _ends(row: Row, paper: Paper) -> Written:
    if row["state"] == "expired":
        return "ended", BAD
    return formats.days_until(row["expires_at"], paper.now), SOON


ENDING = List(
    "ending",
    "Serials that end within 30 days",
    (
        Column("Ends", _ends, lambda row: row["expires_at"]),
        Column("On", lambda row, paper: paper.zone.day(row["expires_at"]), lambda row: row["expires_at"], 2),
        _plain("product", "Product"),
        _number("total", "Seats"),
        _number("used", "Used"),
        _plain("serial_id", "Serial", 1, width_min=14),
        _plain("trial", "Trial", 5, kind="flag"),
        _plain("product_name", "Name", 4),
    ),
    lambda facts: facts.ending.rows,
    "No serial ends within 30 days.",
    (
        ALL,
        Choice("in use", lambda row: row["used"] > 0),
        Choice("ended", lambda row: row["state"] == "expired"),
    ),
)

# Leases: who holds what


def _state(row: Row, paper: Paper) -> Written:
    return str(row["state"]), STATE_STYLES.get(row["state"], PLAIN)


LEASES = List(
    "leases",
    "Who holds what",
    (
        _plain("host", "Host", width_min=8, width_max=32),
        _plain("product", "Product"),
        Column("State", _state, lambda row: row["state"]),
        _time("renew_by", "Renew by", 1, formats.NEVER),
        _plain("address", "Address", 2, kind="address", width_min=9),
        _plain("serial_id", "Serial", 3, width_min=14),
        _time("acquired_at", "Acquired", 4),
        _time("renewed_at", "Last run", 5),
        _plain("mac", "MAC address", 6, width_min=17),
        _plain("components", "Components", 7),
        _plain("kind", "Kind", 8),
    ),
    lambda facts: () if facts.leases is None else facts.leases.rows,
    "Nobody holds a license.",
    (ALL, *(Choice(state, state=state) for state in ("active", "lapsed", "expired"))),
)

LISTS: Mapping[str, List] = {found.name: found for found in (POOLS, EVENTS, DENIALS, ENDING, LEASES)}
