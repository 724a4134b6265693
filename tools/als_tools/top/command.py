"""The command `als top`: from its options to a dashboard on the terminal, or one picture where there is none."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from als import clock
from als_tools import connection, output
from als_tools.formats import Zone
from als_tools.options import Access, ServerArgument
from als_tools.top.dashboard import Dashboard
from als_tools.top.facts import Facts
from als_tools.top.feed import Feed
from als_tools.top.fetch import Fetcher
from als_tools.top.paper import ASCII, UNICODE, Paper
from als_tools.top.picture import draw
from als_tools.top.state import INTERVAL_S_DEFAULT, State
from als_tools.top.terminal import Terminal

ANSWER_S_MAX = 3.0  # a server that is gone must show within seconds, whatever --timeout is
PAPER_SIZE = (100, 40)  # of the one picture, where there is no terminal


def top(
    access: Access,
    server: ServerArgument = None,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=3_600, help="How often to look at the server.")
    ] = INTERVAL_S_DEFAULT,
    once: Annotated[
        bool,
        typer.Option("--once", help="Print one picture and end, as is done where stdout is no terminal."),
    ] = False,
    utc: Annotated[bool, typer.Option("--utc", help="Times in UTC instead of this computer's zone.")] = False,
) -> None:
    """Watch a server live: what is wrong, pools, traffic, denials, events, who holds what. Press ? for the keys."""
    console, state = output.screen(), State(interval_s=interval)
    with ExitStack() as stack:
        link = stack.enter_context(connection.connect(server, access))
        link = replace(link, timeout_s=min(link.timeout_s, ANSWER_S_MAX))
        fetcher = Fetcher(link.ask, link.address, link.server.fingerprint)
        first = fetcher.fetch(state.wish)
        if once or not sys.stdout.isatty() or console.is_dumb_terminal:
            _print(console, first, state, Zone(utc))
        else:
            _watch(console, fetcher, first, state, Zone(utc), stack)


def _print(console: Console, facts: Facts, state: State, zone: Zone) -> None:
    """Print one picture, as big as the terminal or the sizes of the environment say."""
    width, height = console.size
    if width >= output.ENDLESS_COLUMNS:
        width, height = PAPER_SIZE
    signs = ASCII if console.options.ascii_only else UNICODE
    paper = Paper(width, height - 1, facts.status.now, zone, signs)
    for line in draw(facts, state, paper, clock.wall_s()).lines:
        line.rstrip()
        console.print(line, end="\n", soft_wrap=True)


def _watch(console: Console, fetcher: Fetcher, first: Facts, state: State, zone: Zone, stack: ExitStack) -> None:
    """Show the dashboard until the person quits. `stack` closes the connection, unless its thread still uses it."""
    signs = ASCII if console.options.ascii_only else UNICODE
    with Terminal(console) as terminal:
        feed = Feed(fetcher, first, state.wish, terminal.waker.wake)
        try:
            Dashboard(terminal, first, state, zone, signs).run(feed)
        finally:
            if not feed.stop():
                stack.pop_all()  # the thread waits for a silent server: the connection ends with the process
