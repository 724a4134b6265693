"""What the person has chosen to see, as a value; each key is a pure function from one such value to the next.

KEYS is the table of them, and the help is made from it. Knows no server and no terminal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from als_tools.top.facts import Block, Wish
from als_tools.top.listings import LISTS

OVERVIEW, PROBLEMS = "overview", "problems"
VIEWS = (OVERVIEW, PROBLEMS, *LISTS)
INTERVALS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
INTERVAL_S_DEFAULT = 2.0
TEXT_CHARS_MAX = 40


@dataclass(frozen=True, slots=True)
class ListState:
    """How one list is shown. `sort` None is the list's own order, `top` the first row on the screen.

    `blocks` are (cursor, rows before it) of the stretches gone through, the last being the one that is shown.
    """

    sort: int | None = None
    reverse: bool = False
    choice: int = 0
    text: str = ""
    top: int = 0
    blocks: tuple[tuple[str | None, int], ...] = ((None, 0),)


def _first_lists() -> Mapping[str, ListState]:
    return {name: ListState(sort=found.sort, reverse=found.reverse) for name, found in LISTS.items()}


@dataclass(frozen=True, slots=True)
class State:
    """Everything that keys change. `scroll` is the first line shown of what is no list: the problems, the help."""

    view: str = OVERVIEW
    lists: Mapping[str, ListState] = field(default_factory=_first_lists)
    interval_s: float = INTERVAL_S_DEFAULT
    is_paused: bool = False
    is_help: bool = False
    is_typing: bool = False
    is_over: bool = False
    scroll: int = 0

    @property
    def list(self) -> ListState | None:
        """The state of the list that is shown; None where the view is no list."""
        return self.lists.get(self.view)

    @property
    def wish(self) -> Wish:
        """What must be fetched for this view."""
        shown = self.lists["leases"]
        if self.view != "leases":
            return Wish(self.interval_s)
        after, before = shown.blocks[-1]
        choice = LISTS["leases"].choices[shown.choice]
        return Wish(self.interval_s, Block(before=before, after=after, state=choice.state, text=shown.text))


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is to move in: `rows` of the list, `page` on the screen at once, and its `columns` and `choices`.

    `next` is the cursor of what the server has beyond, `block` how many rows the present stretch has.
    """

    rows: int = 0
    page: int = 1
    columns: int = 0
    choices: int = 0
    next: str | None = None

    @property
    def top_max(self) -> int:
        """The greatest first row: the last screen is full."""
        return max(0, self.rows - self.page)


Change = Callable[[State, str, Extent], State]


@dataclass(frozen=True, slots=True)
class Key:
    """One row of the table: the `keys` by their names, how they are `shown`, what they do, and how."""

    keys: tuple[str, ...]
    shown: str
    help: str
    change: Change


def _on_list(change: Callable[[ListState, Extent], ListState]) -> Change:
    """Make a change of the list that is shown; elsewhere it changes nothing."""

    def on_state(state: State, key: str, extent: Extent) -> State:
        if state.list is None:
            return state
        return replace(state, lists={**state.lists, state.view: change(state.list, extent)})

    return on_state


def _to_view(state: State, key: str, extent: Extent) -> State:
    return replace(state, view=VIEWS[int(key) - 1], is_help=False, scroll=0)


def _by_view(step: int) -> Change:
    def change(state: State, key: str, extent: Extent) -> State:
        following = VIEWS[(VIEWS.index(state.view) + step) % len(VIEWS)]
        return replace(state, view=following, is_help=False, scroll=0)

    return change


def _help(state: State, key: str, extent: Extent) -> State:
    return replace(state, is_help=not state.is_help, scroll=0)


def _next_sort(shown: ListState, extent: Extent) -> ListState:
    """Go through the columns, and after the last back to the list's own order."""
    following = 0 if shown.sort is None else shown.sort + 1
    return replace(shown, sort=following if following < extent.columns else None, reverse=False, top=0)


def _turn(shown: ListState, extent: Extent) -> ListState:
    return replace(shown, reverse=not shown.reverse, top=0)


def _next_choice(shown: ListState, extent: Extent) -> ListState:
    choice = (shown.choice + 1) % max(1, extent.choices)
    return replace(shown, choice=choice, top=0, blocks=ListState().blocks)


def _without_filters(state: State, key: str, extent: Extent) -> State:
    """Close the help, or else show all of the list again."""
    if state.is_help:
        return replace(state, is_help=False, scroll=0)
    return _on_list(lambda shown, _: replace(shown, choice=0, text="", top=0, blocks=ListState().blocks))(
        state, key, extent
    )


def _move(rows: Callable[[Extent], int]) -> Change:
    """Move within the list; past its end into what the server has beyond, before its beginning back again."""

    def change(shown: ListState, extent: Extent) -> ListState:
        step = rows(extent)
        if step > 0 and shown.top >= extent.top_max and extent.next is not None:
            return replace(shown, top=0, blocks=(*shown.blocks, (extent.next, shown.blocks[-1][1] + extent.rows)))
        if step < 0 and shown.top == 0 and len(shown.blocks) > 1:
            return replace(shown, top=0, blocks=shown.blocks[:-1])
        return replace(shown, top=min(max(0, shown.top + step), extent.top_max))

    return _moving(change, lambda scroll, extent: scroll + rows(extent))


def _moving(change: Callable[[ListState, Extent], ListState], scrolled: Callable[[int, Extent], int]) -> Change:
    """Make a change of the list that is shown, or else of how far the lines are scrolled that are no list."""

    def on_state(state: State, key: str, extent: Extent) -> State:
        if state.list is None or state.is_help:
            return replace(state, scroll=min(max(0, scrolled(state.scroll, extent)), extent.top_max))
        return _on_list(change)(state, key, extent)

    return on_state


def _to_top(shown: ListState, extent: Extent) -> ListState:
    return replace(shown, top=0, blocks=ListState().blocks)


def _to_end(shown: ListState, extent: Extent) -> ListState:
    return replace(shown, top=extent.top_max)


def _by_interval(step: int) -> Change:
    def change(state: State, key: str, extent: Extent) -> State:
        at = min(range(len(INTERVALS_S)), key=lambda n: abs(INTERVALS_S[n] - state.interval_s))
        return replace(state, interval_s=INTERVALS_S[min(max(0, at + step), len(INTERVALS_S) - 1)])

    return change


def _find(state: State, key: str, extent: Extent) -> State:
    return state if state.list is None else replace(state, is_typing=True)


KEYS: tuple[Key, ...] = (
    Key(tuple(str(n + 1) for n in range(len(VIEWS))), f"1-{len(VIEWS)}", "choose a view", _to_view),
    Key(("tab", "right"), "tab", "the next view", _by_view(1)),
    Key(("shift-tab", "left"), "shift-tab", "the view before", _by_view(-1)),
    Key(("down", "j"), "down, up", "move by a line", _move(lambda extent: 1)),
    Key(("up", "k"), "", "", _move(lambda extent: -1)),
    Key(
        ("pagedown", "n"),
        "pgdn, pgup",
        "move by a page, at the end on to what follows",
        _move(lambda extent: extent.page),
    ),
    Key(("pageup", "b"), "", "", _move(lambda extent: -extent.page)),
    Key(
        ("home", "g"),
        "home, end",
        "to the beginning, to the end of what is here",
        _moving(_to_top, lambda scroll, extent: 0),
    ),
    Key(("end", "G"), "", "", _moving(_to_end, lambda scroll, extent: extent.top_max)),
    Key(("s",), "s", "sort by the next column, at last as they come", _on_list(_next_sort)),
    Key(("r",), "r", "turn the order round", _on_list(_turn)),
    Key(("f",), "f", "filter: the next choice of this list", _on_list(_next_choice)),
    Key(("/",), "/", "filter: only rows with a text in them", _find),
    Key(("escape",), "esc", "without filters again; closes the help", _without_filters),
    Key(
        ("p", " "),
        "p, space",
        "pause and go on",
        lambda state, key, extent: replace(state, is_paused=not state.is_paused),
    ),
    Key(("+",), "+, -", "look more often, less often", _by_interval(-1)),
    Key(("-",), "", "", _by_interval(1)),
    Key(("?", "h"), "?, h", "this help", _help),
    Key(("q", "Q"), "q, ctrl-c", "quit", lambda state, key, extent: replace(state, is_over=True)),
)
CHANGES: Mapping[str, Change] = {name: key.change for key in KEYS for name in key.keys}


def press(state: State, key: str, extent: Extent) -> State:
    """Give the state after a key; one that means nothing changes nothing."""
    if state.is_typing:
        return _typed(state, key)
    change = CHANGES.get(key)
    return state if change is None else change(state, key, extent)


def _typed(state: State, key: str) -> State:
    """Take a key for the text that is looked for: it is applied while it is typed."""
    shown = state.list
    if shown is None or key == "enter":
        return replace(state, is_typing=False)
    if key == "escape":
        text, is_typing = "", False
    elif key == "backspace":
        text, is_typing = shown.text[:-1], True
    elif len(key) == 1 and key.isprintable():
        text, is_typing = (shown.text + key)[:TEXT_CHARS_MAX], True
    else:
        return state
    found = replace(shown, text=text, top=0, blocks=ListState().blocks)
    return replace(state, is_typing=is_typing, lists={**state.lists, state.view: found})
