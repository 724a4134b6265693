"""Looking through the leases for what the person wants to see: a page, or the rows with a text, however far back.

No look asks for more than a few pages; a text that was not among them is looked for further on at the next look. Knows
operations and pages, not connections, threads or pictures.
"""

from dataclasses import replace

from als import protocol
from als_tools import formats
from als_tools.columns import Row
from als_tools.rows import Ask
from als_tools.top.facts import Block

LEASE_PAGES_MAX = 10  # a look at the leases goes through 10,000 at most
UNSEARCHED = frozenset({"serial", "pool"})  # 160 symbols match anything; the pool is the row itself


class Search:
    """Remembers, for one wish, from which cursor on there may be what it wants, and how much was passed over."""

    def __init__(self) -> None:
        self._asked: object = None
        self._after: str | None = None
        self._passed = 0
        self._nothing: Block | None = None

    def look(self, ask: Ask, wish: Block) -> Block:
        """Give what is found within a few pages. Raises what `ask` raises."""
        if wish.asked != self._asked:
            self._asked, self._nothing = wish.asked, None
            self._begin(wish)
        rows, following = self._read(ask, wish)
        if rows:
            self._nothing = None
            return replace(wish, rows=tuple(rows), next=following)
        if following is None:
            self._nothing = replace(wish, passed=self._passed)
            self._begin(wish)
            return self._nothing
        self._after = following
        return self._nothing or replace(wish, passed=self._passed, is_complete=False)

    def _begin(self, wish: Block) -> None:
        self._after, self._passed = wish.after, 0

    def _read(self, ask: Ask, wish: Block) -> tuple[list[Row], str | None]:
        """Read pages until one has what is wanted; remember its beginning, so that the next look starts there."""
        text, after = wish.text.casefold(), self._after
        for _ in range(LEASE_PAGES_MAX):
            reply = ask("leases", after=after, state=wish.state, limit=protocol.ROWS_PER_PAGE_MAX)
            rows = [row for row in reply["rows"] if matches(row, text)]
            if rows:
                self._after = after
                return rows, reply["next"]
            self._passed += len(reply["rows"])
            after = reply["next"]
            if after is None:
                break
        return [], after


def matches(row: Row, text: str) -> bool:
    """Say whether any value of a row has `text`, in lower case, in it."""
    if not text:
        return True
    return any(text in _searchable(value) for key, value in row.items() if key not in UNSEARCHED)


def _searchable(value: object) -> str:
    if isinstance(value, bytes):
        return formats.binary(value)
    return str(value).casefold() if value is not None else ""
