"""Numbers that rivals change too: taken up anew where nothing else has changed, instead of applying everything again.

All servers that grant seats of one serial change the same row, and two transactions on it can't both be right as they
are. What such rows mean is known to whoever filled the transaction; here they are only found out.
"""

from collections.abc import Mapping

from als.store.etcd.keys import Keys
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import COUNTED, Counted


class Recount:
    """The numbers of a transaction's joint part; `names` are the rows that may change without spoiling it."""

    def __init__(self, transaction: EtcdTransaction, keys: Keys) -> None:
        self._joint = transaction.joint
        self._keys = keys
        counted: Counted | None = transaction.memo.get(COUNTED)
        self._counted = counted
        seen = self._joint.reads
        rows = counted.shared() if counted is not None and not self._joint.is_broken else ()
        self._rows = {name: row for row in rows if (name := keys.name(*row)) in seen}

    @property
    def names(self) -> list[bytes]:
        """The rows, by their names in etcd."""
        return list(self._rows)

    def changed(self, fresh: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Give those of the fresh rows that the joint part has seen otherwise."""
        seen = self._joint.reads
        return {name: value for name, value in fresh.items() if seen.get(name, value) != value}

    def take_up(self, fresh: Mapping[bytes, bytes | None]) -> bool:
        """Go by rows as they are now. False when nothing is gained: they are as they were seen, or more has changed."""
        changed = self.changed(fresh)
        if self._counted is None or not changed or not changed.keys() <= self._rows.keys():
            return False
        writes = self._counted.recount({self._rows[name]: value for name, value in changed.items()})
        if writes is None:
            return False
        self._joint.reads.update(changed)
        self._joint.writes.update({self._keys.name(*row): value for row, value in writes.items()})
        return True
