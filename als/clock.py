"""The only place where the wall clock and the monotonic clock are read.

Everything else takes `now` as an argument, so that tests, the simulation and the clock guard decide what time it is.
"""

import sys
import time
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """One look at both clocks: `wall_s` since 1970 UTC, `monotonic_s` since some start that never moves back."""

    wall_s: float
    monotonic_s: float


class Clock(Protocol):
    """Anything that can be asked for the time."""

    def read(self) -> Reading:
        """Look at both clocks at once."""
        ...


class SystemClock:
    """The machine's clocks."""

    def read(self) -> Reading:
        """Look at both clocks at once."""
        return Reading(time.time(), monotonic_s())


def wall_s() -> int:
    """Give the wall clock's whole seconds since 1970 UTC, for what is only shown or stamped."""
    return int(time.time())


def monotonic_s() -> float:
    """Give the monotonic clock's seconds.

    It also counts the time of a suspended machine, where the system has such a clock: without that, waking up would
    look like a wall clock that somebody set forward.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)  # goes on in sleep there, unlike `time.monotonic`
    return time.monotonic()


def pause(seconds: float) -> None:
    """Let time pass, where a person waits for something that has no socket to wait for."""
    time.sleep(seconds)
