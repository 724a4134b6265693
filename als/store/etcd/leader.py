"""Which member to use when the one in use has failed: the leader, as soon as there is one.

All members are asked at once, again and again, so that one that hangs costs nothing, and nothing is sent to those that
wait for a leader. Knows no transport.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from als import clock
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.members import MemberStatus

LOOK_EVERY_S = 0.05  # an election takes a second: this is little beside it

Tell = Callable[[MemberStatus | None], None]


class Lookable(Protocol):
    """A member that can be asked for itself without waiting for the answer."""

    def look(self, tell: Tell, deadline_s: float) -> Callable[[], object]:
        """Have `tell` called with its status, None for a failure; give the function that calls it off."""
        ...


class _Answer(NamedTuple):
    place: int
    status: MemberStatus | None


class _Round:
    """Asks those that are not being asked yet, and gathers what they say."""

    def __init__(self, members: Sequence[Lookable]) -> None:
        self._members = members
        self._came: SimpleQueue[_Answer] = SimpleQueue()
        self._under_way: dict[int, Callable[[], object]] = {}
        self.said: dict[int, MemberStatus | None] = {}

    def ask(self, deadline_s: float) -> None:
        """Ask all that have answered, or were not asked yet."""
        for place, member in enumerate(self._members):
            if place not in self._under_way:
                self._under_way[place] = member.look(self._teller(place), deadline_s)

    def _teller(self, place: int) -> Tell:
        return lambda status: self._came.put(_Answer(place, status))

    def gather(self, end_s: float) -> None:
        """Take what comes until a time, or until nothing is to come."""
        self.said = {}
        while self._under_way:
            try:
                answer = self._came.get(timeout=max(end_s - clock.monotonic_s(), 0.0))
            except Empty:
                return
            del self._under_way[answer.place]
            self.said[answer.place] = answer.status

    def call_off(self) -> None:
        """Wait for nothing any more."""
        for call_off in self._under_way.values():
            call_off()


@contextmanager
def _round(members: Sequence[Lookable]) -> Iterator[_Round]:
    asking = _Round(members)
    try:
        yield asking
    finally:
        asking.call_off()


def find(members: Sequence[Lookable], known: dict[int, int], end_s: float) -> int | None:
    """Give the place of the leader, or when it is none of these that of one which follows it.

    `known` keeps the members' ids with their places. None when all of them fail at once. Raises EtcdUnavailableError
    when there is no leader until `end_s`.
    """
    with _round(members) as asking:
        while True:
            now_s = clock.monotonic_s()
            asking.ask(max(end_s - now_s, LOOK_EVERY_S))
            asking.gather(now_s + LOOK_EVERY_S)
            if len(asking.said) == len(members) and not any(asking.said.values()):
                return None
            statuses = {place: status for place, status in asking.said.items() if status is not None}
            known.update((status.member, place) for place, status in statuses.items())
            is_over = now_s >= end_s
            place = _choose(statuses, known, is_over or len(known) == len(members))
            if place is not None:
                return place
            if is_over:
                raise EtcdUnavailableError("etcd has no leader", maybe_applied=False)
            clock.pause(max(now_s + LOOK_EVERY_S - clock.monotonic_s(), 0.0))


def _choose(statuses: Mapping[int, MemberStatus], known: Mapping[int, int], takes_follower: bool) -> int | None:
    """Take the leader of the newest term, or one that follows a leader which is none of ours.

    What looks like that may be one of ours that we do not know yet, since it is silent: `takes_follower` decides.
    """
    leaders = [place for place, status in statuses.items() if status.is_leader]
    if leaders:
        return max(leaders, key=lambda place: statuses[place].raft_term)
    following = [place for place, status in statuses.items() if status.leader and status.leader not in known]
    return following[0] if following and takes_follower else None
