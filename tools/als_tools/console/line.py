"""A connection with a thread of its own: the screen never waits for the network, and the connection has one user.

Jobs run one after another in the order in which they were given. Knows nothing of screens.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from als_tools.connection import Link

_T = TypeVar("_T")
_Job = tuple[Future[Any], Callable[[], Any]]


class Line:
    """Does work with a link, away from the screen's thread."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A daemon: who quits does not wait for a server that is silent.
        threading.Thread(target=self._run, name="line", daemon=True).start()

    async def run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Run `work` in the line's thread and give its result. Raises what it raises."""
        future: Future[_T] = Future()
        self._jobs.put((future, lambda: work(*arguments)))
        return await asyncio.wrap_future(future)

    async def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Send a request and give the reply. Raises ClientError, Failure."""
        return await self.run(lambda: self.link.ask(operation, **fields))

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
