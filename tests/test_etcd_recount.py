"""Two servers that grant seats of one serial at once: both are right, as long as there are seats for both.

What has changed under a transaction is then only how many are used, and that is counted anew, not applied again.
"""

from collections.abc import Iterator

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.ledger import Rules
from als.store.etcd.client import EtcdClient
from als.store.transaction import Table
from etcd_race import KEYS, Race, acquire
from etcd_stores import CountingClient, open_over
from pair import Post

MANY = 300
SEATS = 1_000
LEASES = Table.LEASES


@pytest.fixture(scope="module")
def client(etcd_endpoint: str) -> Iterator[EtcdClient]:
    """The way to etcd that all servers take."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


def started(client: EtcdClient, seats: int) -> Race:
    """Give two servers that have both granted something: each knows that the other's counts are there."""
    race = Race(client, Rules(new_seats_per_address_h=0), seats, own_log=True)
    for place in (0, 1, 0, 1):
        for operation in ("acquire", "release"):
            race.servers[place].inbox.append(post(operation, 100 + place))
            while race.servers[place].inbox:
                race.servers[place].open(0)
                race.servers[place].submit([])
    return race


def post(operation: str, number: int) -> Post:
    """A request of a computer that may have a seat."""
    return Post(operation, KEYS[0], f"10.0.0.{number}", acquire(number).fields)


def served(race: Race, *posts: tuple[int, Post]) -> list[int]:
    """Let both servers apply what each is asked before either submits; give how many each has to apply again."""
    for place, asked in posts:
        race.servers[place].inbox.append(asked)
    for server in race.servers:
        server.open(0)
    for server in race.servers:
        server.submit([])
    return [len(server.inbox) for server in race.servers]


def used(race: Race) -> int:
    """Give the seats in use as the rules have it."""
    count = race.pair.model.pool("HOUR", race.pair.now)["used"]
    assert type(count) is int
    return count


def used_max(race: Race) -> int:
    """Give the most seats that were used in this hour, as the history has it."""
    now = race.pair.now
    [hour] = race.pair.get("usage", product="HOUR", since=now, until=now + 1)["rows"]
    assert type(hour["used_max"]) is int
    return hour["used_max"]


def test_both_take_seats_of_one_serial(client: EtcdClient) -> None:
    """Neither has to apply its acquires and releases again, however their transactions lie."""
    race = started(client, seats=8)
    assert served(race, (0, acquire(1)), (1, acquire(2)), (1, acquire(3))) == [0, 0]
    assert served(race, (0, post("release", 1)), (1, acquire(4))) == [0, 0]
    assert served(race, (0, acquire(1)), (0, post("release", 1)), (1, post("release", 4))) == [0, 0]
    assert used(race) == 2
    race.finish()


def test_the_most_used_seats_are_counted_together(client: EtcdClient) -> None:
    """The hour's most used seats are those of both servers, in the order of their writing."""
    race = started(client, seats=8)
    both = [(0, acquire(number)) for number in (1, 2)] + [(1, acquire(number)) for number in (3, 4, 5)]
    assert served(race, *both) == [0, 0]
    assert served(race, *((0, post("release", number)) for number in (1, 2)), (1, acquire(6))) == [0, 0]
    race.finish()
    assert used_max(race) == 5


def test_a_peak_within_a_transaction_is_counted_with_the_others(client: EtcdClient) -> None:
    """Seats that are taken and given back in one transaction count for the hour, on top of what the other has."""
    race = started(client, seats=8)
    passing = [post(operation, 1) for operation in ("acquire", "release")]
    assert served(race, (1, acquire(3))) == [0, 0]
    assert served(race, *((0, asked) for asked in passing)) == [0, 0]
    race.finish()
    assert (used(race), used_max(race)) == (1, 2)


def test_seats_that_are_too_few_are_not_counted_anew(client: EtcdClient) -> None:
    """Where the other's seats leave too few, everything is applied again, and refused."""
    race = started(client, seats=2)
    both = [(place, acquire(10 * place + number)) for place in (0, 1) for number in (1, 2, 3)]
    assert served(race, *both) == [0, 3]
    race.finish()
    assert used(race) == 4


@pytest.mark.parametrize(("seats", "each"), [(3, 2), (6, 3)])
def test_a_serial_that_would_get_full_is_not_counted_anew(client: EtcdClient, seats: int, each: int) -> None:
    """Together they want all seats or more, though neither alone has filled the serial."""
    race = started(client, seats)
    both = [(place, acquire(10 * place + number)) for place in (0, 1) for number in range(1, each + 1)]
    assert served(race, *both) == [0, each]
    race.finish()
    assert used(race) == 2 * each


def test_denials_at_both_do_not_disturb_each_other(client: EtcdClient) -> None:
    """Computers that are refused at two servers at once are counted by each for itself."""
    race = started(client, seats=1)
    for number in (1, 2, 3):
        race.servers[0].inbox.append(acquire(number))
        race.servers[0].open(0)
        race.servers[0].submit([])
    served(race, (1, acquire(4)))
    while race.servers[1].inbox:
        served(race)
    assert served(race, (0, acquire(5)), (1, acquire(6)), (1, acquire(7))) == [0, 0]
    race.finish()


def test_numbers_that_were_told_are_not_counted_anew(client: EtcdClient) -> None:
    """A reply that tells how many seats are used holds for that number alone."""
    race = started(client, seats=8)
    check = Post("check", KEYS[0], "10.0.0.9", {"product": "HOUR"})
    assert served(race, (0, acquire(1)), (1, acquire(2)), (1, check)) == [0, 2]
    race.finish()


def test_hundreds_in_one_transaction(client: EtcdClient) -> None:
    """A transaction too large for a verdict of its own is counted anew as well, and again before its next message."""
    race = started(client, seats=SEATS)
    for first in (1_000, 2_000, 3_000):
        many = [(place, acquire(first + 500 * place + number)) for number in range(MANY // 3) for place in (0, 1)]
        assert served(race, *many) == [0, 0]
    assert used(race) == 2 * MANY
    race.finish()


def test_a_sweep_looks_at_all_ranges_in_one_call(client: EtcdClient, etcd_prefix: bytes) -> None:
    """The beginnings of many ranges come in one call, and are known from then on, as far as was asked."""
    counting = CountingClient(client)
    store = open_over(counting, etcd_prefix, 0)
    tx = store.begin()
    for number in range(200):
        tx.put(LEASES, b"%03d/5" % number, b"")
    assert not store.submit(tx).rejected
    before = counting.calls
    for end in (b"/1", b"/3", b"/9"):
        store.look_ahead(((LEASES, b"%03d" % number, b"%03d" % number + end) for number in range(60)), 40)
        tx = store.begin()
        found = [tx.scan(LEASES, b"%03d" % number, b"%03d" % number + end, limit=40) for number in range(60)]
        assert [len(rows) for rows in found] == [end == b"/9"] * 60
    assert counting.calls - before == 3
