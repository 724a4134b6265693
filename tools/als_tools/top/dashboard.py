"""The dashboard's loop: draw, wait for a key or for facts, take them in, again.

The one place where facts, state and terminal meet; it decides nothing by itself.
"""

from collections.abc import Callable
from dataclasses import replace

from als import clock
from als_tools.formats import Zone
from als_tools.top.facts import Facts, Wish
from als_tools.top.feed import Feed
from als_tools.top.paper import Paper, Signs
from als_tools.top.picture import Picture, draw
from als_tools.top.state import State, press
from als_tools.top.terminal import Terminal

REDRAW_S = 1.0  # for how long the server has been away goes on by itself

MakeFeed = Callable[[Wish, Callable[[], None]], Feed]


class Dashboard:
    """Shows the facts that come from `feed` until the person quits."""

    def __init__(self, terminal: Terminal, first: Facts, state: State, zone: Zone, signs: Signs) -> None:
        self._terminal, self._zone, self._signs = terminal, zone, signs
        self._state = state
        self._newest = self._shown = first

    def run(self, feed: Feed) -> None:
        """Draw and obey. Raises what the feed's thread died of."""
        while not self._state.is_over:
            picture = self._draw()
            for key in self._terminal.wait(REDRAW_S):
                self._press(key, picture, feed)
            facts = feed.newest()
            if facts is not None:
                self._newest = facts
            self._shown = self._frozen() if self._state.is_paused else self._newest

    def _frozen(self) -> Facts:
        """Keep what was shown when the pause began; that the server is away is told all the same."""
        return replace(self._shown, loss=self._newest.loss)

    def _press(self, key: str, picture: Picture, feed: Feed) -> None:
        before = self._state
        self._state = press(before, key, picture.extent)
        if self._state.wish != before.wish:
            feed.want(self._state.wish)

    def _draw(self) -> Picture:
        width, height = self._terminal.size
        paper = Paper(width, height, self._shown.status.now, self._zone, self._signs)
        picture = draw(self._shown, self._state, paper, clock.wall_s())
        self._terminal.draw(picture.lines)
        return picture
