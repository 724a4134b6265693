"""Rows of a server's listing from the first page to the last: fetched when asked for, filtered, ordered, limited.

Holds one page at a time; only a sort needs more (als_tools/sorting.py).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from als import protocol
from als_tools import sorting
from als_tools.columns import Column, Listing, Row

Ask = Callable[..., dict[str, Any]]
"""Sends an operation with its fields and gives the reply."""

Test = Callable[[Row], bool]


def all_rows(ask: Ask, operation: str, **fields: Any) -> Iterator[Row]:
    """Give every row of a listing in the server's order, a page at a time."""
    after: str | None = None
    while True:
        reply = ask(operation, limit=protocol.ROWS_PER_PAGE_MAX, after=after, **fields)
        yield from reply["rows"]
        after = reply["next"]
        if after is None:
            return


def matches(key: str, pattern: str | None) -> Test | None:
    """Make a test for a text column, without regard to case; `*` and `?` stand for anything. None tests nothing."""
    if pattern is None:
        return None
    wanted = pattern.casefold()
    return lambda row: fnmatchcase(str(row.get(key) or "").casefold(), wanted)


def begins(key: str, prefix: str | None) -> Test | None:
    """Make a test for how a text column begins, without regard to case. None tests nothing."""
    if prefix is None:
        return None
    wanted = prefix.casefold()
    return lambda row: str(row.get(key) or "").casefold().startswith(wanted)


def filtered(rows: Iterable[Row], *tests: Test | None) -> Iterable[Row]:
    """Keep the rows that pass every test."""
    real = [test for test in tests if test is not None]
    return (row for row in rows if all(test(row) for test in real)) if real else rows


def arranged(
    rows: Iterable[Row], listing: Listing, sort: str | None, reverse: bool, limit: int | None
) -> Iterable[Row]:
    """Put rows in the order of a column ("-name" from the greatest down), and keep at most `limit` of them.

    Raises UnknownColumnError, before the first row is asked for.
    """
    if sort is not None:
        column: Column = listing.column(sort.removeprefix("-"))
        rows = sorting.in_order(rows, column.sort_key, sort.startswith("-") != reverse)
    elif reverse:
        rows = sorting.turned_round(rows)
    return rows if limit is None else islice(rows, limit)


def last(rows: Iterable[Row], number: int | None) -> Iterable[Row]:
    """Keep the last `number` rows, all when there is none."""
    return rows if number is None else iter(deque(rows, maxlen=number))


def is_pattern(text: str | None) -> bool:
    """Say whether a filter has wildcards, which the server does not know."""
    return text is not None and any(char in text for char in "*?[")
