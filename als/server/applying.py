"""The requests of a turn, applied one after the other in one transaction: each in the shortest way that is open to it.

A renewal that came before in the same words is known, a usual request is decided in few looks (als/ledger/quick/), and
everything else by the rules. All three leave the same rows and give the same replies.
"""

from collections.abc import Callable, Sequence
from typing import Any

from als import protocol
from als.ledger import Ledger, Sender
from als.ledger.quick.repeats import Repeats
from als.ledger.quick.usual import Usual, encode_id
from als.ledger.quick.usual import read as read_usual
from als.protocol import MalformedError, Refusal
from als.server.access import peer_of
from als.server.letters import BUSY, Letter, is_given_up
from als.store.transaction import Transaction

LOOK_EVERY_REQUESTS = 8  # so that asking for the time costs the usual renewals nothing


class Applying:
    """What has been applied in a transaction: the replies in order, and how many of them were renewals'."""

    def __init__(
        self,
        tx: Transaction,
        ledger: Ledger,
        known: Repeats,
        now: int,
        monotonic_s: float,
        reload: Callable[[], None],
    ) -> None:
        """Take up what all requests have in common. `reload` reads the catalog again, before the first import."""
        self.replies: list[bytes] = []
        self.renewals = 0
        self._tx = tx
        self._ledger = ledger
        self._known = known
        self._now = now
        self._monotonic_s = monotonic_s
        self._reload: Callable[[], None] | None = reload
        self._peers: dict[tuple[bytes, ...], str] = {}  # what comes from one connection comes from one address
        self._renewed: dict[str, Any] | None = None  # the answer whose reply is written here, all but its id
        self._head = self._tail = b""
        self._may_be_known = True
        self._take_up_catalog()

    def _take_up_catalog(self) -> None:
        ledger, tx, now = self._ledger, self._tx, self._now
        self._renew_known, self._renew_quickly = ledger.renewing(tx, now, self._known, self._monotonic_s)
        self._acquire_quickly = ledger.acquiring(tx, now)

    def run(self, letters: Sequence[Letter], has_time: Callable[[], bool]) -> None:
        """Apply each request while there is time."""
        replies = self.replies
        is_slow = False
        place = look_at = 0
        while place < len(letters):
            if self._may_be_known:
                first, place = place, self._renew_known(letters, place, replies)
                self.renewals += place - first
                if place == len(letters):
                    return
            if is_slow or place >= look_at:
                if place and not has_time():
                    return
                look_at = place + LOOK_EVERY_REQUESTS
            letter = letters[place]
            place += 1
            waited_s = self._monotonic_s - letter.arrived_s
            usual = read_usual(letter.body)
            reply = None
            if usual is not None and not is_given_up(usual.patience_ms, waited_s):
                reply = self._renew(letter, usual) if usual.op == "renew" else self._acquire(letter, usual)
            is_slow = reply is None
            replies.append(self._decide(letter, waited_s) if reply is None else reply)

    def _renew(self, letter: Letter, usual: Usual) -> bytes | None:
        """Renew, when nothing but the time is new; the answer is the same for all of a product in a turn."""
        self._may_be_known = True
        answer = self._renew_quickly(usual, letter.sender, letter.body)
        if answer is None:
            return None
        self.renewals += 1
        if answer is not self._renewed:
            self._renewed = answer
            self._head, self._tail = protocol.encode_start(answer), protocol.encode_tail(self._now, answer)
        return self._head + encode_id(usual.id) + self._tail

    def _acquire(self, letter: Letter, usual: Usual) -> bytes | None:
        """Give a seat to a computer that is new, or tell one of the seat that it has."""
        self._may_be_known = False  # those that acquire often come together, and are not known
        envelope = letter.envelope
        address = self._peers.get(envelope)
        if address is None:  # asking costs ten times as much
            address = self._peers[envelope] = peer_of(letter.frame)
        acquired = self._acquire_quickly(usual, letter.sender, address)
        return acquired.encode(usual.id) if acquired is not None else None

    def _decide(self, letter: Letter, waited_s: float) -> bytes:
        """Decide a request by the rules; give its reply."""
        now = self._now
        try:
            request = protocol.decode(letter.body)
        except MalformedError as error:
            return protocol.encode_refusal(error.request_id, now, error.refusal)
        if is_given_up(request.get("patience_ms"), waited_s):
            return protocol.encode_refusal(request["id"], now, BUSY)
        if request["op"] == "import" and self._reload and self._ledger.allows(self._tx, "import", letter.sender):
            self._reload()
            self._reload = None
            self._take_up_catalog()
        self.renewals += request["op"] == "renew"
        answer = self._ledger.decide(self._tx, request, Sender(letter.sender, peer_of(letter.frame)), now)
        if isinstance(answer, Refusal):
            return protocol.encode_refusal(request["id"], now, answer)
        return protocol.encode_reply(request["id"], now, answer)
