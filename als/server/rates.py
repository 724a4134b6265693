"""How busy the server is: requests and renewals a second over the last ten seconds."""

from collections import deque

WINDOW_S = 10


class Rates:
    """Counts by whole seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # [second, requests, renewals]

    def count(self, monotonic_s: float, requests: int, renewals: int) -> None:
        """Count what a turn has served."""
        second = int(monotonic_s)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1] += requests
        self._seconds[-1][2] += renewals
        self._forget(second)

    def per_second(self, monotonic_s: float) -> dict[str, float]:
        """Give the rates as `status` shows them."""
        second = int(monotonic_s)
        self._forget(second)
        whole = [entry for entry in self._seconds if entry[0] != second]
        return {
            "requests_per_s": round(sum(entry[1] for entry in whole) / WINDOW_S, 1),
            "renewals_per_s": round(sum(entry[2] for entry in whole) / WINDOW_S, 1),
        }

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] < second - WINDOW_S:
            self._seconds.popleft()
