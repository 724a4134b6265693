"""The time that servers of a cluster keep together, from their cards and readings alone."""

from collections.abc import Mapping

import pytest

from als.clock import Reading
from als.server.cluster.peers import SILENT_S, Card, Peers

NOW_S = 1_800_000_000


def card(time_s: float, *, wall_s: float | None = None, era: int = 0, stopped: bool = False) -> Card:
    """Make a server's card of a moment."""
    wall_s = time_s if wall_s is None else wall_s
    return Card("pc", "pc:9876", "1.0", "", NOW_S, int(time_s), wall_s, era, False, stopped)


def seen(*rounds: Mapping[int, Card], number: int = 0, every_s: float = 2.0) -> tuple[Peers, Reading]:
    """Give what a server with a good clock knows after it read these cards, one round after the other."""
    peers = Peers(number)
    reading = Reading(NOW_S, 0.0)
    for place, cards in enumerate(rounds):
        reading = Reading(NOW_S + place * every_s, place * every_s)
        peers.take(cards, reading)
    return peers, reading


def test_alone_the_own_clock_counts() -> None:
    """Without others, and beside ones that have stopped or fallen silent, the machine's clock is taken as it is."""
    for peers, _ in (seen({}), seen({1: card(NOW_S + 5, stopped=True)}), seen({1: card(NOW_S - 3_600)})):
        assert peers.adjusted(Reading(NOW_S + 99.0, 1.0)).wall_s == NOW_S + 99.0
        assert not peers.is_apart()


def test_no_server_is_behind_a_tick() -> None:
    """A clock that is behind another server's tick is taken as at that tick, and not a moment later."""
    peers, reading = seen({1: card(NOW_S + 1.7)})
    assert peers.adjusted(reading).wall_s == NOW_S + 1


@pytest.mark.parametrize("wrong_s", [5, -5, 3_600, -3_600, 10**7])
def test_a_wrong_clock_is_held(wrong_s: int) -> None:
    """A clock that is far off makes its server follow the others' time, which runs on between their ticks."""
    peers, reading = seen({1: card(NOW_S)}, {1: card(NOW_S + 2)})
    wrong = reading._replace(wall_s=reading.wall_s + wrong_s)
    assert peers.adjusted(wrong).wall_s == NOW_S + 2
    later = Reading(wrong.wall_s + 1.5, wrong.monotonic_s + 1.5)
    assert peers.adjusted(later).wall_s == NOW_S + 3.5
    assert peers.is_held
    assert peers.adjusted(reading) == reading
    assert not peers.is_held


def test_nobody_follows_a_server_that_is_held() -> None:
    """The time of a server that follows others binds nobody."""
    peers, reading = seen({1: card(NOW_S + 3)._replace(is_held=True)})
    assert peers.adjusted(reading) == reading


@pytest.mark.parametrize("wrong_s", [1.9, -1.9, 3.9, -3.9, 20.0, 3_600.0, -3_600.0])
def test_two_that_differ_do_not_drive_each_other(wrong_s: float) -> None:
    """However two clocks differ, ten minutes later the time has moved by ten minutes."""
    servers = [Peers(0), Peers(1)]
    times = [float(NOW_S), float(NOW_S)]
    cards = {0: card(NOW_S, wall_s=NOW_S), 1: card(NOW_S, wall_s=NOW_S)}
    for second in range(600):
        for place, peers in enumerate(servers):
            wall_s = NOW_S + second + 0.5 + (wrong_s if place and second > 10 else 0)
            reading = Reading(wall_s, second + 0.5)
            peers.take(cards, reading)
            times[place] = max(times[place], peers.adjusted(reading).wall_s)
            if second % 2:
                cards[place] = card(times[place], wall_s=wall_s)._replace(is_held=peers.is_held)
    for time_s in times:
        assert -5 <= time_s - (NOW_S + 599.5) <= 5


def test_a_server_is_live_as_long_as_it_ticks() -> None:
    """A card that does not change for SILENT_S is a silent server's; one that changes again is alive."""
    old = {1: card(NOW_S)}
    peers, reading = seen(old)
    assert len(peers.live()) == 1
    peers.take(old, Reading(NOW_S + SILENT_S + 1, reading.monotonic_s + SILENT_S + 1))
    assert peers.live() == []
    peers.take({1: card(NOW_S + 15)}, Reading(NOW_S + 15, 15.0))
    assert len(peers.live()) == 1
    peers.take({}, Reading(NOW_S + 16, 16.0))
    assert not peers.others


def test_an_unknown_server_of_another_time_must_tick_first() -> None:
    """A card from hours ago, or hours ahead, is believed once it changes."""
    for hours in (-5, 5):
        peers, _ = seen({1: card(NOW_S + hours * 3_600)})
        assert peers.live() == []
        peers.take({1: card(NOW_S + hours * 3_600 + 2)}, Reading(NOW_S + 2, 2.0))
        assert len(peers.live()) == 1


@pytest.mark.parametrize(
    ("others_s", "apart"),
    [([0.0], False), ([-30.0], True), ([0.0, 30.0], False), ([30.0, 30.0], True), ([0.0, 0.0, 30.0, 30.0], False)],
)
def test_who_is_apart(others_s: list[float], apart: bool) -> None:
    """A server is apart from most of the others, itself counted; with only one other, both are."""
    rounds = [
        {place + 1: card(NOW_S + tick, wall_s=NOW_S + tick + ahead_s) for place, ahead_s in enumerate(others_s)}
        for tick in (0, 2)
    ]
    peers, _ = seen(*rounds)
    assert peers.is_apart() == apart


def test_a_late_look_is_no_wrong_clock() -> None:
    """One card that was read late, as etcd elects a leader, does not make a clock wrong."""
    peers, _ = seen({1: card(NOW_S)}, {1: card(NOW_S + 2)}, {1: card(NOW_S + 1.5, wall_s=NOW_S + 1.5)})
    assert not peers.is_apart()


def test_times_of_another_era_bind_nobody() -> None:
    """When an administrator has set the time, ticks from before that do not hold it where it was."""
    peers, reading = seen({1: card(NOW_S + 86_400)}, {1: card(NOW_S + 86_402)})
    assert peers.adjusted(reading).wall_s > NOW_S + 86_000
    peers.era = 1
    assert peers.adjusted(reading) == reading
    peers.take({1: card(NOW_S + 2, era=2)}, Reading(NOW_S + 2, 2.0))
    assert peers.newest_era() == 2


def test_cards_are_read_by_older_programs() -> None:
    """A card with more on it than is known, as a newer version may write, is read all the same."""
    mine = card(NOW_S, era=3)
    longer = mine.pack().replace(b"\x9a", b"\x9b", 1) + b"\x01"
    assert Card.unpack(longer) == mine == Card.unpack(mine.pack())
