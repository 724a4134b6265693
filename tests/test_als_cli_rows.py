"""Rows on their way from the server's pages to the screen: order, filters, width, and how much is held meanwhile."""

import io
import json
import random
import sys
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from als.records import EVENT_KINDS
from als_tools import choices, columns, commands_listings, output, rows, sheet, sorting
from als_tools.columns import Row
from als_tools.commands_serials import find_serial_id
from als_tools.failures import Exit, Failure
from als_tools.formats import Zone, clean, parse_time
from als_tools.sheet import Field, Sheet

UTC = Zone(utc=True)


def lease(number: int) -> dict[str, Any]:
    """Make a lease as on the wire."""
    return {
        **{"product": "ATIES", "product_name": "Acronis True Image Enterprise Server"},
        **{"serial": "-".join(["04000080"] * 20), "serial_id": "ATIES-1248H248H248H"},
        **{"host": f"pc-{number}", "address": f"10.0.{number >> 8}.{number & 255}", "mac": number.to_bytes(6)},
        **{"kind": "workstation", "components": ["agent"], "version": None, "acquired_at": 1_767_000_000},
        **{"renewed_at": 1_767_000_000 + number, "renew_by": None if number % 7 == 0 else 1_770_000_000 - number},
        "state": "active",
    }


class Pages:
    """A server's listing of `total` leases, of which each page is made when it is asked for."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.asked = 0

    def ask(self, operation: str, limit: int, after: str | None, **fields: Any) -> dict[str, Any]:
        """Give a page; every third one is empty, as a page of a server may be."""
        self.asked += 1
        if self.asked % 3 == 0:
            return {"rows": [], "next": after}
        start = int(after or 0)
        stop = min(start + limit, self.total)
        return {"rows": [lease(n) for n in range(start, stop)], "next": None if stop == self.total else str(stop)}


@pytest.mark.parametrize("total", [0, 1, 999, 1_000, 1_001, 2_500])
def test_every_row_comes_once(total: int) -> None:
    """Whatever the pages' sizes are, every row comes once, in the server's order."""
    found = rows.all_rows(Pages(total).ask, "leases")
    assert [row["host"] for row in found] == [f"pc-{n}" for n in range(total)]


def test_rows_are_fetched_when_asked_for() -> None:
    """The first rows are there when the first page is, and who stops early asks for no more."""
    pages = Pages(100_000)
    found = rows.arranged(rows.all_rows(pages.ask, "leases"), columns.USED, None, False, 5)
    assert len(list(found)) == 5
    assert pages.asked == 1


def peak_bytes(form: output.Form, total: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Write `total` leases into nothing; give the most memory that was held meanwhile."""

    class Nothing(io.StringIO):
        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr(sys, "stdout", Nothing())
    tracemalloc.start()
    try:
        found = rows.all_rows(Pages(total).ask, "leases")
        assert output.Output(form, UTC).rows(columns.USED, found, tail={"next": None}) == total
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["table", "plain", "json"])
def test_memory_does_not_grow_with_the_rows(form: output.Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many rows take no more memory, in any form."""
    peak_bytes(form, 1_000, monkeypatch)  # whatever is made once
    assert peak_bytes(form, 20_000, monkeypatch) < 1.3 * peak_bytes(form, 2_000, monkeypatch)


def test_a_sort_holds_a_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sort of more rows than memory should hold spills the rest, and gives them all in order."""
    monkeypatch.setattr(sorting, "ROWS_IN_MEMORY_MAX", 500)
    shuffled = list(range(3_000))
    random.Random(7).shuffle(shuffled)
    column = columns.USED.column("renewed_at")
    tracemalloc.start()
    found = sorting.in_order((lease(n) for n in shuffled), column.sort_key)
    numbers = [row["renewed_at"] - 1_767_000_000 for row in found]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == list(range(3_000))
    assert peak < 500 * 4_000


@given(st.lists(st.integers(0, 9)), st.booleans(), st.integers(1, 5))
def test_sort_is_like_sorted(values: list[int], reverse: bool, run: int) -> None:
    """Runs in files or in memory, rows that compare equal keep their order."""
    source = [{"at": at, "value": value} for at, value in enumerate(values)]
    before = sorting.ROWS_IN_MEMORY_MAX
    sorting.ROWS_IN_MEMORY_MAX = run
    try:
        found = list(sorting.in_order(source, lambda row: (0, row["value"]), reverse))
    finally:
        sorting.ROWS_IN_MEMORY_MAX = before
    assert found == sorted(source, key=lambda row: row["value"], reverse=reverse)


@pytest.mark.parametrize(
    ("sort", "reverse", "expected"),
    [
        ("host", False, ["pc-1", "pc-9", "pc-10", "pc-14"]),
        ("-host", False, ["pc-14", "pc-10", "pc-9", "pc-1"]),
        ("-host", True, ["pc-1", "pc-9", "pc-10", "pc-14"]),
        ("address", False, ["pc-1", "pc-9", "pc-10", "pc-14"]),
        ("renew_by", False, ["pc-10", "pc-9", "pc-1", "pc-14"]),
        (None, True, ["pc-1", "pc-10", "pc-14", "pc-9"]),
        (None, False, ["pc-9", "pc-14", "pc-10", "pc-1"]),
    ],
)
def test_order_of_people(sort: str | None, reverse: bool, expected: list[str]) -> None:
    """Names are ordered as people do, addresses by their numbers, and what never lapses comes last."""
    found = rows.arranged([lease(n) for n in (9, 14, 10, 1)], columns.USED, sort, reverse, None)
    assert [row["host"] for row in found] == expected


def test_every_column_sorts() -> None:
    """Every column of every listing can be sorted by, whatever is absent in it."""
    full = {"components": ["agent"], "detail": {"a": 1}, "key": bytes(32), "trial": True, "mac": bytes(6)}
    for listing in (columns.LICENSES, columns.USED, columns.EVENTS, columns.USAGE, columns.ADMINS, columns.SERVERS):
        for column in listing.columns:
            number = 5 if column.kind in ("number", "ordinal", "time", "moment") else "x"
            some: Row = {column.key: full.get(column.key, number)}
            found = list(rows.arranged([{column.key: None}, some, {}], listing, column.key, False, None))
            assert found[0] == some, column.key
            assert column.text(some, UTC)
            assert column.plain({column.key: None}, UTC) == ""


def test_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON document has the wire's keys; binary is text, and integers beyond 2^53 are too."""
    event = {"seq": 2**53 + 1, "mac": bytes.fromhex("001122334455"), "key": bytes(32), "count": 2**53, "trial": True}
    output.Output("json").rows(columns.EVENTS, [event, event], tail={"next": None})
    document = json.loads(capsys.readouterr().out)
    row = {"seq": "9007199254740993", "mac": "00:11:22:33:44:55", "key": "00" * 32, "count": 2**53, "trial": True}
    assert document == {"rows": [row, row], "next": None}


def test_hostile_names_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A host name with tabs, line breaks or escapes stays within its field."""
    output.Output("plain", UTC).rows(columns.USED, [lease(1) | {"host": "a\tb\nc\x1b[2J"}], "host,state")
    assert capsys.readouterr().out == "a\ufffdb\ufffdc\ufffd[2J\tactive\n"
    assert clean("Zürich 東京") == "Zürich 東京"


FOLDED = """\
Product name  Host        Seats
Acronis True  pc-1.         200
Image         office.
Enterprise    example.
Server        com
x             y           1,000
"""


def lines_of(picture: Sheet, width: int) -> str:
    """Draw a sheet on a screen of this width."""
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None).print(picture, end="")
    return screen.getvalue()


def test_long_values_are_folded() -> None:
    """In a narrow window long values go on in the next line, numbers stay whole, nothing is cut."""
    fields = [Field("Product name", width_min=12), Field("Host", width_min=10), Field("Seats", right=True)]
    cells = [["Acronis True Image Enterprise Server", "pc-1.office.example.com", "200"], ["x", "y", "1,000"]]
    assert lines_of(Sheet(fields, cells), 31) == FOLDED


def test_headings_are_folded_only_for_room() -> None:
    """A heading of two words stands in one line where there is room for it, in two where there is not."""
    fields, cells = [Field("Product"), Field("Most used", right=True), Field("Added by")], [["ATIES", "2", "anna"]]
    assert lines_of(Sheet(fields, cells), 80) == "Product  Most used  Added by\nATIES            2  anna\n"
    assert lines_of(Sheet(fields, cells), 21) == "Product  Most  Added\n         used  by\nATIES       2  anna\n"


def test_times_in_a_detail_are_written_as_times() -> None:
    """What an event tells of an outage or a clock has its times as people read them; programs get the wire's."""
    column = columns.EVENTS.column("detail")
    row = {"detail": {"from": 1_767_621_839, "to": 1_767_621_899, "reason": "no power", "leases": 1_767_621_839}}
    assert column.text(row, UTC) == (
        "from=2026-01-05 14:03:59, to=2026-01-05 14:04:59, reason=no power, leases=1767621839"
    )
    assert column.plain(row, UTC) == "from=1767621839, to=1767621899, reason=no power, leases=1767621839"
    assert column.text({"detail": None}, UTC) == ""


def test_filters_know_every_kind_of_event() -> None:
    """The kinds that a filter takes are those that a server writes."""
    assert choices.EVENT_KINDS == EVENT_KINDS


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=60), st.integers(2, 30))
def test_folding_loses_nothing(text: str, width: int) -> None:
    """Folded lines are never too wide, and hold every character but the blanks at the breaks."""
    lines = sheet.fold(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_later_pages_may_be_wider(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Widths are settled by the first page, and leave room for the numbers of those that follow."""
    monkeypatch.setenv("COLUMNS", "80")

    def found() -> Iterator[Row]:
        for number in range(output.PAGE_ROWS + 1):
            yield {"serial_id": "A-1", "total": 1 if number < output.PAGE_ROWS else 250_000}

    output.Output("table", UTC).rows(columns.LICENSES, found(), "serial_id,total")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == output.PAGE_ROWS + 2
    assert {len(line) for line in lines} == {len("Serial    Total")}
    assert lines[-1].split() == ["A-1", "250,000"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01T01:00", 3_600),
        ("1970-01-01T01:00+01:00", 0),
        ("1d", 1_000_000 - 86_400),
        ("2h", 1_000_000 - 7_200),
        ("30m", 1_000_000 - 1_800),
        ("99999d", 0),
    ],
)
def test_times_as_people_type_them(text: str, expected: int) -> None:
    """A time is a date, a date with a time, or an age."""
    assert parse_time(text, UTC, 1_000_000) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7w", "2026-13-01", "1e9d"])
def test_no_times(text: str) -> None:
    """What is no time is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text, UTC, 1_000_000)


def test_times_beyond_any_calendar() -> None:
    """A time that no calendar has is shown as the calendar's end instead of stopping the listing."""
    assert UTC.minute(2**63).startswith("9999-12-30")
    assert UTC.iso(0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_serial_id_names_no_serial(text: str) -> None:
    """Every id begins with it: a script whose variable is not set must not remove the only serial that there is."""

    def ask(operation: str, **fields: Any) -> dict[str, Any]:
        return {"rows": [{"serial_id": "ATIES-1248H248H248H", "state": "valid"}], "more": False, "next": None}

    with pytest.raises(Failure, match="empty") as failure:
        find_serial_id(SimpleNamespace(ask=ask), text)  # type: ignore[arg-type]
    assert failure.value.code is Exit.WRONG_USAGE


def test_usage_without_any_serial_says_so() -> None:
    """There is no product to name."""
    with pytest.raises(Failure, match="there are no serials yet"):
        commands_listings._only_product([])
