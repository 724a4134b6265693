"""A client of etcd for what tests do beside the servers: it asks again until etcd answers, while members elect.

A server gives up after two seconds and says so; a test that only wants to look has to wait. Knows no test's story.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from als.clock import monotonic_s, pause
from als.store.etcd import ops
from als.store.etcd.client import TOTAL_S, EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.ops import Compare, Op, RangeResult, TxnResult
from etcd_nodes import START_TIMEOUT_S

PAUSE_S = 0.1
Result = TypeVar("Result")


class PatientClient(EtcdClient):
    """An EtcdClient whose reads and writes wait up to START_TIMEOUT_S for etcd; a write must bear being done twice."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(endpoints, call_deadline_s=TOTAL_S)

    def range(self, *arguments: Any, **options: Any) -> RangeResult:
        """Read, when etcd answers."""
        return patiently(lambda: super(PatientClient, self).range(*arguments, **options))

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Write, when etcd answers; perhaps for the second time."""
        return patiently(lambda: super(PatientClient, self).txn(compares, success, failure))

    def leader(self) -> str:
        """Give the address of the leader on which all members agree; waits until they do."""
        return patiently(self._agreed_leader)

    def mark(self, name: bytes) -> int:
        """Write a row that says nothing; give its revision, at which a history may end."""
        return self.txn([], [ops.put(name, b"")]).revision

    def _agreed_leader(self) -> str:
        statuses = {endpoint: self.status(endpoint) for endpoint in self.endpoints}
        leaders = [endpoint for endpoint, status in statuses.items() if status.is_leader]
        views = {(status.leader, status.raft_term) for status in statuses.values()}
        if len(leaders) != 1 or len(views) != 1:
            raise EtcdUnavailableError(f"the members do not agree on a leader: {views}", maybe_applied=False)
        return leaders[0]


def patiently(act: Callable[[], Result]) -> Result:
    """Do something again until etcd is there; raises its EtcdUnavailableError after START_TIMEOUT_S."""
    end_s = monotonic_s() + START_TIMEOUT_S
    while True:
        try:
            return act()
        except EtcdUnavailableError:
            if monotonic_s() > end_s:
                raise
            pause(PAUSE_S)
