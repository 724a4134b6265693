"""The view that is looked at from across the room: pools, traffic, denials, events, what soon ends.

Knows how many lines each of them is worth, and puts them side by side where the paper is wide. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from als_tools import formats
from als_tools.columns import Row
from als_tools.top.facts import Facts
from als_tools.top.grid import grid, in_order
from als_tools.top.listings import DENIALS, ENDING, EVENTS, POOLS, List
from als_tools.top.paper import FAINT, GOOD, PLAIN, STRONG, Paper, beside, spark

WIDE_CELLS = 120  # from here on lists stand side by side
GAP = 2
RATE_CELLS_MIN = 8
RATE_CELLS_WITH_MOST = 40
POOLS_LEAST = 4  # so many are worth more than a line of anything else

Draw = Callable[[Facts, Paper], list[Text]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the view: how it is drawn, how many lines it wants, and how many make it worth while."""

    draw: Draw
    wanted: int
    least: int


def overview(facts: Facts, paper: Paper) -> list[Text]:
    """Draw the overview on all of the paper."""
    count = len(POOLS.rows(facts))
    pools = Section(_pools, 2 + count, 2 + min(POOLS_LEAST, max(1, count)))
    traffic = Section(_traffic, 2 if paper.width < WIDE_CELLS else 1, 1)
    denials, events, ending = (_section(found, facts) for found in (DENIALS, EVENTS, ENDING))
    if paper.width < WIDE_CELLS:
        return _stacked((pools, traffic, denials, events, ending), facts, paper)
    top = _stacked((pools, traffic), facts, paper.part(height=min(paper.height, pools.wanted + traffic.wanted)))
    rest = paper.height - len(top)
    if rest < denials.least:
        return top
    left, right = paper.part(height=rest).halves(GAP)
    one, other = _stacked((denials, ending), facts, left), _stacked((events,), facts, right)
    return [*top, *beside(left.filled(one), right.filled(other), GAP)]


def _section(found: List, facts: Facts) -> Section:
    def draw(facts: Facts, paper: Paper) -> list[Text]:
        return short_list(found, found.rows(facts), paper)

    return Section(draw, 1 + max(1, len(found.rows(facts))), 2)


def _stacked(sections: Sequence[Section], facts: Facts, paper: Paper) -> list[Text]:
    """Draw sections below each other, each with the lines that it is given."""
    lines: list[Text] = []
    for section, height in zip(sections, shares(sections, paper.height), strict=True):
        if height:
            lines += paper.part(height=height).filled(section.draw(facts, paper.part(height=height)))
    return lines


def shares(sections: Sequence[Section], height: int) -> list[int]:
    """Give each section its lines: the least it needs, in their order, as far as they go; then all in turn more."""
    given = []
    for section in sections:
        fits = section.least <= height
        given.append(section.least if fits else 0)
        height -= given[-1]
    while height > 0:
        open_sections = [n for n, section in enumerate(sections) if 0 < given[n] < section.wanted]
        if not open_sections:
            break
        for n in open_sections[:height]:
            given[n] += 1
        height -= len(open_sections[:height])
    return given


def short_list(found: List, rows: Sequence[Row], paper: Paper) -> list[Text]:
    """Draw as much of a list as there is room for, without headings: its columns speak for themselves."""
    room = max(1, paper.height - 1)
    note = f"{formats.count(min(room, len(rows)))} of {formats.count(len(rows))}" if len(rows) > room else ""
    lines = [paper.rule(found.title, note)]
    if not rows:
        return [*lines, paper.line((found.empty, FAINT))]
    columns = [column for column in found.columns if not column.right]
    return [*lines, *grid(columns, rows[:room], paper, headings=False)]


def _pools(facts: Facts, paper: Paper) -> list[Text]:
    """Draw the pools, the fullest first; those that do not fit are counted."""
    assert POOLS.sort is not None, "they have an order"
    rows = in_order(POOLS.rows(facts), POOLS.columns[POOLS.sort], POOLS.reverse)
    room = max(1, paper.height - 2)
    note = f"{room} of {len(rows)}, key 3 shows all" if len(rows) > room else ""
    lines = [paper.rule(POOLS.title, note)]
    if not rows:
        return [*lines, paper.line((POOLS.empty, FAINT))]
    return [*lines, *grid(POOLS.columns, rows[:room], paper)]


def _traffic(facts: Facts, paper: Paper) -> list[Text]:
    """Draw how busy the server is and was, a line for requests and one for renewals, or both in one."""
    requests = [None if rate is None else rate.requests_per_s for rate in facts.rates]
    renewals = [None if rate is None else rate.renewals_per_s for rate in facts.rates]
    if paper.height > 1:
        return [_rate_line("Requests/s", requests, paper), _rate_line("Renewals/s", renewals, paper)]
    left, right = paper.halves(GAP)
    return beside([_rate_line("Requests/s", requests, left)], [_rate_line("Renewals/s", renewals, right)], GAP)


def _rate_line(name: str, values: Sequence[float | None], paper: Paper) -> Text:
    """Draw a rate with its history, as long as there is room for; a gap is where the server was away."""
    now = values[-1] if values else None
    shown = "away" if now is None else formats.rate(now)
    most = max((value for value in values if value is not None), default=0.0)
    tail = f" most {formats.rate(most)}" if paper.width >= RATE_CELLS_WITH_MOST else ""
    head = f"{name} {shown:>8} "
    room = max(RATE_CELLS_MIN, paper.width - len(head) - len(tail))
    history = spark(values[-room:], most, paper.signs.sparks)
    return paper.line((name, STRONG), (f" {shown:>8} ", PLAIN), (history.rjust(room), GOOD), (tail, FAINT))
