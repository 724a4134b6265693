"""Two servers with one ledger each over one etcd, their transactions interleaved at will, answers lost now and then.

Every reply that a server could send must be the model's answer when all requests come in the order in which they were
written; and in the end the listings, the log and the books are those of the model.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.ledger import Rules
from als.store.etcd.client import EtcdClient
from etcd_race import HOUR_S, KEYS, SEATS, Race, Round, Turn, acquire
from pair import Post
from unsure_client import Fault

computers = st.builds(
    lambda number, host: {"macs": [bytes([2, 0, 0, 0, 0, number])], "host": host, "address": ""},
    st.integers(1, 5),
    st.sampled_from(["pc", "pc", "other"]),
)
runs = st.fixed_dictionaries(
    {"product": st.sampled_from(["HOUR", "HOUR", "ONCE"]), "component": st.sampled_from("ab"), "computer": computers}
)
posts = st.builds(
    Post,
    st.sampled_from(["acquire", "acquire", "renew", "renew", "renew", "release"]),
    st.sampled_from(KEYS),
    st.just("192.0.2.1"),
    runs,
)
turns = st.builds(
    Turn,
    st.lists(posts, min_size=1, max_size=4),
    st.sampled_from([True, True, False]),
    st.sampled_from([0, 0, 1, 5]),
    st.lists(st.sampled_from([Fault.NONE, Fault.NONE, *Fault]), max_size=2),
)
rounds = st.builds(
    Round,
    st.tuples(turns, turns),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([0, 0, 0, 1, 600, HOUR_S]),
)


@pytest.fixture(scope="module")
def client(etcd_endpoint: str) -> Iterator[EtcdClient]:
    """The way to etcd that all servers take."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(
    program=st.lists(rounds, min_size=2, max_size=8),
    limit=st.sampled_from([0, 2]),
    seats=st.sampled_from([SEATS, SEATS, 3, 8]),  # of the larger ones both servers can take at once
    own_log=st.booleans(),
)
def test_every_reply_is_right_in_the_order_of_writing(
    client: EtcdClient, program: list[Round], limit: int, seats: int, own_log: bool
) -> None:
    """No seat is given twice, no acknowledged change is lost, whatever two servers do at once."""
    race = Race(client, Rules(new_seats_per_address_h=limit), seats, own_log)
    for step in program:
        race.take(step)
    race.finish()


@pytest.mark.parametrize("first", [0, 1])
def test_the_last_seats_go_to_who_is_written_first(client: EtcdClient, first: int) -> None:
    """Two servers that have both seen the last four seats free grant four in all; the later one's are applied again."""
    race = Race(client, Rules())
    for place, server in enumerate(race.servers):
        server.inbox = [acquire(10 * place + number) for number in range(1, 4)]
        server.open(0)
    winner, loser = race.servers[first], race.servers[1 - first]
    winner.submit([])
    loser.submit([])
    assert not winner.inbox and len(loser.inbox) == 3
    race.finish()
    assert race.pair.model.pool("HOUR", race.pair.now)["used"] == 2 * SEATS
