"""The bar of a pool: which of its seats are used, used on a serial that soon ends, lapsed, free, free and soon ending.

Seats are drawn in the order in which the server gives them out: those that end last first, so what soon ends is at the
end of the bar. Every part has its own sign; the colour repeats it.
"""

from rich.style import Style

from als_tools.snapshot import Pool
from als_tools.top.paper import BAD, FAINT, GOOD, SOON, Paper, Signs
from als_tools.views import ALMOST_FULL

LAPSED = Style(color="cyan")


def pool_bar(pool: Pool, width: int, signs: Signs) -> list[tuple[str, Style]]:
    """Draw a pool in exactly `width` cells; what there is has at least a cell, only what is full looks full."""
    if pool.total <= 0 or width <= 0:
        return [("-" * max(0, width), FAINT)]
    used = _cells(pool.used, pool.total, width)
    room = width - used
    lapsed = _cells(min(pool.lapsed, pool.free), pool.total, width) if room else 0
    lapsed = min(lapsed, room - (1 if pool.free > pool.lapsed else 0))
    ending = _cells(min(pool.expiring_30d, pool.total), pool.total, width)
    quiet = width - ending
    used_style = fullness_style(pool)
    parts = [
        (signs.used * min(used, quiet), used_style),
        (signs.used_ending * (used - min(used, quiet)), SOON),
        (signs.lapsed * lapsed, LAPSED),
        (signs.free * max(0, quiet - used - lapsed), FAINT),
    ]
    drawn = sum(len(text) for text, _ in parts)
    parts.append((signs.free_ending * (width - drawn), SOON))
    return [(text, style) for text, style in parts if text]


def _cells(part: int, total: int, width: int) -> int:
    """Give a part its cells: none only for nothing, all only for everything."""
    if part <= 0:
        return 0
    return width if part >= total else min(width - 1, max(1, round(part * width / total)))


def fullness_style(pool: Pool) -> Style:
    """Give the colour that says how full a pool is."""
    if not pool.free:
        return BAD
    return SOON if pool.used >= ALMOST_FULL * pool.total else GOOD


def legend(paper: Paper) -> list[tuple[str, Style]]:
    """Explain signs and colours in one line, shorter where the paper is narrow."""
    signs = paper.signs
    if paper.width >= 78:
        ends = "ends <30 d"
        bars = [
            (signs.used, GOOD, "used"),
            (signs.used_ending, SOON, f"used, {ends}"),
            (signs.lapsed, LAPSED, "lapsed"),
        ]
        bars += [(signs.free, FAINT, "free"), (signs.free_ending, SOON, f"free, {ends}")]
    else:
        ending = signs.used_ending + signs.free_ending
        bars = [(signs.used, GOOD, "used"), (ending, SOON, "ends <30 d"), (signs.lapsed, LAPSED, "lapsed")]
        bars += [(signs.free, FAINT, "free")]
    marks = [("!!", BAD, "now"), ("!", SOON, "soon")] + ([("ok", GOOD, "")] if paper.width >= 78 else [])
    parts: list[tuple[str, Style]] = []
    for sign, style, words in [*bars, *marks]:
        parts += [(f" {sign}", style), (f" {words}" if words else "", FAINT)]
    return parts
