"""Which rows that others rely on have changed: each server tells it in a row of its own, beside the change itself.

Nearly every request looks at its computer's address, which hardly ever changes, and at a lease, which hardly ever
another server has written meanwhile. So a message need not compare each of these rows: it compares that no server has
told of changes since this one last took them up. Told are all changes of addresses, and those of leases that another
server wrote last. Rows that are entered anew are not told of, since only the sight of a row that is there is trusted.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, NamedTuple

import msgpack

from als.store.etcd.cache import UNKNOWN, Unknown
from als.store.etcd.keys import Keys
from als.store.etcd.marks import MARKED, is_marked, mark_of
from als.store.etcd.ops import Compare, KeyValue, Op, get, put, unchanged_since
from als.store.etcd.parts import Part
from als.store.transaction import Table

STEADY = Table.ADDRESSES
TOTAL_BITS = 62
TOLD_MAX = 4_000  # rows by name, some 50 KB; who has missed more forgets both tables
TOLD_S = 10.0  # for so long a row is told of: every server that serves anybody has looked by then
TOLD_LEAST = 100  # are told of for longer
ROWS_HEAD = b"moved/"  # in META: the servers' rows


class Trust(NamedTuple):
    """What lets a message leave compares out: its own compare and look, and the rows that are compared all the same.

    A row's name has its table's number at `table_at`; a lease is trusted that begins with `mark`. A row that was seen
    to be missing is always compared.
    """

    compare: Compare
    look: Op
    table_at: int
    mark: bytes
    strange: set[bytes]

    def has_to_compare(self, name: bytes, value: bytes) -> bool:
        """Say whether a row that was seen must be compared."""
        table = name[self.table_at]
        if table == STEADY or (table == MARKED and value.startswith(self.mark)):
            return name in self.strange
        return True


class Telling(NamedTuple):
    """What a message tells: the rows by name, the put of this server's row, and the look at all servers' rows."""

    names: list[bytes]
    put: Op
    look: Op


class Moves:
    """What servers tell each other. Of the others' changes those up to `revision` are taken up.

    `mark` is what this server marks its leases with, `heads` are how the names begin of rows told of, `rows` is the
    range of the servers' rows.
    """

    def __init__(self, keys: Keys, server: int) -> None:
        self.mark = mark_of(server)
        self.heads = keys.heads[STEADY], keys.heads[MARKED]
        self.revision = 0
        self._prefix = keys.prefix
        self._own = keys.name(Table.META, ROWS_HEAD + b"%d" % server)
        self._totals: dict[bytes, int] = {}
        self.rows = keys.bounds(Table.META, ROWS_HEAD, ROWS_HEAD[:-1] + bytes((ROWS_HEAD[-1] + 1,)))
        self._total = 0
        self._told: list[tuple[float, bytes]] = []  # when, and the name without the prefix
        self.lose_count()

    # What this server tells.

    def to_tell(self, part: Part, ground: Part | None = None, inserted: Set[bytes] = frozenset()) -> Iterator[bytes]:
        """Give the rows, by name, that a part changes and that other servers may rely on.

        `ground` saw rows for it, too; `inserted` were not there before.
        """
        for name, value in part.writes.items():
            if not name.startswith(self.heads):
                continue
            seen = part.reads.get(name, UNKNOWN if ground is None else ground.reads.get(name, UNKNOWN))
            if isinstance(seen, Unknown):
                if name not in inserted:
                    yield name
            elif seen is not None and seen != value and not self._is_ours(name, seen):
                yield name

    def _is_ours(self, name: bytes, seen: bytes) -> bool:
        """Say whether no other server relies on a lease as it is."""
        return name[len(self._prefix)] == MARKED and (seen.startswith(self.mark) or not is_marked(seen))

    def telling(self, names: Iterable[bytes], now_s: float) -> Telling | None:
        """Give what tells of these rows in a message; None when there are none."""
        own = list(names)
        if not own:
            return None
        told = [*self._recent(now_s), *((now_s, name[len(self._prefix) :]) for name in own)][-TOLD_MAX:]
        row: bytes = msgpack.packb([self._total + len(own), [name for _, name in told]])
        return Telling(own, put(self._own, row), self.look)

    def told(self, telling: Telling, now_s: float) -> None:
        """Take over that a message was written."""
        news = [(now_s, name[len(self._prefix) :]) for name in telling.names]
        self._told = [*self._recent(now_s), *news][-TOLD_MAX:]
        self._total += len(news)

    def lose_count(self) -> None:
        """Not know what the own row is: whoever reads what comes next finds that he has missed some."""
        self._total = secrets.randbits(TOTAL_BITS)
        self._told.clear()

    def _recent(self, now_s: float) -> list[tuple[float, bytes]]:
        old = next((at for at, (told_s, _) in enumerate(self._told) if now_s - told_s < TOLD_S), len(self._told))
        return self._told[min(old, max(len(self._told) - TOLD_LEAST, 0)) :]

    # What the others tell.

    @property
    def look(self) -> Op:
        """Give what reads all servers' rows."""
        return get(*self.rows)

    def trust(self) -> Trust:
        """Trust what was seen since the last changes were taken up."""
        compare = unchanged_since(*self.rows, self.revision)
        return Trust(compare, self.look, len(self._prefix), self.mark, set())

    def take_up(self, rows: Sequence[KeyValue]) -> set[bytes] | None:
        """Take up the servers' rows; give the names of what others have changed, None when any may have."""
        names: set[bytes] = set()
        has_missed = False
        for row in rows:
            if row.key == self._own or row.mod_revision <= self.revision:
                continue
            total, told = _unpack(row.value)
            new = total - self._totals.get(row.key, 0)
            self._totals[row.key] = total
            names.update(self._prefix + key for key in told[max(len(told) - new, 0) :])
            has_missed |= not 0 <= new <= len(told)
        self.revision = max([self.revision, *(row.mod_revision for row in rows)])
        return None if has_missed else names


def _unpack(raw: bytes) -> tuple[int, list[bytes]]:
    """Give how many changes were told in all, and the last of them."""
    row: list[Any] = msgpack.unpackb(raw)
    return row[0], row[1]
