"""Long work beside a server that others wait for: in short stretches, with rests between."""

from collections.abc import Callable

from als import clock

STRETCH_S = 0.0005  # of work at once: half a turn of the server
REST_FOR_WORK = 3.0  # so a quarter of the time is worked
REST_S_MOST = 0.2  # however slow the disk is, the work comes to its end

Rest = Callable[[], None]
"""What long work calls often, wherever it could rest."""


class Pace:
    """Rests, when it is called, for REST_FOR_WORK times as long as was worked since; `pause` lets time pass."""

    def __init__(
        self, pause: Callable[[float], None] = clock.pause, monotonic_s: Callable[[], float] = clock.monotonic_s
    ) -> None:
        self._pause = pause
        self._monotonic_s = monotonic_s
        self._rested_s = monotonic_s()

    def __call__(self) -> None:
        """Rest, if it is time to."""
        worked_s = self._monotonic_s() - self._rested_s
        if worked_s >= STRETCH_S:
            self._pause(min(worked_s * REST_FOR_WORK, REST_S_MOST))
            self._rested_s = self._monotonic_s()


def hurry() -> None:
    """Do not rest: nobody waits."""
