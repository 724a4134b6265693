"""The life of a license on a fake clock: every row of the table, the pace of heartbeats and retries."""

import random
from typing import Any

import pytest

from als.protocol import Refusal
from als_agents.session import (
    HEARTBEAT_JITTER,
    LAPSED,
    NO_ANSWER,
    REFUSED_RETRY_S,
    RETRY_MOST_S,
    TRANSITIONS,
    Ask,
    Event,
    Input,
    Notice,
    Output,
    Session,
    State,
)

SERVER_TIME = 1_700_000_000  # far from the session's own clock, which starts at 0
PERIOD_S = 30 * 86_400
HEARTBEAT_S = 3_600
LEASE = {"product": "ATIES", "serial_id": "ATIES-0000000000001", "renew_by": SERVER_TIME + PERIOD_S}
NO_SEAT = {"ok": False, "code": "no_free_license", "message": "None is free.", "detail": {"total": 1}}


def session(seed: int = 1, **options: Any) -> Session:
    """Give a session that begins at 0."""
    return Session("ATIES", "agent", now=0.0, source=random.Random(seed), **options)


def renewed(**changes: Any) -> dict[str, Any]:
    """Give a reply that renews for PERIOD_S."""
    fixed = {"ok": True, "time": SERVER_TIME, "result": "renewed", "renew_by": SERVER_TIME + PERIOD_S}
    return fixed | {"heartbeat_s": HEARTBEAT_S, "lease": LEASE} | changes


def events(outputs: list[Output]) -> list[Event]:
    """Give the events among the outputs."""
    return [output.event for output in outputs if isinstance(output, Notice)]


def ask(one: Session, now: float) -> Ask:
    """Let the timer fire and give the request that it must produce."""
    (output,) = one.on_timer(now)
    assert isinstance(output, Ask)
    return output


def held(**options: Any) -> Session:
    """Give a session that holds a license since 0."""
    one = session(**options)
    ask(one, 0.0)
    assert events(one.receive(renewed(), 0.0)) == [Event.ACQUIRED]
    return one


def due(one: Session) -> float:
    """Give the next deadline, which must be there."""
    deadline = one.next_deadline()
    assert deadline is not None
    return deadline


def in_state(state: State) -> tuple[Session, float]:
    """Bring a new session into a state; give it with the time."""
    if state is State.SEEKING:
        return session(), 0.0
    one = held()
    now = due(one)
    if state is State.LATE:
        ask(one, now)
        one.on_silence(now)
    elif state is State.REFUSED:
        ask(one, now)
        one.receive(NO_SEAT, now)
    elif state is State.RELEASED:
        one.release(now)
        ask(one, now)
        one.receive({"ok": True, "time": SERVER_TIME, "result": "freed"}, now)
    return one, now


@pytest.mark.parametrize(("state", "happened"), TRANSITIONS)
def test_every_row_of_the_table(state: State, happened: Input) -> None:
    """Each row of the table is what the session does when that happens in that state."""
    one, now = in_state(state)
    assert one.state is state
    if happened is Input.RELEASE:
        one.release(now)
    if happened is Input.END:
        # A suspended computer: all at once it is much later, and a request was under way meanwhile.
        now = max(due(one), now)
        ask(one, now)
        outputs = one.on_silence(now + PERIOD_S)
        assert one.state is State.SEEKING
        assert events(outputs)[-1] is Event.LOST
        return
    now = max(due(one), now)
    ask(one, now)
    if happened is Input.SILENCE:
        outputs = one.on_silence(now)
    elif happened is Input.REFUSAL:
        outputs = one.receive(NO_SEAT, now)
    else:
        outputs = one.receive(renewed(), now)
    expected_state, expected_event = TRANSITIONS[state, happened]
    assert one.state is expected_state
    assert events(outputs) == ([expected_event] if expected_event else [])


def test_released_is_the_end() -> None:
    """A license that was given back asks for nothing any more."""
    one, now = in_state(State.RELEASED)
    assert one.next_deadline() is None
    assert one.on_timer(now + 10 * PERIOD_S) == []
    assert not one.may_run


def test_the_first_request_comes_at_once_and_wants_the_lease() -> None:
    """A session begins with a renew, which acts as acquire, and asks for the lease with it."""
    one = session(version="9.1")
    assert due(one) == 0.0
    request = ask(one, 0.0)
    assert request.operation == "renew"
    assert request.fields == {
        "product": "ATIES",
        "component": "agent",
        "version": "9.1",
        "want_lease": True,
    }


def test_a_heartbeat_does_not_ask_for_the_lease() -> None:
    """Later renewals leave the lease out, unless the owner checks it each time."""
    one = held()
    assert ask(one, due(one)).fields["want_lease"] is None
    checking = held(always_wants_lease=True)
    assert ask(checking, due(checking)).fields["want_lease"] is True


def test_heartbeats_have_jitter() -> None:
    """A thousand sessions that were granted together renew over ±10 % of the heartbeat, not together."""
    dues = sorted(due(held(seed=seed)) for seed in range(1_000))
    assert dues[0] >= HEARTBEAT_S * (1 - HEARTBEAT_JITTER)
    assert dues[-1] <= HEARTBEAT_S * (1 + HEARTBEAT_JITTER)
    assert dues[-1] - dues[0] > HEARTBEAT_S * HEARTBEAT_JITTER


def test_a_heartbeat_as_long_as_the_period_renews_in_time() -> None:
    """Whatever heartbeat the server asks for, the renewal leaves before renew_by."""
    one = session()
    ask(one, 0.0)
    one.receive(renewed(renew_by=SERVER_TIME + 10, heartbeat_s=10), 0.0)
    assert due(one) < 6.0


def test_the_wall_clock_plays_no_part() -> None:
    """renew_by counts from when the request left, by the server's time, whatever the local clock says."""
    one = session()
    ask(one, 100.0)
    one.receive(renewed(renew_by=SERVER_TIME + 7, heartbeat_s=HEARTBEAT_S), 103.0)
    assert one.renew_by == SERVER_TIME + 7
    now = 103.0
    while one.state in (State.HELD, State.LATE):
        now = max(now, due(one))
        one.on_timer(now)
        one.on_silence(now)
    assert now == pytest.approx(107.0)


def test_silence_makes_it_late_and_the_end_makes_it_lost() -> None:
    """Under a silent server the license is late as long as it lasts, then lost, and said to be lapsed."""
    one, _ = in_state(State.LATE)
    told: list[Notice] = []
    now = 0.0
    while one.state is State.LATE:
        assert one.may_run
        now = due(one)
        told += [output for output in one.on_timer(now) if isinstance(output, Notice)]
        told += [output for output in one.on_silence(now) if isinstance(output, Notice)]
    assert now == pytest.approx(PERIOD_S)
    assert told == [Notice(Event.LOST, LAPSED)]
    assert one.state is State.SEEKING
    assert not one.may_run
    assert one.lease is None


CHANGED = Refusal("key_changed", "the key of office has changed")


def lapse(*reasons: Refusal) -> Notice:
    """Let a license of a minute run out in silence, for these reasons one after the other, and give its last notice."""
    one = session()
    ask(one, 0.0)
    one.receive(renewed(renew_by=SERVER_TIME + 60), 0.0)
    outputs: list[Output] = []
    left = list(reasons)
    while one.state is not State.SEEKING:
        now = due(one)
        outputs = one.on_timer(now)
        if outputs and isinstance(outputs[0], Ask):
            outputs = one.on_silence(now, left.pop(0) if left else NO_ANSWER)
    (notice,) = outputs
    assert isinstance(notice, Notice)
    return notice


@pytest.mark.parametrize("reasons", [[CHANGED], [NO_ANSWER, CHANGED], [CHANGED, NO_ANSWER]])
def test_a_lapse_names_what_was_behind_the_silence(reasons: list[Refusal]) -> None:
    """The code stays `lapsed`, and the sentence says what a person can mend, also if it was found out only once."""
    assert lapse(*reasons) == Notice(
        Event.LOST, Refusal("lapsed", "The license was not renewed in time: the key of office has changed")
    )


def test_a_lapse_names_the_last_reason_of_several() -> None:
    """What was true at the end counts."""
    assert lapse(Refusal("unavailable", "Too busy."), CHANGED).why == lapse(CHANGED).why


def test_a_reason_from_before_the_last_renewal_is_forgotten() -> None:
    """A license that was renewed since, and runs out in plain silence, is told as that."""
    one = held()
    ask(one, now := due(one))
    one.on_silence(now, CHANGED)
    ask(one, now := due(one))
    one.receive(renewed(renew_by=SERVER_TIME + 60), now)
    ask(one, due(one))
    assert one.on_silence(now + 61.0)[-1] == Notice(Event.LOST, LAPSED)


def test_the_end_comes_while_an_answer_is_awaited() -> None:
    """A request that stays open beyond renew_by does not keep the license; its answer brings it back."""
    one = session()
    ask(one, 0.0)
    one.receive(renewed(renew_by=SERVER_TIME + 60), 0.0)
    ask(one, due(one))
    assert due(one) == 60.0
    assert one.on_timer(59.9) == []
    assert one.on_timer(60.0) == [Notice(Event.LOST, LAPSED)]
    assert one.next_deadline() is None
    assert events(one.receive(renewed(lease=None), 61.0)) == [Event.ACQUIRED]
    assert ask(one, due(one)).fields["want_lease"] is True  # what was held before may be another serial's


def test_a_computer_that_slept_asks_first() -> None:
    """After waking up beyond renew_by the server's answer decides, not the timer."""
    one = held()
    woken = PERIOD_S + 5_000.0
    ask(one, woken)
    assert one.next_deadline() is None
    assert one.on_timer(woken + 1.0) == []
    assert events(one.receive(renewed(), woken + 1.0)) == [Event.RENEWED]
    assert not held().may_run_at(woken)


def test_the_last_try_comes_before_the_end() -> None:
    """A retry that would come after the license's end is moved before it."""
    one = session()
    ask(one, 0.0)
    one.receive(renewed(renew_by=SERVER_TIME + 60, heartbeat_s=10), 0.0)
    tries = []
    while one.state in (State.HELD, State.LATE):
        now = due(one)
        outputs = one.on_timer(now)
        if any(isinstance(output, Ask) for output in outputs):
            tries.append(now)
            one.on_silence(now)
    assert tries[-1] < 60.0
    assert 60.0 - tries[-1] < 30.0


def test_a_license_without_end_is_never_lost_by_silence() -> None:
    """Where renew_by is null, silence lasts as long as it likes."""
    one = session()
    ask(one, 0.0)
    one.receive(renewed(renew_by=None), 0.0)
    for _ in range(500):
        one.on_timer(due(one))
        one.on_silence(due_or(one, 0.0))
    assert one.state is State.LATE
    assert one.may_run


def due_or(one: Session, default: float) -> float:
    """Give the next deadline or `default`."""
    deadline = one.next_deadline()
    return default if deadline is None else deadline


def test_retries_back_off_from_a_second_to_five_minutes() -> None:
    """The longest delays double from 1 s to 300 s and stay there; the shortest are near zero: full jitter."""
    longest = [0.0] * 14
    shortest = [RETRY_MOST_S] * 14
    for seed in range(400):
        one = session(seed=seed)
        now = 0.0
        for attempt in range(14):
            ask(one, now)
            one.on_silence(now)
            delay_s = due(one) - now
            longest[attempt] = max(longest[attempt], delay_s)
            shortest[attempt] = min(shortest[attempt], delay_s)
            now = due(one)
    caps = [min(RETRY_MOST_S, 2.0**attempt) for attempt in range(14)]
    assert all(0.9 * cap <= most <= cap for most, cap in zip(longest, caps, strict=True))
    assert all(least <= 0.1 * cap for least, cap in zip(shortest, caps, strict=True))


def test_who_was_silent_for_a_while_is_asked_again_within_twice_as_long() -> None:
    """However often an agent has tried in vain, a server that was away for 20 s has it back within 40 s more."""
    for seed in range(2_000):
        one = session(seed=seed)
        now = 0.0
        while now < 20.0:
            ask(one, now)
            one.on_silence(now)
            now = due(one)
        assert now <= 20.0 + 40.0


def test_an_answer_ends_the_backoff() -> None:
    """After a reply the next silence starts again at one second."""
    one = held()
    for _ in range(10):
        ask(one, now := due(one))
        one.on_silence(now)
    ask(one, now := due(one))
    one.receive(renewed(), now)
    ask(one, now := due(one))
    one.on_silence(now)
    assert due(one) - now <= 1.0


def test_unavailable_waits_as_long_as_the_server_asks() -> None:
    """A server that is unavailable gets its retry_after_s of peace, with jitter on top."""
    one = held()
    ask(one, now := due(one))
    reply = {"ok": False, "code": "unavailable", "message": "Too busy.", "detail": {"retry_after_s": 40}}
    assert events(one.receive(reply, now)) == [Event.LATE]
    assert 40.0 <= due(one) - now <= 41.0


@pytest.mark.parametrize("asked", [float("nan"), float("inf"), -5, "soon", True, 10**18, None])
def test_a_senseless_retry_after_does_no_harm(asked: object) -> None:
    """Whatever retry_after_s a server sends, the session tries again within an hour and some minutes."""
    one = session()
    ask(one, 0.0)
    one.receive({"ok": False, "code": "unavailable", "message": "", "detail": {"retry_after_s": asked}}, 0.0)
    assert 0.0 <= due(one) <= 3_600.0 + RETRY_MOST_S


def test_a_refusal_is_asked_again_slowly() -> None:
    """Who was refused keeps asking every few minutes, and gets the license when one is free."""
    one = session()
    ask(one, 0.0)
    assert one.receive(NO_SEAT, 0.0) == [
        Notice(Event.REFUSED, Refusal("no_free_license", "None is free.", {"total": 1}))
    ]
    assert not one.may_run
    assert REFUSED_RETRY_S[0] <= due(one) <= REFUSED_RETRY_S[1]
    ask(one, now := due(one))
    assert one.receive(NO_SEAT, now) == []
    ask(one, now := due(one))
    assert events(one.receive(renewed(result="granted"), now)) == [Event.ACQUIRED]
    assert one.refusal is None


def test_a_refusal_at_renewal_is_a_loss_with_its_reason() -> None:
    """A server that refuses to renew takes the license at once."""
    one = held()
    ask(one, now := due(one))
    reply = {"ok": False, "code": "license_expired", "message": "Ended.", "detail": {}}
    assert one.receive(reply, now) == [Notice(Event.LOST, Refusal("license_expired", "Ended.", {}))]
    assert one.state is State.REFUSED
    assert not one.may_run


def test_a_component_that_works_offline_runs_in_silence_and_stops_at_a_refusal() -> None:
    """Rule R8: silence never stops it, before the first license or after the last; a refusal always does."""
    one = session(works_offline=True)
    assert one.may_run
    ask(one, 0.0)
    assert events(one.on_silence(0.0)) == [Event.UNANSWERED]
    assert one.may_run
    ask(one, now := due(one))
    one.receive(renewed(renew_by=SERVER_TIME + 5), now)
    ask(one, now := due(one))
    assert events(one.on_silence(now + 100.0)) == [Event.LATE, Event.OFFLINE]
    assert one.may_run
    ask(one, now := due(one))
    assert events(one.receive(NO_SEAT, now)) == [Event.REFUSED]
    assert not one.may_run
    ask(one, now := due(one))
    one.on_silence(now)
    assert not one.may_run  # the server's last word was no


def test_what_makes_no_sense_counts_as_silence() -> None:
    """A reply without the promised keys changes nothing but the time of the next try."""
    for broken in (
        {"ok": True},
        renewed(time="now"),
        renewed(heartbeat_s=None),
        renewed(renew_by="soon"),
        renewed(lease=[1]),
        renewed(result=3),
    ):
        one = session()
        ask(one, 0.0)
        assert one.receive(broken, 0.0) == [Notice(Event.UNANSWERED, NO_ANSWER)]
        assert one.state is State.SEEKING


def test_a_reply_that_nobody_waits_for_is_passed_over() -> None:
    """A duplicate or late reply changes nothing."""
    one = held()
    before = due(one)
    assert one.receive(renewed(renew_by=SERVER_TIME + 5 * PERIOD_S), 10.0) == []
    assert one.on_silence(10.0) == []
    assert due(one) == before


def test_release_waits_for_the_request_under_way() -> None:
    """A release goes out after the answer to what was asked before, and its confirmation is the end."""
    one = held()
    ask(one, now := due(one))
    one.release(now)
    assert one.on_timer(now) == []
    one.receive(renewed(), now)
    assert ask(one, now) == Ask("release", {"product": "ATIES", "component": "agent"})
    assert one.receive({"ok": True, "time": SERVER_TIME, "result": "freed"}, now) == [Notice(Event.RELEASED)]
    assert one.state is State.RELEASED


def test_a_refused_release_leaves_the_license() -> None:
    """When the server says not_holder, the license is still held and renewed."""
    one = held()
    one.release(5.0)
    ask(one, 5.0)
    outputs = one.receive({"ok": False, "code": "not_holder", "message": "Another's.", "detail": {}}, 5.0)
    assert outputs == [Notice(Event.NOT_RELEASED, Refusal("not_holder", "Another's.", {}))]
    assert one.state is State.HELD
    assert ask(one, due(one)).operation == "renew"


def test_a_component_that_is_not_counted_is_held_without_a_lease() -> None:
    """not_counted gives no lease and no end, and the component may run."""
    one = session()
    ask(one, 0.0)
    reply = {"ok": True, "time": SERVER_TIME, "result": "not_counted", "renew_by": None, "heartbeat_s": 60}
    assert events(one.receive(reply, 0.0)) == [Event.ACQUIRED]
    assert one.may_run
    assert one.lease is None
