"""The dashboard's keys: each a pure function from what is seen to what is seen next."""

from functools import reduce

import pytest

from als_tools.top.keyboard import split_keys
from als_tools.top.state import KEYS, VIEWS, Extent, ListState, State, press
from top_facts import bad_night, picture

EXTENT = Extent(rows=100, page=10, columns=3, choices=2)


def pressed(*keys: str, state: State | None = None, extent: Extent = EXTENT) -> State:
    """Press keys one after another."""
    return reduce(lambda before, key: press(before, key, extent), keys, state or State())


def shown(*keys: str, view: str = "events", extent: Extent = EXTENT) -> ListState:
    """Press keys in a list, and give that list's state."""
    found = pressed(*keys, state=State(view=view), extent=extent).list
    assert found is not None
    return found


def test_numbers_and_tab_choose_the_view() -> None:
    """Each number is a view; tab goes round, forwards and backwards."""
    assert [pressed(str(number)).view for number in range(1, 8)] == list(VIEWS)
    assert pressed("tab").view == VIEWS[1]
    assert pressed("shift-tab").view == VIEWS[-1]
    assert pressed(*["tab"] * len(VIEWS)).view == VIEWS[0]


def test_another_view_closes_the_help() -> None:
    """Who chooses a view while the help is open sees that view."""
    assert pressed("?", "3") == State(view=VIEWS[2])
    assert pressed("?", "tab") == State(view=VIEWS[1])


def test_what_does_not_fit_can_be_scrolled() -> None:
    """Problems and help move by lines and pages as lists do, within their ends, and begin at the top again."""
    problems, extent = State(view="problems"), Extent(rows=30, page=10)
    assert pressed("down", "pagedown", state=problems, extent=extent).scroll == 11
    assert pressed(*["pagedown"] * 9, state=problems, extent=extent).scroll == 20
    assert pressed("end", "up", state=problems, extent=extent).scroll == 19
    assert pressed("end", "home", state=problems, extent=extent).scroll == 0
    assert pressed("end", "2", state=problems, extent=extent).scroll == 0
    help_over_list = pressed("?", "down", state=State(view="events"), extent=extent)
    assert (help_over_list.scroll, help_over_list.list) == (1, ListState())
    assert pressed("?", state=help_over_list, extent=extent) == State(view="events")


def test_sort_goes_through_the_columns() -> None:
    """s sorts by column after column, then in the list's own order again; r turns the order round."""
    assert [shown(*["s"] * n).sort for n in range(5)] == [None, 0, 1, 2, None]
    assert shown("s", "r").reverse
    assert not shown("s", "r", "s").reverse


def test_filters() -> None:
    """f takes the next choice; / takes a text while it is typed; escape shows all again."""
    assert [shown(*["f"] * n).choice for n in range(3)] == [0, 1, 0]
    assert shown("/", "p", "c", "q", "backspace").text == "pc"
    assert shown("/", "p", "enter", "q").text == "p"
    assert shown("/", "p", "escape").text == ""
    assert shown("f", "/", "p", "enter", "escape") == ListState()
    assert not pressed("/", "q", state=State(view="events")).is_over, "a q is a letter while a text is typed"
    assert not pressed("/", state=State()).is_typing, "the overview has nothing to filter"


def test_moving_stays_within_the_list() -> None:
    """Lines and pages move the list, and stop at both ends; a filter begins at the top."""
    assert shown("down", "down", "up").top == 1
    assert shown("up").top == 0
    assert shown("pagedown").top == 10
    assert shown(*["pagedown"] * 50).top == 90
    assert shown("end").top == 90
    assert shown("end", "home").top == 0
    assert shown("pagedown", "f").top == 0


def test_past_the_end_the_server_is_asked_for_more() -> None:
    """At the end of what is loaded a page down goes on from the server's cursor, and a page up comes back."""
    extent = Extent(rows=1_000, page=20, columns=3, choices=4, next="c1")
    state = pressed("end", "pagedown", state=State(view="leases"), extent=extent)
    wish = state.wish.leases
    assert wish is not None
    assert (wish.after, wish.before) == ("c1", 1_000)
    back = pressed("pageup", state=state, extent=extent).wish.leases
    assert back is not None
    assert (back.after, back.before) == (None, 0)


def test_the_wish_follows_the_view() -> None:
    """Leases are fetched only while they are looked at, with their filters."""
    assert State().wish.leases is None
    wish = pressed("f", "/", "x", state=State(view="leases"), extent=Extent(choices=4)).wish.leases
    assert wish is not None
    assert (wish.state, wish.text) == ("active", "x")


def test_interval_pause_and_quit() -> None:
    """+ looks more often, - less often, within bounds; p pauses and goes on; q quits."""
    assert pressed("+").interval_s == 1.0
    assert pressed("-").interval_s == 5.0
    assert pressed(*["+"] * 20).interval_s == 0.5
    assert pressed("p").is_paused
    assert not pressed("p", " ").is_paused
    assert pressed("q").is_over


def test_the_help_is_made_from_the_table() -> None:
    """Every key of the table is in the help; what is no key changes nothing."""
    text = "\n".join(picture(bad_night(), pressed("?"), height=30))
    for key in KEYS:
        assert key.help in text
        assert key.shown in text
    assert pressed("?", "escape") == State()
    assert pressed("x", "F7", "é", "") == State()


def test_no_key_has_two_meanings() -> None:
    """No name of a key is twice in the table."""
    names = [name for key in KEYS for name in key.keys]
    assert len(names) == len(set(names))


def test_a_shorter_list_shows_its_end() -> None:
    """When rows go away below the screen, the last page is shown, not nothing."""
    lines = picture(bad_night(), State(view="leases", lists={**State().lists, "leases": ListState(top=39)}))
    assert "22-40 of 40" in "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "keys", "rest"),
    [
        ("q", ["q"], ""),
        ("\x1b[A\x1bOB", ["up", "down"], ""),
        ("\x1b[5~\x1b[6~\x1b[Z", ["pageup", "pagedown", "shift-tab"], ""),
        ("\x1b", [], "\x1b"),
        ("a\x1b[", ["a"], "\x1b["),
        ("\x1b[1;5A", [], ""),
        ("\x1bx", ["escape", "x"], ""),
        ("\t\r\x7fé", ["tab", "enter", "backspace", "é"], ""),
    ],
)
def test_what_terminals_send(text: str, keys: list[str], rest: str) -> None:
    """Sequences become names; one that is not complete waits, one that is unknown is passed over."""
    assert split_keys(text) == (keys, rest)
