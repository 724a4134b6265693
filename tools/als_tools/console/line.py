"""A connection with a thread of its own: the screen never waits for the network, and the connection has one user.

Jobs run one after another in the order in which they were given. It knows for how long an answer has been waited for
and since when nobody answers. Knows nothing of screens.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from als import clock
from als_agents.errors import ClientError, Refused
from als_tools.connection import Link
from als_tools.failures import Failure

ANSWER_S_MAX = 3.0  # a server that is gone must show within seconds, whatever --timeout is
PATIENT = frozenset({"import", "revoke", "remove"})  # but of a change one wants to know whether it was done

_T = TypeVar("_T")
_Job = tuple[Future[Any], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Health:
    """How the connection is: for how long an answer is waited for; since when (UTC) nobody answers, and why."""

    waiting_s: float = 0.0
    lost_at: int | None = None
    reason: str = ""


class Line:
    """Does work with a link, away from the screen's thread."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._quick = replace(link, timeout_s=min(link.timeout_s, ANSWER_S_MAX))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._answered_at = clock.wall_s()
        self._asked_at_s: float | None = None
        self._loss: tuple[int, str] | None = None
        # A daemon: who quits does not wait for a server that is silent.
        threading.Thread(target=self._run, name="line", daemon=True).start()

    @property
    def health(self) -> Health:
        """How the connection is at this moment."""
        asked_at_s, loss = self._asked_at_s, self._loss
        waiting_s = 0.0 if asked_at_s is None else clock.monotonic_s() - asked_at_s
        return Health(waiting_s) if loss is None else Health(waiting_s, *loss)

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Run `work` in the line's thread and give its result. Raises what it raises."""
        future: Future[_T] = Future()
        self._jobs.put((future, lambda: work(*arguments)))
        return await asyncio.wrap_future(future)

    async def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Send a request and give the reply. Raises ClientError, Failure."""
        return await self.run(lambda: self.request(operation, **fields))

    def request(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Send a request and give the reply, in the line's thread. Raises ClientError, Failure."""
        link = self.link if operation in PATIENT else self._quick
        self._asked_at_s = clock.monotonic_s()
        try:
            reply = link.ask(operation, **fields)
        except (Refused, Failure):
            self._note_answer()  # no is an answer
            raise
        except ClientError as error:
            self._loss = self._loss or (self._answered_at, str(error))
            raise
        finally:
            self._asked_at_s = None
        self._note_answer()
        return reply

    def _note_answer(self) -> None:
        self._answered_at, self._loss = clock.wall_s(), None

    def close(self) -> None:
        """Close the connection once the work under way is done."""
        self._jobs.put(None)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                self.link.client.close()
                return
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
