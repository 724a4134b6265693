"""Stamps: the four bytes of a row that change while all else in it stays, kept apart from it.

LMDB writes a page of 4 KiB for each row that changes, and of a million leases hardly two that are renewed within a
second share one. Their times stand together instead, those of 500 neighbors in a value, and wait before that in a log
as other rows do (als/store/behind.py). Where a row has a stamp, it stands in the place of the row's own bytes; a row
that is written whole has none. Knows nothing of what the rows mean.
"""

import struct
from typing import Any

from als.store.behind import PIECE_BYTES, Behind
from als.store.transaction import STAMPED_BYTES, STAMPED_KEY_BYTES, Rows

NONE = 0  # the row's own bytes count
IN_A_VALUE = PIECE_BYTES // 4
_VALUE_BYTES = 4 * IN_A_VALUE

_pack_key = struct.Struct(">Q").pack
_little = struct.Struct("<I")
_big = struct.Struct(">I")
_BEFORE, _AFTER = STAMPED_BYTES.start, STAMPED_BYTES.stop


class StampForm:
    """How stamps stand in their log, and in their table: by the numbers that their rows' keys are."""

    def encode(self, rows: dict[int, int], *, has_gone: bool) -> bytes:
        """Write the keys, then the stamps. None is GONE: one that counts no more is NONE."""
        return struct.pack(f"<{len(rows)}Q{len(rows)}I", *rows, *rows.values())

    def decode(self, blob: bytes) -> dict[int, int]:
        """Read what `encode` wrote. Raises ValueError."""
        rows, rest = divmod(len(blob), 12)
        if rest:
            raise ValueError("the log of stamps was cut off")
        numbers = struct.unpack(f"<{rows}Q{rows}I", blob)
        return dict(zip(numbers[:rows], numbers[rows:], strict=True))

    def enter(self, txn: Any, table: Any, rows: list[tuple[int, int]]) -> None:
        """Write stamps, in the order of their keys, into the values that they belong to. Raises lmdb.Error."""
        pack_into = _little.pack_into
        value = bytearray()
        number, start, stop = -1, 0, 0
        for key, stamp in rows:
            if key >= stop:
                _put(txn, table, number, value)
                number = key // IN_A_VALUE
                start = number * IN_A_VALUE
                stop = start + IN_A_VALUE
                value = bytearray(txn.get(_pack_key(number), b"", db=table).ljust(_VALUE_BYTES, b"\0"))
            pack_into(value, (key - start) * 4, stamp)
        _put(txn, table, number, value)


def _put(txn: Any, table: Any, number: int, value: bytearray) -> None:
    """Store a value without what has no stamps at its end; one that has none at all goes."""
    kept = bytes(value).rstrip(b"\0")
    if kept:
        txn.put(_pack_key(number), kept, db=table)
    elif number >= 0:
        txn.delete(_pack_key(number), db=table)


class LateStamps:
    """What one transaction stamps, over what was stamped before. `table` is None in a store that has none yet."""

    __slots__ = ("_behind", "_frozen", "_number", "_table", "_txn", "_value", "_young", "rows")

    def __init__(self, behind: Behind[int, int], txn: Any, table: Any) -> None:
        self.rows: dict[int, int] = {}  # by the numbers that the keys are
        self._behind = behind
        self._young, self._frozen = behind.young, behind.frozen
        self._txn = txn
        self._table = table
        self._number = -1
        self._value = b""  # the value of this number, which was asked for last

    def on(self, key: bytes, row: bytes) -> bytes:
        """Give a row as it is with its stamp. Raises lmdb.Error."""
        if len(key) != STAMPED_KEY_BYTES:
            return row  # of an older version
        number = int.from_bytes(key, "big")
        stamp = self.rows.get(number)
        if stamp is None:
            stamp = self._young.get(number)
            if stamp is None:
                stamp = self._frozen.get(number)
                if stamp is None:
                    stamp = self._entered(number)
        return row[:_BEFORE] + _big.pack(stamp) + row[_AFTER:] if stamp else row

    def on_all(self, rows: Rows) -> Rows:
        """Give rows as they are with their stamps. Raises lmdb.Error."""
        return [(key, self.on(key, row)) for key, row in rows]

    def _entered(self, number: int) -> int:
        """Give a stamp from the table, which does not change before the commit."""
        if self._table is None:
            return NONE
        value, place = divmod(number, IN_A_VALUE)
        if value != self._number:
            self._number, self._value = value, self._txn.get(_pack_key(value), b"", db=self._table)
        return int.from_bytes(self._value[place * 4 : place * 4 + 4], "little")

    def clear(self, key: bytes) -> None:
        """Let the row's own bytes count again: it is written whole, or goes."""
        if len(key) == STAMPED_KEY_BYTES:
            self.rows[int.from_bytes(key, "big")] = NONE

    def write(self, txn: Any) -> None:
        """Write it with the transaction; `Behind.committed` then takes it over. Raises lmdb.Error."""
        self._behind.write(txn, self.rows, has_gone=False)
