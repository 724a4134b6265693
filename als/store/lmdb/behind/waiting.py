"""Rows that change all over a table: durable at once in a log, entered in their table later, in order of keys.

LMDB writes a page of 4 KiB for each row that changes somewhere in a table, however small the row. The leases that a
commit renews, and its addresses, are therefore appended together to a log of their table, a few pages for a thousand of
them, and kept in memory, where reads find them. Once many have gathered they are entered in the order of their keys, a
slice a commit, so that neighbors share a page; then their part of the log is deleted. What is in the log and not yet in
the table is read from the log at the next start. Knows nothing of what the rows mean.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from als.store.lmdb.behind.ascending import Ascending
from als.store.lmdb.behind.log import Log
from als.store.transaction import Rows, Table

# New leases come in ascending order, so they share pages in their table: only those that are replaced wait in a log.
# New addresses come in no order, so they wait too, and whoever lists their table has to look among those that wait.
LOGS = {Table.BEHIND: Table.LEASES, Table.BEHIND_ADDRESSES: Table.ADDRESSES, Table.BEHIND_STAMPS: Table.STAMPS}
NEW_ONES_WAIT = (Table.ADDRESSES,)
GATHERED_ROWS = 32_768  # rows before they are entered: several of them then share a page; 8 MiB of memory a table
SLICE_ROWS_LEAST = 256  # entering fewer at a time would not share pages
# Once so many rows have gathered their keys are sorted, a step for each commit and one more for each SORTED_ROWS in it,
# which takes as long as some 2,000 rows take to come. Then for each row that comes so many are entered, and then for
# each of the log so many deleted. All together has to be done before as many have come again, or more would wait each
# time: 2,000 / 32,768 + 1 / 1.5 + 1 / 8 is 0.86 of that time.
SORTED_ROWS = 64
ENTERED_FOR_ONE = 1.5
GONE = bytes(bytearray(b"gone"))  # this very object, in place of a value: the table has the truth; nil in the log

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[bytes, bytes | None]).decode


class Behind:
    """What the log holds: `young` gathers, `frozen` is being entered and then trimmed. Changed only after a commit.

    `new_ones_wait` says that a row may be here that the table has never had.
    """

    def __init__(self, log: Any, table: Any, *, new_ones_wait: bool = False) -> None:
        self.new_ones_wait = new_ones_wait
        self.young: dict[bytes, bytes] = {}
        self.frozen: dict[bytes, bytes] = {}
        self._log = Log(log)  # `log` and `table` are LMDB's handles
        self._table = table
        self._gone: set[bytes] = set()  # keys of rows that were deleted after `frozen` was
        self._gathered = 0  # rows written to the log since the last freeze, those replaced twice counted twice
        self._to_enter: Ascending[bytes] = Ascending()  # the frozen keys not yet entered
        self._frozen_commits = 0  # how many in the log belong to `frozen`, the oldest
        self._credit = 0.0
        self._after: list[tuple[Any, ...]] = []

    def load(self, txn: Any) -> None:
        """Read the log, at a start. Raises lmdb.Error, and ValueError on a damaged log."""
        for blob in self._log.read(txn):
            self.young.update(_read(blob))
        self._freeze()

    def write(self, txn: Any, late: dict[bytes, bytes], *, has_gone: bool) -> None:
        """Append a commit's rows to the log and enter some older ones. Raises lmdb.Error.

        `has_gone` says whether there is a GONE among them.
        """
        after = self._after = []
        pieces = 0
        if late:
            pieces = self._log.append(txn, _write(late, has_gone=has_gone))
            after.append((self._note, late, pieces))
            if has_gone:
                after.append((self._gone.update, _gone_of(late)))
        if not self._to_enter.is_sorted:
            self._to_enter.sort(1 + len(late) // SORTED_ROWS)
        elif self._to_enter:
            self._enter_slice(txn, late, has_gone=has_gone)
        elif self._frozen_commits:
            after.append((self._trimmed, self._log.trim(txn, pieces, self._frozen_commits)))

    def _enter_slice(self, txn: Any, late: dict[bytes, bytes], *, has_gone: bool) -> None:
        """Enter somewhat more rows than have come since, once they make a slice."""
        credit = self._credit + (len(late) * ENTERED_FOR_ONE or SLICE_ROWS_LEAST)  # with nothing else to do, go on
        if credit >= SLICE_ROWS_LEAST:
            # Where a younger one waits, reads find that; it is entered in its turn. But what is gone stays away.
            keys, frozen = self._to_enter.first(int(credit)), self.frozen
            entered = [(key, value) for key in keys if (value := frozen[key]) is not GONE]
            if has_gone or self._gone:
                gone = self._gone.union(_gone_of(late))
                entered = [row for row in entered if row[0] not in gone]
            # In the order of keys the engine need not look for each place from the root.
            txn.cursor(self._table).putmulti(entered)
            self._after.append((self._to_enter.drop, len(keys)))
            credit = 0.0
        self._after.append((self._save, credit))

    def committed(self) -> None:
        """Take over what the commit has made durable."""
        for function, *arguments in self._after:
            function(*arguments)
        self._after = []
        if self._gathered >= GATHERED_ROWS and not self._frozen_commits:
            self._freeze()

    def _note(self, late: dict[bytes, bytes], pieces: int) -> None:
        self.young.update(late)
        self._log.appended(pieces)
        self._gathered += len(late)

    def _save(self, credit: float) -> None:
        self._credit = credit

    def _trimmed(self, commits: int) -> None:
        self._log.trimmed(commits)
        self._frozen_commits -= commits
        if not self._frozen_commits:
            self.frozen = {}

    def _freeze(self) -> None:
        self.frozen, self.young = self.young, {}
        self._gone = set()
        self._to_enter = Ascending(self.frozen)
        self._frozen_commits = len(self._log)
        self._gathered = 0


def _write(rows: dict[bytes, bytes], *, has_gone: bool) -> bytes:
    """Write a commit's rows for the log, where a GONE is nil."""
    return _encode({key: None if rows[key] is GONE else rows[key] for key in rows} if has_gone else rows)


def _read(blob: bytes) -> dict[bytes, bytes]:
    """Read what `_write` wrote. Raises ValueError."""
    return {key: GONE if value is None else value for key, value in _decode(blob).items()}


def _gone_of(rows: Mapping[bytes, bytes]) -> list[bytes]:
    return [key for key, value in rows.items() if value is GONE]


class Late:
    """What one transaction adds to a log, over what is there already."""

    __slots__ = ("_behind", "_has_gone", "frozen", "rows", "takes_all", "young")

    def __init__(self, behind: Behind) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._behind = behind
        self.young = behind.young
        self.frozen = behind.frozen
        self.takes_all = behind.new_ones_wait
        self._has_gone = False

    def get(self, key: bytes) -> bytes | None:
        """Give the row's value that the table does not have yet; None when the table has the truth."""
        value = self.rows.get(key) or self.young.get(key) or self.frozen.get(key)
        return None if value is GONE else value

    def takes(self, key: bytes) -> bool:
        """Say whether a change of this row has to wait here, since it does already, or since all do."""
        return self.takes_all or self.get(key) is not None

    def delete(self, key: bytes) -> None:
        """Let the table have the truth, from which the row is deleted at once."""
        if self.get(key) is not None:
            self.rows[key] = GONE
            self._has_gone = True

    def over(self, found: Rows, start: bytes, stop: bytes | None, limit: int, *, reverse: bool) -> Rows:
        """Give what a scan of table and log together finds, from what it found in the table."""
        get = self.get
        if not self.takes_all:
            return [(key, value if (late := get(key)) is None else late) for key, value in found]
        rows = dict(found)
        for waiting in (self.frozen, self.young, self.rows):
            for key in waiting:
                if start <= key and (stop is None or key < stop) and (value := get(key)) is not None:
                    rows[key] = value
        return sorted(rows.items(), reverse=reverse)[:limit]

    def write(self, txn: Any) -> None:
        """Write it with the transaction; `Behind.committed` then takes it over. Raises lmdb.Error."""
        self._behind.write(txn, self.rows, has_gone=self._has_gone)
