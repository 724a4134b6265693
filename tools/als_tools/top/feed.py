"""The thread that looks at the server while the screen answers keys at once.

It alone uses the connection while it runs. Facts come out one at a time, wishes go in; nothing else is shared.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from als import clock
from als_agents.errors import ClientError, KeyChanged, Refused
from als_tools.failures import Failure
from als_tools.top.facts import Facts, Loss, Wish
from als_tools.top.fetch import Fetcher

STOP_WAIT_S = 0.5  # a look under way at a silent server takes longer; the person who quits does not wait for it
SEARCH_S_MAX = 0.5  # a search that one look did not end goes on soon, however seldom the rest is looked at
RETRY_S_MAX = 2.0  # a server that is back is seen within this, however seldom it is looked at


class Looked(NamedTuple):
    """What a look brought: facts, or the error of a programmer, which belongs to the main thread."""

    facts: Facts | None
    error: BaseException | None = None


class Feed:
    """Looks again and again, as often as the wish says; `wake` is called, in its thread, when something is new."""

    def __init__(self, fetcher: Fetcher, first: Facts, wish: Wish, wake: Callable[[], None]) -> None:
        self._fetcher = fetcher
        self._facts = first
        self._answered_at = clock.wall_s()
        self._wish = wish
        self._wake = wake
        self._wishes: queue.SimpleQueue[Wish | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Looked] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def want(self, wish: Wish) -> None:
        """Have something else fetched from now on, at once."""
        self._wishes.put(wish)

    def newest(self) -> Facts | None:
        """Give the newest facts since the last call, None when there are none. Raises a programmer's error."""
        found: Looked | None = None
        with contextlib.suppress(queue.Empty):
            while True:
                found = self._results.get_nowait()
        if found is not None and found.error is not None:
            raise found.error
        return None if found is None else found.facts

    def stop(self) -> bool:
        """Have it end; say whether it has, so that the connection may be closed."""
        self._wishes.put(None)
        self._thread.join(STOP_WAIT_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._wait():
                self._results.put(Looked(self._look()))
                self._wake()
        except BaseException as error:  # no one else would hear of it
            self._results.put(Looked(None, error))
            self._wake()

    def _wait(self) -> bool:
        """Wait for the next look: the interval, or a wish; say whether to go on."""
        with contextlib.suppress(queue.Empty):
            wish = self._wishes.get(timeout=min(self._wish.interval_s, self._pause_s_max()))
            while True:
                if wish is None:
                    return False
                self._wish = wish
                wish = self._wishes.get_nowait()
        return True

    def _pause_s_max(self) -> float:
        """Say how long a pause may be while something is awaited."""
        if self._facts.loss is not None:
            return RETRY_S_MAX
        leases = self._facts.leases
        return SEARCH_S_MAX if leases is not None and not leases.is_complete else float("inf")

    def _look(self) -> Facts:
        """Look once. Whatever the server or the network does wrong is a fact as well."""
        try:
            self._facts = self._fetcher.fetch(self._wish)
            self._answered_at = clock.wall_s()
        except (ClientError, Failure) as error:
            loss = Loss(self._answered_at, _word(error), str(error))
            self._facts = replace(self._facts, loss=loss, rates=self._fetcher.miss())
        return self._facts


def _word(error: ClientError | Failure) -> str:
    """Say in a few words what is wrong with the server."""
    if isinstance(error, KeyChanged):
        return "SERVER SHOWS ANOTHER KEY"
    return "SERVER REFUSES" if isinstance(error, Refused | Failure) else "SERVER UNREACHABLE"
