"""What the listings show: for each, its columns by the wire's keys, how a value is written and how it is ordered.

The manual's two views are LICENSES and USED. Knows nothing of servers or terminals.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from als import keyfile
from als_tools import formats
from als_tools.formats import Zone

Row = Mapping[str, Any]
"""One row of a reply, with the wire's keys."""

SortKey = tuple[int, Any]
"""What rows are compared by: (0, value) for what there is, (1, 0) after it for what is absent."""

_ABSENT: SortKey = (1, 0)
MOMENT_KEYS = frozenset({"from", "to", "time", "wall_clock"})  # in an event's detail: an outage, a clock that was wrong


class UnknownColumnError(Exception):
    """A column that a listing does not have; the message names those that it has."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `key` on the wire, `heading` for people, `kind` one of the keys of KINDS.

    `absent` stands where there is no value; `width_min` is the narrowest that a fold of it can still be read in.
    `is_elastic` says that a part of it is better than nothing where nothing can be folded.
    """

    key: str
    heading: str
    kind: str = "text"
    absent: str = ""
    width_min: int = 8
    is_elastic: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is set to the right and never folded."""
        return self.kind in ("number", "ordinal")

    def title(self, zone: Zone) -> str:
        """Give the heading; that of a time names the zone."""
        return f"{self.heading} ({zone.name})" if self.kind in ("time", "moment") else self.heading

    def text(self, row: Row, zone: Zone) -> str:
        """Write this column of `row` for people."""
        value = row.get(self.key)
        return self.absent if value is None or value == "" else KINDS[self.kind].text(value, zone)

    def plain(self, row: Row, zone: Zone) -> str:
        """Write this column of `row` for programs that split lines at tabs; absent values are empty."""
        value = row.get(self.key)
        return "" if value is None else KINDS[self.kind].plain(value, zone)

    def sort_key(self, row: Row) -> SortKey:
        """Give what rows are compared by in this column."""
        value = row.get(self.key)
        return _ABSENT if value is None else (0, KINDS[self.kind].order(value))


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one kind are written for people, for programs, and compared."""

    text: Callable[[Any, Zone], str]
    plain: Callable[[Any, Zone], str]
    order: Callable[[Any], Any]


def _natural(value: Any) -> list[tuple[int, int, str]]:
    """Order text as people do, pc-9 before pc-10, without regard to case."""
    parts = re.findall(r"[0-9]+|[^0-9]+", words(value).casefold())
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _address_order(value: Any) -> list[tuple[int, int, str]]:
    try:
        address = ipaddress.ip_address(str(value))
    except ValueError:
        return _natural(value)
    return [(0, address.version, ""), (0, int(address), "")]


def words(value: Any) -> str:
    """Write any value of the wire as words; a map as "key=value" pairs, a list with commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(words(item) for item in value)
    if isinstance(value, bytes):
        return formats.binary(value)
    return str(value)


def _text(value: Any, zone: Zone) -> str:
    return formats.clean(words(value))


def _detail(value: Any, zone: Zone) -> str:
    """Write what an event tells besides, an outage's ends as times of day and not as seconds since 1970."""
    if not isinstance(value, Mapping):
        return _text(value, zone)
    said = {key: zone.second(item) if _is_moment(key, item) else item for key, item in value.items()}
    return _text(said, zone)


def _is_moment(key: Any, value: Any) -> bool:
    return key in MOMENT_KEYS and isinstance(value, int) and not isinstance(value, bool)


def _key(value: Any, zone: Zone) -> str:
    return keyfile.to_z85(value) if isinstance(value, bytes) and len(value) == keyfile.KEY_BYTES else str(value)


def _number(value: Any, zone: Zone) -> str:
    return formats.count(value) if isinstance(value, int) else _text(value, zone)


KINDS: Mapping[str, Kind] = {
    "text": Kind(_text, _text, _natural),
    "address": Kind(_text, _text, _address_order),
    "detail": Kind(_detail, _text, _natural),
    "number": Kind(_number, _text, lambda value: value),
    "ordinal": Kind(_text, _text, lambda value: value),  # a number that is a name: no commas
    "state": Kind(_text, _text, _natural),
    "time": Kind(lambda value, zone: zone.minute(value), lambda value, zone: zone.iso(value), lambda value: value),
    "moment": Kind(lambda value, zone: zone.second(value), lambda value, zone: zone.iso(value), lambda value: value),
    "flag": Kind(
        lambda value, zone: "yes" if value else "no",
        lambda value, zone: "true" if value else "false",
        bool,
    ),
    "key": Kind(_key, _key, lambda value: value),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """One listing: all its `columns`, those `shown` unless others are chosen, and the order in which columns are
    left out, with a word about it, where the window is too narrow for them."""

    columns: tuple[Column, ...]
    shown: tuple[str, ...]
    left_out_first: tuple[str, ...] = ()

    def column(self, key: str) -> Column:
        """Find a column by its key. Raises UnknownColumnError."""
        for column in self.columns:
            if column.key == key.strip().lower():
                return column
        known = ", ".join(column.key for column in self.columns)
        raise UnknownColumnError(f'there is no column "{formats.clean(key)}"; there are {known}')

    def choose(self, text: str | None) -> tuple[Column, ...]:
        """Give the columns that `text` names ("host,address"), "all" of them, or those shown by default.

        Raises UnknownColumnError.
        """
        if text is None:
            return tuple(self.column(key) for key in self.shown)
        if text.strip().lower() == "all":
            return self.columns
        return tuple(self.column(key) for key in text.split(","))


_PRODUCT = Column("product", "Product", width_min=5)
_PRODUCT_NAME = Column(
    "product_name", "Product name", width_min=18, is_elastic=True
)  # two lines for the longest of the manual's
_SERIAL_ID = Column("serial_id", "Serial", width_min=13)  # CODE- on one line, 13 symbols on the next
_SERIAL = Column("serial", "Serial number", width_min=8)
_STATE = Column("state", "State", "state", width_min=7)
_HOST = Column("host", "Host", width_min=14, is_elastic=True)
_MAC = Column("mac", "MAC address", width_min=17)

LICENSES = Listing(
    columns=(
        _PRODUCT,
        _PRODUCT_NAME,
        _SERIAL_ID,
        _SERIAL,
        Column("imported_at", "Imported", "time", width_min=10),
        Column("expires_at", "Expires", "time", formats.NEVER, width_min=10),
        Column("trial", "Trial", "flag", width_min=5),
        Column("total", "Total", "number"),
        Column("free", "Free", "number"),
        Column("used", "Used", "number"),
        _STATE,
    ),
    shown=("product_name", "serial_id", "imported_at", "expires_at", "total", "free", "used", "state"),
    left_out_first=("imported_at", "product_name"),
)

USED = Listing(
    columns=(
        _PRODUCT,
        _PRODUCT_NAME,
        _HOST,
        Column("address", "Address", "address", width_min=8),
        _MAC,
        Column("kind", "Kind", width_min=6),
        _SERIAL_ID,
        _SERIAL,
        Column("components", "Components"),
        Column("version", "Version"),
        Column("acquired_at", "Acquired", "time", width_min=10),
        Column("renewed_at", "Last run", "time", width_min=10),
        Column("renew_by", "Renew by", "time", formats.NEVER, width_min=10),
        _STATE,
    ),
    shown=("product_name", "host", "address", "serial_id", "acquired_at", "renew_by", "state"),
    left_out_first=("acquired_at", "product_name", "address"),
)

EVENTS = Listing(
    columns=(
        Column("seq", "Number", "ordinal"),
        Column("time", "Time", "moment", width_min=10),
        Column("kind", "Event", width_min=10),
        _PRODUCT,
        _SERIAL_ID,
        _MAC,
        _HOST,
        Column("component", "Component"),
        Column("actor", "By", width_min=13, is_elastic=True),
        Column("count", "Count", "number"),
        Column("detail", "Detail", "detail", width_min=22, is_elastic=True),
    ),
    shown=("time", "kind", "product", "host", "serial_id", "actor", "count", "detail"),
    left_out_first=("serial_id", "count", "actor"),
)

USAGE = Listing(
    columns=(
        Column("hour", "Hour", "time", width_min=10),
        Column("used_max", "Most used", "number"),
        Column("total", "Total", "number"),
        Column("granted", "Granted", "number"),
        Column("denied", "Denied", "number"),
        Column("lapsed", "Lapsed", "number"),
    ),
    shown=("hour", "used_max", "total", "granted", "denied", "lapsed"),
)

ADMINS = Listing(
    columns=(
        Column("name", "Name"),
        Column("role", "Role"),
        Column("key", "Key", "key", width_min=20),
        Column("added_at", "Added", "time", width_min=10),
        Column("added_by", "Added by"),
    ),
    shown=("name", "role", "key", "added_at", "added_by"),
    left_out_first=("added_by", "added_at"),
)

SERVERS = Listing(
    columns=(
        Column("name", "Name"),
        Column("address", "Address", "address", width_min=15),
        Column("port", "Port", "ordinal"),
        Column("version", "Version", width_min=7),
        Column("fingerprint", "Key fingerprint", width_min=25),
        Column("server_id", "Server id"),
    ),
    shown=("name", "address", "port", "version", "fingerprint"),
)
