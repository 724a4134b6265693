"""Sessions on the wire: sends what they ask for, to the server that answers, and brings the replies back.

It knows servers and their order, time-outs and failover, not why a session asks nor what a license means. It never
waits, but for the search for servers: `pump` does what can be done, `next_deadline` says when to call it again.
"""

import heapq
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from als import clock, keyfile
from als.protocol import PIPELINE_REQUESTS_MAX, Refusal
from als_agents.client import Client, Context
from als_agents.errors import ClientError, NoAnswer, Refused
from als_agents.patience import GIVE_BACK_S_MAX, SHUN_S, patience_s
from als_agents.server import Server
from als_agents.session import NO_ANSWER, Ask, Notice, Output, Session, read_refusal
from als_agents.silence import why_silent

REPLIES_PER_PUMP_MAX = 1_000  # so that timers have their turn under any load
DOUBTED_RETRY_S = 3_600.0  # who has to take a seat to see a serial that he does not believe does not do so all day

Reply = dict[str, Any]

logger = logging.getLogger("als_agents")


@dataclass(eq=False)
class _Peer:
    """A server, the connection to it, and what is under way on it: an attempt, or an errand's callback."""

    server: Server
    client: Client
    shunned_until: float = -math.inf
    pending: "dict[int, _Attempt | Callable[[Reply], None]]" = field(default_factory=dict)


@dataclass(eq=False)
class _Attempt:
    """One request on its round through the servers."""

    session: Session
    ask: Ask
    tried: list[_Peer] = field(default_factory=list)
    request_id: int = 0
    give_up_at: float = math.inf
    why: Refusal = NO_ANSWER
    doubt: Refusal | None = None  # the peer's grant is not believed, and its seat is being given back

    @property
    def peer(self) -> _Peer:
        """The server that is being asked."""
        return self.tried[-1]


class Keeper:
    """Keeps sessions alive over one connection to each server. Belongs to one thread.

    `find` gives the servers, the preferred first, or raises ClientError; it may take seconds, and is called at the
    start and after a round in which all were silent. Servers with one key are one server with several addresses: a
    license that it granted is held at all of them, and no other server can take it away: as long as it lasts, another
    one's no is silence. `explain` finds out what is behind the silence of a server. `computer` makes the computer as
    on the wire, for a server's host. `inspect` may turn a reply that grants into a refusal: its owner does not
    believe the server. A seat that was taken by that goes back; one that was held before stays, others may live on it.
    """

    def __init__(
        self,
        *,
        find: Callable[[], Sequence[Server]],
        identity: keyfile.KeyPair,
        computer: Callable[[str], Mapping[str, Any]],
        on_notice: Callable[[Session, Notice], None],
        explain: Callable[[Server], ClientError] | None = None,
        inspect: Callable[[Session, Reply, Server], Refusal | None] | None = None,
        context: Context | None = None,
        time: clock.Clock | None = None,
    ) -> None:
        self._find = find
        self._identity = identity
        self._computer = computer
        self._on_notice = on_notice
        self._explain = explain
        self._explain_at = -math.inf
        self._inspect = inspect
        self._context = context
        self._clock = time if time is not None else clock.SystemClock()
        self._peers: list[_Peer] = []
        self._must_find = True
        self._homes: dict[Session, _Peer] = {}  # where each license is held
        self._attempts: dict[Session, _Attempt] = {}
        self._timers: list[tuple[float, int, Session]] = []
        self._timer_of: dict[Session, float] = {}  # an entry of _timers that is not the one named here is stale
        self._order = itertools.count()

    def now(self) -> float:
        """Give the time that sessions of this keeper live in, in monotonic seconds."""
        return self._clock.read().monotonic_s

    def add(self, session: Session) -> None:
        """Begin to keep a session."""
        self._schedule(session)

    def release(self, session: Session) -> None:
        """Give a session's license back, at the server where it is held."""
        session.release(self.now())
        self._schedule(session)

    def keep(self, session: Session) -> None:
        """Withdraw `release`."""
        session.keep(self.now())
        self._schedule(session)

    def home(self, session: Session) -> Server | None:
        """Give the server that granted or renewed a session's license last."""
        peer = self._homes.get(session)
        return None if peer is None else peer.server

    def ask_home(self, session: Session, operation: str, on_reply: Callable[[Reply], None]) -> None:
        """Send a request without a computer to a session's server; nothing happens if no reply comes."""
        peer = self._homes.get(session)
        if peer is not None:
            request_id = self._send(peer, operation, {})
            if request_id is not None:
                peer.pending[request_id] = on_reply

    def waiting(self) -> list[Client]:
        """Give the connections on which replies are awaited."""
        return [peer.client for peer in self._peers if peer.pending]

    def next_deadline(self) -> float | None:
        """Give the time at which to call `pump` even if nothing has come."""
        while self._timers and self._timer_of.get(self._timers[0][2]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def pump(self) -> None:
        """Take in the replies that have come and do what is due."""
        for peer in list(self._peers):
            self._receive(peer)
        now = self.now()
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            session = heapq.heappop(self._timers)[2]
            del self._timer_of[session]
            attempt = self._attempts.get(session)
            if attempt is not None and attempt.give_up_at <= now:
                self._give_up(attempt)
            else:
                self._handle(session, session.on_timer(now))
            self._schedule(session)

    def close(self) -> None:
        """Close every connection. Licenses stay as they are."""
        for peer in self._peers:
            peer.client.close()
            peer.pending.clear()

    def _schedule(self, session: Session) -> None:
        """Set the timer of a session to what it or its attempt waits for."""
        attempt = self._attempts.get(session)
        due = session.next_deadline()
        if attempt is not None:
            due = attempt.give_up_at if due is None else min(due, attempt.give_up_at)
        if due is None:
            self._timer_of.pop(session, None)
        elif self._timer_of.get(session) != due:
            self._timer_of[session] = due
            heapq.heappush(self._timers, (due, next(self._order), session))

    def _handle(self, session: Session, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Ask):
                self._begin(session, output)
            else:
                self._on_notice(session, output)

    def _begin(self, session: Session, ask: Ask) -> None:
        """Send a request to the first server, after a search where one is due."""
        attempt = self._attempts[session] = _Attempt(session, ask)
        if self._must_find or not self._peers:
            try:
                self._take_servers(self._find())
            except (ClientError, OSError) as error:
                self._end(attempt, why_silent(error))
                return
        self._ask_next(attempt)

    def _take_servers(self, servers: Sequence[Server]) -> None:
        """Go on with these servers; the connections to those that stay are kept."""
        old = {(peer.server.place, peer.server.key): peer for peer in self._peers}
        peers: list[_Peer] = []
        for server in servers:
            kept = old.pop((server.place, server.key), None)
            peers.append(self._new_peer(server) if kept is None else kept)
        self._peers = peers
        self._must_find = False
        for peer in old.values():
            if peer.pending:
                self._peers.append(peer)  # until those are answered or given up
            else:
                peer.client.close()

    def _new_peer(self, server: Server) -> _Peer:
        client = Client(
            server.host,
            server.port,
            server.key,
            self._identity,
            context=self._context,
            reconnects=False,
        )
        return _Peer(server, client)

    def _ask_next(self, attempt: _Attempt) -> None:
        """Send an attempt's request to the next server that takes it; end the attempt when none is left."""
        while (peer := self._next_peer(attempt)) is not None:
            attempt.tried.append(peer)
            following = self._next_peer(attempt)
            timeout_s = patience_s(peer.server, None if following is None else following.server)
            try:
                request_id = self._send(peer, attempt.ask.operation, self._fields(attempt, timeout_s))
            except Refused as error:
                self._end(attempt, {"ok": False, "code": error.code, "message": error.message})
                return
            except (ClientError, OSError) as error:  # the computer can't be described now: too many open files, say
                self._end(attempt, why_silent(error))
                return
            if request_id is not None:
                self._await(attempt, request_id, timeout_s)
                return
            peer.shunned_until = self.now() + SHUN_S
        self._end(attempt, self._why_silent(attempt))

    def _await(self, attempt: _Attempt, request_id: int, timeout_s: float) -> None:
        """Wait for the reply to a request of an attempt that was sent to its peer."""
        attempt.request_id, attempt.peer.pending[request_id] = request_id, attempt
        attempt.give_up_at = self.now() + timeout_s
        self._schedule(attempt.session)

    def _fields(self, attempt: _Attempt, timeout_s: float) -> dict[str, Any]:
        """Make the keys of an attempt's request to its peer. Raises ClientError, OSError."""
        server, home = attempt.peer.server, self.home(attempt.session)
        fields = {
            **attempt.ask.fields,
            "computer": self._computer(server.host),
            "patience_ms": int(timeout_s * 1000),
        }
        if attempt.ask.operation == "renew" and (home is None or home.key != server.key):
            fields["want_lease"] = True  # another server, another lease
        return fields

    def _why_silent(self, attempt: _Attempt) -> Refusal:
        """Say why nobody answered an attempt; looked into once in SHUN_S, since that takes a second."""
        now = self.now()
        if self._explain is None or attempt.why is not NO_ANSWER or not attempt.tried or now < self._explain_at:
            return attempt.why
        self._explain_at = now + SHUN_S
        try:
            return why_silent(self._explain(attempt.tried[0].server))
        except OSError as error:
            return why_silent(error)

    def _next_peer(self, attempt: _Attempt) -> _Peer | None:
        """Give the preferred server that was not tried and not silent lately, else one that was; None at the end.

        A release goes to the server that holds the license, to whichever of its addresses answers.
        """
        home = self._homes.get(attempt.session)
        peers = self._peers
        if home is not None and attempt.ask.operation == "release":
            if home not in peers:
                peers.append(home)  # a search has passed it over since
            peers = [peer for peer in peers if peer.server.key == home.server.key]
        left = [peer for peer in peers if peer not in attempt.tried]
        now = self.now()
        return min(left, key=lambda peer: peer.shunned_until > now, default=None)

    def _send(self, peer: _Peer, operation: str, fields: Mapping[str, Any]) -> int | None:
        """Send a request; None when the server can't be connected to. Raises Refused for one that is too long."""
        if len(peer.pending) >= PIPELINE_REQUESTS_MAX:
            return None
        for _ in range(2):
            try:
                return peer.client.send(operation, **fields)
            except NoAnswer:
                # The connection broke since the last request, and with it all that was under way; try a new one.
                self._abandon(peer)
        return None

    def _receive(self, peer: _Peer) -> None:
        for _ in range(REPLIES_PER_PUMP_MAX):
            if not peer.pending:
                return
            try:
                request_id, reply = peer.client.receive(0.0)
            except NoAnswer:
                if peer.client.is_broken:
                    self._abandon(peer)
                return
            if request_id == 0 and len(peer.pending) == 1:
                request_id = next(iter(peer.pending))  # the server could not read our only request
            pending = peer.pending.pop(request_id, None)
            if isinstance(pending, _Attempt):
                self._on_reply(pending, reply)
                self._schedule(pending.session)
            elif pending is not None:
                pending(reply)

    def _on_reply(self, attempt: _Attempt, reply: Reply) -> None:
        peer, session = attempt.peer, attempt.session
        peer.shunned_until = -math.inf
        if attempt.doubt is not None:
            self._end_doubt(attempt, None if reply["ok"] else reply["message"])
            return
        if not reply["ok"] and reply["code"] == "unavailable":
            detail = reply.get("detail")
            attempt.why = Refusal("unavailable", reply["message"], detail if isinstance(detail, dict) else {})
            self._ask_next(attempt)
            return
        if not reply["ok"]:
            self._refuse(attempt, read_refusal(reply))
            return
        if attempt.ask.operation == "renew":
            doubt = None if self._inspect is None else self._inspect(session, reply, peer.server)
            if doubt is not None:
                if reply.get("result") != "granted" or not self._give_back(attempt, doubt):
                    self._refuse(attempt, doubt)
                return
            self._homes[session] = peer
        self._end(attempt, reply)

    def _refuse(self, attempt: _Attempt, refusal: Refusal) -> None:
        """End an attempt by a server's no; ask the next where that no is not for this server to say."""
        if self._holds_elsewhere(attempt):
            if attempt.why is NO_ANSWER:
                says = f"{attempt.peer.server} says: {refusal.message}"  # the first in the list is looked at first
                attempt.why = refusal._replace(message=says, detail={})  # which is about that server alone
            self._ask_next(attempt)
        else:
            self._end(attempt, {"ok": False, **refusal._asdict()})

    def _give_back(self, attempt: _Attempt, doubt: Refusal) -> bool:
        """Send a release for the seat that was granted just now; say whether it could be sent.

        The session hears of the doubt when that is done: its owner may close every connection then.
        """
        peer, ask = attempt.peer, attempt.ask
        try:
            fields = {"product": ask.fields["product"], "component": ask.fields["component"]}
            fields |= {"computer": self._computer(peer.server.host), "patience_ms": int(GIVE_BACK_S_MAX * 1000)}
            request_id = self._send(peer, "release", fields)
        except (ClientError, OSError):
            request_id = None
        if request_id is not None:
            attempt.doubt = doubt
            self._await(attempt, request_id, GIVE_BACK_S_MAX)
        return request_id is not None

    def _end_doubt(self, attempt: _Attempt, trouble: str | None) -> None:
        """Refuse what was doubted, now that its seat was given back, or was not because of `trouble`."""
        assert attempt.doubt is not None
        product, server = attempt.session.product, attempt.peer.server
        if trouble is None:
            logger.info("a seat of %s that %s granted was not believed and given back", product, server)
        else:
            logger.warning("a seat of %s that %s granted was not given back: %s", product, server, trouble)
        doubt, attempt.doubt = attempt.doubt, None
        self._refuse(attempt, doubt._replace(detail={"retry_after_s": DOUBTED_RETRY_S}))

    def _go_on(self, attempt: _Attempt) -> None:
        """Go on after the silence of the server that was asked."""
        if attempt.doubt is not None:
            self._end_doubt(attempt, "nobody confirmed it")
        else:
            self._ask_next(attempt)

    def _holds_elsewhere(self, attempt: _Attempt) -> bool:
        """Say whether another server than the one that is being asked has granted what the session still holds."""
        home = self.home(attempt.session)
        return home is not None and attempt.session.is_held and home.key != attempt.peer.server.key

    def _abandon(self, peer: _Peer) -> None:
        """Ask elsewhere at once for all that was under way on a connection that has ended."""
        peer.shunned_until = self.now() + SHUN_S
        attempts = [pending for pending in peer.pending.values() if isinstance(pending, _Attempt)]
        peer.client.close()
        peer.pending.clear()
        for attempt in attempts:
            self._go_on(attempt)

    def _give_up(self, attempt: _Attempt) -> None:
        """Stop waiting for a server that is silent, and ask the next."""
        peer = attempt.peer
        peer.shunned_until = self.now() + SHUN_S
        peer.client.forget(attempt.request_id)
        peer.pending.pop(attempt.request_id, None)
        if not any(isinstance(pending, _Attempt) for pending in peer.pending.values()):
            self._abandon(peer)  # with the connection goes what is still in it: nothing is delivered minutes later
        self._go_on(attempt)

    def _end(self, attempt: _Attempt, outcome: Reply | Refusal) -> None:
        """Tell the session how its request ended: a reply, or why there is none."""
        session = attempt.session
        self._attempts.pop(session, None)
        now = self.now()
        if isinstance(outcome, Refusal):
            self._must_find = outcome.code != "unavailable"
            self._handle(session, session.on_silence(now, outcome))
        else:
            self._handle(session, session.receive(outcome, now))
        self._schedule(session)
