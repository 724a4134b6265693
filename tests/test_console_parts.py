"""The console's parts that need no screen: the log from the newest back, rows in any order, the chart, the words."""

from collections.abc import Iterator
from datetime import date
from itertools import islice
from typing import Any

import pytest

from als.protocol import Role
from als_tools import columns, rows
from als_tools.columns import Row
from als_tools.console import removal
from als_tools.console.fitting import fit
from als_tools.console.history import newest_first
from als_tools.console.permission import why_not
from als_tools.console.source import Order, Source, StoppedError
from als_tools.console.status_bar import Standing, standing_line
from als_tools.console.usage_chart import Day, chart, daily, merged, summary
from als_tools.console.window import PAGES_MAX, Window
from als_tools.formats import Zone
from event_log import Log, number
from top_facts import DAY_S, NOW, event, lease

UTC = Zone(utc=True)


def history(log: Log, count: int, now: int = NOW, **fields: Any) -> list[int]:
    """Give how many seconds before `now` the newest events were."""
    return [now - row["time"] for row in islice(newest_first(log.ask, now, kind=None, **fields), count)]


def test_the_log_from_the_newest_back() -> None:
    """Every event comes once, the newest first, however unevenly they lie in time."""
    ages = [0, 0, 1, 2, 3_599, 3_600, 3_601, 90_000, 90_000, 200 * DAY_S, 200 * DAY_S + 1]
    assert history(Log(sorted(NOW - age for age in ages)), 100) == ages


def test_the_newest_of_a_long_log_come_at_once() -> None:
    """Of 200,000 events the first 50 need few pages, and the next ones few more."""
    log = Log([NOW - 200_000 + n for n in range(200_000)])
    found = newest_first(log.ask, NOW, kind=None)
    assert [NOW - row["time"] for row in islice(found, 50)] == list(range(1, 51))
    assert log.asked < 12
    assert [NOW - row["time"] for row in islice(found, 10_000)] == list(range(51, 10_051))
    assert log.asked < 40


def test_a_second_with_very_many_events() -> None:
    """More events in one second than are held at once do not stop the way back."""
    log = Log([NOW - 500, *[NOW - 100] * 12_000, NOW - 1])
    log.rows = [event(number(NOW - 500), 500, "granted")]
    log.rows += [event(number(NOW - 100, n), 100, "granted") for n in range(12_000)]
    log.rows += [event(number(NOW - 1), 1, "granted")]
    assert history(log, 20_000) == [1, *[100] * 12_000, 500]


def test_a_server_with_other_cursors_is_turned_round() -> None:
    """Where times are no cursors, the log is read from its beginning and still comes newest first."""
    log = Log([NOW - 5_000 + n for n in range(5_000)], knows_times=False)
    assert history(log, 3) == [1, 2, 3]


def test_an_empty_log() -> None:
    """Nothing is nothing."""
    assert history(Log([]), 5) == []


class Server:
    """Gives leases, a page of 1,000 at a time, and counts the pages."""

    def __init__(self, count: int) -> None:
        self.rows = [lease(n % 250, f"pc-{n * 7919 % count}") for n in range(count)]
        self.pages = 0

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Answer `leases`."""
        self.pages += 1
        at = int(fields["after"] or 0)
        page = self.rows[at : at + 1_000]
        return {"rows": page, "next": str(at + 1_000) if at + 1_000 < len(self.rows) else None}


def leases(ask: rows.Ask) -> Iterator[Row]:
    """Begin with the first lease."""
    return rows.all_rows(ask, "leases")


def test_rows_as_they_come_are_fetched_as_far_as_needed() -> None:
    """Without a sort a page of the table costs a page of the wire at most."""
    server = Server(5_000)
    source = Source(leases, columns.USED, Order(), "", UTC, page_rows=2)
    assert [row["host"] for row in source.pages(server.ask, 0, 1)[0]] == ["pc-0", "pc-2919"]
    assert (server.pages, source.is_at_end) == (1, False)


def test_a_sort_is_of_all_rows() -> None:
    """Sorted, the first page has the first rows of all, as people order names, and the last page is the end."""
    server = Server(3_000)
    source = Source(leases, columns.USED, Order("host", reverse=True), "", UTC, page_rows=1_600)
    first, last = source.pages(server.ask, 0, 2)
    assert [row["host"] for row in (first[0], first[1], last[-1])] == ["pc-2999", "pc-2998", "pc-0"]
    assert source.is_at_end


def test_a_text_keeps_the_rows_that_have_it() -> None:
    """A filter looks at every column as it is written, without regard to case."""
    source = Source(leases, columns.USED, Order(), "PC-299", UTC)
    (found,) = source.pages(Server(3_000).ask, 0, 1)
    assert {row["host"] for row in found} == {"pc-299", *(f"pc-299{n}" for n in range(10))}
    assert (source.seen, source.is_at_end) == (3_000, True)


def test_a_sort_that_nobody_waits_for_ends() -> None:
    """When another view is wanted, the reading of a long list stops at the next page."""
    server = Server(50_000)
    source = Source(leases, columns.USED, Order("host"), "", UTC)

    def ask(operation: str, **fields: Any) -> dict[str, Any]:
        if server.pages == 2:
            source.stop()
        return server.ask(operation, **fields)

    with pytest.raises(StoppedError):
        source.pages(ask, 0, 1)
    assert server.pages == 3


def test_pages_that_were_read_are_there_again() -> None:
    """Who goes back gets the same rows, types and all, without the server being asked; past the end is nothing."""
    server = Server(1_050)
    source = Source(leases, columns.USED, Order(), "", UTC, page_rows=500)
    pages = source.pages(server.ask, 0, 9)
    assert [len(page) for page in pages] == [500, 500, 50]
    asked = server.pages
    assert source.pages(server.ask, 1, 3) == pages[1:]
    assert pages[0][0] == server.rows[0]
    assert (server.pages, source.read, source.is_at_end) == (asked, 1_050, True)


def test_a_window_holds_few_pages_and_goes_anywhere() -> None:
    """However far one goes on, a window has at most so many pages; at each end one page stays."""
    page = [{"host": "pc"}]
    window = Window(1, 0, (page,) * PAGES_MAX)
    first, last = window.onward()
    assert (first, last) == (PAGES_MAX - 1, PAGES_MAX + 1)
    further = Window(1, first, (page,) * (last - first))
    assert further.onward() == (first, last + 1)
    assert further.backward() == (0, PAGES_MAX)
    assert (further.start, len(further.rows)) == (PAGES_MAX - 1, 2)
    assert Window(1, 3, (page,)).backward() == (0, 4)


def test_columns_are_cut_before_they_are_left_out() -> None:
    """Names are cut as far as they can be read, then columns go in their order; dates and serials stay whole."""
    shown = [columns.USED.column(key) for key in ("product_name", "host", "serial_id", "acquired_at", "state")]
    needed = dict(zip((column.key for column in shown), (36, 60, 19, 16, 6), strict=True))

    def fitted(room: int) -> tuple[dict[str, int], tuple[str, ...]]:
        found = fit(shown, needed, ("acquired_at", "product_name"), room, padding=2)
        return dict(found.widths), found.left_out

    assert fitted(200) == ({}, ())
    assert fitted(110) == ({"product_name": 29, "host": 30}, ())
    assert fitted(83) == ({"product_name": 18, "host": 14}, ())
    assert fitted(82) == ({"product_name": 24, "host": 25}, ("Acquired",))
    assert fitted(50) == ({"host": 19}, ("Acquired", "Product name"))
    assert fitted(10) == ({"host": 14}, ("Acquired", "Product name"))


def test_clicks_on_a_head() -> None:
    """The first click sorts upwards, the second downwards, the third not at all."""
    first = Order().by("host")
    assert (first, first.by("host"), first.by("host").by("host")) == (Order("host"), Order("host", True), Order())
    assert first.by("host").by("mac") == Order("mac")


CHART = """\
40                 ─────── ▃▃▃▃▃▃▃ ███████
                   ▅▅▅▅▅▅▅ ███████ ███████
   ─────── ▂▂▂▂▂▂▂ ███████ ███████ ███████
   ▅▅▅▅▅▅▅ ███████ ███████ ███████ ███████
 0 ███████ ███████ ███████ ███████ ███████
                                   !
   01-01   01-02   01-03   01-04   01-05
█ most seats used   █ all used   ─ all seats   ! refused   a column is a day"""


def test_the_chart() -> None:
    """Each day is a column as high as the most seats used on it; denials are marked below."""
    used = [(13, 20), (18, 20), (29, 40), (35, 40), (40, 40)]
    days = [
        Day(date(2026, 1, n), date(2026, 1, n), most, total, denied=int(most == 40))
        for n, (most, total) in enumerate(used, 1)
    ]
    assert "\n".join(line.rstrip() for line in chart(days, 60, 8).plain.split("\n")) == CHART


def test_a_year_fits_into_any_width() -> None:
    """Days are put together until there is a cell for each column; no line is wider than the chart."""
    days = [Day(date.fromordinal(738_000 + n), date.fromordinal(738_000 + n), n, 400) for n in range(365)]
    for width in (10, 60, 80, 200, 400):
        lines = chart(days, width, 12).plain.split("\n")
        assert len(lines) == 12
        assert max(len(line) for line in lines[:-1]) <= max(width, 15)
    assert [len(merged(days, room)) for room in (1, 7, 100, 365)] == [1, 7, 92, 365]
    assert merged(days, 1)[0].used_max == 364


def test_hours_become_days_of_the_zone() -> None:
    """A day's column is its busiest hour; what was granted and refused is summed."""

    def hour(at: int, most: int, denied: int) -> dict[str, Any]:
        return {"hour": at, "used_max": most, "total": 9, "denied": denied, "granted": 1, "lapsed": 0}

    found = daily(
        [hour(NOW, 3, 1), hour(NOW + 3_600, 5, 2), hour(NOW + DAY_S, 1, 0)], date(2026, 1, 4), date(2026, 1, 6), UTC
    )
    assert [(day.used_max, day.denied, day.granted) for day in found] == [(0, 0, 0), (5, 3, 2), (1, 0, 1)]
    assert summary(found) == "Most used: 5 of 9 on 2026-01-05.  Granted 3, refused 3, lapsed 0."


def test_what_roles_may_do() -> None:
    """A reason names the role that is needed and the one that there is."""
    assert why_not("import", Role.OPERATOR) is None
    assert why_not("remove", Role.OPERATOR) == "needs the role admin; you are operator"
    assert why_not("licenses", Role.AGENT) == "needs the role viewer; you are agent"


def test_the_status_bar_in_words() -> None:
    """Server, role and connection are there in words, whatever the colours are."""
    assert standing_line(Standing()).plain == " not connected"
    here = Standing("office", "192.0.2.1:9876", Role.VIEWER)
    assert standing_line(here).plain == " office  192.0.2.1:9876   you are viewer   ok connected"
    waiting = Standing("office", "192.0.2.1:9876", Role.VIEWER, waiting_s=3)
    assert standing_line(waiting).plain.endswith("   !  waiting for an answer for 3 s")
    lost = Standing("office", "192.0.2.1:9876", Role.VIEWER, "2026-01-05 03:00:00", "nobody is there")
    assert "!! NO ANSWER since 2026-01-05 03:00:00: nobody is there" in standing_line(lost).plain


def test_a_removal_says_what_it_did() -> None:
    """After the question there is an answer, in the words of the question."""
    row = lease(1, "pc-1")
    assert removal.done("revoke", row, {}) == "pc-1 gave back its seat of STUDIO; the next computer can have it."
    assert removal.done("remove", row, {"leases": 1}) == "STUDIO-0123456789ABC is removed, with 1 license on it."
