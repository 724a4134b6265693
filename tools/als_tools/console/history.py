"""The log from the newest event back, page by page, though the wire lists it from the oldest on.

It steps back through time, in steps that grow where little happened and shrink where much did. The cursor that this is
built on is explained in als_tools/top/tail.py; where a server refuses it, the log is read once from its beginning and
turned round.
"""

from collections.abc import Iterator
from typing import Any

from als import protocol
from als_agents.errors import Refused
from als_tools import rows, sorting
from als_tools.columns import Row
from als_tools.formats import HOUR_S
from als_tools.rows import Ask
from als_tools.top.tail import cursor_at

STEP_S_FIRST = HOUR_S
FEW_ROWS, MANY_ROWS = 200, 5_000
FACTOR = 4


def newest_first(ask: Ask, now: int, **fields: Any) -> Iterator[Row]:
    """Give every event up to `now`, the server's time, the newest first. Raises what `ask` raises."""
    try:
        oldest = _oldest(ask)
        ask("events", after=cursor_at(now), limit=1)
    except Refused as error:
        if error.code != "bad_request":
            raise
        yield from sorting.turned_round(rows.all_rows(ask, "events", **fields))
        return
    end, step_s = now + 1, STEP_S_FIRST
    while oldest is not None and end > oldest:
        start = max(oldest, end - step_s)
        found = _between(ask, start, end, fields)
        if found is None and end - start > 1:
            step_s = max(1, (end - start) // FACTOR)
            continue
        yield from reversed(found if found is not None else list(_all_between(ask, start, end, fields)))
        end = start
        if found is not None and len(found) < FEW_ROWS:
            step_s *= FACTOR


def _oldest(ask: Ask) -> int | None:
    """Give the time of the first event that there is."""
    found = ask("events", limit=1)["rows"]
    return int(found[0]["time"]) if found else None


def _between(ask: Ask, start: int, end: int, fields: dict[str, Any]) -> list[Row] | None:
    """Read the events of a stretch of time; None when they are too many to be held."""
    found: list[Row] = []
    for row in _all_between(ask, start, end, fields):
        found.append(row)
        if len(found) > MANY_ROWS:
            return None
    return found


def _all_between(ask: Ask, start: int, end: int, fields: dict[str, Any]) -> Iterator[Row]:
    after: str | None = cursor_at(start)
    stop = int(cursor_at(end), 16)
    while after is not None:
        reply = ask("events", after=after, limit=protocol.ROWS_PER_PAGE_MAX, **fields)
        for row in reply["rows"]:
            if row["seq"] > stop:
                return
            yield row
        after = reply["next"]
        if after is not None and int(after, 16) > stop:
            return
