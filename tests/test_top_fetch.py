"""What the dashboard asks a server for: the newest of a long log, serials that end, a stretch of the leases."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from als_agents.client import Client
from als_agents.errors import NoAnswer
from als_tools.snapshot import take
from als_tools.top.facts import Block, Facts, Wish
from als_tools.top.feed import Feed
from als_tools.top.fetch import EndingWalk, Fetcher
from als_tools.top.search import Search
from als_tools.top.tail import KEPT, PAGES_MAX, Tail, cursor_at
from event_log import PAGE, Log, number
from server_process import Site
from top_facts import NOW, ending, event, lease, pool, status


def times(rows: tuple[Any, ...]) -> list[int]:
    """Give how many seconds ago the events were."""
    return [NOW - row["time"] for row in rows]


def test_the_newest_of_a_quiet_log() -> None:
    """Where little happens the tail reaches back as far as it must, the newest first."""
    log = Log([NOW - 300 * 86_400, NOW - 3_000, NOW - 5])
    assert times(Tail().read(log.ask, NOW)) == [5, 3_000, 300 * 86_400]


def test_a_busy_log_is_not_read_from_its_beginning() -> None:
    """Of a log of 100,000 events the newest come after a few pages."""
    log = Log([NOW - 100_000 + n for n in range(100_000)])
    rows = Tail().read(log.ask, NOW)
    assert times(rows)[:3] == [1, 2, 3]
    assert len(rows) >= 200
    assert log.asked <= 5


@pytest.mark.parametrize("age_s", [61, 300, 1_900, 50_000])
def test_after_a_storm_its_newest_events_are_there(age_s: int) -> None:
    """A storm of more events than a look reads, over for a while, is not taken for a log without events."""
    log = Log([NOW - age_s - 1_000 + n // 100 for n in range(100_000)])
    found = times(Tail().read(log.ask, NOW))
    assert found[0] == age_s + 1
    assert len(found) >= 200
    assert log.asked <= 5 * PAGES_MAX


def test_a_storm_within_a_second_is_not_nothing() -> None:
    """Of more events in one second than a look reads some are shown."""
    log = Log([NOW - 500] * 30_000)
    assert set(times(Tail().read(log.ask, NOW))) == {500}


def test_only_what_is_new_is_read_afterwards() -> None:
    """A second look takes one page and adds each event once."""
    log = Log([NOW - n for n in range(900, 0, -1)])
    tail = Tail()
    tail.read(log.ask, NOW)
    log.asked = 0
    log.rows.append(event(number(NOW + 2, 9_999), -2, "lapsed"))
    rows = tail.read(log.ask, NOW + 3)
    assert log.asked == 1
    assert [row["kind"] for row in rows[:2]] == ["lapsed", "granted"]
    assert len({row["seq"] for row in rows}) == len(rows)


def test_an_event_of_another_server_that_comes_late_is_seen() -> None:
    """A number a little lower than the newest, committed after it, is not missed."""
    log = Log([NOW - 20, NOW - 1])
    tail = Tail()
    tail.read(log.ask, NOW)
    log.rows.insert(1, event(number(NOW - 3) | 1, 3, "moved"))
    assert [row["kind"] for row in tail.read(log.ask, NOW)] == ["granted", "moved", "granted"]


def test_a_flood_is_skipped_not_chased() -> None:
    """When more happens between two looks than can be read, the newest are shown and the look stays short."""
    log = Log([NOW - 5])
    tail = Tail()
    tail.read(log.ask, NOW)
    log.rows += Log([NOW + n // 1_000 for n in range(60_000)]).rows
    log.asked = 0
    rows = tail.read(log.ask, NOW + 60)
    assert rows[0]["time"] == NOW + 59
    assert log.asked <= 2 * PAGES_MAX
    assert len(rows) <= KEPT


def test_a_server_with_other_cursors_is_read_from_the_beginning() -> None:
    """Where a cursor made from a time is refused, the log is gone through, some pages at each look."""
    log = Log([NOW - 25_000 + n for n in range(25_000)], knows_times=False)
    tail = Tail()
    looks = [tail.read(log.ask, NOW) for _ in range(4)]
    assert [times(rows)[0] for rows in looks] == [15_001, 5_001, 1, 1]
    log.rows.append(event(number(NOW + 1, 99_999), -1, "lapsed"))
    assert tail.read(log.ask, NOW + 1)[0]["kind"] == "lapsed"


class Shelf:
    """A server's serials or leases: pages of 1,000."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.asked = 0

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Answer a listing."""
        self.asked += 1
        at = int(fields["after"] or 0)
        product = fields.get("product")
        found = [row for row in self.rows if product in (None, row["product"])]
        return {"rows": found[at : at + PAGE], "next": str(at + PAGE) if at + PAGE < len(found) else None}


def test_serials_that_end_are_found_look_by_look() -> None:
    """Among many serials those that end within 30 days are found, the soonest first, some pages at each look."""
    rows = [ending("P", 400, 1, 0) for _ in range(7_000)]
    rows[6_500] = ending("P", 2, 1, 1)
    rows[10] = ending("P", 20, 1, 1)
    shelf = Shelf([*rows, ending("Q", 1, 1, 1)])
    seen = status(pool("P", 7_000, 2, expiring_30d=2), pool("Q", 1, 1))
    walk = EndingWalk()
    first, second = walk.go_on(shelf.ask, seen), walk.go_on(shelf.ask, seen)
    assert ([len(first.rows), first.is_complete], [len(second.rows), second.is_complete]) == ([1, False], [2, True])
    assert [row["expires_at"] for row in second.rows] == [NOW + 2 * 86_400, NOW + 20 * 86_400]
    asked = shelf.asked
    assert walk.go_on(shelf.ask, seen) == second
    assert shelf.asked == asked, "a pass is not repeated at once"


def test_ended_serials_count_while_computers_are_on_them() -> None:
    """A serial that has ended is told as long as somebody's license is on it."""
    shelf = Shelf(
        [ending("P", -3, 5, 2, "expired"), ending("P", -3, 5, 0, "expired"), ending("P", 3, 5, 0, "removing")]
    )
    found = EndingWalk().go_on(shelf.ask, status(pool("P", 0, 0, on_expired=2)))
    assert [row["used"] for row in found.rows] == [2]


def test_a_filtered_look_at_the_leases_goes_through_pages() -> None:
    """A text is looked for page by page, and what follows can be asked for from where the look ended."""
    shelf = Shelf([lease(n % 250, f"pc-{n}") for n in range(5_000)])
    found = Search().look(shelf.ask, Block(text="PC-3001"))
    assert [row["host"] for row in found.rows] == ["pc-3001"]
    assert found.next == "4000"
    nothing = Search().look(shelf.ask, Block(after="4000", before=1, text="nobody"))
    assert (nothing.rows, nothing.is_complete) == ((), True)


def test_a_text_far_back_is_found_look_by_look() -> None:
    """What one look does not find the next ones look for further on, and what is found stays found."""
    shelf = Shelf([lease(n % 250, f"pc-{n}") for n in range(25_000)])
    search = Search()
    first, second, third, fourth = (search.look(shelf.ask, Block(text="pc-24900")) for _ in range(4))
    assert [(found.is_complete, found.passed) for found in (first, second)] == [(False, 10_000), (False, 20_000)]
    assert [[row["host"] for row in found.rows] for found in (third, fourth)] == [["pc-24900"]] * 2
    other = search.look(shelf.ask, Block(text="pc-7"))
    assert other.rows[0]["host"] == "pc-7", "another text begins at the beginning"


def test_a_text_that_nobody_has_is_said_to_be_nowhere_once_all_was_read() -> None:
    """Only at the end of the list is nothing nothing, and it stays so while the list is looked through again."""
    shelf = Shelf([lease(n % 250, f"pc-{n}") for n in range(15_000)])
    search = Search()
    looks = [search.look(shelf.ask, Block(text="nobody")) for _ in range(4)]
    assert [found.is_complete for found in looks] == [False, True, True, True]
    shelf.rows.append(lease(1, "nobody"))
    found = [search.look(shelf.ask, Block(text="nobody")).rows for _ in range(2)]
    assert any(found), "who comes later is seen"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A real server for this module."""
    with Site(tmp_path_factory.mktemp("top")) as running:
        yield running


def client(site: Site) -> Client:
    """Connect as the administrator."""
    from als import keyfile

    pair = keyfile.read(site.server.data_dir / "admin.key_secret")
    key = keyfile.read_public(site.server.data_dir / "server.key")
    return Client("127.0.0.1", site.server.port, key, pair)


def test_a_look_at_a_real_server(site: Site) -> None:
    """Facts of a real server have its pools, its newest events and denials, refusals, and who holds what."""
    product = site.product(1)
    for _ in range(2):
        site.client().send("acquire", product=product.code, component="agent", computer=site.computer())
    site.admin.wait_until(lambda reply: reply["pools"][0]["denied_24h"], "status")
    with client(site) as connection:
        facts = Fetcher(connection.request, "somewhere:1").fetch(Wish(1.0, Block()))
    assert [event["kind"] for event in facts.denials] == ["denied"]
    assert {"denied", "granted", "imported", "started"} <= {event["kind"] for event in facts.events}
    assert all(one["seq"] > other["seq"] for one, other in pairwise(facts.events))
    refused = facts.refused_of(product.code)
    assert refused is not None
    assert refused.count == 1
    assert facts.leases is not None
    assert [row["product"] for row in facts.leases.rows] == [product.code]
    assert facts.status.address == "somewhere:1"


def test_a_cursor_made_from_a_time_is_understood_by_this_server(site: Site) -> None:
    """The server that we ship takes such cursors, so that its log is not read from the beginning."""
    now = site.now_s()
    assert site.admin.ask("events", after=cursor_at(now + 3_600)) == {"rows": [], "next": None}
    assert site.admin.ask("events", after=cursor_at(now - 3_600))["rows"]


class Woken:
    """Lets a test wait until a feed has something new."""

    def __init__(self, network: "Network") -> None:
        import threading

        self.event = threading.Event()
        self.feed = Feed(Fetcher(network.ask), Fetcher(network.ask).fetch(Wish(0.01)), Wish(0.01), self.event.set)

    def wait_for(self, is_lost: bool) -> Facts:
        """Give the first facts in which the server is away, or is there."""
        for _ in range(1_000):
            assert self.event.wait(10)
            self.event.clear()
            facts = self.feed.newest()
            if facts is not None and (facts.loss is not None) == is_lost:
                return facts
        raise AssertionError("it never came")


class Network:
    """A server that can be cut off."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Answer `status` and `events`, or not at all."""
        if self.error is not None:
            raise self.error
        if operation == "events":
            return {"rows": [], "next": None}
        return STATUS


STATUS: dict[str, Any] = {
    "time": NOW,
    "server": {
        "server_id": "1",
        "name": "a",
        "version": "1",
        "started_at": NOW,
        "engine": "lmdb",
        "clock": {"state": "ok", "behind_s": 0},
        "outages": [],
        "replies_dropped": 0,
        "cluster": None,
    },
    "pools": [],
    "counts": {"serials": 0, "leases": 0, "computers": 0, "events": 0},
    "rates": {"requests_per_s": 1.0, "renewals_per_s": 0.0},
}


def test_a_server_that_goes_away_and_comes_back() -> None:
    """Silence is a fact with since when, the last picture stays, the history has a gap; and it ends by itself."""
    network = Network()
    woken = Woken(network)
    network.error = NoAnswer("nobody there")
    away = woken.wait_for(is_lost=True)
    assert away.loss is not None
    assert (away.loss.word, away.loss.reason) == ("SERVER UNREACHABLE", "nobody there")
    assert away.status == take(STATUS)
    assert away.rates[-1] is None
    network.error = None
    back = woken.wait_for(is_lost=False)
    assert back.rates[-1] is not None
    assert None in back.rates
    assert woken.feed.stop()


def test_an_error_of_ours_ends_the_dashboard() -> None:
    """What is no fault of server or network is not swallowed by the thread."""
    network = Network()
    woken = Woken(network)
    network.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        woken.wait_for(is_lost=True)
    assert woken.feed.stop()
