"""Keys put in ascending order a little at a time: whoever waits for a commit shall not wait for thousands of them."""

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

RUN_KEYS = 2_048  # sorted in one step, which takes half a millisecond at most, as does putting two long runs together
_K = TypeVar("_K", bytes, int)


class Ascending(Generic[_K]):
    """Gives keys in their order, once enough steps have been made. For N * RUN_KEYS of them that is 2 N - 1 steps."""

    def __init__(self, keys: Iterable[_K] = ()) -> None:
        self._unsorted: list[_K] = list(keys)
        self._runs: deque[list[_K]] = deque()  # each in descending order, so that the first keys go from its end

    def __len__(self) -> int:
        """How many keys are left."""
        return len(self._unsorted) + sum(map(len, self._runs))

    @property
    def is_sorted(self) -> bool:
        """Whether `first` may be asked."""
        return not self._unsorted and len(self._runs) <= 1

    def sort(self, steps: int) -> None:
        """Make some steps."""
        runs = self._runs
        for _ in range(steps):
            if self._unsorted:
                run = self._unsorted[-RUN_KEYS:]
                del self._unsorted[-RUN_KEYS:]
            elif len(runs) > 1:  # the two oldest, so that long ones meet long ones
                run = runs.popleft() + runs.popleft()
            else:
                return
            run.sort(reverse=True)  # of two runs, this only merges
            runs.append(run)

    def first(self, most: int) -> list[_K]:
        """Give the first keys."""
        assert self.is_sorted
        return self._runs[0][: -most - 1 : -1] if self._runs else []

    def drop(self, count: int) -> None:
        """Be done with the first `count` keys."""
        run = self._runs[0]
        del run[len(run) - count :]
