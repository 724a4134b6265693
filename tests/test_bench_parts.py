"""What the benchmarks' figures rest on: the load's requests, the way latencies count, percentiles, the population."""

import os
from collections import Counter
from itertools import cycle, islice
from typing import Any

import pytest

from als import protocol
from als_bench import connections, latencies, report, workload
from als_bench.closed_loop import ClosedLoop
from als_bench.environment import look
from als_bench.open_loop import OpenLoop, schedule
from als_bench.population import Population
from als_bench.processes import BenchError, Child, cpu_of
from als_bench.stage import warnings_of
from als_bench.workload import GRANTED, HEAD, ID_FIRST, Fleet, pack_id
from echo_server import EchoServer


def test_patched_requests_are_valid() -> None:
    """A request made from head, id and tail, or by patching a template, is what the protocol's own encoder makes."""
    fleet = Fleet(salt=7)
    assert HEAD + pack_id(ID_FIRST + 5) + fleet.tail("renew", 5) == fleet.request("renew", 5)
    for number, request in zip((3, 8, 13), fleet.forever_new("acquire", 3, 5), strict=False):
        decoded = protocol.decode(request)
        wanted = fleet.computer(number) | {"address": fleet.computer(3)["address"]}
        assert (decoded["id"], decoded["op"], decoded["computer"]) == (ID_FIRST + number, "acquire", wanted)


def test_new_computers_are_new_on_all_connections() -> None:
    """However far one connection is ahead: who comes again would be known, and a load of another kind."""
    ahead, behind = Fleet(salt=3).new_for_each("acquire", 1_000, 2)
    first = {protocol.decode(request)["computer"]["host"] for request in islice(ahead, 200_000, 200_010)}
    second = {protocol.decode(request)["computer"]["host"] for request in islice(behind, 100_000, 100_020)}
    assert len(first) == 10 and len(second) == 20 and not first & second


def test_computers_differ() -> None:
    """No two computers of one fleet or of two fleets share an address."""
    macs = [Fleet(salt=salt).mac(number) for salt in (1, 2) for number in range(5_000)]
    assert len(set(macs)) == len(macs)


def test_ids_are_read_from_replies() -> None:
    """The id is read at its place, and by the decoder where a reply is laid out in another way."""
    reply = protocol.encode_reply(ID_FIRST + 9, 1, {})
    assert workload.id_of(reply) == 9
    assert reply[workload.ANSWER_AT :].startswith(GRANTED)
    assert workload.id_of(reply[: workload.ANSWER_AT]) == 9  # without a look at what follows
    echoed = protocol.encode_request(ID_FIRST + 7, "renew", {})
    assert workload.id_of(echoed[: workload.ANSWER_AT]) == 7
    turned = {"ok": True, "id": ID_FIRST + 4, "v": 1, "time": 1}
    assert workload.id_of(_packed(turned)) == 4


def _packed(message: dict[str, Any]) -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(message)
    return packed


def test_each_connection_has_its_own_computers() -> None:
    """Every computer belongs to the connection of its number modulo their count, in an order that the seed decides."""
    dealt = workload.own_computers(100, 8, seed=1)
    assert sorted(number for numbers in dealt for number in numbers) == list(range(100))
    assert all(number % 8 == place for place, numbers in enumerate(dealt) for number in numbers)
    assert dealt == workload.own_computers(100, 8, seed=1) != workload.own_computers(100, 8, seed=2)
    some = workload.own_computers(1_000, 8, seed=1, most=80)
    assert sum(map(len, some)) == 80 and max(number for numbers in some for number in numbers) > 800


def test_comings_and_goings_release_what_they_acquired() -> None:
    """A connection acquires for some computers and then releases the same."""
    requests = [protocol.decode(it) for it in islice(workload.comings_and_goings(Fleet(), 2, 3)[1], 6)]
    assert [request["op"] for request in requests] == ["acquire"] * 3 + ["release"] * 3
    assert [request["computer"] for request in requests[:3]] == [request["computer"] for request in requests[3:]]


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A server that answers nothing until the last request has come makes the first ones wait, and it shows."""
    held: list[bytes] = []

    def answer_all_at_last(request: dict[str, Any]) -> list[bytes]:
        held.append(protocol.encode_reply(request["id"], 1, {}))
        return held if len(held) == 20 else []

    due_s = [number * 0.005 for number in range(20)]
    with EchoServer(answer_all_at_last) as server:
        load = connections.Connections(1)
        try:
            load.open(server.port, server.pair.public)
            outcome = OpenLoop(load.sockets, [cycle([Fleet().tail("renew", 1)])]).run(due_s)
        finally:
            load.close()
    assert outcome.sent == 20 and outcome.unanswered == 0 and outcome.count.refused == 0
    for due, latency in zip(due_s, outcome.latency_s, strict=True):
        assert latency is not None and latency >= due_s[-1] - due
    assert len(outcome.latencies(0.05)) == 10


@pytest.mark.parametrize("is_scattered", [False, True])
def test_what_is_due_together_leaves_over_one_connection(is_scattered: bool) -> None:
    """Unless each request takes the next one: then all connections have their share of it."""
    asked: list[str] = []

    def answer(request: dict[str, Any]) -> list[bytes]:
        asked.append(request["computer"]["host"])
        return [protocol.encode_reply(request["id"], 1, {})]

    with EchoServer(answer) as server:
        load = connections.Connections(4)
        try:
            load.open(server.port, server.pair.public)
            tails = [cycle([Fleet().tail("renew", number)]) for number in range(4)]
            outcome = OpenLoop(load.sockets, tails, is_scattered=is_scattered).run([0.0] * 40)
        finally:
            load.close()
    assert outcome.unanswered == 0
    assert sorted(Counter(asked).values()) == ([10] * 4 if is_scattered else [40])


def test_refusals_are_counted() -> None:
    """A closed loop that is refused everything says so, with the server's words."""

    def refuse(request: dict[str, Any]) -> list[bytes]:
        return [protocol.encode_refusal(request["id"], 1, protocol.Refusal("unavailable", "Not now."))]

    with EchoServer(refuse) as server:
        load = connections.Connections(1)
        try:
            load.open(server.port, server.pair.public)
            loop = ClosedLoop(load.sockets, [cycle([Fleet().request("renew", 1)])], 2, GRANTED)
            loop.start()
            count = loop.run(0.2)
            while not count.replies:
                count = loop.run(0.2)
            loop.finish()
        finally:
            load.close()
    assert count.refused == count.replies > 0
    assert set(count.refusals) == {"Not now."}


def test_schedule_keeps_the_rate() -> None:
    """Due times rise, end before the stretch does, come at the wanted rate, and are the same for the same seed."""
    times = schedule(2_000, 5, seed=3)
    assert times == sorted(times) and times[0] >= 0 and times[-1] < 5
    assert 9_500 < len(times) < 10_500  # 5 standard deviations of a Poisson count of 10,000
    assert times == schedule(2_000, 5, seed=3) != schedule(2_000, 5, seed=4)


def test_percentiles_are_those_of_the_sample() -> None:
    """Percentiles agree with a sorted list to three digits; nothing measured gives none."""
    sample = [number / 1000 for number in range(1, 10_001)]
    found = latencies.summary(sample)
    assert found["count"] == 10_000
    for name, wanted_ms in {"p50_ms": 5_000, "p99_ms": 9_900, "p99_9_ms": 9_990, "max_ms": 10_000}.items():
        assert found[name] == pytest.approx(wanted_ms, rel=2e-3)
    assert [pair[0] for pair in found["curve"]][-1] == 99.99
    assert latencies.summary([])["p99_ms"] is None


def test_population_lives_a_plausible_life() -> None:
    """Most computers run on working days, few on weekends and holidays; replaced ones never run again."""
    population = Population(1_000, churn=0.5, reinstalls=0.5, uninstalled=1.0, seed=5)
    days = list(population.days(40))
    active = [sum(map(len, day.runs)) for day in days]
    assert population.in_service == 1_000
    assert all(active[day] > 700 for day in (14, 22, 29)) and all(active[day] < 250 for day in (19, 20, 17))
    gone: set[int] = set()
    for day in days:
        gone |= set(day.uninstalled)
        assert not gone & {number for numbers in day.runs for number in numbers}
    assert gone and any(population.setups)
    runs = Counter(number for day in days for numbers in day.runs for number in numbers)
    assert max(runs.values()) == 40, "servers run every day"


def test_generator_that_limits_is_named() -> None:
    """A measurement in which the load's own thread was the busiest, or which was refused, comes with a warning."""
    calm = {
        "generator_main_busy": 0.3,
        "generator_others_busy": 0.5,
        "server_main_busy": 0.95,
        "server_others_busy": 0.2,
        "refused": 0,
        "refusals": [],
        "requests": 10,
    }
    assert warnings_of("here", calm) == []
    assert "bottleneck" in warnings_of("here", calm | {"generator_main_busy": 0.97})[0]
    assert "Not now." in warnings_of("here", calm | {"refused": 1, "refusals": ["Not now."]})[0]


def test_store_in_memory_is_named() -> None:
    """A store on a file system in memory comes with a warning, since its commits are not durable."""
    machine = look(None)
    in_memory = type(machine)(**machine.as_dict() | {"file_system": "tmpfs", "load_1min": 0.0})
    assert ["tmpfs" in warning for warning in in_memory.warnings()] == [True]


def test_tables_align() -> None:
    """Words stand to the left, numbers to the right, and what is not known is a dash."""
    lines = report.table(["name", "per s"], [["als", 12_345], ["echo", None]])
    assert lines == ["name   per s", "als   12,345", "echo       -"]


def test_a_child_that_fails_is_reported() -> None:
    """A process that ends without a word is an error that repeats what it wrote to stderr."""
    with Child(["/bin/sh", "-c", "echo it is broken >&2; exit 3"]) as child:
        with pytest.raises(BenchError, match="it is broken"):
            child.start()
        assert not child.is_running()


def test_processor_time_grows() -> None:
    """Work done in this process shows in its processor time."""
    before = cpu_of(os.getpid())
    while (cpu_of(os.getpid()) - before).total_s < 0.02:
        sum(range(10_000))
    assert (cpu_of(os.getpid()) - before).main_s >= 0
