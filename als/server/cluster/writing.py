"""Transactions one after the other over a shared store, each tried anew until what it saw still holds.

Knows which event this server wrote last, so that no transaction has to look for the newest, which is others' too.
Events are numbered by the time to the microsecond: so those of different servers are in order, as far as clocks agree.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from als import clock
from als.ledger.journal import LAST_EVENT
from als.records import SERVER_BITS
from als.store import schema
from als.store.etcd.store import EtcdStore, Submitted
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import StoreError, StoreUnavailableError

PAUSE_S = 0.002  # after a first defeat, then more: so long takes a rival's transaction
PAUSE_S_MAX = 0.05
RIVALRY_S = 1.5  # of trying again: some hundred rounds, and over before a client gives up

log = logging.getLogger("als")


class OutdatedError(Exception):
    """The ledger stumbled over sights that contradict each other, since another server has changed some of them."""


class Writing:
    """Begins and submits. `chance` gives random numbers from 0 to 1."""

    def __init__(self, store: EtcdStore, chance: Callable[[], float]) -> None:
        self.store = store
        self._chance = chance
        self._last_event: int | None = None
        self.time_s: Callable[[], float] = lambda: 0.0

    def begin(self) -> EtcdTransaction:
        """Open a transaction. Raises StoreError, StoreUnavailableError."""
        tx = self.store.begin()
        schema.require_current(
            tx
        )  # a newer server may have changed it: then everything here is rejected, and this ends
        if self._last_event is not None:
            tx.memo[LAST_EVENT] = max(self._last_event, round(self.time_s() * 1_000_000) << SERVER_BITS)
        return tx

    def submit(self, tx: EtcdTransaction) -> Submitted:
        """Say which units were not written. Raises StoreError, StoreUnavailableError."""
        with self.stumbling(tx):
            fate = self.store.submit(tx)
        self._last_event = tx.memo.get(LAST_EVENT, self._last_event)  # numbers may be skipped, never used twice
        return fate

    @contextmanager
    def stumbling(self, tx: EtcdTransaction) -> Iterator[None]:
        """Tell a ledger that stumbles over contradicting sights (OutdatedError) from a mistake of ours."""
        try:
            yield
        except (StoreError, StoreUnavailableError):
            raise
        except Exception as error:
            if self.store.is_outdated(tx):
                raise OutdatedError from error
            raise

    def run(self, work: Callable[[EtcdTransaction], None], tries_max: int | None = None) -> bool:
        """Have `work` done in a transaction of its own; False when rivals were faster each time, or it is too large.

        Raises StoreError, StoreUnavailableError.
        """
        end_s = clock.monotonic_s() + RIVALRY_S
        tries = 0
        while True:
            tx = self.begin()
            try:
                with self.stumbling(tx):
                    work(tx)
                fate = self.submit(tx)
                if not fate.rejected:
                    return True
                if fate.too_large:
                    log.error("etcd does not take what this server has to write at once; look at its max-request-bytes")
                    return False
            except OutdatedError:
                pass
            tries += 1
            if tries == tries_max or clock.monotonic_s() > end_s:
                return False
            self.pause(tries)

    def pause(self, defeats: int) -> None:
        """Let rivals finish, each server for another time."""
        clock.pause(self._chance() * min(PAUSE_S * defeats, PAUSE_S_MAX))
