"""The whole screen as lines: title, what is wrong, the view, the legend, the keys.

Pure, and exactly as big as the paper. Knows no key but by the table, and nothing of how facts come or lines go.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from als_tools import formats
from als_tools.columns import Row
from als_tools.top import overview
from als_tools.top.bars import legend
from als_tools.top.facts import Block, Facts
from als_tools.top.grid import grid, in_order
from als_tools.top.listings import LISTS, List
from als_tools.top.paper import BAD, FAINT, INVERSE, PLAIN, STRONG, Paper
from als_tools.top.problems import Problem, problems
from als_tools.top.search import matches
from als_tools.top.state import KEYS, OVERVIEW, PROBLEMS, VIEWS, Extent, ListState, State
from als_tools.views import Level

TITLE = INVERSE + STRONG
PROBLEMS_TITLE = "What is wrong, and what to do"
HEADLINES_MIN = 2
HELP_LINES = sum(bool(key.shown) for key in KEYS) + 6  # with title, heading, what is wrong, legend and keys
HEADLINE_SHARE = 5  # a fifth of the overview's lines may be about what is wrong


@dataclass(frozen=True, slots=True)
class Picture:
    """The lines of the screen, and how much there is to move in."""

    lines: tuple[Text, ...]
    extent: Extent


def draw(facts: Facts, state: State, paper: Paper, here: int) -> Picture:
    """Draw all of it; `here` is this computer's time."""
    found = problems(facts, here, paper.zone)
    head = [_title(facts, state, paper)]
    if state.view != PROBLEMS or state.is_help:
        head += headline(found, facts, paper, _headlines(state, paper))
    room = paper.part(height=max(0, paper.height - len(head) - 2))
    if state.is_help:
        body, extent = _scrolled("Keys", _help(room), state, room)
    elif state.view == OVERVIEW:
        body, extent = overview.overview(facts, room), Extent()
    elif state.view == PROBLEMS:
        body, extent = _scrolled(PROBLEMS_TITLE, _problem_lines(found, facts, room), state, room)
    else:
        body, extent = _list(facts, state, room)
    lines = [*head, *room.filled(body), paper.line(*legend(paper)), _key_bar(state, paper)]
    return Picture(tuple(paper.filled(lines)), extent)


def _title(facts: Facts, state: State, paper: Paper) -> Text:
    """Say which server, and as of when."""
    status = facts.status
    moment = paper.zone.at(status.now)
    name, pause = formats.clean(status.name), " PAUSED " if state.is_paused else ""
    lefts = [f" {name}  {status.address}  up {formats.duration(status.now - status.started_at)}"]
    lefts += [f" {name}  {status.address}", f" {name}"]
    rights = [f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname()}  every {state.interval_s:g} s "]
    rights += [f"{moment:%H:%M:%S} {moment.tzname()}  every {state.interval_s:g} s ", f"{moment:%H:%M:%S} "]
    fitting = [
        (left, right)
        for left, right in ((lefts[0], rights[0]), (lefts[0], rights[1]), (lefts[1], rights[1]), (lefts[1], rights[2]))
        if cell_len(left) + 1 + len(pause) + len(right) <= paper.width
    ]
    left, right = fitting[0] if fitting else (lefts[2], rights[2])
    room = max(0, paper.width - len(right) - len(pause))
    style = TITLE if facts.loss is None else TITLE + BAD
    return paper.line((paper.fit(left, room), style), (pause, TITLE + BAD), (right, style))


def _headlines(state: State, paper: Paper) -> int:
    if state.is_help and paper.height < HELP_LINES:
        return 1
    return max(HEADLINES_MIN, paper.height // HEADLINE_SHARE) if state.view == OVERVIEW else HEADLINES_MIN


def headline(found: Sequence[Problem], facts: Facts, paper: Paper, lines_max: int) -> list[Text]:
    """Say what is wrong in at most so many lines; that nothing is, in one."""
    if not found:
        pools = [pool for pool in facts.status.pools if pool.is_in_use]
        used, total = sum(pool.used for pool in pools), sum(pool.total for pool in pools)
        words = f"Nothing is wrong: {formats.count(used)} of {formats.count(total)} seats used, clock right"
        return [_marked(Level.GOOD, words, paper)]
    if lines_max == 1 and len(found) > 1:
        tail = f" +{len(found) - 1} more: key 2"
        text = paper.cut(f"{found[0].level.sign} {found[0].text}", paper.width - len(tail))
        return [paper.line((f"{text}{tail}", found[0].level.style))]
    shown = list(found) if len(found) <= lines_max else list(found[: lines_max - 1])
    lines = [_marked(problem.level, problem.text, paper) for problem in shown]
    rest = found[len(shown) :]
    if rest:
        bad = sum(problem.level is Level.BAD for problem in rest)
        words = f"{len(rest)} more, {bad} of them bad: key 2" if bad else f"{len(rest)} more to come: key 2"
        lines.append(_marked(rest[0].level, words, paper))
    return lines


def _marked(level: Level, words: str, paper: Paper) -> Text:
    return paper.line((f"{level.sign} {words}", level.style))


def _problem_lines(found: Sequence[Problem], facts: Facts, paper: Paper) -> list[Text]:
    """Say all that is wrong, and what to do about it."""
    lines: list[Text] = []
    for problem in found:
        lines += _folded(problem.text, 3, problem.level.style, paper, problem.level.sign)
        lines += _folded(problem.advice, 3, PLAIN, paper)
    return lines or headline(found, facts, paper, 1)


def _scrolled(title: str, lines: Sequence[Text], state: State, paper: Paper) -> tuple[list[Text], Extent]:
    """Show as many of the lines as there is room for, from where the person has scrolled to."""
    extent = Extent(len(lines), max(1, paper.height - 1))
    top = min(state.scroll, extent.top_max)
    last = min(extent.rows, top + extent.page)
    note = f"{top + 1}-{last} of {extent.rows} lines" if extent.top_max else ""
    return [paper.rule(title, note), *lines[top:last]], extent


def _folded(text: str, margin: int, style: Style, paper: Paper, sign: str = "") -> list[Text]:
    folded = textwrap.wrap(formats.clean(text), max(10, paper.width - margin), break_on_hyphens=False)
    signs = [sign] + [""] * (len(folded) - 1)
    return [paper.line((mark.ljust(margin), style), (line, style)) for mark, line in zip(signs, folded, strict=True)]


def _help(paper: Paper) -> list[Text]:
    """Write the help from the table of keys."""
    return [paper.line((f"  {key.shown:<12}", STRONG), (key.help, PLAIN)) for key in KEYS if key.shown]


def listed(found: List, shown: ListState, facts: Facts) -> list[Row]:
    """Give the rows of a list as the person wants them: narrowed and sorted."""
    test = found.choices[shown.choice].test
    text = shown.text.casefold()
    rows = [row for row in found.rows(facts) if (test is None or test(row)) and matches(row, text)]
    if shown.sort is not None:
        return in_order(rows, found.columns[shown.sort], shown.reverse)
    return rows[::-1] if shown.reverse else rows


def _list(facts: Facts, state: State, paper: Paper) -> tuple[list[Text], Extent]:
    found, shown = LISTS[state.view], state.list
    assert shown is not None, "the view is a list"
    rows = listed(found, shown, facts)
    block = facts.leases if state.view == "leases" else None
    page = max(1, paper.height - 2)
    following = None if block is None else block.next
    extent = Extent(len(rows), page, len(found.columns), len(found.choices), following)
    top = min(shown.top, extent.top_max)
    before = 0 if block is None else block.before
    lines = [paper.rule(found.title, _note(found, shown, extent, top, before))]
    if not rows:
        return [*lines, paper.line((_nothing(found, shown, state, block), FAINT))], extent
    marked = None if shown.sort is None else (found.columns[shown.sort], shown.reverse)
    return [*lines, *grid(found.columns, rows[top : top + page], paper, marked)], extent


def _nothing(found: List, shown: ListState, state: State, block: Block | None) -> str:
    """Say why a list is empty: what is wanted may not have come yet."""
    wish = state.wish.leases
    if wish is not None and (block is None or block.asked != wish.asked):
        return "Paused: p goes on, and reads this." if state.is_paused else "Reading."
    if block is not None and not block.is_complete:
        return f"Not among the first {formats.count(block.passed)}; looking on."
    return "Nothing matches; esc shows all." if shown.choice or shown.text else found.empty


def _note(found: List, shown: ListState, extent: Extent, top: int, before: int) -> str:
    """Say what part of the list this is, in which order, and through which filters."""
    words = []
    if shown.choice:
        words.append(f"only {found.choices[shown.choice].name}")
    if shown.text:
        words.append(f'with "{formats.clean(shown.text)}"')
    if extent.rows:
        last = min(extent.rows, top + extent.page)
        follow = "" if extent.next is None else ", more follow"
        total = formats.count(before + extent.rows)
        words.append(f"{formats.count(before + top + 1)}-{formats.count(before + last)} of {total}{follow}")
    if (before or extent.next is not None) and (shown.sort is not None or shown.reverse):
        words.append("sorted within these")
    return ", ".join(words)


def _key_bar(state: State, paper: Paper) -> Text:
    """Show the views and the keys that matter most; while a text is typed, the text."""
    shown = state.list
    if state.is_typing and shown is not None:
        return paper.line((" Find: ", STRONG), (f"{shown.text}_", INVERSE), ("   enter keeps it, esc shows all", FAINT))
    tail = "? help  q quit" if paper.width >= 78 else "? q"
    keys = "" if shown is None else "s sort  / find  "
    for are_spelled in (True, False):
        parts: list[tuple[str, Style]] = []
        for number, name in enumerate(VIEWS, 1):
            is_here = name == state.view
            word = f" {number} {name.capitalize()} " if are_spelled or is_here else f" {number} "
            parts.append((word, INVERSE if is_here else PLAIN))
        room = paper.width - sum(len(word) for word, _ in parts)
        words = next((words for words in (f" {keys}{tail}", f" {tail}", " ? q") if len(words) <= room), "")
        if words:
            return paper.line(*parts, (paper.fit(words, room, right=True), STRONG))
    return paper.line(*parts)
