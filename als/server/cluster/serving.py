"""One batch of requests over a shared store: applied as units, and again where another server has changed their sights.

Nothing gets its reply before the transaction that holds its change is confirmed.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from als import clock, protocol
from als.ledger import Ledger, Sender, sweep
from als.ledger.desk import AGENTS_OPEN
from als.ledger.ledger import Answer
from als.ledger.quick.usual import encode_id
from als.protocol import MalformedError, Refusal
from als.server.access import peer_of
from als.server.applying import LOOK_EVERY_REQUESTS
from als.server.cluster import batch
from als.server.cluster.batch import Item
from als.server.cluster.writing import RIVALRY_S, OutdatedError, Writing
from als.store.etcd.store import Submitted
from als.store.etcd.transaction import EtcdTransaction
from als.store.etcd.view import ForgottenError
from als.store.transaction import Transaction

RIVALS = Refusal("unavailable", "Too many servers change the same things; ask again.", {"retry_after_s": 1})
TOO_LARGE = Refusal("unavailable", "This changes more at once than the store takes.", {"retry_after_s": 60})
COMPACTED = Refusal("unavailable", "The store was compacted while this was read; ask again.", {"retry_after_s": 1})

log = logging.getLogger("als")


class Serving:
    """The requests of a turn. `begun` of them, in their order, were applied at least once; `replies` are by place."""

    def __init__(
        self,
        writing: Writing,
        ledger: Ledger,
        items: Sequence[Item],
        now: int,
        reload: Callable[[], None],
        on_read: Callable[[Item, dict[str, Any]], None],
    ) -> None:
        """`reload` reads the catalog anew, `on_read` is told what was answered to a request that only reads."""
        self.begun = 0
        self.replies: dict[int, bytes] = {}
        self._writing = writing
        self._ledger = ledger
        self._items = items
        self._now = now
        self._reload = reload
        self._on_read = on_read
        self._is_reloaded = False
        self._again: list[int] = []  # places, applied in vain
        self._apart: set[int] = set()  # places of those to be applied one by one
        self._renewed: dict[str, Any] | None = None
        self._head = self._tail = b""

    def run(self, has_time: Callable[[], bool]) -> None:
        """Apply requests until there is no time to begin with more, and each until its verdict is there.

        Raises StoreError, StoreUnavailableError: what has no reply by then is not confirmed.
        """
        store = self._writing.store
        store.prefetch(batch.addresses(self._items, self._ledger.rules.agents == AGENTS_OPEN))
        store.prefetch(batch.records(self._items, self._ledger.catalog, store.peek))
        end_s = clock.monotonic_s() + RIVALRY_S
        defeats = 0
        while self._again or (self.begun < len(self._items) and (not self.begun or has_time())):
            tx = self._writing.begin()
            applied: dict[int, bytes] = {}
            try:
                with self._writing.stumbling(tx):
                    self._fill(tx, applied, has_time)
                fate = self._writing.submit(tx)
            except OutdatedError:
                fate = Submitted(False, frozenset(applied))
            rejected = self._keep_apart(applied, fate)
            self._again = sorted({*self._again, *rejected} - {-1} - (applied.keys() - rejected))
            self.replies |= {place: reply for place, reply in applied.items() if place not in rejected}
            if self._again and clock.monotonic_s() > end_s:
                self.replies |= {place: self._items[place].refused(RIVALS, self._now) for place in self._again}
                self._again = []
            elif rejected:
                defeats += 1
                self._writing.pause(defeats)
        self._read_all()

    def _fill(self, tx: EtcdTransaction, applied: dict[int, bytes], has_time: Callable[[], bool]) -> None:
        """Apply requests in a transaction until it is full; those in vain so far come first."""
        sweep.removals(tx)  # all stand on this ground
        self._renewed = None
        for place in self._places(has_time):
            if tx.is_full or (applied and not self._apart.isdisjoint((place, *applied))):
                return
            item = self._items[place]
            self.begun = max(self.begun, place + 1)
            if item.is_read:
                continue
            if item.refusal:
                self.replies[place] = item.refusal
                continue
            applied[place] = b""  # so that it is known as begun if this stumbles
            tx.begin_unit(place)
            applied[place], is_alone = self._apply(tx, item)
            tx.end_unit(is_alone)

    def _keep_apart(self, applied: dict[int, bytes], fate: Submitted) -> frozenset[int]:
        """Have requests that together are too large for etcd applied one by one, and refuse one that is so by itself.

        Gives the places of the others that were not written.
        """
        self._apart |= fate.too_large
        if len(applied) > 1:
            return fate.rejected
        for place in fate.too_large & applied.keys():
            log.error("etcd does not take what a request has to write at once; look at its max-request-bytes")
            applied[place] = self._items[place].refused(TOO_LARGE, self._now)
        return fate.rejected - fate.too_large

    def _places(self, has_time: Callable[[], bool]) -> Iterator[int]:
        yield from self._again
        first = self.begun
        for place in range(first, len(self._items)):
            is_usual = self._items[place].usual is not None  # its rows were read: to take it again costs more
            if place % LOOK_EVERY_REQUESTS == 0 and place > first and not is_usual and not has_time():
                return
            yield place

    def _apply(self, tx: EtcdTransaction, item: Item) -> tuple[bytes, bool]:
        """Apply one request; give its reply, and whether it touched only its own records."""
        letter = item.letter
        if item.usual is not None:
            answer = self._ledger.renew_quickly(tx, item.usual, letter.sender, self._now)
            if answer is not None:
                return self._renewal_reply(item.usual.id, answer), True
        try:
            request = item.as_request()
        except MalformedError as error:
            return protocol.encode_refusal(error.request_id, self._now, error.refusal), False
        if request["op"] == "import" and not self._is_reloaded and self._ledger.allows(tx, "import", letter.sender):
            self._reload()
            self._is_reloaded = True
        return self._written(request, self._decide(tx, item, request)), False

    def _renewal_reply(self, number: int, answer: dict[str, Any]) -> bytes:
        """Write a usual renewal's reply; all but its id is written once for a product and transaction."""
        if answer is not self._renewed:
            self._renewed = answer
            self._head, self._tail = protocol.encode_start(answer), protocol.encode_tail(self._now, answer)
        return self._head + encode_id(number) + self._tail

    def _decide(self, tx: Transaction, item: Item, request: protocol.Request) -> Answer:
        sender = Sender(item.letter.sender, peer_of(item.letter.frame))
        return self._ledger.apply(tx, request, sender, self._now)

    def _written(self, request: protocol.Request, answer: Answer) -> bytes:
        if isinstance(answer, Refusal):
            return protocol.encode_refusal(request["id"], self._now, answer)
        return protocol.encode_reply(request["id"], self._now, answer)

    def _read_all(self) -> None:
        """Answer what only reads, each from a look of its own, which holds what was written before."""
        for place in range(self.begun):
            item = self._items[place]
            if item.is_read:
                request = item.as_request()
                answer = self._read(item, request)
                if not isinstance(answer, Refusal):
                    self._on_read(item, answer)
                self.replies[place] = self._written(request, answer)

    def _read(self, item: Item, request: protocol.Request) -> Answer:
        try:
            return self._writing.store.read(lambda tx: self._decide(tx, item, request))
        except ForgottenError:
            return COMPACTED
