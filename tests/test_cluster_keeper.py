"""What a client does when the server of a cluster that it uses dies: the next address, within three seconds."""

import random
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from als import clock, keyfile
from als_agents import DeploymentServer, InvalidLicense, LicensedComponent
from als_agents.deployment import Target
from als_agents.errors import ServerNotFound
from als_agents.patience import ANSWER_S_MAX, NEXT_ADDRESS_S_MAX, NEXT_SERVER_S_MAX, SHUN_S, patience_s
from als_agents.server import Server, spread
from als_agents.session import Event, Session, State
from als_agents.testing import FakeServer
from als_agents.workplace import Caller
from test_keeper import Bench

MOVED_S_MAX = 3.0
WAIT_S = 20.0
STEPS_MAX = 12  # deadlines: some retries and time-outs


@pytest.fixture
def first() -> Iterator[FakeServer]:
    """A server of a cluster."""
    with FakeServer({"ATIES": 5, "ASD": 5}, heartbeat_s=1, name="office") as server:
        yield server


@pytest.fixture
def second(first: FakeServer) -> Iterator[FakeServer]:
    """Another server of the same cluster."""
    with first.twin() as server:
        yield server


def count(server: FakeServer, operation: str = "renew") -> int:
    """Count the requests of an operation that have come to a server."""
    return len(server.requests_for(operation))


def advance_to(bench: Bench, session: Session, state: State) -> None:
    """Let time pass until a session is in a state, at most so often as silence may take."""
    for _ in range(STEPS_MAX):
        if session.state is state:
            return
        bench.advance_to_deadline()
    raise AssertionError(f"it is {session.state} after {STEPS_MAX} deadlines")


def test_twins_are_one_server_with_two_addresses(first: FakeServer, second: FakeServer) -> None:
    """They have one key and one book: a license from one is renewed by the other, and counted once."""
    assert (first.key, first.server_id) == (second.key, second.server_id)
    assert first.port != second.port
    bench = Bench(first, second)
    session = bench.session()
    bench.turn()
    assert (first.used("ATIES"), second.used("ATIES")) == (1, 1)
    first.stop()
    bench.advance_to_deadline()
    assert second.used("ATIES") == 1
    assert bench.events == [Event.ACQUIRED, Event.RENEWED]
    assert session.state is State.HELD
    bench.keeper.close()


def test_another_address_is_not_asked_for_the_lease(first: FakeServer, second: FakeServer) -> None:
    """The lease of a cluster is the same everywhere, so a renewal elsewhere stays short."""
    bench = Bench(first, second)
    bench.session()
    bench.turn()
    first.stop()
    bench.advance_to_deadline()
    assert [request.get("want_lease") for request in second.requests_for("renew")] == [None]
    bench.keeper.close()


def test_a_silent_address_is_given_up_after_a_second(first: FakeServer, second: FakeServer) -> None:
    """A server that hangs costs NEXT_ADDRESS_S_MAX, and nothing for SHUN_S after that; the license is not even late."""
    bench = Bench(first, second)
    session = bench.session()
    bench.turn()
    first.fall_silent()
    due = bench.keeper.next_deadline()
    assert due is not None
    bench.clock.now = due
    bench.keeper.pump()
    first.await_requests("renew", 2)
    assert bench.keeper.next_deadline() == pytest.approx(due + NEXT_ADDRESS_S_MAX)
    bench.advance_to_deadline()
    assert bench.clock.now - due < MOVED_S_MAX
    assert count(second) == 1
    while bench.clock.now < due + SHUN_S - 2.0:
        bench.advance_to_deadline()
    assert (count(first), session.state) == (2, State.HELD)
    assert set(bench.events) == {Event.ACQUIRED, Event.RENEWED}
    bench.keeper.close()


def test_two_of_three_may_be_silent(first: FakeServer, second: FakeServer) -> None:
    """Of three servers two may hang at once, and the third still answers within three seconds."""
    with first.twin() as third:
        bench = Bench(first, second, third)
        session = bench.session()
        for server in (first, second):
            server.fall_silent()
        begin = bench.clock.now
        bench.keeper.pump()
        advance_to(bench, session, State.HELD)
        assert bench.clock.now - begin < MOVED_S_MAX
        bench.keeper.close()


def test_a_server_that_died_is_passed_at_once(first: FakeServer, second: FakeServer) -> None:
    """Where the connection ends with the server, no time passes before the next is asked, also under way."""
    bench = Bench(first, second)
    session = bench.session()
    first.fall_silent()
    bench.keeper.pump()
    first.await_requests("renew")
    begin = bench.clock.now
    first.stop()
    bench.turn()
    assert (session.state, bench.clock.now) == (State.HELD, begin)
    bench.keeper.close()


def test_an_unavailable_server_of_a_cluster_is_passed_at_once(first: FakeServer, second: FakeServer) -> None:
    """A server that has lost its store says so, and another one that has not is asked."""
    bench = Bench(first, second)
    session = bench.session()
    first.refuse("unavailable", detail={"retry_after_s": 5})
    bench.turn()
    assert (session.state, count(second)) == (State.HELD, 1)
    bench.keeper.close()


def test_a_release_goes_to_any_address_of_the_server(first: FakeServer, second: FakeServer) -> None:
    """A license of a cluster is given back where somebody answers, not to a server that counts for itself."""
    with FakeServer({"ATIES": 5}, name="branch") as branch:
        bench = Bench(first, second, branch)
        session = bench.session()
        bench.turn()
        first.stop()
        bench.keeper.release(session)
        advance_to(bench, session, State.RELEASED)
        assert second.used("ATIES") == 0
        assert (count(second, "release"), branch.requests) == (1, [])
        bench.keeper.close()


def test_a_release_finds_a_server_that_a_search_has_passed_over(first: FakeServer) -> None:
    """A license is given back where it is held, though that server is no longer among those that are found."""
    with FakeServer({"ATIES": 5}, name="branch") as branch:
        bench = Bench(first)
        session = bench.session()
        bench.turn()
        first.fall_silent()
        bench.advance_to_deadline()
        bench.advance_to_deadline()
        assert session.state is State.LATE
        bench.servers = [Server(branch.host, branch.port, branch.key)]
        branch.refuse("unavailable")
        bench.advance_to_deadline()
        assert count(branch) == 1
        first.accept()
        bench.keeper.release(session)
        advance_to(bench, session, State.RELEASED)
        assert (first.used("ATIES"), count(branch, "release")) == (0, 0)
        bench.keeper.close()


def test_a_fleet_comes_back_evenly(first: FakeServer, second: FakeServer) -> None:
    """Each agent has an order of its own, and returns to its first address when that has been back for a while."""
    benches = [Bench(first, second) for _ in range(40)]
    for number, bench in enumerate(benches):
        bench.servers = spread(bench.servers, random.Random(number).shuffle)
        bench.session()
        bench.turn()
    at_first = [bench.servers[0].port == first.port for bench in benches]
    assert 10 < sum(at_first) < 30
    first.stop()
    for bench in benches:
        bench.advance_to_deadline()
    first.start()
    for bench, wanted in zip(benches, at_first, strict=True):
        bench.clock.now += SHUN_S
        before = count(first)
        bench.advance_to_deadline()
        assert count(first) - before == wanted
        bench.keeper.close()


def test_patience_with_servers_and_addresses() -> None:
    """An address of the same server is asked after a second, another server after more, the last has the most."""
    one, twin, other = (Server(host, 1, key) for host, key in (("a", bytes(32)), ("b", bytes(32)), ("c", b"k" * 32)))
    assert patience_s(one, twin) == NEXT_ADDRESS_S_MAX == 1.0
    assert patience_s(one, other) == NEXT_SERVER_S_MAX == 2.5
    assert patience_s(one, None) == ANSWER_S_MAX == 5.0


def test_the_sdk_moves_while_a_program_runs(first: FakeServer, second: FakeServer, tmp_path: Path) -> None:
    """Whichever server of the two hangs, the program's license is renewed by the other within three seconds."""
    lost: SimpleQueue[InvalidLicense] = SimpleQueue()
    both = [first.address, second.address]
    with LicensedComponent("ATIES", "agent", server=both, client_dir=tmp_path, on_lost=lost.put) as component:
        using, other = (first, second) if count(first) else (second, first)
        assert count(other) == 0
        using.fall_silent()
        using.await_requests("renew", count(using) + 1)
        asked_s = clock.monotonic_s()
        other.await_requests("renew", wait_s=WAIT_S)
        assert clock.monotonic_s() - asked_s < MOVED_S_MAX
        assert component.is_held
    assert lost.empty()


def test_single_requests_move_too(first: FakeServer, second: FakeServer) -> None:
    """A command's request has its answer within three seconds, and the next one goes to who has answered."""
    servers = [Server(server.host, server.port, server.key) for server in (first, second)]
    with Caller(servers, keyfile.generate(), lambda server: ServerNotFound("none")) as caller:
        caller.ask("check", lambda server: {"product": "ATIES"})
        first.fall_silent()
        begin_s = clock.monotonic_s()
        caller.ask("check", lambda server: {"product": "ATIES"})
        assert clock.monotonic_s() - begin_s < MOVED_S_MAX
        caller.ask("check", lambda server: {"product": "ATIES"})
        assert (count(first, "check"), count(second, "check")) == (2, 2)
        assert caller.server == servers[1]


def test_single_requests_go_back_to_the_preferred_server(first: FakeServer) -> None:
    """A caller that lives long asks its first server again when that was silent a minute ago."""
    with FakeServer({"ATIES": 5}) as other:
        servers = [Server(server.host, server.port, server.key) for server in (first, other)]
        with Caller(servers, keyfile.generate(), lambda server: ServerNotFound("none")) as caller:
            first.stop()
            caller.ask("check", lambda server: {"product": "ATIES"})
            first.start()
            caller.ask("check", lambda server: {"product": "ATIES"})
            assert (count(first, "check"), caller.server) == (0, servers[1])
            caller._shunned_until[servers[0]] -= SHUN_S
            caller.ask("check", lambda server: {"product": "ATIES"})
            assert (count(first, "check"), caller.server) == (1, servers[0])


def test_a_deployment_server_keeps_every_address(first: FakeServer, second: FakeServer, tmp_path: Path) -> None:
    """After `check` a later run needs no server to be named, whichever of the cluster's servers is there then."""
    with DeploymentServer(server=f"{first.address},{second.address}", client_dir=tmp_path) as server:
        assert server.check().free == 5
    for gone in (first, second):
        gone.stop()
        with DeploymentServer(client_dir=tmp_path) as server:
            assert server.acquire(Target("02-00-00-00-01-01", "pc-1")).is_licensed
        gone.start()
    assert first.used("ASD") == 1


def test_a_deployment_server_looks_again_after_silence(first: FakeServer, tmp_path: Path) -> None:
    """One that lives long finds a server that is started after it had given up."""
    first.stop()
    with DeploymentServer(server=first.address, client_dir=tmp_path) as server:
        with pytest.raises(ServerNotFound):
            server.check()
        first.start()
        assert server.check().free == 5
