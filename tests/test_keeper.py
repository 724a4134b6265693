"""Sessions on the wire, on a clock that the test sets: which server is asked, when, and what is kept of connections."""

import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
import zmq

from als import keyfile
from als.clock import Reading
from als.protocol import Refusal
from als_agents.client import Client, NoAnswer
from als_agents.errors import ClientError, KeyChanged, ServerNotFound
from als_agents.keeper import Keeper
from als_agents.patience import GIVE_BACK_S_MAX, SHUN_S
from als_agents.server import Server
from als_agents.session import Event, Notice, Session, State
from als_agents.testing import FakeServer

POLL_MS = 5_000  # far above what a loopback server needs to answer
DOUBT = Refusal("not_genuine", "The license is not genuine: a test says so.")
COMPUTER: Mapping[str, Any] = {"macs": [b"\x02\x00\x00\x00\x00\x01"], "host": "host", "address": ""}


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def read(self) -> Reading:
        """Give the time that was set."""
        return Reading(self.now, self.now)


class Bench:
    """A keeper with what it needs; `told` collects its notices."""

    def __init__(self, *servers: FakeServer) -> None:
        self.clock = SetClock()
        self.servers = [Server(server.host, server.port, server.key) for server in servers]
        self.searches = 0
        self.search_error: ClientError | None = None
        self.doubted: list[FakeServer] = []  # whose grants are not believed
        self.told: list[tuple[str, Notice]] = []
        self.keeper = Keeper(
            find=self._find,
            identity=keyfile.generate(),
            computer=lambda host: COMPUTER,
            on_notice=self._tell,
            inspect=self._inspect,
            time=self.clock,
        )

    def _tell(self, session: Session, notice: Notice) -> None:
        self.told.append((session.component, notice))

    def _inspect(self, session: Session, reply: Mapping[str, Any], server: Server) -> Refusal | None:
        return DOUBT if server.key in [doubted.key for doubted in self.doubted] else None

    def _find(self) -> list[Server]:
        self.searches += 1
        if self.search_error is not None:
            raise self.search_error
        return self.servers

    def session(self, component: str = "agent") -> Session:
        """Begin to keep a session."""
        session = Session("ATIES", component, now=self.clock.now, source=random.Random(1))
        self.keeper.add(session)
        return session

    def turn(self) -> None:
        """Do what is due, and wait for what that brings as long as something is under way."""
        self.keeper.pump()
        while self.keeper.waiting() and self.has_news():
            self.keeper.pump()

    def has_news(self) -> bool:
        """Wait until a reply has come or a connection ended; False when nothing happens for long."""
        poller = zmq.Poller()
        for client in self.keeper.waiting():
            for pollable in client.pollables:
                poller.register(pollable, zmq.POLLIN)
        return bool(poller.poll(POLL_MS))

    def advance_to_deadline(self) -> None:
        """Let time pass until something is due, and do it."""
        deadline = self.keeper.next_deadline()
        assert deadline is not None
        self.clock.now = max(self.clock.now, deadline)
        self.turn()

    @property
    def events(self) -> list[Event]:
        """Give the events so far."""
        return [notice.event for _, notice in self.told]


@pytest.fixture
def first() -> Iterator[FakeServer]:
    """The preferred server."""
    with FakeServer({"ATIES": 5}, heartbeat_s=20, name="first") as server:
        yield server


@pytest.fixture
def second() -> Iterator[FakeServer]:
    """The next server."""
    with FakeServer({"ATIES": 5}, heartbeat_s=20, name="second") as server:
        yield server


def test_several_sessions_share_a_connection(first: FakeServer) -> None:
    """All sessions of a program go over one connection to the server, each with its own license."""
    bench = Bench(first)
    sessions = [bench.session(name) for name in ("agent", "local-console")]
    bench.turn()
    assert [session.state for session in sessions] == [State.HELD] * 2
    assert len(bench.keeper._peers) == 1
    assert bench.events == [Event.ACQUIRED] * 2
    assert first.used("ATIES") == 1
    bench.keeper.close()


def test_it_goes_back_to_the_preferred_server(first: FakeServer, second: FakeServer) -> None:
    """A server that was gone is asked again after SHUN_S, and then keeps the license again."""
    bench = Bench(first, second)
    session = bench.session()
    bench.turn()
    first.stop()
    bench.advance_to_deadline()
    assert second.used("ATIES") == 1
    home = bench.keeper.home(session)
    assert home is not None and home.port == second.port
    first.start()
    gone_at = bench.clock.now
    while bench.keeper.home(session) == home:
        bench.advance_to_deadline()
    assert SHUN_S <= bench.clock.now - gone_at <= SHUN_S + 22.0
    assert session.state is State.HELD
    assert bench.events[0] is Event.ACQUIRED
    assert set(bench.events[1:]) == {Event.RENEWED}
    bench.keeper.close()


def test_another_server_is_asked_for_its_lease(first: FakeServer, second: FakeServer) -> None:
    """Whoever renews on another server gets to know the lease there."""
    bench = Bench(first, second)
    session = bench.session()
    second.serials["ATIES"] = "the second server's"
    bench.turn()
    second.await_requests("renew", 0)
    first.stop()
    bench.advance_to_deadline()
    assert session.lease is not None
    assert session.lease["serial"] == "the second server's"
    bench.keeper.close()


def test_a_silent_server_is_given_up_in_time(first: FakeServer, second: FakeServer) -> None:
    """While others are left a server has less than 3 s to answer, whatever hangs in it."""
    bench = Bench(first, second)
    bench.session()
    first.fall_silent()
    bench.keeper.pump()
    first.await_requests("renew")
    deadline = bench.keeper.next_deadline()
    assert deadline is not None
    assert deadline - bench.clock.now < 3.0
    bench.advance_to_deadline()
    assert second.used("ATIES") == 1
    bench.keeper.close()


def test_what_was_given_up_is_not_delivered(first: FakeServer) -> None:
    """A request to a server that is away is gone: when it comes back nobody's old requests wait for it."""
    bench = Bench(first)
    bench.session()
    first.stop()
    for _ in range(4):
        bench.turn()
        bench.advance_to_deadline()
    assert set(bench.events) == {Event.UNANSWERED}
    first.start()
    with pytest.raises(TimeoutError):
        first.await_requests("renew", wait_s=0.5)
    bench.advance_to_deadline()
    assert len(first.requests_for("renew")) == 1
    bench.keeper.close()


def test_a_round_of_silence_leads_to_a_search(first: FakeServer, second: FakeServer) -> None:
    """When all servers were silent the next try looks for servers anew; an unavailable one is no reason to."""
    bench = Bench(first)
    bench.session()
    first.refuse("unavailable", detail={"retry_after_s": 7})
    bench.turn()
    bench.advance_to_deadline()
    assert bench.searches == 1
    first.stop()
    bench.advance_to_deadline()
    assert bench.searches == 1
    bench.servers = [Server(second.host, second.port, second.key)]
    bench.advance_to_deadline()
    assert bench.searches == 2
    assert second.used("ATIES") == 1
    bench.keeper.close()


@pytest.mark.parametrize(
    ("error", "code"), [(ServerNotFound("none"), "no_server"), (KeyChanged("another"), "key_changed")]
)
def test_a_search_in_vain_is_silence(error: ClientError, code: str, first: FakeServer) -> None:
    """Where no server can be used, a license that is held is late, and no more: a stranger must not end it."""
    bench = Bench(first)
    session = bench.session()
    bench.turn()
    first.stop()
    bench.advance_to_deadline()
    bench.search_error = error
    bench.advance_to_deadline()
    assert session.state is State.LATE
    assert session.may_run
    other = bench.session("local-console")
    bench.turn()
    assert other.state is State.SEEKING
    component, notice = bench.told[-1]
    assert (component, notice.event) == ("local-console", Event.UNANSWERED)
    assert notice.why is not None and notice.why.code == code
    bench.keeper.close()


@pytest.mark.parametrize("part", ["computer", "explain"])
def test_a_program_out_of_files_is_silence(part: str, first: FakeServer) -> None:
    """What the system denies for a while makes a license late, ends no thread, and is over when it is over."""
    denied = [True]

    def computer(host: str) -> Mapping[str, Any]:
        if part == "computer" and denied:
            raise OSError(24, "Too many open files")
        return COMPUTER

    def explain(server: Server) -> ClientError:
        raise OSError(24, "Too many open files")

    bench = Bench(first)
    bench.keeper = Keeper(
        find=lambda: bench.servers,
        identity=keyfile.generate(),
        computer=computer,
        on_notice=lambda session, notice: bench.told.append((session.component, notice)),
        explain=explain,
        time=bench.clock,
    )
    if part == "explain":
        first.stop()
    session = bench.session()
    bench.turn()
    assert bench.events == [Event.UNANSWERED]
    assert bench.told[0][1].why is not None and "Too many open files" in bench.told[0][1].why.message
    denied.clear()
    if part == "explain":
        first.start()
    bench.advance_to_deadline()
    assert session.state is State.HELD
    bench.keeper.close()


def test_a_release_goes_to_the_server_that_holds_the_license(first: FakeServer, second: FakeServer) -> None:
    """Nobody else is asked to release, even if the preferred server is there again."""
    bench = Bench(first, second)
    first.stop()
    session = bench.session()
    bench.turn()
    first.start()
    bench.clock.now += SHUN_S + 1
    bench.keeper.release(session)
    bench.turn()
    while session.state is not State.RELEASED:
        bench.advance_to_deadline()
    assert second.used("ATIES") == 0
    assert first.requests_for("release") == []
    bench.keeper.close()


def say_no(bench: Bench, server: FakeServer, way: str) -> None:
    """Have a server's answer be a no, by its own word or because it is not believed."""
    if way == "refuses":
        server.refuse("no_free_license", "All 5 licenses of ATIES are in use.")
    else:
        bench.doubted.append(server)


@pytest.mark.parametrize("way", ["refuses", "is not believed"])
def test_a_no_of_another_server_does_not_end_a_license(way: str, first: FakeServer, second: FakeServer) -> None:
    """While the server that granted is away, another one's no is no more than silence, and it is asked on."""
    bench = Bench(first, second)
    session = bench.session()
    bench.turn()
    say_no(bench, second, way)
    first.stop()
    for _ in range(5):
        bench.advance_to_deadline()
    assert (session.state, session.may_run) == (State.LATE, True)
    assert bench.events == [Event.ACQUIRED, Event.LATE]
    assert len(second.requests_for("renew")) >= 2
    first.start()
    bench.advance_to_deadline()
    assert session.state is State.HELD
    home = bench.keeper.home(session)
    assert home is not None and home.port == first.port
    bench.keeper.close()


def test_a_license_that_runs_out_tells_of_the_other_servers_no(first: FakeServer, second: FakeServer) -> None:
    """Where the first server stays away until renew_by, the loss is a lapse, and the second one's no its reason."""
    bench = Bench(first, second)
    first.period_s = 60
    session = bench.session()
    bench.turn()
    say_no(bench, second, "refuses")
    first.stop()
    while session.is_held:
        bench.advance_to_deadline()
    message = f"The license was not renewed in time: {second.address} says: All 5 licenses of ATIES are in use."
    assert bench.told[-1] == ("agent", Notice(Event.LOST, Refusal("lapsed", message)))
    bench.keeper.close()


def test_the_servers_behind_the_one_that_says_no_are_asked(first: FakeServer, second: FakeServer) -> None:
    """A no that does not count stands in nobody's way: the next server may still grant."""
    with FakeServer({"ATIES": 5}, name="third") as third:
        bench = Bench(first, second, third)
        session = bench.session()
        bench.turn()
        second.refuse("license_expired")
        first.stop()
        bench.advance_to_deadline()
        assert session.state is State.HELD
        assert third.used("ATIES") == 1
        assert bench.events == [Event.ACQUIRED, Event.RENEWED]
        bench.keeper.close()


def test_how_long_another_server_wants_peace_delays_nothing(first: FakeServer, second: FakeServer) -> None:
    """The retry_after_s of a no that does not count is not for the server that holds the license."""
    bench = Bench(first, second)
    session = bench.session()
    bench.turn()
    second.refuse("too_many", "One address took too many.", detail={"retry_after_s": 3_000})
    first.stop()
    bench.advance_to_deadline()
    assert session.state is State.LATE
    deadline = bench.keeper.next_deadline()
    assert deadline is not None and deadline - bench.clock.now <= 1.0
    bench.keeper.close()


@pytest.mark.parametrize("way", ["refuses", "is not believed"])
def test_the_server_that_granted_may_take_a_license_away(way: str, first: FakeServer, second: FakeServer) -> None:
    """Its no is a loss at once, at whichever of its addresses it says so, and nobody else is asked."""
    with first.twin() as twin:
        bench = Bench(first, twin, second)
        session = bench.session()
        bench.turn()
        first.stop()
        say_no(bench, twin, way)
        bench.advance_to_deadline()
        assert session.state is State.REFUSED
        assert bench.events == [Event.ACQUIRED, Event.LOST]
        assert second.requests == []
        bench.keeper.close()


def test_before_a_license_any_servers_no_counts(first: FakeServer, second: FakeServer) -> None:
    """Who holds nothing does not go from server to server until one says yes, at the start and after a loss."""
    bench = Bench(first, second)
    session = bench.session()
    second.refuse("no_free_license")
    first.stop()
    bench.turn()
    assert session.state is State.REFUSED
    assert bench.events == [Event.REFUSED]
    bench.keeper.close()


@pytest.mark.parametrize("trouble", ["silence", "an end"])
def test_a_seat_that_nobody_takes_back_delays_the_refusal_a_little(trouble: str, first: FakeServer) -> None:
    """A server that falls silent, or ends, between a grant that is not believed and its release, is not waited for."""
    bench = Bench(first)
    session = bench.session()
    bench.doubted.append(first)
    bench.keeper.pump()
    assert bench.has_news()
    first.fall_silent()  # between its two answers
    bench.keeper.pump()
    first.await_requests("release")
    if trouble == "silence":
        started = bench.clock.now
        bench.advance_to_deadline()
        assert bench.clock.now - started <= GIVE_BACK_S_MAX
    else:
        first.stop()
        bench.turn()
    assert session.state is State.REFUSED
    assert [(notice.why.code, notice.why.message) for _, notice in bench.told if notice.why] == [DOUBT[:2]]
    bench.keeper.close()


def test_who_took_a_seat_to_see_its_serial_does_not_do_so_again_for_an_hour(first: FakeServer) -> None:
    """Each look is a new seat of an address, and two events; who was given none may ask as often as before."""
    bench = Bench(first)
    session = bench.session()
    bench.doubted.append(first)
    bench.turn()
    assert session.state is State.REFUSED and first.used("ATIES") == 0
    deadline = session.next_deadline()
    assert deadline is not None and deadline - bench.clock.now >= 3_600.0
    bench.keeper.close()


def test_a_broken_connection_of_many_sessions_is_mended_at_once(first: FakeServer) -> None:
    """A restart between two heartbeats costs no session its renewal."""
    bench = Bench(first)
    sessions = [bench.session(f"part-{number}") for number in range(20)]
    bench.turn()
    first.stop()
    first.start()
    bench.clock.now += 25.0
    bench.turn()
    assert [session.state for session in sessions] == [State.HELD] * 20
    assert Event.LATE not in bench.events
    bench.keeper.close()


def test_closing_a_connection_in_any_state_holds_nobody_up(first: FakeServer) -> None:
    """Connections that are closed while they connect, shake hands or end leave the others of the process working."""
    pair = keyfile.generate()
    with Client(first.host, first.port, first.key, pair) as working:
        for number in range(300):
            key = first.key if number % 3 else pair.public  # now and then a handshake that fails
            port = first.port if number % 4 else 1  # and a port where nobody listens
            passing = Client(first.host, port, key, pair, reconnects=False)
            with suppress(NoAnswer):  # the end came first
                passing.send("hello")
                if number % 2:
                    passing.pollables[0].poll(number % 5)
            passing.close()
        assert working.request("hello")["name"] == "first"
    with Client(first.host, first.port, first.key, pair) as fresh:
        assert fresh.request("hello")["name"] == "first"
