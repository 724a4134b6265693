"""One look at the server: what is asked, in which order, and how much of it at once.

No look asks for more than a few pages; what is longer (all serials, a long log) is gone through look by look. Knows
operations and pages, not connections, threads or pictures.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from als import protocol
from als_tools import snapshot
from als_tools.columns import Row
from als_tools.formats import DAY_S, HOUR_S
from als_tools.rows import Ask
from als_tools.snapshot import Pool, Snapshot
from als_tools.top.facts import Ending, Facts, Rate, Refused, Wish
from als_tools.top.search import Search
from als_tools.top.tail import Tail

ENDING_S = 30 * DAY_S
ENDING_MAX = 1_000  # the soonest; a longer list is als licenses --sort expires_at
RATES_MAX = 240  # as many as the widest screens have columns for
POOLS_ASKED_MAX = 20  # of pools with refusals; a person could not read more
SERIAL_PAGES_MAX = 5  # a look at the serials: 5,000
LOOKS_PER_PASS = 30  # all serials are looked through again after so many looks


class Fetcher:
    """Looks at one server, again and again, and remembers what a single look cannot tell."""

    def __init__(self, ask: Ask, address: str = "", fingerprint: str = "") -> None:
        self._ask = ask
        self._address, self._fingerprint = address, fingerprint
        self._rates: deque[Rate | None] = deque(maxlen=RATES_MAX)
        self._events, self._denials = Tail(), Tail("denied")
        self._walk, self._search = EndingWalk(), Search()

    def fetch(self, wish: Wish) -> Facts:
        """Look. Raises what `ask` raises."""
        status = snapshot.take(self._ask("status"), self._address, self._fingerprint)
        facts = Facts(
            status=status,
            events=self._events.read(self._ask, status.now),
            denials=self._denials.read(self._ask, status.now),
            refused=tuple(self._refused(status)),
            ending=self._walk.go_on(self._ask, status),
            leases=None if wish.leases is None else self._search.look(self._ask, wish.leases),
        )
        self._rates.append(Rate(status.requests_per_s, status.renewals_per_s))
        return replace(facts, rates=tuple(self._rates))

    def miss(self) -> tuple[Rate | None, ...]:
        """Note that the server could not be looked at; give the rates with the gap in them."""
        self._rates.append(None)
        return tuple(self._rates)

    def _refused(self, status: Snapshot) -> Iterator[Refused]:
        """Count refusals since the hour before this one; the log has repeats only when their hour is over."""
        since = (status.now // HOUR_S - 1) * HOUR_S
        for pool in [pool for pool in status.pools if pool.denied_24h][:POOLS_ASKED_MAX]:
            rows = self._ask("usage", product=pool.product, since=since, until=status.now + HOUR_S)["rows"]
            yield Refused(pool.product, sum(row["denied"] for row in rows), since)


class EndingWalk:
    """Goes through the serials of the pools where some end soon, a few pages a look, and starts again after a while.

    What an earlier pass found stands until the next is through.
    """

    def __init__(self) -> None:
        self._found: list[Row] = []
        self._shown = Ending()
        self._after: str | None = None
        self._products: list[str] = []
        self._rest = 0

    def go_on(self, ask: Ask, status: Snapshot) -> Ending:
        """Read some more pages, or rest. Raises what `ask` raises."""
        if not self._products:
            if self._rest:
                self._rest -= 1
                return self._shown
            self._products = [pool.product for pool in status.pools if _has_ending(pool)]
            self._found, self._after = [], None
        for _ in range(SERIAL_PAGES_MAX):
            if self._products:
                self._read_page(ask, status.now)
        if not self._products:
            self._shown, self._rest = Ending(tuple(self._found), True), LOOKS_PER_PASS
        elif not self._shown.is_complete:
            self._shown = Ending(tuple(self._found), False)
        return self._shown

    def _read_page(self, ask: Ask, now: int) -> None:
        reply = ask("licenses", product=self._products[0], after=self._after, limit=protocol.ROWS_PER_PAGE_MAX)
        self._found += [row for row in reply["rows"] if _is_ending(row, now)]
        self._found = sorted(self._found, key=lambda row: int(row["expires_at"]))[:ENDING_MAX]
        self._after = reply["next"]
        if self._after is None:
            self._products.pop(0)


def _has_ending(pool: Pool) -> bool:
    return bool(pool.expiring_30d or pool.on_expired)


def _is_ending(row: Row, now: int) -> bool:
    """Say whether a serial ends soon, or has ended with computers still on it."""
    if row["expires_at"] is None or row["state"] == "removing":
        return False
    return bool(row["used"]) if row["state"] == "expired" else row["expires_at"] <= now + ENDING_S
