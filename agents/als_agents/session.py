"""The life of one component's license, without I/O: replies, silence and time in, requests and events out.

Knows no socket, no server, no computer and no clock: `now` is an argument everywhere, in monotonic seconds,
and the random source is given. Server time is used only as a difference, so a computer whose wall clock is
wrong is served well.
"""

import random
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from als.protocol import Refusal

HEARTBEAT_JITTER = 0.1  # computers that were switched on together drift apart
HEARTBEAT_LEAST_S = 1.0  # whatever a server says, no agent becomes a flood
HEARTBEAT_MOST_S = 86_400.0
HEARTBEAT_OF_REMAINING_MAX = 0.5  # a heartbeat as long as the period would renew when it is too late
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 300.0  # a server that comes back after an hour has everybody back within five minutes
RETRY_OF_SILENCE_MAX = 2.0  # and one that was away for 20 s within 40: who drew short delays has doubled too often
RETRY_AFTER_MOST_S = 3_600.0  # a server may ask for patience, not for silence
REFUSED_RETRY_S = (150.0, 300.0)  # who was refused asks seldom: a seat that becomes free is no emergency
DOUBLINGS_MAX = 16  # far beyond what RETRY_MOST_S needs, and no number grows for ever

NOT_GENUINE = "not_genuine"  # in place of a server's code: its serial is not believed
NO_ANSWER = Refusal("no_server", "No license server answered.")
LAPSED = Refusal("lapsed", "The license was not renewed in time, for no license server answered.")


class State(Enum):
    """Where a license is in its life."""

    SEEKING = "seeking"  # nothing is held, and nobody has said no
    HELD = "held"
    LATE = "late"  # still held, but the last heartbeat went unanswered
    REFUSED = "refused"  # a server's last word was no
    RELEASED = "released"  # given back: the end


class Input(Enum):
    """What can happen to a license."""

    GRANT = "grant"
    REFUSAL = "refusal"
    SILENCE = "silence"  # no server answered, or none whose word counts: all are unavailable, or another granted it
    END = "end"  # renew_by has passed
    RELEASE = "release"


class Event(Enum):
    """What the session tells its owner."""

    ACQUIRED = "acquired"
    RENEWED = "renewed"
    UNANSWERED = "unanswered"
    LATE = "late"
    REFUSED = "refused"
    OFFLINE = "offline"  # renew_by has passed in silence, and the component may run without a server
    LOST = "lost"  # the component must stop now
    RELEASED = "released"
    NOT_RELEASED = "not_released"


TRANSITIONS: Mapping[tuple[State, Input], tuple[State, Event | None]] = {
    (State.SEEKING, Input.GRANT): (State.HELD, Event.ACQUIRED),
    (State.SEEKING, Input.REFUSAL): (State.REFUSED, Event.REFUSED),
    (State.SEEKING, Input.SILENCE): (State.SEEKING, Event.UNANSWERED),
    (State.HELD, Input.GRANT): (State.HELD, Event.RENEWED),
    (State.HELD, Input.REFUSAL): (State.REFUSED, Event.LOST),
    (State.HELD, Input.SILENCE): (State.LATE, Event.LATE),
    (State.HELD, Input.END): (State.SEEKING, Event.LOST),
    (State.LATE, Input.GRANT): (State.HELD, Event.RENEWED),
    (State.LATE, Input.REFUSAL): (State.REFUSED, Event.LOST),
    (State.LATE, Input.SILENCE): (State.LATE, None),
    (State.LATE, Input.END): (State.SEEKING, Event.LOST),
    (State.REFUSED, Input.GRANT): (State.HELD, Event.ACQUIRED),
    (State.REFUSED, Input.REFUSAL): (State.REFUSED, None),
    (State.REFUSED, Input.SILENCE): (State.REFUSED, None),
    **{
        (state, Input.RELEASE): (State.RELEASED, Event.RELEASED)
        for state in (State.SEEKING, State.HELD, State.LATE, State.REFUSED)
    },
}
"""All that may happen. A pair that is not here is a mistake of this program and fails loudly."""


class Ask(NamedTuple):
    """A request to send now. Its sender adds computer and id, and calls `receive` or `on_silence` later."""

    operation: str
    fields: Mapping[str, Any]


class Notice(NamedTuple):
    """An event and, where it is bad news, why: a server's refusal, what is behind a silence, or a lapse."""

    event: Event
    why: Refusal | None = None


Output = Ask | Notice


class _Grant(NamedTuple):
    lease: dict[str, Any] | None
    renew_by: int | None
    remaining_s: int | None
    heartbeat_s: float


class Session:
    """One component's license. Exactly one request is under way at a time, or none.

    `works_offline`: silence alone never stops the component. `always_wants_lease` asks for the lease with
    every renewal, for owners that check its serial each time.
    """

    def __init__(
        self,
        product: str,
        component: str,
        *,
        now: float,
        source: random.Random,
        version: str | None = None,
        works_offline: bool = False,
        always_wants_lease: bool = False,
    ) -> None:
        self.product = product
        self.component = component
        self.version = version
        self.works_offline = works_offline
        self.state = State.SEEKING
        self.lease: dict[str, Any] | None = None  # as on the wire; None for a component that is not counted
        self.renew_by: int | None = None  # server time; None where a license never lapses
        self.refusal: Refusal | None = None  # the last word of a server, when it was no
        self.heartbeat_s = HEARTBEAT_LEAST_S
        self._source = source
        self._always_wants_lease = always_wants_lease
        self._asked: str | None = None
        self._asked_at = now
        self._next_try = now
        self._end: float | None = None
        self._failures = 0
        self._silent_since = now
        self._silence = NO_ANSWER  # what was found out last of the silence that lasts
        self._wants_release = False

    @property
    def is_held(self) -> bool:
        """Say whether a server has granted what neither its time nor a no has ended since."""
        return self.state in (State.HELD, State.LATE)

    @property
    def may_run(self) -> bool:
        """Say whether the component may run now."""
        return self.is_held or (self.state is State.SEEKING and self.works_offline)

    def may_run_at(self, now: float) -> bool:
        """Say whether the component may run at `now`, even if nobody has called `on_timer` since."""
        return self.may_run and (self.works_offline or self._end is None or now < self._end)

    @property
    def lapse(self) -> Refusal:
        """Say why the license ends, or has ended, where it does by time: "lapsed", and what was behind the silence."""
        if self._silence is NO_ANSWER:
            return LAPSED
        return LAPSED._replace(message=f"The license was not renewed in time: {self._silence.message}")

    @property
    def is_waiting(self) -> bool:
        """Say whether a request is under way."""
        return self._asked is not None

    def next_deadline(self) -> float | None:
        """Give the time at which to call `on_timer`; None where only an answer is awaited, and after release."""
        if self.state is State.RELEASED:
            return None
        if self._asked is not None:
            return self._end if self._end is not None and self._asked_at < self._end else None
        return self._next_try if self._end is None else min(self._next_try, self._end)

    def on_timer(self, now: float) -> list[Output]:
        """Do what is due: send a request, or find that the license has ended."""
        if self.state is State.RELEASED:
            return []
        if self._asked is None and now >= self._next_try:
            return [self._ask(now)]
        if self._asked is not None and self._end is not None and self._asked_at >= self._end:
            return []  # the computer slept past the end and asks first: a server's word is worth more than a timer
        return self._end_if_due(now)

    def receive(self, reply: Mapping[str, Any], now: float) -> list[Output]:
        """Take the reply to the request under way. A reply that makes no sense counts as silence."""
        if self._asked is None:
            return []
        if reply.get("ok") is not True:
            return self._receive_refusal(reply, now)
        if self._asked == "release":
            self._asked = None
            if not self._wants_release:  # withdrawn meanwhile: the next renewal takes the seat again
                self._next_try = now
                return []
            return self._apply(Input.RELEASE)
        grant = _read_grant(reply)
        if grant is None:
            return self.on_silence(now)
        return self._receive_grant(grant)

    def on_silence(self, now: float, why: Refusal = NO_ANSWER) -> list[Output]:
        """Take note that no server has answered in time, or none whose word counts; `why` is what is known of it."""
        if self._asked is None:
            return []
        released = self._asked == "release"
        self._asked = None
        if why is not NO_ANSWER:  # which says nothing new: the reason is looked into now and then
            self._silence = why
        self._try_at(now, _retry_after_s(why) + self._source.uniform(0.0, self._backoff_s(now)))
        notices = self._apply(Input.SILENCE, why)
        if released:
            notices.append(Notice(Event.NOT_RELEASED, why))
        return notices + self._end_if_due(now)

    def _backoff_s(self, now: float) -> float:
        """Give the longest delay until the next try, and count this failure."""
        if self._failures == 0:
            self._silent_since = self._asked_at
        doubled_s = RETRY_FIRST_S * 2.0 ** min(self._failures, DOUBLINGS_MAX)
        self._failures += 1
        silence_s = max(RETRY_FIRST_S, RETRY_OF_SILENCE_MAX * (now - self._silent_since))
        return min(RETRY_MOST_S, doubled_s, silence_s)

    def release(self, now: float) -> None:
        """Ask for the license to be given back, as soon as no other request is under way."""
        self._wants_release = True
        self._next_try = now

    def keep(self, now: float) -> None:
        """Withdraw `release`, and ask at once how it stands: the server may have heard of it."""
        self._wants_release = False
        self._next_try = now

    def _ask(self, now: float) -> Ask:
        self._asked_at = now
        names = {"product": self.product, "component": self.component}
        if self._wants_release:
            self._asked = "release"
            return Ask("release", names)
        self._asked = "renew"
        wants_lease = self._always_wants_lease or self.lease is None
        return Ask("renew", {**names, "version": self.version, "want_lease": wants_lease or None})

    def _receive_grant(self, grant: _Grant) -> list[Output]:
        self._asked, self._failures, self._silence, self.refusal = None, 0, NO_ANSWER, None
        self.heartbeat_s = grant.heartbeat_s
        self.renew_by = grant.renew_by
        self.lease = grant.lease or self.lease
        interval_s = grant.heartbeat_s
        self._end = None
        if grant.remaining_s is not None:
            # Counted from when the request left: the server set renew_by later than that, never earlier.
            self._end = self._asked_at + grant.remaining_s
            interval_s = min(interval_s, grant.remaining_s * HEARTBEAT_OF_REMAINING_MAX)
        if not self._wants_release:
            jitter = self._source.uniform(1.0 - HEARTBEAT_JITTER, 1.0 + HEARTBEAT_JITTER)
            self._next_try = self._asked_at + interval_s * jitter
        return self._apply(Input.GRANT)

    def _receive_refusal(self, reply: Mapping[str, Any], now: float) -> list[Output]:
        refusal = read_refusal(reply)
        if refusal.code == "unavailable":
            return self.on_silence(now, refusal)
        released = self._asked == "release"
        self._asked, self._failures, self._silence, self.refusal = None, 0, NO_ANSWER, refusal
        if released:
            self._wants_release = False
            self._next_try = now + self.heartbeat_s
            return [Notice(Event.NOT_RELEASED, refusal)]
        self._next_try = now + _retry_after_s(refusal) + self._source.uniform(*REFUSED_RETRY_S)
        return self._apply(Input.REFUSAL, refusal)

    def _try_at(self, now: float, delay_s: float) -> None:
        """Set the next try; where the license would end before it, somewhere in what remains."""
        if self._end is not None and now + RETRY_FIRST_S < self._end < now + delay_s:
            delay_s = (self._end - now) * self._source.uniform(0.5, 1.0)
        self._next_try = now + delay_s

    def _end_if_due(self, now: float) -> list[Output]:
        if self._end is None or now < self._end:
            return []
        return self._apply(Input.END, self.lapse)

    def _apply(self, happened: Input, why: Refusal | None = None) -> list[Output]:
        self.state, event = TRANSITIONS[self.state, happened]
        if not self.is_held:
            self.lease, self.renew_by, self._end = None, None, None
        if event is None:
            return []
        if event is Event.LOST and self.may_run:
            event = Event.OFFLINE
        return [Notice(event, why)]


def read_refusal(reply: Mapping[str, Any]) -> Refusal:
    """Read a refusal from a reply, whatever is wrong with it."""
    code, message, detail = reply.get("code"), reply.get("message"), reply.get("detail")
    return Refusal(
        code if type(code) is str else "bad_reply",
        message if type(message) is str else "The server refused without a reason.",
        detail if type(detail) is dict else {},
    )


def _retry_after_s(refusal: Refusal) -> float:
    """Give how long to leave a server alone: as it asks itself, or as whoever doubts it has decided."""
    if refusal.code not in ("unavailable", NOT_GENUINE):
        return 0.0
    value = refusal.detail.get("retry_after_s")
    if type(value) is not int and type(value) is not float:
        return 0.0
    return min(float(value), RETRY_AFTER_MOST_S) if value > 0 else 0.0  # not a number is not above 0 either


def _read_grant(reply: Mapping[str, Any]) -> _Grant | None:
    """Read what an acquire or renew grants. None for a reply that lacks what the protocol promises."""
    time, heartbeat_s, lease = reply.get("time"), reply.get("heartbeat_s"), reply.get("lease")
    if type(reply.get("result")) is not str or type(time) is not int or type(heartbeat_s) is not int:
        return None
    if lease is not None and type(lease) is not dict:
        return None
    renew_by = reply["renew_by"] if "renew_by" in reply else (lease or {}).get("renew_by")
    if renew_by is not None and type(renew_by) is not int:
        return None
    remaining_s = None if renew_by is None else max(0, renew_by - time)
    return _Grant(lease, renew_by, remaining_s, min(max(float(heartbeat_s), HEARTBEAT_LEAST_S), HEARTBEAT_MOST_S))
