"""One license at work: a session, a keeper and the thread that runs them.

It knows how the parts fit, not what a program does with the news. `listen` is called in its thread.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from als import clock
from als.protocol import Refusal
from als_agents.catalog_news import CatalogNews
from als_agents.keeper import Keeper
from als_agents.loop import Loop
from als_agents.server import Server
from als_agents.session import Event, Notice, Session
from als_agents.silence import BAD_SETTINGS
from als_agents.workplace import Workplace

if TYPE_CHECKING:
    from als_agents.genuine import Vendor

RELEASE_AT_END_S_MAX = 3.0  # a program that ends is not held up for longer by a server that is away
THREAD_END_S_MAX = 10.0  # the thread is a daemon: what it does beyond this dies with the program

logger = logging.getLogger("als_agents")


class LicenseThread:
    """Keeps one license until `stop`. `vendor` None believes every server that has the right key."""

    def __init__(
        self,
        workplace: Workplace,
        product: str,
        component: str,
        *,
        listen: Callable[[Notice], None],
        version: str | None = None,
        works_offline: bool = False,
        vendor: "Vendor | None" = None,
        follows_catalog: bool = False,
    ) -> None:
        """With `follows_catalog` `works_offline` is what the server's catalog says, as soon as it has said it."""
        self._listen = listen
        self._vendor = vendor
        self._keeper = Keeper(
            find=workplace.find,
            explain=workplace.explain,
            identity=workplace.pair,
            computer=workplace.computer,
            on_notice=self._on_notice,
            inspect=None if vendor is None else self._inspect,
        )
        self.session = Session(
            product,
            component,
            now=self._keeper.now(),
            source=random.Random(),
            version=version,
            works_offline=works_offline,
            always_wants_lease=vendor is not None,
        )
        self._news = CatalogNews(self._keeper, workplace.parameters) if follows_catalog else None
        self._loop = Loop(self._keeper)
        self._released = threading.Event()  # or not, but there is an answer
        self._thread = threading.Thread(target=self._run, name=f"als {product}/{component}", daemon=True)

    @property
    def is_current(self) -> bool:
        """Say whether the caller runs in this very thread."""
        return self._thread is threading.current_thread()

    @property
    def is_stopping(self) -> bool:
        """Say whether `stop` was called."""
        return self._loop.is_stopping

    def start(self) -> None:
        """Begin to ask for the license."""
        self._keeper.add(self.session)
        self._thread.start()

    def stop(self) -> None:
        """End, and close every connection. The license stays as it is."""
        self._loop.stop()
        if not self.is_current:
            self._thread.join(THREAD_END_S_MAX)

    def release(self) -> None:
        """Begin to give the license back; RELEASED or NOT_RELEASED tells how it ended."""
        self._released.clear()
        self._loop.call(lambda: self._keeper.release(self.session))

    def release_and_stop(self) -> None:
        """Give back what is held, if that can be done in a few seconds, and end. Raises nothing, says nothing."""
        if self.session.is_held and not self.is_current and not self.is_stopping:
            self.release()
            self._released.wait(RELEASE_AT_END_S_MAX)
        self.stop()

    def keep(self) -> None:
        """Withdraw `release`, which nobody has confirmed: the license is asked for again at once."""
        self._loop.call(lambda: self._keeper.keep(self.session))

    def abandon(self) -> None:
        """Let go of what a fork has copied: the parent's thread is not here, and its sockets must not be touched."""
        self._keeper.close()
        self._loop.abandon()

    def _run(self) -> None:
        """Work until `stop`. An end of any other kind is told, for nobody would ask for the license any more."""
        try:
            self._loop.run()
        except Exception as error:
            logger.exception("the license of %s is not kept any more", self.session.product)
            why = f"The license could not be asked for: {type(error).__name__}: {error}."
            self._listen(Notice(Event.REFUSED, Refusal(BAD_SETTINGS, why)))

    def _on_notice(self, session: Session, notice: Notice) -> None:
        if self._news is not None:
            self._news.after(session, notice)
        if notice.event in (Event.RELEASED, Event.NOT_RELEASED):
            self._released.set()
        self._listen(notice)

    def _inspect(self, session: Session, reply: Mapping[str, Any], server: Server) -> Refusal | None:
        assert self._vendor is not None
        lease = reply.get("lease")
        return self._vendor.doubt(lease if isinstance(lease, dict) else None, server.key, clock.wall_s())
