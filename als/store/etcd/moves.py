"""Which rows of a steady table have changed: each server tells it in a row of its own, beside the change itself.

Nearly every request looks at its computer's address, which hardly ever changes. So a message need not compare each of
these rows: it compares that no server has told of changes since this one last took them up. Rows that are entered anew
are not told of, since only the sight of a row that is there is trusted.
"""

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from als.store.etcd.keys import Keys
from als.store.etcd.ops import Compare, KeyValue, Op, get, unchanged_since
from als.store.transaction import Table

STEADY = Table.ADDRESSES
TOTAL_BITS = 62
TOLD_MAX = 100  # rows by name; who has missed more forgets the whole table
ROWS_HEAD = b"moved/"  # in META: the servers' rows


class Trust(NamedTuple):
    """What lets a message leave compares out: its own compare and look, and the rows that are compared all the same.

    A steady row's name has the table's number at `table_at`; a row that was seen to be missing is always compared.
    """

    compare: Compare
    look: Op
    table_at: int
    strange: set[bytes]


def row_after(raw: bytes | None, changed: Sequence[bytes]) -> bytes:
    """Give a server's row once it has told of more rows (their keys in the table)."""
    total, told = _unpack(raw)
    packed: bytes = msgpack.packb([total + len(changed), [*told, *changed][-TOLD_MAX:]])
    return packed


def row_unknown() -> bytes:
    """Give a row in place of one that is not known: whoever reads what comes after it finds that he has missed some."""
    packed: bytes = msgpack.packb([secrets.randbits(TOTAL_BITS), []])
    return packed


def _unpack(raw: bytes | None) -> tuple[int, list[bytes]]:
    """Give how many changes were told in all, and the last of them."""
    if raw is None:
        return 0, []
    row: list[Any] = msgpack.unpackb(raw)
    return row[0], row[1]


class Moves:
    """What this server knows of all servers' changes: those up to `revision` are taken up. `key` is its row in META."""

    def __init__(self, keys: Keys, server: int) -> None:
        self.key = ROWS_HEAD + b"%d" % server
        self.head = keys.heads[STEADY]
        self.revision = 0
        self._totals: dict[bytes, int] = {}
        self._lo = keys.name(Table.META, ROWS_HEAD)
        self._hi = keys.name(Table.META, ROWS_HEAD[:-1] + bytes((ROWS_HEAD[-1] + 1,)))

    def trust(self) -> Trust:
        """Trust what was seen since the last changes were taken up."""
        compare = unchanged_since(self._lo, self._hi, self.revision)
        return Trust(compare, get(self._lo, self._hi), len(self.head) - 1, set())

    def take_up(self, rows: Sequence[KeyValue]) -> set[bytes] | None:
        """Take up the servers' rows; give the names of what has changed, None when any may have."""
        names: set[bytes] = set()
        has_missed = False
        for row in rows:
            total, told = _unpack(row.value)
            new = total - self._totals.get(row.key, 0)
            self._totals[row.key] = total
            names.update(self.head + key for key in told[max(len(told) - new, 0) :])
            has_missed |= not 0 <= new <= len(told)
        self.revision = max([self.revision, *(row.mod_revision for row in rows)])
        return None if has_missed else names
