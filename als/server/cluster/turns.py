"""The server over a shared store, without its sockets: a turn keeps house, serves what has come, and sweeps a little.

Without an answer from the store nothing is acknowledged; the status still tells what was known.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from als import protocol
from als.clock import Reading
from als.guard import ClockGuard
from als.ledger import Ledger, mercy
from als.protocol import Refusal
from als.server.cluster.batch import Item, Reader
from als.server.cluster.house import House
from als.server.cluster.report import Report
from als.server.cluster.serving import Serving
from als.server.cluster.writing import Writing
from als.server.letters import Letter
from als.server.loop import BATCH_MAX
from als.server.rates import Rates
from als.store.transaction import StoreUnavailableError, Transaction

log = logging.getLogger("als")

TAKEN_LEAST = 128  # letters of a turn; more when the last turn served as many: reading what has to wait is for nothing
VIEWERS_MAX = 1_000  # who asked for the status lately: they are answered without the store, too


class SharedCore:
    """The turns of one server over its share of the store."""

    def __init__(
        self, writing: Writing, ledger: Ledger, house: House, report: Report, reload: Callable[[], None]
    ) -> None:
        """Take up work: writes that the server started. Raises StoreError, StoreUnavailableError."""
        self.rates = Rates()
        self.replies_dropped = 0
        self.letters_max = BATCH_MAX
        self._ledger = ledger
        self._house = house
        self._writing = writing
        self._report = report
        self._reload = reload
        self._monotonic_s = 0.0
        self._taken_max = TAKEN_LEAST
        self._reader = Reader()
        self._told: dict[str, Any] = {}  # the last status
        self._viewers: dict[bytes, None] = {}
        ledger.status_of_server = self._status
        house.move_in()

    @property
    def guard(self) -> ClockGuard:
        """The time."""
        return self._house.guard

    def needs_turn(self, reading: Reading) -> bool:
        """Say whether there is something to do although nothing has come."""
        return self._house.needs_turn(reading)

    def accept_clock(self) -> None:
        """Believe the wall clock on an administrator's word; written with the next turn."""
        self._house.accept_clock()

    def stop(self, reading: Reading) -> None:
        """Write that the server stops, if the store answers. Raises StoreError."""
        try:
            self._house.move_out(reading)
        except StoreUnavailableError as error:
            log.warning("the store was not told that this server stops: %s", error)

    def turn(
        self,
        letters: Sequence[Letter],
        reading: Reading,
        has_time: Callable[[], bool] = lambda: True,
    ) -> list[bytes]:
        """Serve what has come; give one reply for each letter, in their order, all of them durable.

        Once `has_time` says no, the rest of the letters stay unserved, and there are fewer replies.
        """
        now = self._house.tick(reading)
        self._monotonic_s = reading.monotonic_s
        taken = letters[: self._taken_max]
        items = self._reader.understand(taken, now, reading.monotonic_s)
        serving = Serving(self._writing, self._ledger, items, now, self._reload, self._remember)
        try:
            if self._house.is_open(reading.monotonic_s):
                self._house.keep()
                serving.run(has_time)
                self._house.clean()
            else:
                serving.begun = len(items)
        except StoreUnavailableError as error:
            self._house.shut(error)
            serving.begun = len(items)
        replies = [
            serving.replies.get(place) or self._reply_without_store(items[place], now) for place in range(serving.begun)
        ]
        self._reader.keep(items[len(replies) :])
        if replies:
            self._count(items, len(replies))
        return replies

    def _count(self, items: Sequence[Item], served: int) -> None:
        self.rates.count(self._monotonic_s, served, sum(item.op == "renew" for item in items[:served]))
        self._taken_max = min(max(2 * served, self._taken_max // 2, TAKEN_LEAST), BATCH_MAX)

    # The status, and what can be said without the store.

    def read_status(self) -> dict[str, Any] | None:
        """Tell what the operation `status` would, or what is known of it while etcd is away."""
        if self._house.shut_since is None:
            with contextlib.suppress(StoreUnavailableError):  # the next turn says so
                self._told = self._writing.store.read(lambda tx: self._ledger.status(tx, self.guard.now))
                return self._told
        return {**self._told, **self._status_with(self._told["server"]["outages"])} if self._told else None

    def _status(self, tx: Transaction) -> dict[str, Any]:
        outages = [{"from": outage.start, "to": outage.end} for outage in mercy.outages(tx)]
        return self._status_with(outages)

    def _status_with(self, outages: list[dict[str, int]]) -> dict[str, Any]:
        return {
            "server": {
                "server_id": self._ledger.server_id,
                "name": self._ledger.name,
                "version": self._ledger.version,
                "started_at": self._house.card.started_at,
                "engine": "etcd",
                "clock": self._house.clock_told(),
                "outages": outages,
                "replies_dropped": self.replies_dropped,
                "cluster": self._report.write(),
            },
            "rates": self.rates.per_second(self._monotonic_s),
        }

    def _remember(self, item: Item, answer: dict[str, Any]) -> None:
        """Keep the last status, and who may see it."""
        if item.op == "status":
            self._told = answer
            self._viewers.pop(item.letter.sender, None)
            self._viewers[item.letter.sender] = None
            if len(self._viewers) > VIEWERS_MAX:
                del self._viewers[next(iter(self._viewers))]

    def _reply_without_store(self, item: Item, now: int) -> bytes:
        if item.op == "status" and item.letter.sender in self._viewers:
            fresh = self._status_with(self._told["server"]["outages"])
            return protocol.encode_reply(item.as_request()["id"], now, {**self._told, **fresh})
        message = "The server has no answer from its store; ask again a little later."
        return item.refused(Refusal("unavailable", message, {"retry_after_s": self._house.retry_after_s}), now)
