"""Many leases or serials that end at once in a cluster: who asks then is answered soon, and by what is true (R5)."""

from collections.abc import Iterator

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.catalog import COMPONENTS_MAX, Catalog, Component, Product
from als.ledger import lives
from als.records import Holder, split_lease_key
from als.server.cluster.writing import Writing
from als.store.etcd.store import MESSAGE_BYTES_MAX
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import Table
from cluster_world import ADMIN, PERIOD_S, WALL_S, Server, World, wish
from contract_client import DAY_S, day_number
from press import print_serial

CALLS_MAX = 30  # of a turn whose server knows nothing of what is due; each costs a millisecond or more
STORM = 450  # leases: more than twice as many as a request works off


@pytest.fixture
def world(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[World]:
    """A world without servers yet."""
    world = World(etcd_endpoint, etcd_prefix)
    yield world
    world.close()


def cold_server(world: World) -> Server:
    """Start a server that has kept house, and knows no leases."""
    server = world.server()
    server.turn()
    server.door.knocks = server.door.largest_bytes = 0
    return server


def storm(world: World, server: Server) -> None:
    """Let the leases of now become due, and nobody sweep them yet."""
    world.pass_time(PERIOD_S + 1, server)
    assert server.events("lapsed") == []


def test_an_acquire_in_a_storm_of_lapses_costs_few_calls(world: World) -> None:
    """A server that knows none of the leases that have lapsed looks at them together, and works off a part of them."""
    one = world.server()
    one.import_seats(STORM)
    one.fill(range(STORM))
    storm(world, one)
    cold = cold_server(world)
    assert cold.ask("acquire", **wish(STORM))["result"] == "granted"
    assert cold.door.knocks <= CALLS_MAX
    assert 100 <= len(one.events("lapsed")) < STORM
    for number in range(1, 5):
        assert one.ask("acquire", **wish(STORM + number))["result"] == "granted"
    assert len(one.events("lapsed")) == STORM
    assert cold.used == 5


def test_serials_of_one_seat_are_looked_at_together(world: World) -> None:
    """Where each lease has another serial, a cold server reads those together as well."""
    one = world.server()
    for first in range(0, 120, 20):
        texts = [print_serial(world.sold.by_code["ATIES"], number, 1)[0] for number in range(first, first + 20)]
        assert one.ask("import", ADMIN, serials=texts)["added"] == 20
    one.fill(range(120))
    storm(world, one)
    cold = cold_server(world)
    assert cold.ask("acquire", **wish(200))["result"] == "granted"
    assert cold.door.knocks <= CALLS_MAX


def test_serials_that_end_at_once_cost_few_calls(world: World) -> None:
    """A server that knows none of the serials that have ended looks at them together."""
    one = world.server()
    today = day_number(WALL_S)
    for first in range(0, 120, 20):
        serials = range(first, first + 20)
        texts = [print_serial(world.sold.by_code["ATIES"], number, 1, last_day=today)[0] for number in serials]
        assert one.ask("import", ADMIN, serials=texts)["added"] == 20
    world.passed_s += DAY_S - WALL_S % DAY_S
    cold = world.server()
    cold.door.knocks = 0
    assert cold.ask("acquire", **wish(1))["code"] == "license_expired"
    assert cold.door.knocks <= CALLS_MAX


def test_what_is_left_is_worked_off_by_the_next_request(world: World) -> None:
    """While more is due than a request may do, nobody is refused for seats that may be free, and each goes on."""
    one, leases = world.server(), range(650)
    one.import_seats(len(leases))
    one.fill(leases)
    world.pass_time(PERIOD_S / 2, one)
    for number in leases:  # so they are due, and lapse later
        assert one.ask("renew", **wish(number))["result"] == "renewed"
    world.pass_time(PERIOD_S / 2 + 1, one)
    cold = cold_server(world)
    answers = [cold.ask("acquire", **wish(1_000)), one.ask("check", product="ATIES")]
    assert [answer.get("code") for answer in answers] == ["unavailable", "unavailable"]
    assert answers[0]["detail"] == answers[1]["detail"] == {"retry_after_s": 1}
    assert cold.ask("acquire", **wish(1_000))["code"] == "no_free_license"
    assert one.ask("check", product="ATIES")["free"] == 0


def test_a_serial_is_not_in_use_by_what_has_lapsed(world: World) -> None:
    """Who removes a serial in a storm is asked to come again until it is known that nobody uses it."""
    one = world.server()
    one.import_seats(STORM)
    one.fill(range(STORM))
    storm(world, one)
    (row,) = one.ask("licenses", ADMIN)["rows"]
    answers = [one.ask("remove", ADMIN, serial_id=row["serial_id"]) for _ in range(3)]
    assert [answer.get("code") for answer in answers] == ["unavailable", "unavailable", None]
    assert answers[-1]["leases"] == 0


def test_the_largest_leases_fit_into_messages(etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Leases of as many components as a catalog may have lapse by as many as a message holds."""
    codes = [f"component-{number}".ljust(32, "x") for number in range(COMPONENTS_MAX - 1)]
    components = {code: Component(code, code, True, False) for code in ["agent", *codes]}
    suite = Product("ATIES", 1, "Suite", components, PERIOD_S, 10, reusable=True)
    world = World(etcd_endpoint, etcd_prefix, Catalog([suite]))
    one = world.server()
    one.import_seats(120)
    one.fill(range(120))
    writing = Writing(one.store, lambda: 0.5)
    rows = one.store.snapshot().scan(Table.LEASES)
    for first in range(0, len(rows), 20):

        def run_all(tx: EtcdTransaction, keys: range = range(first, first + 20)) -> None:
            for place in keys:
                product, computer = split_lease_key(rows[place][0])
                lease = lives.read(tx, product, computer)
                assert lease is not None
                lease.components |= dict.fromkeys(codes, Holder(b"12345678", lease.renewed_at))
                lives.write(tx, product, computer, lease)

        assert writing.run(run_all)
    storm(world, one)
    cold = cold_server(world)
    for number in range(10):
        assert cold.ask("acquire", **wish(200 + number))["result"] == "granted"
    assert cold.door.largest_bytes <= MESSAGE_BYTES_MAX
    assert len(one.events("lapsed")) == 120
    assert cold.used == 10
    world.close()
