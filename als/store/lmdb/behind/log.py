"""A log in LMDB: what commits append, in pieces, until it is deleted from its beginning. Knows not what it holds."""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Any

PIECE_BYTES = 2_000  # the most that LMDB keeps within a page, two in each
TRIMMED_FOR_ONE = 8  # pieces that are deleted for each that comes
TRIMMED_LEAST = 64  # pieces, in a commit

_KEY = struct.Struct(">QH")  # commit, piece


class Log:
    """Which commits are in it. Changed only after a commit, by `appended` and `trimmed`."""

    def __init__(self, handle: Any) -> None:
        """`handle` is LMDB's, None in a store that was written by a version that had no such log."""
        self._handle = handle
        self._commits: deque[tuple[int, int]] = deque()  # number and pieces of each, the oldest first
        self._next = 1

    def __len__(self) -> int:
        """How many commits are in it."""
        return len(self._commits)

    def read(self, txn: Any) -> Iterator[bytes]:
        """Read what each commit appended, at a start. Raises lmdb.Error, and ValueError when a piece is missing."""
        if self._handle is None:
            return
        pieces: list[bytes] = []
        for key, piece in txn.cursor(self._handle):
            number, place = _KEY.unpack(key)
            if not place and pieces:
                yield self._take_up(pieces)
                pieces = []
            if place != len(pieces) or (place and number != self._next):
                raise ValueError("the log has a gap")
            self._next = number
            pieces.append(bytes(piece))
        if pieces:
            yield self._take_up(pieces)

    def _take_up(self, pieces: list[bytes]) -> bytes:
        self.appended(len(pieces))
        return b"".join(pieces)

    def append(self, txn: Any, blob: bytes) -> int:
        """Append what a commit writes; give its number of pieces. Raises lmdb.Error."""
        starts = range(0, len(blob), PIECE_BYTES)
        for piece, start in enumerate(starts):
            key = _KEY.pack(self._next, piece)
            txn.put(key, blob[start : start + PIECE_BYTES], append=True, db=self._handle)
        return len(starts)

    def appended(self, pieces: int) -> None:
        """Take over what a commit has appended."""
        self._commits.append((self._next, pieces))
        self._next += 1

    def trim(self, txn: Any, pieces: int, commits_most: int) -> int:
        """Delete the oldest commits, a few for so many pieces that come, at most `commits_most`; give how many.

        Raises lmdb.Error.
        """
        most = max(TRIMMED_FOR_ONE * pieces, TRIMMED_LEAST)
        commits = trimmed = 0
        while commits < commits_most and trimmed < most:
            number, pieces = self._commits[commits]
            for piece in range(pieces):
                txn.delete(_KEY.pack(number, piece), db=self._handle)
            commits += 1
            trimmed += pieces
        return commits

    def trimmed(self, commits: int) -> None:
        """Take over what a commit has deleted."""
        for _ in range(commits):
            self._commits.popleft()
