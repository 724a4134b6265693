"""A server's log without a server: what `events` answers, page by page, for cursors made from times or not."""

from typing import Any

from als_agents.errors import Refused
from top_facts import NOW, event

PAGE = 1_000


def number(time: int, step: int = 0) -> int:
    """Give an event's number as servers make them."""
    return (time * 1_000_000 + step) << 10


class Log:
    """A server's log: pages of 1,000 from a cursor on. `knows_times` False refuses cursors that it did not give."""

    def __init__(self, times: list[int], knows_times: bool = True) -> None:
        self.rows = [event(number(time, n), NOW - time, "granted") for n, time in enumerate(times)]
        self.asked = 0
        self._knows_times = knows_times

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Answer `events`."""
        assert operation == "events"
        self.asked += 1
        after = fields.get("after")
        if self._knows_times:
            start = -1 if after is None else int(after, 16)
            found = [row for row in self.rows if row["seq"] > start and fields.get("kind") in (None, row["kind"])]
            page = found[:PAGE]
            return {"rows": page, "next": f"{page[-1]['seq']:016x}" if len(found) > PAGE else None}
        if after is not None and not after.startswith("page "):
            raise Refused("bad_request", "The key after is no cursor of this listing.")
        at = 0 if after is None else int(after[5:])
        return {"rows": self.rows[at : at + PAGE], "next": f"page {at + PAGE}" if at + PAGE < len(self.rows) else None}
