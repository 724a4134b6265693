"""What becomes of a license, for the program's log: every change once, and nothing at each heartbeat."""

import logging
from datetime import UTC, datetime

from als.protocol import Refusal
from als_agents.session import Event, Notice

LOGGER_NAME = "als_agents.license"  # a part of als_agents, so that who tells the same himself can be quiet about it

logger = logging.getLogger(LOGGER_NAME)
logger.addHandler(logging.NullHandler())  # a program without settings for its log keeps its stderr for itself


class LicenseLog:
    """Writes what happens to one license between `open` and `close`."""

    def __init__(self, product: str, component: str) -> None:
        self._name = f"{product}/{component}"
        self._is_in_trouble = False

    def note(self, notice: Notice, renew_by: int | None) -> None:
        """Write what a notice changes, if it changes anything; a loss is for `lose`."""
        why = "" if notice.why is None else notice.why.message
        if notice.event is Event.LATE:
            until = "for good" if renew_by is None else f"until {_utc(renew_by)}"
            logger.warning("the license of %s holds %s, but is not renewed: %s", self._name, until, why)
            self._is_in_trouble = True
        elif notice.event is Event.OFFLINE:
            logger.warning("%s goes on without a license: %s", self._name, why)
            self._is_in_trouble = True
        elif notice.event in (Event.RENEWED, Event.ACQUIRED):
            if self._is_in_trouble:
                logger.info("the license of %s is renewed again", self._name)
            self._is_in_trouble = False

    def lose(self, why: Refusal) -> None:
        """Write that the program must stop."""
        logger.warning("the license of %s is lost: %s", self._name, why.message)
        self._is_in_trouble = True


def _utc(seconds: int) -> str:
    """Write a server's time, whatever nonsense it tells."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
