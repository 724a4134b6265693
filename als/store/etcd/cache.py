"""What a server believes of etcd's rows: values by name, and ranges of names in which it knows every row.

It may be wrong, since other servers write too: a transaction has etcd compare what it took from here. Makes no call.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from als.store.etcd.keys import Keys

CACHED_MAX = 200_000  # values; some 60 MB, and the leases and addresses of 100,000 computers
RANGES_MAX = 64  # of a table; the sweep asks for two a product
NAMES_MAX = 256  # of a range, halved when there are more: the newest events gather here


class Unknown:
    """Stands for a value that is not known; None is a row that is known not to be there."""


UNKNOWN = Unknown()


class Known:
    """A range of names, lo <= name < hi, with all rows in it, ascending. `from_end`: asked for from its end."""

    __slots__ = ("from_end", "hi", "lo", "names")

    def __init__(self, lo: bytes, hi: bytes, names: list[bytes], from_end: bool) -> None:
        self.lo = lo
        self.hi = hi
        self.names = names
        self.from_end = from_end

    def put(self, name: bytes) -> None:
        """Enter a row of the range."""
        place = bisect_left(self.names, name)
        if place < len(self.names) and self.names[place] == name:
            return
        self.names.insert(place, name)
        if len(self.names) > NAMES_MAX:
            self._halve()

    def drop(self, name: bytes) -> None:
        """Take a row out of the range."""
        place = bisect_left(self.names, name)
        if place < len(self.names) and self.names[place] == name:
            del self.names[place]

    def _halve(self) -> None:
        """Know less: the half that is asked for."""
        half = NAMES_MAX // 2
        if self.from_end:
            del self.names[:-half]
            self.lo = self.names[0]
        else:
            del self.names[half:]
            self.hi = after(self.names[-1])


class Cache:
    """Values in two generations: what is not asked for while the younger one, `young`, fills up is forgotten."""

    def __init__(self, keys: Keys, cached_max: int = CACHED_MAX) -> None:
        self._keys = keys
        self._generation_max = max(1, cached_max // 2)
        self.young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}
        self._ranges: dict[int, list[Known]] = {}

    def get(self, name: bytes) -> bytes | Unknown | None:
        """Give a row's value, None when there is no such row, UNKNOWN when nobody has looked."""
        value = self.young.get(name, UNKNOWN)
        if value is UNKNOWN:
            value = self._old.pop(name, UNKNOWN)
            if not isinstance(value, Unknown):
                self.set(name, value)
        return value

    def set(self, name: bytes, value: bytes | None) -> None:
        """Believe a value, None: no such row."""
        self.young[name] = value
        self._age()

    def _age(self) -> None:
        if len(self.young) > self._generation_max:
            self._old, self.young = self.young, {}

    def change(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Take over rows as they are by now, in the ranges around them too; None: not there."""
        young, ranges = self.young, self._ranges
        at = self._keys.table_at
        for name, value in rows.items():
            young[name] = value
            if name[at] in ranges:
                for known in ranges[name[at]]:
                    if known.lo <= name < known.hi:
                        if value is None:
                            known.drop(name)
                        else:
                            known.put(name)
        self._age()

    def forget(self, names: Iterable[bytes]) -> None:
        """Know nothing of these rows any more."""
        for name in names:
            self.young.pop(name, None)
            self._old.pop(name, None)

    def forget_all(self, heads: tuple[bytes, ...]) -> None:
        """Know nothing any more of the rows whose names begin so."""
        self.forget([name for known in (self.young, self._old) for name in known if name.startswith(heads)])

    def known_at(self, lo: bytes, hi: bytes, reverse: bool) -> Known | None:
        """Give the known range that a scan of [lo, hi) begins in: at `lo`, or for a reverse one at its end."""
        for known in self._ranges.get(lo[self._keys.table_at], ()):
            if (known.lo < hi <= known.hi) if reverse else (known.lo <= lo < known.hi):
                return known
        return None

    def learn(self, lo: bytes, hi: bytes, names: Sequence[bytes], reverse: bool) -> Known:
        """Believe that a range has these rows, ascending, and no others; ranges that meet it are replaced."""
        table = lo[self._keys.table_at]
        kept = [known for known in self._ranges.get(table, ()) if known.hi <= lo or hi <= known.lo]
        made = Known(lo, hi, list(names), reverse)
        self._ranges[table] = [*kept[-RANGES_MAX + 1 :], made]
        return made

    def forget_range(self, lo: bytes, hi: bytes) -> None:
        """Know nothing any more of which rows are in [lo, hi)."""
        table = lo[self._keys.table_at]
        found = self._ranges.get(table)
        if found:
            self._ranges[table] = [known for known in found if known.hi <= lo or hi <= known.lo]

    def clear(self) -> None:
        """Know nothing."""
        self.young.clear()
        self._old.clear()
        self._ranges.clear()


def after(name: bytes) -> bytes:
    """Give the next name."""
    return name + b"\0"
