"""Textual's table with its rows drawn as wide as they are, whoever adds them and when."""

from collections.abc import Iterable
from typing import Any

from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable


class Table(DataTable[Text]):
    """A table of rows, chosen as a whole.

    A screen that is painted between the adding of rows and the next idle moment draws them in the widths from before,
    and textual 8 keeps those lines until a cell changes. Writing a cell as it is counts as a change.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, **options)

    def add_lines(self, rows: Iterable[Iterable[Text]]) -> None:
        """Add rows at the end."""
        self.add_rows(rows)
        self.call_after_refresh(self._draw_anew)

    def _draw_anew(self) -> None:
        if self.row_count:
            first = Coordinate(0, 0)
            self.update_cell_at(first, self.get_cell_at(first))
