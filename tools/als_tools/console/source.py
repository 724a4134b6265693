"""The rows behind a table: given a page at a time, in any order, narrowed by a text, fetched only as far as needed.

In the server's order a page is what the server sends next. A sort has to see every row first; it keeps them in
temporary files, not in memory (als_tools/sorting.py). All of it runs in the line's thread.
"""

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgpack

from als_tools import rows
from als_tools.columns import Listing, Row
from als_tools.formats import Zone
from als_tools.rows import Ask

PAGE_ROWS = 200  # some screens full; a page of the wire is five of them

Open = Callable[[Ask], Iterable[Row]]
"""Begins to read a listing, in its own order."""


@dataclass(frozen=True, slots=True)
class Order:
    """How rows are put: by the column with the key `sort` (None: as they come), `reverse` from the greatest down."""

    sort: str | None = None
    reverse: bool = False

    def by(self, key: str) -> "Order":
        """Give the order after a click on a column's head: by it, downwards, and then as they come again."""
        if self.sort != key:
            return Order(key)
        return replace(self, reverse=True) if not self.reverse else Order()


class StoppedError(Exception):
    """Nobody wants the rows any more."""


class Source:
    """One way through a listing, from its first row. `text` keeps rows that have it in any column.

    Pages that were read are kept in a temporary file, so that one can go back without holding all of them; it goes
    with the source.
    """

    def __init__(
        self, open_rows: Open, listing: Listing, order: Order, text: str, zone: Zone, page_rows: int = PAGE_ROWS
    ) -> None:
        self.listing, self.order, self.page_rows = listing, order, page_rows
        self.is_at_end = False
        self.seen = self.read = 0
        self._open, self._text, self._zone = open_rows, text.casefold(), zone
        self._stopped = threading.Event()
        self._rows: Iterator[Row] | None = None
        self._file = tempfile.TemporaryFile(prefix="als-rows-")  # noqa: SIM115 - closed with the source
        weakref.finalize(self, self._file.close)
        self._offsets = [0]

    def pages(self, ask: Ask, first: int, last: int) -> list[list[Row]]:
        """Give the pages from number `first` up to `last`, fewer where the rows end before.

        Raises what `ask` raises, StoppedError after `stop`.
        """
        found = []
        for number in range(first, last):
            if number == len(self._offsets) - 1 and not self.is_at_end:
                self._read_page(ask)
            if number < len(self._offsets) - 1:
                found.append(self._kept(number))
        return found

    def _read_page(self, ask: Ask) -> None:
        if self._rows is None:
            self._rows = self._begin(ask)
        found = list(islice(self._rows, self.page_rows))
        self.is_at_end = len(found) < self.page_rows
        if found:
            self.read += len(found)
            self._file.seek(self._offsets[-1])
            self._file.write(msgpack.packb([dict(row) for row in found]))
            self._offsets.append(self._file.tell())

    def _kept(self, number: int) -> list[Row]:
        self._file.seek(self._offsets[number])
        raw = self._file.read(self._offsets[number + 1] - self._offsets[number])
        rows: list[Row] = msgpack.unpackb(raw, strict_map_key=False)
        return rows

    def stop(self) -> None:
        """End the work under way soon, whatever it is."""
        self._stopped.set()

    def _begin(self, ask: Ask) -> Iterator[Row]:
        def checked(operation: str, **fields: Any) -> dict[str, Any]:
            if self._stopped.is_set():
                raise StoppedError
            return ask(operation, **fields)

        found = rows.filtered(self._counted(self._open(checked)), self._has_text if self._text else None)
        return iter(rows.arranged(found, self.listing, self.order.sort, self.order.reverse, None))

    def _counted(self, found: Iterable[Row]) -> Iterator[Row]:
        for row in found:
            self.seen += 1
            yield row

    def _has_text(self, row: Row) -> bool:
        return any(self._text in column.text(row, self._zone).casefold() for column in self.listing.columns)
