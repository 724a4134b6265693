"""The newest events of a log that the wire lists from the oldest on.

A cursor of `events` is opaque to a client, and this file looks into it all the same: on every server so far it is
the last event's number in 16 hexadecimal digits, and a number is microseconds since 1970 << 10 | the server's number.
So a cursor made from a time begins there, and a log of years need not be read. A server that refuses such a cursor
is read from its beginning, a few pages each time, until the end is reached.
"""

from collections.abc import Sequence

from als import protocol
from als_agents.errors import Refused
from als_tools.columns import Row
from als_tools.rows import Ask

SERVER_BITS = 10
MICROSECONDS = 1_000_000
KEPT = 1_000  # nobody reads further back here; als events has it all
WANTED = 200  # look further back until there are so many
PROBE_ROWS = 2 * KEPT  # with more than these it is clear that a look went back too far
PAGES_MAX = 10  # a look at the log: 10,000 events, or 20,000 passed over, some 50 ms of the server's time
WINDOWS_S = (60, 3_600, 86_400, 30 * 86_400)
OVERLAP_S = 10  # servers of a cluster commit side by side: a lower number may appear after a higher one


def cursor_at(time: int) -> str:
    """Make the cursor of the events from `time` on: it names the number just before the first of that second."""
    return f"{max(0, (time * MICROSECONDS << SERVER_BITS) - 1):016x}"


class Tail:
    """The newest events, all or of one `kind`; each `read` brings it up to date."""

    def __init__(self, kind: str | None = None) -> None:
        self._kind = kind
        self._rows: list[Row] = []  # the newest last
        self._is_opaque = False
        self._begun = False
        self._place: str | None = None  # where an opaque log has been read to

    @property
    def newest_first(self) -> tuple[Row, ...]:
        """What there is."""
        return tuple(reversed(self._rows))

    def read(self, ask: Ask, now: int) -> tuple[Row, ...]:
        """Fetch what is new at `now`, the server's time; give the newest events first. Raises what `ask` raises."""
        if not self._is_opaque:
            try:
                self._follow(ask, now) if self._begun else self._begin(ask, now)
            except Refused as error:
                if error.code != "bad_request":
                    raise
                self._is_opaque = True
        if self._is_opaque:
            self._walk(ask)
        return self.newest_first

    def _begin(self, ask: Ask, now: int) -> None:
        """Look back further and further until there is enough; where a look finds too much, look back less far."""
        self._begun = True
        near_s = 0
        for far_s in (*WINDOWS_S, now):
            rows, rest = self._pages(ask, cursor_at(now - far_s), PROBE_ROWS)
            while rest is not None and far_s - near_s > 1:
                middle_s = (near_s + far_s) // 2
                nearer, nearer_rest = self._pages(ask, cursor_at(now - middle_s), PROBE_ROWS)
                if nearer_rest is None and len(nearer) < WANTED:
                    near_s = middle_s
                else:
                    far_s, rows, rest = middle_s, nearer, nearer_rest
            self._keep(rows, replace=True)
            if len(rows) >= WANTED or rest is not None:
                return
            near_s = far_s

    def _follow(self, ask: Ask, now: int) -> None:
        """Read on from just before the newest event; skip ahead where there are more than anybody could read."""
        last = int(self._rows[-1]["seq"]) if self._rows else 0
        start = (last >> SERVER_BITS) // MICROSECONDS - OVERLAP_S if last else now - WINDOWS_S[0]
        rows, rest = self._pages(ask, cursor_at(start))
        if rest is not None:
            newer, _ = self._pages(ask, cursor_at(now - OVERLAP_S))
            rows = [*rows, *newer]
        self._keep(rows)

    def _walk(self, ask: Ask) -> None:
        """Read a log on whose cursors nothing is known, from where it was left."""
        rows, rest = self._pages(ask, self._place)
        self._keep(rows)
        self._place = rest or self._last_cursor

    def _pages(self, ask: Ask, after: str | None, enough: int | None = None) -> tuple[list[Row], str | None]:
        """Read pages from a cursor on until there are `enough` rows; give the newest, and the cursor of the rest."""
        rows: list[Row] = []
        count = 0
        self._last_cursor = after
        for _ in range(PAGES_MAX):
            reply = ask("events", after=after, kind=self._kind, limit=protocol.ROWS_PER_PAGE_MAX)
            rows = [*rows, *reply["rows"]][-KEPT:]
            after = reply["next"]
            if after is None:
                return rows, None
            self._last_cursor = after
            count += len(reply["rows"])
            if enough is not None and count >= enough:
                break
        return rows, after

    def _keep(self, rows: Sequence[Row], replace: bool = False) -> None:
        """Add rows; those that are known, by their numbers, come once."""
        known = {} if replace else {row["seq"]: row for row in self._rows}
        known.update((row["seq"], row) for row in rows)
        self._rows = [known[seq] for seq in sorted(known)][-KEPT:]
