"""What the ledger asks of a store: a few ordered tables of bytes, changed in transactions.

The ledger knows this file and no engine. Keys are big-endian, so that their order means something.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Protocol

from als.records import LEASE_KEY_BYTES, RENEWED, TIME_BYTES

SCHEMA_VERSION = 5


class Table(IntEnum):
    """The tables. Each engine keeps them apart by name or number; key layouts are in als/records.py."""

    META = 0
    PRODUCTS = 1
    SERIALS = 2
    SERIAL_IDS = 3
    SEATS = 4
    POOL = 5
    ENDS = 6
    LEASES = 7
    DUE = 8
    COMPUTERS = 9
    ADDRESSES = 10
    EVENTS = 11
    USAGE = 12
    COUNTS = 13
    DENIALS = 14
    NEWCOMERS = 15
    TRIALS = 16
    ADMINS = 17
    BEHIND = 18  # the logs of LMDB's engine: of LEASES
    BEHIND_ADDRESSES = 19
    BEHIND_STAMPS = 20
    STAMPS = 21  # a part of LMDB's engine as well


Rows = list[tuple[bytes, bytes]]

# The rows of one table change all the time in four bytes alone, which an engine may keep apart from them.
STAMPED = Table.LEASES
STAMPED_BYTES = RENEWED
STAMPED_KEY_BYTES = LEASE_KEY_BYTES


class Transaction(Protocol):
    """One atomic change, or a consistent look. Sees its own writes.

    `memo` holds what was worked out once for this transaction and dies with it; functions given to `at_commit` run
    once, just before the commit, to write what a whole turn has gathered.
    """

    memo: dict[Any, Any]

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Give the value, None when there is none."""
        ...

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Insert or replace. Raises StoreFullError."""
        ...

    def insert(self, table: Table, key: bytes, value: bytes) -> None:
        """Do what `put` does, for a row that is not there: that is the caller's word, and nobody has to look."""
        ...

    def inserting(self, table: Table) -> Callable[[bytes, bytes], None]:
        """Give the function that does `insert`'s work for one table, for who inserts many rows."""
        ...

    def replace(self, table: Table, key: bytes, value: bytes) -> None:
        """Do what `put` does, for a row that is there and changes often: an engine may make this cheaper."""
        ...

    def stamping(self) -> Callable[[int, int], None]:
        """Give the function that writes other STAMPED_BYTES into a row of STAMPED which is there.

        It takes the number that the row's key is, and the number that the bytes are, both big-endian.
        """
        ...

    def delete(self, table: Table, key: bytes) -> None:
        """Remove; a key that is not there is no error."""
        ...

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Rows:
        """List at most `limit` rows with start <= key < stop, ascending, or descending from below `stop`."""
        ...

    def expect(self, rows: Iterable[tuple[Table, bytes]]) -> None:
        """Say which rows will be looked at soon: where each look may cost a call, all are read in few."""
        ...

    def has_room(self) -> bool:
        """Say whether it may become larger. Who can leave the rest of his work for later asks now and then."""
        ...

    def at_commit(self, function: Callable[[], None]) -> None:
        """Have `function` run just before the commit."""
        ...

    def abort(self) -> None:
        """Forget every change. The transaction is unusable after."""
        ...


COUNTED = "counted"  # in a transaction's memo: its Counted


class Counted(Protocol):
    """Numbers of a transaction that other servers change all the time, in a store that servers share.

    Where nothing else has changed, what was done here need not be applied again: it is enough to count it anew.
    """

    def shared(self) -> Sequence[tuple[Table, bytes]]:
        """Give the rows with such numbers; none when what was done here depends on the numbers that were seen."""
        ...

    def recount(self, fresh: Mapping[tuple[Table, bytes], bytes | None]) -> dict[tuple[Table, bytes], bytes] | None:
        """Go by other values of such rows; give the rows that are to be written otherwise than before.

        None: everything has to be applied again.
        """
        ...


class Completion(Protocol):
    """The fate of a submitted transaction."""

    @property
    def done(self) -> bool:
        """Say whether the change is durable."""
        ...


class Store(Protocol):
    """An engine. One transaction at a time is open for writing."""

    def begin(self) -> Transaction:
        """Open a transaction that may write."""
        ...

    def submit(self, transaction: Transaction) -> Completion:
        """Commit. Raises StoreFullError (nothing is written: grow and apply again) or StoreError (fatal)."""
        ...

    def grow(self) -> None:
        """Make room after StoreFullError, between transactions. Raises StoreError when there is none to be had."""
        ...

    def tidy(self) -> None:
        """Do what a store needs once a minute, between transactions."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


class StoreError(Exception):
    """The engine failed; the message is one line for the administrator."""


class StoreFullError(Exception):
    """The engine's present size is used up and the transaction is dead; `grow` may help."""


class StoreUnavailableError(Exception):
    """A store that several servers share cannot be reached now; what was submitted may or may not have been written.

    The message is one line for the administrator; who asked may ask again after `retry_after_s`.
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Committed:
    """The completion of engines that are done on return."""

    done = True


COMMITTED = Committed()


@lru_cache(256)
def prefix_stop(prefix: bytes) -> bytes | None:
    """Give the first key after all keys that begin with `prefix`; None when there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def restamp(tx: Transaction, number: int, stamp: int) -> None:
    """Do what the function of `Transaction.stamping` does, in a store that keeps stamps in their rows."""
    key = number.to_bytes(STAMPED_KEY_BYTES, "big")
    row = tx.get(STAMPED, key)
    assert row is not None, "only a row that is there is stamped"
    stamped = stamp.to_bytes(TIME_BYTES, "big")
    tx.replace(STAMPED, key, row[: STAMPED_BYTES.start] + stamped + row[STAMPED_BYTES.stop :])
