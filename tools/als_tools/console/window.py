"""Which pages of a long listing a table holds: some neighboring ones, however far one scrolls.

Pure. At either end the window moves on by all but one page, which both positions share, so that the rows on the screen
stay where they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from als_tools.columns import Row

PAGES_MAX = 10  # 2,000 rows take some 10 MB in a table


@dataclass(frozen=True, slots=True)
class Window:
    """The `pages` from number `first` on, each of `page_rows` rows, the last one perhaps of fewer."""

    page_rows: int
    first: int = 0
    pages: tuple[Sequence[Row], ...] = ()

    @property
    def last(self) -> int:
        """The number of the page after the last."""
        return self.first + len(self.pages)

    @property
    def rows(self) -> list[Row]:
        """All rows of its pages."""
        return [row for page in self.pages for row in page]

    @property
    def start(self) -> int:
        """How many rows of the listing come before its first one."""
        return self.first * self.page_rows

    def onward(self) -> tuple[int, int]:
        """Say from which page up to which it should go when one comes to its end."""
        first = self.first if len(self.pages) < PAGES_MAX else self.last - 1
        return first, self.last + 1

    def backward(self) -> tuple[int, int]:
        """Say from which page up to which it should go when one comes to its beginning."""
        return max(0, self.first + 1 - PAGES_MAX), self.first + 1
