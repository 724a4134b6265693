"""What a server sees of etcd's rows: from its cache where it believes to know, else from etcd.

Nothing here is certain: a transaction has etcd compare all it saw.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from als.store.etcd import reading
from als.store.etcd.cache import CACHED_MAX, Cache, Known, Unknown, after
from als.store.etcd.errors import EtcdCompactedError, EtcdError, EtcdFullError, EtcdUnavailableError
from als.store.etcd.keys import Keys
from als.store.etcd.ops import KeyValue
from als.store.etcd.parts import Part
from als.store.etcd.reading import Client, Page
from als.store.etcd.transaction import Look
from als.store.transaction import StoreError, StoreUnavailableError

SMALL_ROWS = 60  # of a range: what has more is not kept in mind
FULL_RETRY_AFTER_S = 10


class ForgottenError(StoreUnavailableError):
    """What was looked at as of an earlier revision is kept no longer, since somebody compacted: look anew."""


@contextmanager
def told() -> Iterator[None]:
    """Raise etcd's errors as the store's."""
    try:
        yield
    except EtcdUnavailableError as error:
        raise StoreUnavailableError(str(error)) from error
    except EtcdFullError as error:
        raise StoreUnavailableError(str(error), FULL_RETRY_AFTER_S) from error
    except EtcdCompactedError as error:
        raise ForgottenError(str(error)) from error
    except EtcdError as error:
        raise StoreError(str(error)) from error


class EtcdView:
    """Rows as this server believes them to be. Raises StoreUnavailableError, StoreError where it has to ask."""

    def __init__(self, client: Client, keys: Keys, cached_max: int = CACHED_MAX) -> None:
        self.keys = keys
        self.cache = Cache(keys, cached_max)
        self._client = client

    def value(self, name: bytes) -> bytes | None:
        """Give a row's value, None when there is no such row."""
        value = self.cache.get(name)
        if not isinstance(value, Unknown):
            return value
        with told():
            rows = self._client.range(name).rows
        found = rows[0].value if rows else None
        self.cache.change({name: found})
        return found

    def look(self, lo: bytes, hi: bytes, wanted: int, reverse: bool) -> Look:
        """Give the first rows of lo <= name < hi, or the last; `wanted` of them unless there are fewer."""
        known = self.cache.known_at(lo, hi, reverse)
        if known is None:
            return self._ask(lo, hi, wanted, reverse)
        inside = known.names[bisect_left(known.names, lo) : bisect_left(known.names, hi)]
        is_all = known.lo <= lo and hi <= known.hi
        if not is_all and len(inside) < wanted:
            page = self._beyond(known, lo, hi, wanted - len(inside), reverse)
            if len(page.rows) > SMALL_ROWS:
                return self._ask(lo, hi, wanted, reverse)
            more = self._keep(page.rows)
            if reverse:
                start = lo if page.is_all else more[0]
                self.cache.learn(start, known.hi, [*more, *known.names], reverse)
                inside = [*more, *inside]
            else:
                end = hi if page.is_all else after(more[-1])
                self.cache.learn(known.lo, end, [*known.names, *more], reverse)
                inside = [*inside, *more]
            is_all = page.is_all
        if len(inside) > wanted:
            return Look(inside[-wanted:] if reverse else inside[:wanted], False)
        return Look(inside, is_all)

    def doubt(self, lo: bytes, hi: bytes) -> None:
        """Look at a range anew the next time."""
        self.cache.forget_range(lo, hi)

    def learn(self, names: Iterable[bytes]) -> None:
        """Read the rows that are not known, in as few calls as possible."""
        self.read_again([name for name in dict.fromkeys(names) if isinstance(self.cache.get(name), Unknown)])

    def look_ahead(self, ranges: Iterable[tuple[bytes, bytes]], limit: int) -> None:
        """Read what is not known of ranges from their beginnings on, up to `limit` rows of each, in few calls."""
        gaps: list[tuple[Known | None, bytes, bytes]] = []
        for lo, hi in ranges:
            known = self.cache.known_at(lo, hi, reverse=False)
            if known is None or known.hi < hi:
                gaps.append((known, lo if known is None else known.hi, hi))
        if not gaps:
            return
        with told():
            found = reading.beginnings(self._client, [(lo, hi) for _, lo, hi in gaps], limit)
        for (known, lo, hi), rows in zip(gaps, found, strict=True):
            names = [] if known is None else known.names
            names = [*names, *self._keep(rows)]
            end = hi if len(rows) < limit else after(names[-1])
            self.cache.learn(lo if known is None else known.lo, end, names, reverse=False)

    def read_again(self, names: list[bytes]) -> None:
        """Read rows, whatever is known of them."""
        with told():
            found = reading.values(self._client, names)
        self.cache.change({name: None if row is None else row.value for name, row in found.items()})

    def forget(self, part: Part) -> None:
        """Know nothing any more of what a part saw or writes."""
        self.cache.forget(part.reads)
        self.cache.forget(part.writes)
        for lo, hi in part.spans:
            self.cache.forget_range(lo, hi)

    def _ask(self, lo: bytes, hi: bytes, wanted: int, reverse: bool) -> Look:
        """Read a range, and keep it in mind when it is small."""
        with told():
            page = (reading.last_rows if reverse else reading.first_rows)(self._client, lo, hi, wanted)
        if len(page.rows) > SMALL_ROWS:
            rows = {row.key: row.value for row in page.rows}
            return Look(list(rows), page.is_all, rows, page.revision)
        names = self._keep(page.rows)
        if not page.is_all:
            lo, hi = (names[0], hi) if reverse else (lo, after(names[-1]))
        self.cache.learn(lo, hi, names, reverse)
        return Look(names, page.is_all)

    def _beyond(self, known: Known, lo: bytes, hi: bytes, wanted: int, reverse: bool) -> Page:
        """Read what comes behind a known range, or before it."""
        with told():
            if reverse:
                return reading.last_rows(self._client, lo, known.lo, wanted)
            return reading.first_rows(self._client, known.hi, hi, wanted)

    def _keep(self, rows: Sequence[KeyValue]) -> list[bytes]:
        for row in rows:
            self.cache.set(row.key, row.value)
        return [row.key for row in rows]
