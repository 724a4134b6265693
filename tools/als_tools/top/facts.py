"""What the dashboard knows at one moment, as values that never change: what every picture is made from.

Knows the shapes alone, not how they were fetched or how they will look.
"""

from dataclasses import dataclass, field

from als_tools.columns import Row
from als_tools.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Rate:
    """How busy the server was at one look."""

    requests_per_s: float
    renewals_per_s: float


@dataclass(frozen=True, slots=True)
class Loss:
    """The server does not answer as it should: `word` says in what way, `since` is this computer's time."""

    since: int
    word: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """How many requests for a product were refused since `since`, the beginning of the hour before this one."""

    product: str
    count: int
    since: int


@dataclass(frozen=True, slots=True)
class Ending:
    """Serials that end within 30 days, or have ended while computers are on them; the soonest end first.

    `is_complete` says whether all serials have been looked through once.
    """

    rows: tuple[Row, ...] = ()
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the leases: `before` rows were passed over, `next` is the cursor of what follows (None: the end).

    `after` and `state` and `text` are the wish that it answers. Without rows, `passed` leases were looked through for
    them; `is_complete` says whether those were all.
    """

    rows: tuple[Row, ...] = ()
    before: int = 0
    after: str | None = None
    next: str | None = None
    state: str | None = None
    text: str = ""
    passed: int = 0
    is_complete: bool = True

    @property
    def asked(self) -> tuple[str | None, str | None, str]:
        """What was asked for, to tell whether it is what is wanted now."""
        return self.after, self.state, self.text


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person looks at, so that only that is fetched. `leases` names the stretch, None for none."""

    interval_s: float
    leases: Block | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything known. Events and denials have the newest first; a rate is None where the server was away.

    `leases` are None while nobody looks at them.
    """

    status: Snapshot
    rates: tuple[Rate | None, ...] = ()
    events: tuple[Row, ...] = ()
    denials: tuple[Row, ...] = ()
    refused: tuple[Refused, ...] = ()
    ending: Ending = field(default_factory=Ending)
    leases: Block | None = None
    loss: Loss | None = None

    def refused_of(self, product: str) -> Refused | None:
        """Give what was refused of a product lately."""
        return next((refused for refused in self.refused if refused.product == product), None)
