"""The turns of servers over one etcd without their sockets: rivals, silence, clocks, and what is swept."""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from msgspec import structs

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.ledger import Rules
from als.server.cluster import house, serving
from als.server.cluster.house import OUTAGE_S, SLACK_S
from als.store.etcd.client import EtcdClient
from als.store.etcd.ops import put
from als.store.transaction import Table
from cluster_world import ADMIN, CATALOG, PERIOD_S, STRANGER, WALL_S, Server, World, wish
from contract_client import DAY_S, day_number
from press import print_serial


@pytest.fixture
def world(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[World]:
    """A world without servers yet."""
    world = World(etcd_endpoint, etcd_prefix)
    yield world
    world.close()


# Rivals.


def test_the_last_seat_goes_to_the_faster(world: World) -> None:
    """A seat that a rival takes after this server looked, and before it wrote, is denied and not given twice."""
    one, other = world.server(), world.server()
    one.import_seats(2)
    one.ask("acquire", **wish(1))
    one.door.before_txn = lambda: other.turn(other.letter("acquire", **wish(2)))
    assert one.ask("acquire", **wish(3))["code"] == "no_free_license"
    assert (one.used, other.used) == (2, 2)
    assert len(one.events("denied")) == 1


def test_renewals_do_not_wait_for_rivals(world: World) -> None:
    """Of a turn that a rival meets, the renewals are written at once, and the rest is applied again."""
    one, other = world.server(), world.server()
    one.import_seats(10)
    one.ask("acquire", **wish(1))
    world.pass_time(5)
    seen: list[list[int]] = []

    def meet() -> None:
        """Take a seat before the first message, and look at the leases before each further one."""
        if not seen:
            other.ask("acquire", **wish(2))
        seen.append([row["renewed_at"] for row in other.ask("leases", ADMIN)["rows"]])

    one.turn()
    one.door.before_txn = meet
    renewed, granted = one.turn(one.letter("renew", **wish(1)), one.letter("acquire", number=2, **wish(3)))
    assert (renewed["result"], granted["result"]) == ("renewed", "granted")
    assert renewed["renew_by"] == WALL_S + 5 + PERIOD_S
    assert seen[-1] == [WALL_S + 5, WALL_S + 5]  # before the last message: the renewal is there, the third seat is not
    assert other.used == 3


def test_renewals_of_listed_agents_do_not_wait_either(world: World) -> None:
    """Where agents must be listed, their renewals stand alone as well; who is not listed is refused."""
    one, other = world.server(), world.server()
    one.ledger.rules = other.ledger.rules = Rules(agents="listed")
    one.import_seats(10)
    one.ask("acquire", ADMIN, **wish(1))
    world.pass_time(5)
    renewals: list[int] = []

    def meet() -> None:
        """Take a seat before the first message, and look at the first lease before each further one."""
        if not renewals:
            other.ask("acquire", ADMIN, **wish(2))
        renewals.append(other.ask("leases", ADMIN)["rows"][0]["renewed_at"])

    one.turn()
    one.door.before_txn = meet
    wishes = [("renew", ADMIN, 1), ("acquire", ADMIN, 3), ("renew", STRANGER, 1)]
    replies = one.turn(*(one.letter(operation, key, **wish(number)) for operation, key, number in wishes))
    assert [reply.get("result") for reply in replies] == ["renewed", "granted", None]
    assert replies[2]["code"] == "not_authorized"
    assert renewals[-1] == WALL_S + 5
    assert other.used == 3


def test_a_rival_that_never_rests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written for rivals within the bound is refused as unavailable, and nothing of it is kept."""
    monkeypatch.setattr(serving, "RIVALRY_S", 0.05)
    one, other = world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    hosts = (f"pc-{number}" for number in count())

    def meet() -> None:
        """Have the same computer come to the other server with another name."""
        asked = wish(1)
        asked["computer"]["host"] = next(hosts)
        assert other.ask("renew", **asked)["result"] == "renewed"

    one.door.before_txn = meet
    refused = one.ask("acquire", **wish(1) | {"component": "local-console"})
    assert (refused["code"], refused["detail"]) == ("unavailable", {"retry_after_s": 1})
    one.door.before_txn = lambda: None
    assert one.events("component_added") == []
    assert one.ask("acquire", **wish(1) | {"component": "local-console"})["result"] == "already_held"
    assert len(other.events("component_added")) == 1


def test_servers_at_once(world: World) -> None:
    """Two servers in threads of their own that share out too few seats give exactly those."""
    servers = [world.server(), world.server()]
    servers[0].import_seats(25)
    replies: list[dict[str, Any]] = []

    def work(server: Server) -> None:
        replies.extend(server.ask("acquire", **wish(1 + server.number + 2 * number)) for number in range(20))

    threads = [threading.Thread(target=work, args=[server]) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 40
    assert sum(reply["ok"] for reply in replies) == 25
    assert [server.used for server in servers] == [25, 25]


# Silence.


def test_a_store_that_is_silent(world: World) -> None:
    """Without an answer everything is refused, at first after trying, then at once; it goes on when etcd is back."""
    server = world.server()
    server.import_seats(1)
    server.ask("status", ADMIN)
    server.door.is_shut, server.is_back = True, False
    refused = server.ask("acquire", **wish(1))
    assert (refused["code"], refused["detail"]) == ("unavailable", {"retry_after_s": 1})
    knocks = server.door.knocks
    world.pass_time(3, server)
    assert server.ask("acquire", **wish(1))["code"] == "unavailable"
    assert server.ask("status", ADMIN)["server"]["cluster"]["state"] == "unavailable"
    assert server.door.knocks == knocks
    server.door.is_shut, server.is_back = False, True
    world.pass_time(1)
    assert server.ask("acquire", **wish(1))["result"] == "granted"
    assert server.ask("status", ADMIN)["server"]["cluster"]["state"] == "ok"


def test_garbage_is_refused_without_the_store(world: World) -> None:
    """What is no request gets its own refusal, also when etcd is away."""
    server = world.server()
    server.door.is_shut, server.is_back = True, False
    bad = structs.replace(server.letter("hello"), body=b"\xc1")
    assert [reply["code"] for reply in server.turn(bad, server.letter("hello"))] == ["bad_request", "unavailable"]


# Time.


def test_times_are_in_order(world: World) -> None:
    """No server's time is behind another's tick, and events of both are in the order in which they happened."""
    one, other = world.server(), world.server(wrong_s=-1.0)
    one.import_seats(20)
    for number in range(1, 9):
        world.pass_time(1.5)
        turn_of = one if number % 2 else other
        before = one.core.guard.now
        assert turn_of.ask("acquire", **wish(number))["time"] >= before - 1
    seen = [int(event["mac"][-1]) for event in one.events("granted")]
    assert seen == list(range(1, 9))


def test_an_outage_of_all_is_written_once(world: World) -> None:
    """When no server was there for long, the first one back writes the outage, before anything can lapse by it."""
    one, other = world.server(), world.server()
    one.import_seats(2)
    one.ask("acquire", **wish(1))
    world.pass_time(PERIOD_S + 10)
    assert one.ask("renew", **wish(1))["result"] == "renewed"
    other.turn()
    (outage,) = one.events("outage")
    assert outage["detail"]["to"] - outage["detail"]["from"] >= PERIOD_S
    assert other.ask("status", ADMIN)["server"]["outages"] == [outage["detail"]]


def test_one_server_away_is_no_outage(world: World) -> None:
    """While one server is there, another's absence extends no lease."""
    one, other = world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    world.pass_time(PERIOD_S + 20, one)
    assert other.ask("acquire", **wish(2))["result"] == "granted"
    assert other.events("outage") == []
    assert OUTAGE_S < PERIOD_S


def test_the_sweep_leaves_slack(world: World) -> None:
    """A lapsed lease is swept when clocks cannot differ about it, by one server; whoever asks decides by the time."""
    one, other = world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    world.pass_time(PERIOD_S + 1, one, other)
    assert one.events("lapsed") == []
    world.pass_time(SLACK_S + 3, one, other)
    assert len(one.events("lapsed")) == 1
    assert one.used == 0


def test_a_wrong_clock_sweeps_nothing(world: World) -> None:
    """A server whose clock differs from most others' leaves the sweep to them."""
    one, other, wrong = world.server(), world.server(), world.server()
    one.import_seats(1)
    one.ask("acquire", **wish(1))
    world.pass_time(4, one, other, wrong)
    wrong.wrong_s = 3.0
    world.pass_time(PERIOD_S - 4, one, other, wrong)
    world.pass_time(SLACK_S + 3, wrong)  # less than after which the others are silent
    assert wrong.events("lapsed") == []
    troubles = wrong.ask("status", ADMIN)["server"]["cluster"]["troubles"]
    assert any("sweeps nothing" in trouble for trouble in troubles)
    world.pass_time(3, one, other, wrong)
    assert len(one.events("lapsed")) == 1


def test_serials_revive_by_as_many_as_a_message_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was wrong by days, and accepted, ends serials; set right and accepted it revives them, in pages."""
    monkeypatch.setattr(house, "REVIVED_MAX", 10)
    server = world.server()
    last_day = day_number(WALL_S) + 5
    for number in range(1, 36):
        text, _ = print_serial(CATALOG.by_code["ATIES"], number, 1, last_day=last_day)
        assert server.ask("import", ADMIN, serials=[text])["added"] == 1
    for wrong_s, total in ((10.0 * DAY_S, 0), (0.0, 35)):
        server.wrong_s = wrong_s
        server.turn()
        server.core.accept_clock()
        server.door.sent.clear()
        server.turn()
        sent = list(server.door.sent)
        assert server.ask("check", product="ATIES")["total"] == total
    ends = server.store.view.keys.name(Table.ENDS, b"")
    assert [message.count(ends) for message in sent if ends in message] == [10, 10, 10, 5]


def test_a_server_that_stops_at_once_revives_as_well(world: World) -> None:
    """A clock that is set right just before the server ends has revived what a wrong one had ended."""
    server = world.server()
    text, _ = print_serial(CATALOG.by_code["ATIES"], 1, 1, last_day=day_number(WALL_S) + 5)
    assert server.ask("import", ADMIN, serials=[text])["added"] == 1
    for wrong_s in (10.0 * DAY_S, 0.0):
        server.wrong_s = wrong_s
        server.turn()
        server.core.accept_clock()
        if wrong_s:
            assert server.ask("check", product="ATIES")["total"] == 0
    server.core.stop(server.read())
    assert world.server().ask("check", product="ATIES")["total"] == 1


# Compaction.


def compacting(world: World, times: int) -> Callable[[], None]:
    """Give what an administrator does: write something, and have etcd forget all before it, as often as `times`."""
    client = EtcdClient([world.endpoint])
    left = iter(range(times))

    def compact() -> None:
        if next(left, None) is not None:
            name = world.prefix + b"\xff"
            client.txn((), [put(name, b"")])
            client.compact(client.range(name).revision)

    return compact


def test_a_listing_outlives_a_compaction(world: World) -> None:
    """What is compacted while a viewer reads is read anew; who has no luck twice is asked to come again."""
    server = world.server()
    server.import_seats(5)
    server.fill(range(5))
    server.door.before_look = compacting(world, 1)
    assert len(server.ask("leases", ADMIN)["rows"]) == 5
    server.turn()
    server.door.before_look = compacting(world, 2)
    refused, hello = server.turn(server.letter("leases", ADMIN), server.letter("hello", number=2))
    assert (refused["code"], refused["detail"]) == ("unavailable", {"retry_after_s": 1})
    assert hello["ok"]
    assert len(server.ask("leases", ADMIN)["rows"]) == 5


def test_a_compaction_does_not_end_what_a_server_reads_for_itself(world: World) -> None:
    """The others' cards, and the status for the page of metrics, are read anew as well, or known from before."""
    one, other = world.server(), world.server()
    world.pass_time(3, one, other)
    for times in (1, 2):
        one.door.before_look = compacting(world, times)
        assert one.core.read_status() is not None
        one.door.before_look = compacting(world, times)
        world.pass_time(1)
        assert one.ask("hello").get("code") == (None if times == 1 else "unavailable")
    world.pass_time(3, one, other)
    cluster = one.ask("status", ADMIN)["server"]["cluster"]
    assert [server["state"] for server in cluster["servers"]] == ["running", "running"]
