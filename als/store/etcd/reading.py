"""Reads over a client: many rows in few calls, and the first or last rows of a range.

etcd (3.4, 3.5) walks the index of a whole range for any read in it, and for one in descending order it reads all of the
range's values, whatever the limit. The last rows of a large range are therefore found by halving it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from als.store.etcd.errors import EtcdCompactedError
from als.store.etcd.ops import Compare, KeyValue, Op, RangeResult, TxnResult, get, nested

NESTED_OPS = 60  # a level: two levels and what is around them stay below etcd's 128 along a path
VALUES_PER_CALL_MAX = NESTED_OPS * NESTED_OPS
PROBED_ROWS = 128
NUMBER_BYTES = 9  # of a name, behind what a range's bounds have in common: halving goes by these


class Client(Protocol):
    """What the store needs of a client; als/store/etcd/client.py says what each does and raises."""

    def range(
        self,
        start: bytes,
        stop: bytes | None = None,
        *,
        limit: int = 0,
        descending: bool = False,
        revision: int = 0,
    ) -> RangeResult:
        """Read the rows of a range."""
        ...

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Compare and apply."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


class Page(NamedTuple):
    """The first or the last rows of a range, ascending, and whether they are all of it."""

    rows: list[KeyValue]
    is_all: bool
    revision: int


def values(client: Client, names: Sequence[bytes]) -> dict[bytes, KeyValue | None]:
    """Read rows by name, None for those that are not there; one call for 3,600 of them."""
    found: dict[bytes, KeyValue | None] = dict.fromkeys(names)
    for rows in _read_all(client, [get(name) for name in names]):
        for row in rows:
            found[row.key] = row
    return found


def beginnings(client: Client, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> list[list[KeyValue]]:
    """Read the first rows of each range lo <= name < hi, at most `limit` of each; one call for 3,600 ranges."""
    return list(_read_all(client, [get(lo, hi, limit) for lo, hi in ranges]))


def _read_all(client: Client, gets: Sequence[Op]) -> Iterator[list[KeyValue]]:
    """Make many reads in few calls."""
    for start in range(0, len(gets), VALUES_PER_CALL_MAX):
        part = list(gets[start : start + VALUES_PER_CALL_MAX])
        if len(part) > NESTED_OPS:
            part = [nested((), part[at : at + NESTED_OPS], ()) for at in range(0, len(part), NESTED_OPS)]
        yield from _ranges_of(client.txn((), part))


def _ranges_of(result: TxnResult) -> Iterator[list[KeyValue]]:
    """Give the rows of each read in a transaction, however nested."""
    for response in result.responses:
        if isinstance(response, TxnResult):
            yield from _ranges_of(response)
        elif response is not None:
            yield response


def first_rows(client: Client, lo: bytes, hi: bytes, limit: int, revision: int = 0) -> Page:
    """Read the first rows of lo <= name < hi."""
    found = client.range(lo, hi, limit=limit, revision=revision)
    return Page(found.rows, not found.more, found.revision)


def last_rows(client: Client, lo: bytes, hi: bytes, limit: int, revision: int = 0) -> Page:
    """Read the last rows of lo <= name < hi."""
    try:
        return _last_rows(client, lo, hi, limit, revision)
    except EtcdCompactedError:
        if revision:
            raise
        return _last_rows(client, lo, hi, limit, 0)  # somebody compacted up to the newest revision just then


def _last_rows(client: Client, lo: bytes, hi: bytes, limit: int, revision: int) -> Page:
    """Halve a window at the range's end while it holds more than is cheaply read, then move on to the next.

    Where halving ends, since many names begin alike, etcd has to sort.
    """
    probed = max(limit, PROBED_ROWS)
    page = client.range(lo, hi, limit=probed, revision=revision)
    if not page.more:
        return Page(page.rows[-limit:], len(page.rows) <= limit, page.revision)
    revision = revision or page.revision
    line = _Line(lo, hi)
    low, high, top = line.first, line.last, hi
    found: list[KeyValue] = []
    while len(found) < limit:
        middle = (low + high) // 2
        start = line.name(middle)
        if middle == low:
            start = max(start, lo)
            page = client.range(start, top, limit=limit - len(found), descending=True, revision=revision)
            found = page.rows[::-1] + found
            low, high, top = line.first, low, start
        elif start >= top:
            high = middle
        else:
            page = client.range(start, top, limit=probed, revision=revision)
            if page.more:
                low = middle
            else:
                found = page.rows + found
                high, top = middle, start
    return Page(found[-limit:], False, revision)


class _Line:
    """The names of a range as numbers, so that it can be halved."""

    def __init__(self, lo: bytes, hi: bytes) -> None:
        alike = next((place for place, pair in enumerate(zip(lo, hi, strict=False)) if pair[0] != pair[1]), len(lo))
        self._head = lo[:alike]
        self.first = self._number(lo)
        self.last = self._number(hi) + 1

    def _number(self, name: bytes) -> int:
        rest = name[len(self._head) :][:NUMBER_BYTES]
        return int.from_bytes(rest.ljust(NUMBER_BYTES, b"\0"), "big")

    def name(self, number: int) -> bytes:
        """Give the first name with this number."""
        return self._head + number.to_bytes(NUMBER_BYTES + 1, "big")[1:]
