"""A client of etcd whose answers get lost, as they do between machines: a part of the world, for tests."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from als.store.etcd.errors import EtcdRefusedError, EtcdUnavailableError
from als.store.etcd.ops import Compare, Op, RangeResult, TxnResult
from als.store.etcd.reading import Client


class Fault(Enum):
    """What happens to one transaction."""

    NONE = "it is applied and answered"
    ANSWER_LOST = "it is applied, and nobody hears of it"
    REQUEST_LOST = "it is not applied, and nobody knows"
    REFUSED = "it is certain that it is not applied"
    LATE = "it is applied after the next read"
    LATER = "it is applied after the next transaction"


class UnsureClient:
    """Passes calls on, with the faults that `faults` gives for each transaction in turn, then without any."""

    def __init__(self, client: Client, faults: Iterator[Fault]) -> None:
        self._client = client
        self._faults = faults
        self._after_read: list[Callable[[], object]] = []
        self._after_txn: list[Callable[[], object]] = []
        self.calls_left: int | None = None  # before nothing is heard of etcd any more

    def range(
        self,
        start: bytes,
        stop: bytes | None = None,
        *,
        limit: int = 0,
        descending: bool = False,
        revision: int = 0,
    ) -> RangeResult:
        """Read; what was late for it is applied then."""
        self._count()
        found = self._client.range(start, stop, limit=limit, descending=descending, revision=revision)
        late, self._after_read = self._after_read, []
        for apply in late:
            apply()
        return found

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Apply, or lose the request or the answer."""
        self._count()
        fault = next(self._faults, Fault.NONE)
        later, self._after_txn = self._after_txn, []
        if fault in (Fault.LATE, Fault.LATER):
            late = self._after_read if fault is Fault.LATE else self._after_txn
            late.append(lambda: self._apply_unheard(compares, success, failure))
        result = self._client.txn(compares, success, failure) if fault in (Fault.NONE, Fault.ANSWER_LOST) else None
        for apply in later:
            apply()
        if fault is Fault.NONE:
            assert result is not None
            return result
        raise EtcdUnavailableError(fault.value, maybe_applied=fault is not Fault.REFUSED)

    def _count(self) -> None:
        if self.calls_left == 0:
            raise EtcdUnavailableError("etcd cannot be reached", maybe_applied=False)
        if self.calls_left:
            self.calls_left -= 1

    def _apply_unheard(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> None:
        """Apply, or fail, when nobody listens any more."""
        with contextlib.suppress(EtcdRefusedError):
            self._client.txn(compares, success, failure)

    def catch_up(self) -> None:
        """Apply now what is still late."""
        late, self._after_read, self._after_txn = [*self._after_read, *self._after_txn], [], []
        for apply in late:
            apply()

    def close(self) -> None:
        """Leave the connections to who made them."""
