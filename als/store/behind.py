"""Rows that change all over a table: durable at once in a log, entered in their table later, in order of keys.

LMDB writes a page of 4 KiB for each row that changes somewhere in a table, however small the row. The leases that a
commit renews, and its addresses, are therefore appended together to a log of their table, a few pages for a thousand of
them, and kept in memory, where reads find them. Once many have gathered they are entered in the order of their keys, a
slice a commit, so that neighbors share a page; then their part of the log is deleted. What is in the log and not yet in
the table is read from the log at the next start. Knows nothing of what the rows mean.
"""

import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from als.store.ascending import Ascending
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
TRIMMED_FOR_ONE = 8
TRIMMED_ROWS_LEAST = 64  # of the log, in a commit
PIECE_BYTES = 2_000  # the most that LMDB keeps within a page, two in each
GONE = bytes(bytearray(b"gone"))  # this very object, in place of a value: the table has the truth; nil in the log

_LOG_KEY = struct.Struct(">QH")  # commit, piece
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[bytes, bytes | None]).decode
_K = TypeVar("_K", bytes, int)
_V = TypeVar("_V", bytes, int)


class Form(Protocol, Generic[_K, _V]):
    """How rows stand in a log, and how they are entered in their table."""

    def encode(self, rows: dict[_K, _V], *, has_gone: bool) -> bytes:
        """Write a commit's rows. `has_gone` says whether there is a GONE among them."""
        ...

    def decode(self, blob: bytes) -> dict[_K, _V]:
        """Read what `encode` wrote. Raises ValueError."""
        ...

    def enter(self, txn: Any, table: Any, rows: list[tuple[_K, _V]]) -> None:
        """Write rows, in the order of their keys, into their table. Raises lmdb.Error."""
        ...


class RowForm:
    """Whole rows; a GONE is nil in the log."""

    def encode(self, rows: dict[bytes, bytes], *, has_gone: bool) -> bytes:
        """Write a commit's rows."""
        return _encode({key: None if rows[key] is GONE else rows[key] for key in rows} if has_gone else rows)

    def decode(self, blob: bytes) -> dict[bytes, bytes]:
        """Read what `encode` wrote. Raises ValueError."""
        return {key: GONE if value is None else value for key, value in _decode(blob).items()}

    def enter(self, txn: Any, table: Any, rows: list[tuple[bytes, bytes]]) -> None:
        """Put them in one call, for in the order of keys the engine need not look for each place from the root."""
        txn.cursor(table).putmulti(rows)


class Behind(Generic[_K, _V]):
    """What the log holds: `young` gathers, `frozen` is being entered and then trimmed. Changed only after a commit.

    `new_ones_wait` says that a row may be here that the table has never had.
    """

    def __init__(self, log: Any, table: Any, form: Form[_K, _V], *, new_ones_wait: bool = False) -> None:
        self.new_ones_wait = new_ones_wait
        self.young: dict[_K, _V] = {}
        self.frozen: dict[_K, _V] = {}
        self._log = log  # LMDB's handles of the log and of the table
        self._table = table
        self._form: Form[_K, _V] = form
        self._gone: set[_K] = set()  # keys of rows that were deleted after `frozen` was
        self._gathered = 0  # rows written to the log since the last freeze, those replaced twice counted twice
        self._to_enter: Ascending[_K] = Ascending()  # the frozen keys not yet entered
        self._commits: deque[tuple[int, int]] = deque()  # (number, pieces) of those in the log
        self._frozen_commits = 0  # how many of these belong to `frozen`
        self._next = 1
        self._credit = 0.0
        self._after: list[tuple[Any, ...]] = []

    def load(self, txn: Any) -> None:
        """Read the log, at a start. Raises lmdb.Error, and ValueError on a damaged log."""
        if self._log is None:
            return  # written by a version that had none
        blob: list[bytes] = []
        number = 0
        for key, piece in txn.cursor(self._log):
            commit, place = _LOG_KEY.unpack(key)
            if commit != number:
                self._take_up(number, blob)
                number, blob = commit, []
            if place != len(blob):
                raise ValueError("the log of replaced rows has a gap")
            blob.append(bytes(piece))
        self._take_up(number, blob)
        self._freeze()

    def _take_up(self, number: int, blob: list[bytes]) -> None:
        if blob:
            self.young.update(self._form.decode(b"".join(blob)))
            self._commits.append((number, len(blob)))
            self._next = number + 1

    def write(self, txn: Any, late: dict[_K, _V], *, has_gone: bool) -> None:
        """Append a commit's rows to the log and enter some older ones. Raises lmdb.Error.

        `has_gone` says whether there is a GONE among them.
        """
        after = self._after = []
        pieces = 0
        if late:
            blob = self._form.encode(late, has_gone=has_gone)
            starts = range(0, len(blob), PIECE_BYTES)
            pieces = len(starts)
            for piece, start in enumerate(starts):
                key = _LOG_KEY.pack(self._next, piece)
                txn.put(key, blob[start : start + PIECE_BYTES], append=True, db=self._log)
            after.append((self._note, late, pieces))
            if has_gone:
                after.append((self._gone.update, _gone_of(late)))
        if not self._to_enter.is_sorted:
            self._to_enter.sort(1 + len(late) // SORTED_ROWS)
        elif self._to_enter:
            self._enter_slice(txn, late, has_gone=has_gone)
        elif self._frozen_commits:
            self._trim(txn, max(TRIMMED_FOR_ONE * pieces, TRIMMED_ROWS_LEAST))

    def _enter_slice(self, txn: Any, late: dict[_K, _V], *, has_gone: bool) -> None:
        """Enter somewhat more rows than have come since, once they make a slice."""
        credit = self._credit + (len(late) * ENTERED_FOR_ONE or SLICE_ROWS_LEAST)  # with nothing else to do, go on
        if credit >= SLICE_ROWS_LEAST:
            # Where a younger one waits, reads find that; it is entered in its turn. But what is gone stays away.
            keys, frozen = self._to_enter.first(int(credit)), self.frozen
            entered = [(key, value) for key in keys if (value := frozen[key]) is not GONE]
            if has_gone or self._gone:
                gone = self._gone.union(_gone_of(late))
                entered = [row for row in entered if row[0] not in gone]
            self._form.enter(txn, self._table, entered)
            self._after.append((self._to_enter.drop, len(keys)))
            credit = 0.0
        self._after.append((self._save, credit))

    def _trim(self, txn: Any, most: int) -> None:
        """Delete the oldest commits of the log, whose rows have all been entered: about `most` rows of it."""
        commits = trimmed = 0
        while commits < self._frozen_commits and trimmed < most:
            number, pieces = self._commits[commits]
            for piece in range(pieces):
                txn.delete(_LOG_KEY.pack(number, piece), db=self._log)
            commits += 1
            trimmed += pieces
        self._after.append((self._trimmed, commits))

    def committed(self) -> None:
        """Take over what the commit has made durable."""
        for function, *arguments in self._after:
            function(*arguments)
        self._after = []
        if self._gathered >= GATHERED_ROWS and not self._frozen_commits:
            self._freeze()

    def _note(self, late: dict[_K, _V], pieces: int) -> None:
        self.young.update(late)
        self._commits.append((self._next, pieces))
        self._next += 1
        self._gathered += len(late)

    def _save(self, credit: float) -> None:
        self._credit = credit

    def _trimmed(self, commits: int) -> None:
        for _ in range(commits):
            self._commits.popleft()
        self._frozen_commits -= commits
        if not self._frozen_commits:
            self.frozen = {}

    def _freeze(self) -> None:
        self.frozen, self.young = self.young, {}
        self._gone = set()
        self._to_enter = Ascending(self.frozen)
        self._frozen_commits = len(self._commits)
        self._gathered = 0


def _gone_of(rows: Mapping[_K, _V]) -> list[_K]:
    return [key for key, value in rows.items() if value is GONE]


class Late:
    """What one transaction adds to a log, over what is there already."""

    __slots__ = ("_behind", "_has_gone", "frozen", "rows", "takes_all", "young")

    def __init__(self, behind: Behind[bytes, bytes]) -> None:
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
