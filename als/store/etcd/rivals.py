"""Servers that change the same numbers as this one: how large a joint part is then, and when it is its turn."""

from als.store.etcd.baton import Baton
from als.store.etcd.commit import Verdict
from als.store.etcd.recount import Recount
from als.store.etcd.transaction import JOINT_COMPARES_FULL
from als.store.etcd.view import EtcdView, told
from als.store.transaction import StoreUnavailableError

JOINT_COMPARES_LEAST = 32  # where rivals spoil them: some eight requests
RIVALS_REMEMBERED = 10  # transactions without one


class Rivals:
    """What is known of them. `joint_full` is how much a joint part should compare at most."""

    def __init__(self, view: EtcdView, baton: Baton) -> None:
        self.joint_full = JOINT_COMPARES_FULL
        self.baton = baton
        self._view = view
        self._seen = 0  # for how many more transactions to expect them

    def await_turn(self, recount: Recount) -> None:
        """Take up the newest numbers once it is our turn, before a large message is sent in vain. Raises StoreError."""
        if self._seen and recount.names:
            try:
                with told():
                    fresh = self.baton.take(recount.names)
            except StoreUnavailableError:
                return  # it was only to spare a message
            self._view.cache.change(fresh)
            self._seen = RIVALS_REMEMBERED if recount.take_up(fresh) else self._seen - 1

    def is_recounted(self, recount: Recount, verdict: Verdict) -> bool:
        """Say whether a joint part was refused for numbers alone, and holds others now."""
        if not recount.take_up(verdict.fresh):
            return False
        self._seen = RIVALS_REMEMBERED
        self._view.cache.change(verdict.fresh)
        return True

    def learn(self, *, is_rejected: bool, is_full: bool) -> None:
        """Make joint parts smaller where they are rejected, and larger again where a full one was not."""
        if is_rejected:
            self.joint_full = max(self.joint_full // 2, JOINT_COMPARES_LEAST)
        elif is_full:
            self.joint_full = min(self.joint_full * 2, JOINT_COMPARES_FULL)
