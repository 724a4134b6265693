"""Pages of the hourly history, to which each server of a cluster adds its own rows: no hour comes in two pages."""

from typing import Any

import pytest

from als import catalog
from als.ledger import Ledger, Sender
from als.ledger.listings import SCANNED_MAX
from als.ledger.tally import HOUR_S
from als.protocol import Role
from als.records import TIME_MAX, Usage, usage_key
from als.server.cluster.peers import SERVERS_MAX
from als.store.memory import MemoryStore
from als.store.transaction import Table
from press import SERVER_KEY, VENDORS, print_serial

START = 1_790_000_000
ADMIN = Sender(b"a" * 32, "127.0.0.1")
PRODUCT = catalog.builtin().by_code["ATIES"]


class Site:
    """Servers over one store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        tx = self.store.begin()
        self.server(1).add_admin(tx, ADMIN.key, "admin", Role.ADMIN, START)
        self.store.submit(tx)
        text, _ = print_serial(PRODUCT, 1, 100)
        assert self.ask(1, START, "import", serials=[text])["added"] == 1

    def server(self, number: int) -> Ledger:
        """Give a server of this number."""
        return Ledger(catalog.builtin(), server_id="s", server_key=SERVER_KEY, vendors=VENDORS, server=number)

    def ask(self, server: int, now: int, operation: str, **fields: Any) -> dict[str, Any]:
        """Have a server apply a request."""
        tx = self.store.begin()
        answer = self.server(server).apply(tx, {"op": operation, **fields}, ADMIN, now)
        self.store.submit(tx)
        assert isinstance(answer, dict)
        return answer

    def acquire(self, server: int, now: int, number: int) -> None:
        """Have a computer of this number take a seat."""
        computer = {"macs": [number.to_bytes(6)], "host": "pc", "address": ""}
        fields = {"product": "ATIES", "component": "agent", "computer": computer}
        assert self.ask(server, now, "acquire", **fields)["result"] == "granted"

    def page(self, limit: int, after: str | None = None) -> dict[str, Any]:
        """Read a page."""
        wanted = {"product": "ATIES", "since": 0, "until": TIME_MAX, "limit": limit}
        return self.ask(1, START + 3 * HOUR_S, "usage", **wanted, after=after)

    def pages(self, limit: int) -> list[tuple[int, int]]:
        """Read all pages; give each row's hour and how many seats were taken in it."""
        rows, after = [], None
        while True:
            page = self.page(limit, after)
            rows += [(row["hour"], row["granted"]) for row in page["rows"]]
            after = page["next"]
            if after is None:
                return rows


@pytest.mark.parametrize("limit", [1, 2, 3, 1_000])
def test_pages_end_between_hours(limit: int) -> None:
    """Whatever fits in a page, each hour comes once and whole."""
    site = Site()
    first_hour = START // HOUR_S * HOUR_S
    for hour in range(3):
        for server in (1, 2, 3):
            site.acquire(server, START + hour * HOUR_S, 10 * hour + server)
    assert site.pages(limit) == [(first_hour + hour * HOUR_S, 3) for hour in range(3)]


def test_an_hour_of_a_page_before_is_not_begun_again() -> None:
    """A server that writes its first row of an hour after that was read does not bring it into the next page."""
    site = Site()
    for hour in range(2):
        site.acquire(1, START + hour * HOUR_S, hour)
    page = site.page(1)
    site.acquire(2, START, 2)
    (row,) = site.page(1, page["next"])["rows"]
    assert row["hour"] == page["rows"][0]["hour"] + HOUR_S


def test_more_rows_than_a_page_reads() -> None:
    """Where the bound of rows that are read lies within an hour, that hour is read to its end."""
    site, hours = Site(), range(100, 105)
    tx = site.store.begin()
    for hour in hours:
        for server in range(SERVERS_MAX):
            tx.put(Table.USAGE, usage_key(PRODUCT.number, hour, server), Usage(1, 1, 0, 1, 0).pack())
    site.store.submit(tx)
    assert SCANNED_MAX % SERVERS_MAX
    for limit in (1, 2, 1_000):
        expected = [(hour * HOUR_S, SERVERS_MAX) for hour in hours]
        assert site.pages(limit)[: len(hours)] == expected


@pytest.mark.parametrize("after", ["ff" * 8, "00" * 8])
def test_a_cursor_of_no_page(after: str) -> None:
    """A cursor that no page gave leads to no row, or to the first."""
    site = Site()
    site.acquire(1, START, 1)
    assert len(site.page(10, after)["rows"]) == (0 if after.startswith("ff") else 1)
