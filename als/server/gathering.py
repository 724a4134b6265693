"""How requests come to share a commit: lone renewals wait a moment for more, and turns of a few begin some time apart.

A commit costs the processor some 0.5 ms and the disk a write or more, whether it holds one renewal or fifty. No program
notices when its heartbeat, which comes every few minutes, takes 50 ms longer; many agents cost a third by it. Nothing
else ever waits, and renewals do so only while few come, and company really does.
"""

from collections.abc import Callable, Sequence

from als.ledger.quick import usual
from als.server.letters import Letter

FEW = 4  # in a turn; where more come by themselves, the time of the turn before has gathered them
STRETCH_S = 0.25
STRETCH_FEW = 250  # requests in a stretch; where more come, turns fill by themselves
GATHER_S = 0.05
# When a rush shows, which is not waited for: after so long, so many. The second look finds the one in twenty of 5,000 a
# second that the first has missed; without it, who came at the beginning of a rush waited for GATHER_S.
RUSHES = ((0.001, 2), (0.006, 6))
ALONE_TURNS = 50  # without a try, after one in which nobody came: so one client after the other is hardly slowed


class Gathering:
    """Decides it for one loop. `pause` lets time pass, `receive` takes what has come in it."""

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self._turns_to_skip = 0
        self._stretch_from_s = 0.0
        self._came = self._came_before = 0  # in this stretch, and in the one before

    def gather(self, letters: list[Letter], receive: Callable[[], Sequence[Letter]], monotonic_s: float) -> None:
        """Add company to these letters, which came at `monotonic_s`, if it is worth the time."""
        if letters:
            self._gather(letters, receive, monotonic_s)
            self._came += len(letters)

    def _gather(self, letters: list[Letter], receive: Callable[[], Sequence[Letter]], monotonic_s: float) -> None:
        if self._is_busy(monotonic_s) or len(letters) > FEW:
            return
        if not all(usual.looks_like_renewal(letter.body) for letter in letters):
            return
        if self._turns_to_skip:
            self._turns_to_skip -= 1
            return
        before = len(letters)
        waited_s = 0.0
        for until_s, rush in RUSHES:
            self._pause(until_s - waited_s)
            waited_s = until_s
            letters += receive()
            if len(letters) - before >= rush:
                return
        self._pause(GATHER_S - waited_s)
        letters += receive()
        if len(letters) == before:
            self._turns_to_skip = ALONE_TURNS

    def _is_busy(self, monotonic_s: float) -> bool:
        passed_s = monotonic_s - self._stretch_from_s
        if passed_s >= STRETCH_S:
            self._came_before = self._came if passed_s < 2 * STRETCH_S else 0
            self._came = 0
            self._stretch_from_s = monotonic_s
        return max(self._came, self._came_before) > STRETCH_FEW


PACE_S = 0.001
PACED_LEAST = 3  # requests in a turn: who asks one thing after the other never waits
PACED_MOST = 250  # with more, a turn takes longer anyway


class Pacing:
    """Lets turns in which a few requests came begin PACE_S apart. `pause` lets time pass.

    Without it, 5,000 requests a second have 1,200 commits, and server and disk work a fifth more than with 800.
    """

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self._begun_s = 0.0
        self.served = 0  # in the turn before

    def begin(self, now_s: float) -> None:
        """Wait as long as the turn before asks for; the next begins then."""
        early_s = self._begun_s + PACE_S - now_s
        if PACED_LEAST <= self.served <= PACED_MOST and early_s > 0.0:
            self._pause(min(early_s, PACE_S))
            now_s += early_s
        self._begun_s = now_s
