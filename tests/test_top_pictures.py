"""The dashboard's pictures, as they stand on screens of 80x26 and 60x20."""

from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from als_tools.formats import Zone
from als_tools.snapshot import Pool
from als_tools.top.bars import pool_bar
from als_tools.top.facts import Block, Facts, Loss
from als_tools.top.paper import ASCII, UNICODE, Paper, spark
from als_tools.top.picture import draw
from als_tools.top.state import VIEWS, ListState, State
from top_facts import NOW, bad_night, denial, picture, pool, quiet_night, status

OVERVIEW_80x26 = """\
 licenses  192.0.2.9:9876  up 3 d 4 h        2026-01-05 03:00:00 UTC  every 2 s
!! CLOCK SET BACK by 10 min 10 s: the server goes on by its own time
!! STUDIO: NO FREE SEAT (40/40), 57 refused since 02:00
!! OFFICE: 2 computers on ended serials
!  VIEWER: 200 seats end <30 d, first in 3 days (01-08)
!  2 more to come: key 2
── Pools ───────────────────────────────────────────────────────────────────────
Product                  Full  Used/total  Free  Refused 24 h  Lapsed  Ends 30 d
STUDIO   ██████████████  FULL       40/40     0            57       0          0
VIEWER   ██████████~▒▒▒   70%   700/1,000   300             0      90        200
OFFICE   ██████░░░░░░░░   40%        4/10     6             0       0          0
Requests/s      120                                        ▁▁▂▃▃▄▅▅▆▇ █ most 120
Renewals/s     80.5                                       ▁▂▂▃▄▅▆▆▇█ █ most 80.5
── Denials ─────────────────────────────────────────────────────────────────────
02:59:48  STUDIO   pc-17  no free seat                 editor
02:58:59  STUDIO   pc-3   no free seat                 editor
01:58:20  STUDIO   web-2  no free seat, 40 times more  editor
── Newest events ───────────────────────────────────────────────────── 3 of 4 ──
02:59:48  denied    STUDIO   pc-17  no free seat
02:59:20  imported  VIEWER          50 seats, VIEWER-0123456789ABC, by Eva
02:58:59  denied    STUDIO   pc-3   no free seat
── Serials that end within 30 days ─────────────────────────────────────────────
ended      2026-01-03  OFFICE   OFFICE-0123456789ABC  no     Product OFFICE
in 3 days  2026-01-08  VIEWER   VIEWER-0123456789ABC  no     Product VIEWER
 █ used ▓ used, ends <30 d ~ lapsed ░ free ▒ free, ends <30 d !! now ! soon ok
 1 Overview  2 Problems  3 Pools  4 Events  5 Denials  6 Ending  7 Leases    ? q"""

OVERVIEW_60x20 = """\
 licenses  192.0.2.9:9876           03:00:00 UTC  every 2 s
!! CLOCK SET BACK by 10 min 10 s: the server goes on by its…
!! STUDIO: NO FREE SEAT (40/40), 57 refused since 02:00
!! OFFICE: 2 computers on ended serials
!  3 more to come: key 2
── Pools ───────────────────────────────────────────────────
Product                 Full  Used/total  Free  Refused 24 h
STUDIO   █████████████  FULL       40/40     0            57
VIEWER   █████████~▒▒▒   70%   700/1,000   300             0
OFFICE   █████░░░░░░░░   40%        4/10     6             0
Requests/s      120                    ▁▁▂▃▃▄▅▅▆▇ █ most 120
Renewals/s     80.5                   ▁▂▂▃▄▅▆▆▇█ █ most 80.5
── Denials ─────────────────────────────────────── 1 of 3 ──
02:59:48  STUDIO   pc-17  no free seat  editor
── Newest events ───────────────────────────────── 1 of 4 ──
02:59:48  denied  STUDIO   pc-17  no free seat  editor
── Serials that end within 30 days ─────────────── 1 of 2 ──
ended  2026-01-03  OFFICE   OFFICE-0123456789ABC
 █ used ▓▒ ends <30 d ~ lapsed ░ free !! now ! soon
 1 Overview  2  3  4  5  6  7                            ? q"""

PROBLEMS_60x20 = """\
 licenses  192.0.2.9:9876           03:00:00 UTC  every 2 s
── What is wrong, and what to do ─────── 1-16 of 19 lines ──
!! CLOCK SET BACK by 10 min 10 s: the server goes on by its
   own time
   Set the server's clock, or tell it that it is right:
   als-server accept-clock
!! STUDIO: NO FREE SEAT (40/40), 57 refused since 02:00
   Import serials, or revoke a seat that nobody needs: als
   revoke SERVER --product CODE --mac MAC
!! OFFICE: 2 computers on ended serials
   Import serials: each needs a free seat at its next run,
   or its program will not run.
!  VIEWER: 200 seats end <30 d, first in 3 days (01-08)
   Import serials before that; als licenses --sort
   expires_at shows which end.
!  OUTAGE 01-04 22:00 to 01-04 23:00 (1 h)
   No server ran; the time does not count against any
   license. Its log says why it stopped.
 █ used ▓▒ ends <30 d ~ lapsed ░ free !! now ! soon
 1  2 Problems  3  4  5  6  7                            ? q"""


HELP_60x20 = """\
 licenses  192.0.2.9:9876           03:00:00 UTC  every 2 s
!! CLOCK SET BACK by 10 min 10 s: the server… +5 more: key 2
── Keys ────────────────────────────────────────────────────
  1-7         choose a view
  tab         the next view
  shift-tab   the view before
  down, up    move by a line
  pgdn, pgup  move by a page, at the end on to what follows
  home, end   to the beginning, to the end of what is here
  s           sort by the next column, at last as they come
  r           turn the order round
  f           filter: the next choice of this list
  /           filter: only rows with a text in them
  esc         without filters again; closes the help
  p, space    pause and go on
  +, -        look more often, less often
  ?, h        this help
  q, ctrl-c   quit
 █ used ▓▒ ends <30 d ~ lapsed ░ free !! now ! soon
 1 Overview  2  3  4  5  6  7                            ? q"""


def test_help_at_60x20() -> None:
    """The help has every key on the smallest screen, and the worst that is wrong stays in sight above it."""
    assert "\n".join(picture(bad_night(), State(is_help=True), 60, 20)) == HELP_60x20


def test_no_problem_is_out_of_reach() -> None:
    """Where problems do not fit, the line above says how many lines there are, and scrolling shows the last."""
    lines = picture(bad_night(), State(view="problems"), 60, 20)
    assert lines[1].endswith(" 1-16 of 19 lines ──")
    end = picture(bad_night(), State(view="problems", scroll=99), 60, 20)
    assert end[17] == "   the network between them and the server."


def test_a_search_that_goes_on_says_how_far_it_is() -> None:
    """A text that was not among the leases so far is not called nowhere."""
    state = State(view="leases", lists={**State().lists, "leases": ListState(text="db")})
    facts = replace(bad_night(), leases=Block(text="db", passed=20_000, is_complete=False))
    assert "Not among the first 20,000; looking on." in picture(facts, state)
    assert "Nothing matches; esc shows all." in picture(replace(facts, leases=Block(text="db")), state)


def test_overview_at_80x26() -> None:
    """The overview on a usual terminal: what is wrong first, then pools, traffic, denials, events, what ends."""
    assert "\n".join(picture(bad_night())) == OVERVIEW_80x26


def test_overview_at_60x20() -> None:
    """On the smallest screen the same sections are there, each with fewer lines and columns."""
    assert "\n".join(picture(bad_night(), width=60, height=20)) == OVERVIEW_60x20


def test_problems_with_advice() -> None:
    """The view of problems says under each what to do about it."""
    assert "\n".join(picture(bad_night(), State(view="problems"), 60, 20)) == PROBLEMS_60x20


def test_leases_are_paged() -> None:
    """Who holds what is shown a screen at a time, with what part of the list it is."""
    lines = picture(bad_night(), State(view="leases"), 60, 20)
    assert lines[3].endswith("1-13 of 40 ──")
    assert lines[4] == "Host   Product  State   Renew by     Address"
    assert lines[5] == "pc-1   STUDIO   active  02-04 02:00  192.0.2.1"
    assert len([line for line in lines if line.startswith("pc-")]) == 13


def test_what_has_not_come_yet_is_not_called_nothing() -> None:
    """Before the leases are there the list says that they are being read, or that the pause keeps them away."""
    facts = replace(bad_night(), leases=None)
    assert "Reading." in picture(facts, State(view="leases"))
    assert "Paused: p goes on, and reads this." in picture(facts, State(view="leases", is_paused=True))


def test_a_pause_is_said() -> None:
    """The first line says that the picture stands still."""
    assert " PAUSED " in picture(bad_night(), State(is_paused=True))[0]


def test_the_worst_is_in_the_first_lines() -> None:
    """A server that does not answer is told before everything else, with since when and for how long."""
    facts = replace(bad_night(), loss=Loss(NOW - 42, "SERVER UNREACHABLE", "no license server answers"))
    lines = picture(facts)
    assert lines[1] == "!! SERVER UNREACHABLE since 02:59:18 (42 s); what you see is from then"
    assert picture(facts, here=NOW + 20)[1].startswith("!! SERVER UNREACHABLE since 02:59:18 (1 min 2 s)")
    assert "   no license server answers" in picture(facts, State(view="problems"))


def test_a_quiet_night_says_so() -> None:
    """Where nothing is wrong one line says it, and the lists say that they are empty."""
    lines = picture(quiet_night())
    assert lines[1] == "ok Nothing is wrong: 20 of 40 seats used, clock right"
    assert "Nobody was refused." in lines


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(status(pool("P", 10, 10))), "!  P: NO FREE SEAT (10/10), nobody refused lately"),
        (Facts(status(pool("P", 0, 0, denied_24h=3))), "!! P: NO VALID SERIAL, refused in 24 h"),
        (Facts(status(pool("P", 100, 95))), "!  P: almost full (95/100)"),
        (
            Facts(status(clock_state="jumped", clock_behind_s=-90_000)),
            "!! CLOCK JUMPED AHEAD by 1 d 1 h: nothing lapses or ends by it for 24 h",
        ),
        (Facts(status(replies_dropped=1)), "!  1 reply dropped since the server started"),
    ],
)
def test_each_problem_has_its_line(facts: Facts, expected: str) -> None:
    """Full without denials is a warning, no valid serial with denials is worse, and so on."""
    assert picture(facts)[1] == expected


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(60, 20), (80, 26), (131, 40), (300, 90), (20, 5), (1, 1)])
def test_every_view_fills_any_screen_exactly(view: str, size: tuple[int, int]) -> None:
    """Whatever the size, there are as many lines as the screen has, each as wide as the screen."""
    width, height = size
    paper = Paper(width, height, NOW, Zone(utc=True))
    for facts in (bad_night(), quiet_night()):
        lines = draw(facts, State(view=view), paper, NOW).lines
        assert [line.cell_len for line in lines] == [width] * height


def test_wide_names_do_not_push_lines_over_the_edge() -> None:
    """Names of characters two cells wide, or that would steer the terminal, keep lines in their width."""
    rows = (denial(1, 5, "東京サーバー" * 12), denial(2, 4, "bad\x1b[2Jname"))
    lines = draw(replace(bad_night(), denials=rows, events=rows), State(), Paper(80, 26, NOW), NOW).lines
    assert {line.cell_len for line in lines} == {80}
    assert not any("\x1b" in line.plain for line in lines)


def test_ascii_terminals_get_ascii() -> None:
    """A terminal that knows only ASCII gets every bar, rule and mark in it."""
    for view in VIEWS:
        assert all(line.isascii() for line in picture(bad_night(), State(view=view), signs=ASCII))


def test_readable_without_colour() -> None:
    """Without colour the picture has the same characters: each part of a bar and each mark has its own."""
    lines = draw(bad_night(), State(), Paper(80, 26, NOW), NOW).lines
    plain = [line.plain for line in lines]
    console = Console(width=80, no_color=True, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(*lines, sep="\n", soft_wrap=True)
    assert "\x1b[3" not in captured.get(), "no foreground colour is set"
    assert len({UNICODE.used, UNICODE.used_ending, UNICODE.lapsed, UNICODE.free, UNICODE.free_ending}) == 5
    assert Text.from_ansi(captured.get()).plain.split("\n")[:26] == plain


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pool("P", 10, 0), "░░░░░░░░░░"),
        (pool("P", 10, 10), "██████████"),
        (pool("P", 1_000, 999), "█████████░"),
        (pool("P", 1_000, 1), "█░░░░░░░░░"),
        (pool("P", 10, 5, lapsed=2), "█████~~░░░"),
        (pool("P", 10, 5, lapsed=50), "█████~~~~~"),
        (pool("P", 10, 5, expiring_30d=3), "█████░░▒▒▒"),
        (pool("P", 10, 9, expiring_30d=3), "███████▓▓▒"),
        (pool("P", 10, 10, expiring_30d=10), "▓▓▓▓▓▓▓▓▓▓"),
        (pool("P", 0, 0), "----------"),
    ],
)
def test_bars(found: Pool, expected: str) -> None:
    """A bar is full only when the pool is, and whatever there is has at least one cell."""
    assert "".join(text for text, _ in pool_bar(found, 10, UNICODE)) == expected


def test_history_line() -> None:
    """The history is scaled by its highest value; a look that failed is a gap."""
    assert spark([0.0, 1.0, 4.0, None, 8.0], 8.0, UNICODE.sparks) == " ▁▄ █"


def test_sums_of_many_pools_are_not_cut_off_silently() -> None:
    """Where not all pools fit, the line above says how many there are and where the others are."""
    facts = Facts(status(*(pool(f"P{n}", 10, n % 10) for n in range(30))))
    assert "of 30, key 3 shows all" in "\n".join(picture(facts, height=20))
