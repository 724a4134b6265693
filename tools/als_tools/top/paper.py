"""What a picture is drawn on and with: its size, its signs, its zone and its time, and lines of exactly its width.

Every sign tells by itself what its colour repeats. Knows nothing of servers or terminals.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

from als_tools.formats import Zone
from als_tools.views import Level

GOOD, SOON, BAD = Level.GOOD.style, Level.SOON.style, Level.BAD.style
FAINT = Style(dim=True)
STRONG = Style(bold=True)
INVERSE = Style(reverse=True)
PLAIN = Style.null()


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters of bars and lines. `sparks` go from nothing to the most."""

    used: str
    used_ending: str
    lapsed: str
    free_ending: str
    free: str
    sparks: str
    rule: str
    more: str


UNICODE = Signs("█", "▓", "~", "▒", "░", " ▁▂▃▄▅▆▇█", "─", "…")
ASCII = Signs("#", "%", "~", ",", ".", " .:-=+*#@", "-", "~")


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a picture goes: `width` cells by `height` lines. `now` is the server's time, seconds since 1970 UTC."""

    width: int
    height: int
    now: int
    zone: Zone = Zone()  # noqa: RUF009 - immutable
    signs: Signs = UNICODE

    def part(self, width: int | None = None, height: int | None = None) -> "Paper":
        """Give a smaller piece of it."""
        return replace(self, width=width or self.width, height=self.height if height is None else height)

    def halves(self, gap: int) -> "tuple[Paper, Paper]":
        """Give two pieces that stand side by side with a gap between them."""
        left = max(1, (self.width - gap) // 2)
        return self.part(left), self.part(max(1, self.width - gap - left))

    def cut(self, text: str, width: int) -> str:
        """Cut `text` to `width` cells, saying so by a sign at its end."""
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(0, width - 1)) + self.signs.more if width > 0 else ""

    def fit(self, text: str, width: int, right: bool = False) -> str:
        """Cut or fill `text` to exactly `width` cells."""
        shown = self.cut(text, width)
        blanks = " " * (width - cell_len(shown))
        return blanks + shown if right else shown + blanks

    def line(self, *parts: tuple[str, Style]) -> Text:
        """Join parts to one line of exactly the paper's width; what is too long is cut."""
        line = Text(no_wrap=True, end="")
        room = self.width
        for text, style in parts:
            shown = self.cut(text, room)
            line.append(shown, style)
            room -= cell_len(shown)
        line.append(" " * room)
        return line

    def rule(self, title: str, note: str = "") -> Text:
        """Draw a section's heading: its title in a line, a note at the right end of it when there is room."""
        head, tail = f"{self.signs.rule * 2} {title} ", f" {note} {self.signs.rule * 2}" if note else ""
        room = self.width - cell_len(head) - cell_len(tail)
        if room < 1:
            tail, room = "", max(0, self.width - cell_len(head))
        return self.line((head, STRONG), (self.signs.rule * room, FAINT), (tail, FAINT))

    def filled(self, lines: Iterable[Text]) -> list[Text]:
        """Cut or fill lines to exactly the paper's height."""
        found = list(lines)[: self.height]
        return found + [self.line() for _ in range(self.height - len(found))]


def beside(left: list[Text], right: list[Text], gap: int = 2) -> list[Text]:
    """Put two equally high blocks side by side."""
    joined = []
    for one, other in zip(left, right, strict=True):
        line = Text(no_wrap=True, end="")
        joined.append(line.append_text(one).append(" " * gap).append_text(other))
    return joined


def spark(values: Iterable[float | None], top: float, signs: str) -> str:
    """Draw values as a line of bars, the highest being `top`; None is a gap."""
    drawn = []
    for value in values:
        if value is None or top <= 0 or value <= 0:
            drawn.append(signs[0] if value is None or value <= 0 else signs[1])
        else:
            drawn.append(signs[min(len(signs) - 1, max(1, round(value / top * (len(signs) - 1))))])
    return "".join(drawn)
