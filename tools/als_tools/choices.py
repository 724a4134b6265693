"""The words that filters take: states, kinds of computers, kinds of events.

A word that is none is refused with those that there are; an empty list would look as if nothing had happened.
"""

from collections.abc import Sequence

from als_tools import formats
from als_tools.failures import Exit, Failure

LICENSE_STATES = ("valid", "expired", "removing")
LEASE_STATES = ("active", "lapsed", "expired")
COMPUTER_KINDS = ("server", "workstation")
EVENT_KINDS = (
    "imported",
    "removed",
    "restored",
    "granted",
    "component_added",
    "component_removed",
    "freed",
    "kept",
    "lapsed",
    "moved",
    "revoked",
    "denied",
    "holder_changed",
    "computers_conflict",
    "outage",
    "clock_set_back",
    "clock_jumped",
    "clock_accepted",
    "started",
    "stopped",
    "admin_added",
    "admin_changed",
    "admin_removed",
)


def check(word: str | None, known: Sequence[str], what: str) -> str | None:
    """Give a filter's word back, None for none. Raises Failure for one that is not among `known`, naming them."""
    if word is None or word in known:
        return word
    there_are = f"{', '.join(known[:-1])} and {known[-1]}"
    raise Failure(Exit.WRONG_USAGE, f'{what} "{formats.clean(word)}" is none; there are {there_are}')
