"""Imports beside many other requests: a few of their serials in each turn, and one reply at the end.

A serial takes as long as thirty renewals, most of it for its signature, and an import has up to twenty: whoever came in
the same turn would wait for longer than for all else in it. Each serial is imported by itself, so an import that a
crash ends has imported some of them, as one whose reply was lost; it can be sent again.
"""

from collections.abc import Callable
from typing import Any

from als.protocol import Refusal, Request
from als.server.letters import Letter

SERIALS_PER_TURN = 2  # of all imports in it, some half a millisecond
FEW = 16  # requests in a turn, of which nobody is held up much
UNDER_WAY_MAX = 1_000  # imports

Answer = dict[str, Any] | Refusal


class Portions:
    """How far imports are. Changed only by `begin`, with what the turn before has committed."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[Letter, dict[str, Any]]] = {}  # by the letter's identity; it is kept meanwhile
        self._now: dict[int, tuple[Letter, dict[str, Any] | None]] = {}  # the same in this turn; None: it is done
        self._left: int | None = None

    def __len__(self) -> int:
        """How many imports are under way."""
        return len(self._begun)

    def begin(self, requests: int) -> None:
        """Begin a turn with so many requests, or begin it once more."""
        self._now = {}
        self._left = SERIALS_PER_TURN if requests > FEW else None

    def committed(self) -> None:
        """Take over what the turn has done."""
        for place, (letter, answer) in self._now.items():
            if answer is None:
                self._begun.pop(place, None)
            else:
                if len(self._begun) >= UNDER_WAY_MAX:  # their letters went astray
                    self._begun.clear()
                self._begun[place] = letter, answer
        self._now = {}

    def go_on(self, letter: Letter, request: Request, decide: Callable[[Request], Answer]) -> Answer | None:
        """Import as many of a request's serials as this turn has time for; give the answer once all are done."""
        place = id(letter)
        _, so_far = self._begun.get(place, (letter, _NOTHING))
        serials, first = request["serials"], len(so_far["rows"])
        stop = len(serials) if self._left is None else min(first + self._left, len(serials))
        if stop > first:
            answer = decide({**request, "serials": serials[first:stop]})
            if isinstance(answer, Refusal):
                self._now[place] = letter, None
                return answer
            so_far = _together(so_far, answer)
        if self._left is not None:
            self._left -= stop - first
        is_done = stop == len(serials)
        self._now[place] = letter, None if is_done else so_far
        return so_far if is_done else None


_NOTHING: dict[str, Any] = {"rows": [], "added": 0, "licenses_added": 0}


def _together(before: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Add the answer of a portion to that of those before."""
    first = len(before["rows"])
    rows = before["rows"] + [{**row, "line": first + row["line"]} for row in answer["rows"]]
    return {"rows": rows} | {key: before[key] + answer[key] for key in before if key != "rows"}
