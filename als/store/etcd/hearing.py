"""What a server hears from the others and tells them, and what it may therefore leave out of its messages."""

from collections.abc import Iterable, Sequence

from als import clock
from als.store.etcd.commit import Bundle, Verdict
from als.store.etcd.moves import Moves, Telling, Trust
from als.store.etcd.ops import KeyValue
from als.store.etcd.parts import Part
from als.store.etcd.reading import Client
from als.store.etcd.transaction import EtcdTransaction
from als.store.etcd.view import EtcdView, told

TRUST_TRIES = 2  # messages of a transaction that others' changes may spoil before everything is compared
NEWS_REMEMBERED = 10  # transactions without any


class Hearing:
    """Keeps what this server believes in step with what the others tell."""

    def __init__(self, client: Client, view: EtcdView, moves: Moves) -> None:
        self.moves = moves
        self._client = client
        self._view = view
        self._spoiled = 0  # messages of the transaction under way
        self._news_expected = 0  # for how many more transactions to ask what others have told

    def listen(self) -> None:
        """Take up what others tell before a large message is sent in vain, as long as they tell all the time.

        Raises StoreError, StoreUnavailableError.
        """
        if not self._news_expected:
            return
        with told():
            rows = self._client.range(*self.moves.rows).rows
        known = self.moves.revision
        self._take_up(rows)
        self._news_expected = NEWS_REMEMBERED if self.moves.revision != known else self._news_expected - 1

    def trust(self) -> Trust:
        """Begin with a transaction that has seen nothing older than the last news."""
        self._spoiled = 0
        return self.moves.trust()

    def telling(self, transaction: EtcdTransaction, joint: Part, bundles: Iterable[Bundle]) -> Telling | None:
        """Give what has to be told in a message of these parts; None when nothing has."""
        doubted = (unit for bundle in bundles if bundle.compares for unit in bundle.units)
        names = [name for unit in doubted for name in self.moves.to_tell(unit)]
        names += self.moves.to_tell(joint, transaction.ground, transaction.inserted)
        return self.moves.telling(names, clock.monotonic_s())

    def told(self, telling: Telling, trust: Trust | None, verdict: Verdict) -> Trust | None:
        """Take over that a message was written, and what others told before it; give what is left to trust."""
        self.moves.told(telling, clock.monotonic_s())
        return self._trust_less(trust, verdict)

    def is_spoiled(self, verdict: Verdict) -> bool:
        """Say whether a message was refused for what others have told."""
        return not verdict.is_accepted and any(row.mod_revision > self.moves.revision for row in verdict.moves)

    def after_news(self, trust: Trust, verdict: Verdict) -> Trust | None:
        """Take up the news that spoiled a message; give what is left to trust when it is sent again."""
        self._spoiled += 1
        self._news_expected = NEWS_REMEMBERED
        less = self._trust_less(trust, verdict)
        return less if self._spoiled < TRUST_TRIES else None

    def _trust_less(self, trust: Trust | None, verdict: Verdict) -> Trust | None:
        names = self._take_up(verdict.moves)
        return None if trust is None or names is None else self.moves.trust()._replace(strange=trust.strange | names)

    def _take_up(self, rows: Sequence[KeyValue]) -> set[bytes] | None:
        names = self.moves.take_up(rows)
        if names is None:
            self._view.cache.forget_all(self.moves.heads)
        else:
            self._view.cache.forget(names)
        return names
