"""What the server's catalog says of the components that run here, heard at the first grant and then once a day.

It knows when to ask and where to keep the answer, not what a session does with it.
"""

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from als_agents.errors import ClientError
from als_agents.keeper import Keeper
from als_agents.parameters import ParametersFile, facts_of
from als_agents.session import Event, Notice, Session

CATALOG_S = 86_400.0  # so a changed catalog is known a day later; a request a day is nothing beside the heartbeats

logger = logging.getLogger("als_agents")


class CatalogNews:
    """Tells sessions of one keeper whether they work offline, and keeps it in a file for days without a server."""

    def __init__(self, keeper: Keeper, parameters: ParametersFile) -> None:
        self._keeper = keeper
        self._parameters = parameters
        self._asked: dict[Session, tuple[bytes, float]] = {}  # the server's key, and when

    def after(self, session: Session, notice: Notice) -> None:
        """Ask the session's server after a grant; after a renewal where another server or a day has come."""
        home = self._keeper.home(session)
        if home is None or notice.event not in (Event.ACQUIRED, Event.RENEWED):
            return
        now = self._keeper.now()
        key, asked_at = self._asked.get(session, (b"", now))
        if notice.event is Event.RENEWED and key == home.key and now - asked_at < CATALOG_S:
            return
        self._asked[session] = (home.key, now)
        self._keeper.ask_home(session, "hello", lambda reply: self._hear(session, reply))

    def _hear(self, session: Session, reply: Mapping[str, Any]) -> None:
        products = reply.get("products")
        if not isinstance(products, list):
            return
        with contextlib.suppress(TypeError, AttributeError):  # a server that tells nonsense is not remembered
            facts = facts_of(products).get((session.product, session.component))
            if facts is not None:
                session.works_offline = facts.works_offline
            try:
                self._parameters.remember_catalog(products)
            except ClientError as error:
                logger.warning("what the server's catalog says is not kept: %s", error)
