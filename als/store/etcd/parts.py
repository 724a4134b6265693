"""What a part of a transaction has seen of etcd's rows, and what it writes. Knows no etcd."""

from collections.abc import Mapping
from typing import NamedTuple

OUTSIDE = -1  # the place of what belongs to no unit

Span = tuple[bytes, bytes]
_ROW_BYTES = 16  # around a name and a value in a message
_NO_SPANS: Mapping[Span, tuple[bytes, ...]] = {}  # most parts have none


class Whole(NamedTuple):
    """A range lo <= name < hi of many rows, all that were there at a revision."""

    lo: bytes
    hi: bytes
    rows: dict[bytes, bytes]
    revision: int


class Part:
    """Values that were read (None: no such row), ranges with all names in them, and new values (None: deleted).

    `is_broken`: it has seen one thing in two ways, so it cannot be right. `is_merged`: it is in another one.
    """

    __slots__ = ("is_broken", "is_merged", "places", "reads", "spans", "wholes", "writes")

    def __init__(self, *places: int) -> None:
        self.places: tuple[int, ...] = places
        self.reads: dict[bytes, bytes | None] = {}
        self.writes: dict[bytes, bytes | None] = {}
        self.spans = _NO_SPANS
        self.wholes: tuple[Whole, ...] = ()
        self.is_broken = False
        self.is_merged = False

    def __bool__(self) -> bool:
        """Say whether anything was read or written."""
        return bool(self.reads or self.writes or self.spans or self.wholes)

    def see(self, name: bytes, value: bytes | None) -> None:
        """Note a row that was read."""
        if self.reads.setdefault(name, value) != value:
            self.is_broken = True

    def see_span(self, span: Span, names: tuple[bytes, ...]) -> None:
        """Note a range that was read."""
        known = self.spans.get(span)
        if known is None:
            self.spans = {**self.spans, span: names}
        elif known != names:
            self.is_broken = True

    def take_in(self, later: "Part") -> None:
        """Make another part one with this one; where both write a row, it is the later."""
        self.places += later.places
        for name, value in later.reads.items():
            self.see(name, value)
        for span, names in later.spans.items():
            self.see_span(span, names)
        self.wholes += later.wholes
        self.writes.update(later.writes)
        self.is_broken |= later.is_broken
        later.is_merged = True

    def size_bytes(self) -> int:
        """Count, about, the bytes of a message for this part."""
        rows: list[Mapping[bytes, bytes | None]] = [self.reads, self.writes, *(whole.rows for whole in self.wholes)]
        size = 0
        for few in rows:
            size += _ROW_BYTES * len(few) + sum(map(len, few)) + sum(map(len, filter(None, few.values())))
        for (lo, hi), names in self.spans.items():
            size += _ROW_BYTES * (len(names) + 1) + len(lo) + len(hi) + 2 * sum(map(len, names))  # the gaps between
        return size

    def compares(self) -> int:
        """Count, from above, what etcd has to compare for this part."""
        return (
            len(self.reads)
            + sum(len(names) + 1 for names in self.spans.values())
            + sum(len(whole.rows) + 1 for whole in self.wholes)
        )
