"""Renewals that come one by one share a commit; nothing else waits for anything."""

import pytest

from als import protocol
from als.server.gathering import (
    ALONE_TURNS,
    FEW,
    GATHER_S,
    PACE_S,
    PACED_LEAST,
    PACED_MOST,
    RUSHES,
    STRETCH_FEW,
    STRETCH_S,
    Gathering,
    Pacing,
)
from als.server.letters import Letter

LOOK_S, SECOND_LOOK_S = (until_s for until_s, _ in RUSHES)
ALL_PAUSES = [LOOK_S, SECOND_LOOK_S - LOOK_S, GATHER_S - SECOND_LOOK_S]


def letter(op: str = "renew") -> Letter:
    """Make a request as it came."""
    return Letter((b"\0abcd",), protocol.encode_request(1, op, {}), bytes(32), {}, 0.0)


class World:
    """Time that passes, and letters that come in each stretch of it."""

    def __init__(self, *coming: int) -> None:
        self.coming = list(coming)
        self.pauses: list[float] = []
        self.now_s = 1_000.0
        self.gathering = Gathering(self.pauses.append)

    def receive(self) -> list[Letter]:
        """Give what has come by now."""
        return [letter() for _ in range(self.coming.pop(0) if self.coming else 0)]

    def gather(self, *ops: str) -> int:
        """Gather company for these; give how many there are in the end."""
        letters = [letter(op) for op in ops]
        self.gathering.gather(letters, self.receive, self.now_s)
        return len(letters)


def test_a_lone_renewal_waits_for_company() -> None:
    """What comes within the time goes with it."""
    world = World(0, 1, 2)
    assert world.gather("renew") == 4
    assert world.pauses == ALL_PAUSES


def test_a_rush_ends_the_waiting() -> None:
    """When more come at once, the next turn begins at once."""
    world = World(2)
    assert world.gather("renew") == 3
    assert world.pauses == [LOOK_S]


def test_a_rush_that_a_first_look_missed_is_seen_soon() -> None:
    """By chance few come in a millisecond; who came then does not wait for all of the time."""
    world = World(1, 5)
    assert world.gather("renew") == 7
    assert world.pauses == ALL_PAUSES[:2]


def test_nothing_but_renewals_waits() -> None:
    """A person may be waiting for every other answer."""
    world = World(5)
    assert world.gather("acquire") == 1
    assert world.gather("renew", "acquire") == 2
    assert world.gather() == 0
    assert world.pauses == []


def test_many_do_not_wait() -> None:
    """Where many come by themselves there is nothing to gain."""
    world = World(5)
    assert world.gather(*["renew"] * (FEW + 1)) == FEW + 1
    assert world.pauses == []


def test_one_client_after_its_own_answers_is_hardly_slowed() -> None:
    """When nobody came in the time, the next turns do not wait."""
    world = World()
    for _ in range(ALONE_TURNS + 1):
        assert world.gather("renew") == 1
    assert world.pauses == ALL_PAUSES
    world.gather("renew")
    assert len(world.pauses) == 6


def test_nobody_waits_in_a_busy_time() -> None:
    """When many have come lately, a lull between them is no reason to wait; when few come again, it is."""
    world = World(*[0, 0, 1] * 9)
    world.gather(*["renew"] * (STRETCH_FEW + 1))
    world.now_s += STRETCH_S / 2
    assert world.gather("renew") == 1
    world.now_s += STRETCH_S
    assert world.gather("renew") == 1
    assert world.pauses == []
    world.now_s += STRETCH_S
    assert world.gather("renew") == 2
    world.gather(*["renew"] * (STRETCH_FEW + 1))
    world.now_s += 60
    assert world.gather("renew") == 2


@pytest.mark.parametrize("served", [PACED_LEAST, PACED_MOST])
def test_turns_of_a_few_begin_some_time_apart(served: int) -> None:
    """The next turn begins as if it had not waited for longer than it should; after a long one, at once."""
    pauses: list[float] = []
    pacing = Pacing(pauses.append)
    pacing.served = served
    pacing.begin(10.0)
    pacing.begin(10.0 + PACE_S / 4)
    assert pauses == [pytest.approx(PACE_S * 3 / 4)]
    pacing.begin(10.0 + PACE_S * 3 / 2)
    assert pauses[1:] == [pytest.approx(PACE_S / 2)]
    pacing.begin(10.0 + PACE_S * 4)
    assert len(pauses) == 2


@pytest.mark.parametrize("served", [0, PACED_LEAST - 1, PACED_MOST + 1])
def test_other_turns_do_not_wait(served: int) -> None:
    """Neither for one client that asks one thing after the other, nor where there is much to do."""
    pauses: list[float] = []
    pacing = Pacing(pauses.append)
    pacing.served = served
    pacing.begin(10.0)
    pacing.begin(10.0)
    assert pauses == []
