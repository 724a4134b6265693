"""Stamps: the four bytes of a row that change while all else in it stays, kept apart from it.

LMDB writes a page of 4 KiB for each row that changes, and of a million leases hardly two that are renewed within a
second share one. Their times stand together instead, those of 500 neighbors in a value. They are durable at once in a
log, and entered in the values in memory; once many have come for each value, all values are put into the table, some in
each commit, and what the log has for them is deleted. Where a row has a stamp, it stands in the place of the row's own
bytes; a row that is written whole has none. Knows nothing of what the rows mean.
"""

import struct
import sys
from array import array
from typing import Any

from als.store.lmdb.behind.log import PIECE_BYTES, Log
from als.store.transaction import STAMPED_BYTES, STAMPED_KEY_BYTES, Rows

NONE = 0  # the row's own bytes count
IN_A_VALUE = PIECE_BYTES // 4
_VALUE_BYTES = 4 * IN_A_VALUE
_FOUR_BYTES = "I" if array("I").itemsize == 4 else "L"
# Values are put once they are worth the write: when on the average so many stamps in the log are for each. With a
# million leases that is after 128,000 renewals, which are 1.5 MB of log.
STAMPS_A_VALUE = 64
GATHERED_STAMPS = 32_768  # at least, however few values they are for
VALUES_MAX = 16_384  # in memory, 32 MiB; leases of eight million computers have them
PUT_LEAST = 4  # values in a commit
ROWS_FOR_A_VALUE = 32  # that come in a commit, for one more

_pack_key = struct.Struct(">Q").pack
_big = struct.Struct(">I")
_BEFORE, _AFTER = STAMPED_BYTES.start, STAMPED_BYTES.stop


class Stamps:
    """What the log of stamps holds, entered in the values of the table, whole, in memory. Changed only after a commit.

    `values` are those that the table may not have as they are yet.
    """

    def __init__(self, log: Any, table: Any) -> None:
        """`log` and `table` are LMDB's handles."""
        self.values: dict[int, array[int]] = {}
        self._log = Log(log)
        self._table = table
        self._rows = 0  # stamps in the log, since all values were taken up to be put
        self._changed: set[int] = set()  # values, since then
        self._to_put: list[int] = []  # the first last
        self._put_commits = 0  # how many in the log need not be there, once all these are put
        self._in_table = 0  # how many in the log need not be there any more, the oldest
        self._after: list[tuple[Any, ...]] = []

    def load(self, txn: Any) -> None:
        """Read the log, at a start. Raises lmdb.Error, and ValueError on a damaged log."""
        for blob in self._log.read(txn):
            rows = _decode(blob)
            self._enter(rows, self._take(txn, rows))

    def write(self, txn: Any, rows: dict[int, int]) -> None:
        """Append a commit's stamps to the log and put some values into the table. Raises lmdb.Error."""
        after = self._after = []
        pieces = 0
        if rows:
            pieces = self._log.append(txn, _encode(rows))
            after.append((self._log.appended, pieces))
            after.append((self._enter, rows, self._take(txn, rows)))
        if self._is_due:
            self._to_put, self._changed = sorted(self.values, reverse=True), set()
            self._put_commits, self._rows = len(self._log) - self._in_table, 0
        if self._to_put:
            most = PUT_LEAST + len(rows) // ROWS_FOR_A_VALUE + max(len(self.values) - VALUES_MAX, 0)
            chosen = self._to_put[: -most - 1 : -1]
            for number in chosen:
                _put(txn, self._table, number, self.values[number])
            after.append((self._put, len(chosen)))
        if self._in_table:
            after.append((self._trimmed, self._log.trim(txn, pieces, self._in_table)))

    @property
    def _is_due(self) -> bool:
        """Whether enough stamps share a value, or too many values are in memory, and the last are in the table."""
        values = len(self.values)
        is_enough = self._rows >= max(values * STAMPS_A_VALUE, GATHERED_STAMPS) or values > VALUES_MAX
        return is_enough and not self._to_put

    def committed(self) -> None:
        """Take over what the commit has made durable."""
        for function, *arguments in self._after:
            function(*arguments)
        self._after = []

    def _take(self, txn: Any, rows: dict[int, int]) -> list[int]:
        """Have the values of stamps in memory; give the number of each stamp's value."""
        in_a_value = IN_A_VALUE
        numbers = [key // in_a_value for key in rows]
        for number in set(numbers) - self.values.keys():
            raw = txn.get(_pack_key(number), b"", db=self._table) if self._table is not None else b""
            self.values[number] = _swapped(array(_FOUR_BYTES, raw.ljust(_VALUE_BYTES, b"\0")))
        return numbers

    def _enter(self, rows: dict[int, int], numbers: list[int]) -> None:
        values, in_a_value = self.values, IN_A_VALUE
        for number, (key, stamp) in zip(numbers, rows.items(), strict=True):
            values[number][key - number * in_a_value] = stamp
        self._changed.update(numbers)
        self._rows += len(rows)

    def _put(self, values: int) -> None:
        del self._to_put[len(self._to_put) - values :]
        if not self._to_put:
            self._in_table += self._put_commits
            self.values = {number: self.values[number] for number in self._changed}

    def _trimmed(self, commits: int) -> None:
        self._log.trimmed(commits)
        self._in_table -= commits


def _encode(rows: dict[int, int]) -> bytes:
    """Write stamps for the log: the numbers of their keys, then the stamps."""
    return struct.pack(f"<{len(rows)}Q{len(rows)}I", *rows, *rows.values())


def _decode(blob: bytes) -> dict[int, int]:
    """Read what `_encode` wrote. Raises ValueError."""
    rows, rest = divmod(len(blob), 12)
    if rest:
        raise ValueError("the log of stamps was cut off")
    numbers = struct.unpack(f"<{rows}Q{rows}I", blob)
    return dict(zip(numbers[:rows], numbers[rows:], strict=True))


def _swapped(value: "array[int]") -> "array[int]":
    """Turn bytes as they stand in the table into numbers of this machine, or the other way."""
    if sys.byteorder == "big":
        value.byteswap()
    return value


def _put(txn: Any, table: Any, number: int, value: "array[int]") -> None:
    """Store a value without what has no stamps at its end; one that has none at all goes."""
    kept = _swapped(value[:]).tobytes().rstrip(b"\0")
    if kept:
        txn.put(_pack_key(number), kept, db=table)
    else:
        txn.delete(_pack_key(number), db=table)


class LateStamps:
    """What one transaction stamps, over what was stamped before. `table` is None in a store that has none yet."""

    __slots__ = ("_number", "_stamps", "_table", "_txn", "_value", "_values", "rows")

    def __init__(self, stamps: Stamps, txn: Any, table: Any) -> None:
        self.rows: dict[int, int] = {}  # by the numbers that the keys are
        self._stamps = stamps
        self._values = stamps.values
        self._txn = txn
        self._table = table
        self._number = -1
        self._value = b""  # the value of this number, which was read from the table last

    def on(self, key: bytes, row: bytes) -> bytes:
        """Give a row as it is with its stamp. Raises lmdb.Error."""
        if len(key) != STAMPED_KEY_BYTES:
            return row  # of an older version
        number = int.from_bytes(key, "big")
        stamp = self.rows.get(number)
        if stamp is None:
            stamp = self._before(number)
        return row[:_BEFORE] + _big.pack(stamp) + row[_AFTER:] if stamp else row

    def on_all(self, rows: Rows) -> Rows:
        """Give rows as they are with their stamps. Raises lmdb.Error."""
        return [(key, self.on(key, row)) for key, row in rows]

    def _before(self, number: int) -> int:
        """Give a stamp of earlier transactions."""
        value, place = divmod(number, IN_A_VALUE)
        held = self._values.get(value)
        if held is not None:
            return held[place]
        if self._table is None:
            return NONE
        if value != self._number:
            self._number, self._value = value, self._txn.get(_pack_key(value), b"", db=self._table)
        return int.from_bytes(self._value[place * 4 : place * 4 + 4], "little")

    def clear(self, key: bytes) -> None:
        """Let the row's own bytes count again: it is written whole, or goes."""
        if len(key) == STAMPED_KEY_BYTES:
            self.rows[int.from_bytes(key, "big")] = NONE

    def write(self, txn: Any) -> None:
        """Write it with the transaction; `Stamps.committed` then takes it over. Raises lmdb.Error."""
        self._stamps.write(txn, self.rows)
