"""Renewals that come again as they came before: known by a fingerprint, without reading them or the lease.

A heartbeat differs from the one before in nothing but its id. When one has been found usual (renewing.py), what it
said, with its sender's key, is kept as a fingerprint of 64 bits, together with the lease that it renews. One with the
same fingerprint renews that lease again, as long as the lease has neither lapsed nor ended, and nothing was written of
it or of its computer since. What is kept here is never needed: a restart loses it, and what is not known is looked up.
The fingerprint is keyed with a secret, so nobody can make two requests that share one; by chance, one in 2^64 would.

What speed costs in clarity: numbers in arrays of a fixed size, in which a newer request takes an older one's place, so
that a million leases need no more memory than ten thousand, and a look touches three lines of it.
"""

import mmap
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from als import protocol
from als.catalog import Catalog
from als.ledger.quick.usual import patience_s
from als.records import lease_key
from als.store.transaction import Transaction

PLACES = 1 << 21  # 40 MiB, once they are in use; of a million requests that come in turn 94 in 100 are known
_TOGETHER = 4  # places, in a line of the processor's cache: a request is at one of these
CHANGES = 1 << 18  # counters of changes, half a MiB: a computer shares its own with few
_CHANGE_MAX = 0xFFFF
_KINDS_MAX = 0x7FFF
_COMPUTERS_MAX = 0xFFFFFFFF  # those that were met by a server alone
SECRET_BYTES = 16
_MEMO = "repeats"  # in a transaction's memo

# Where a request has its id, if it begins as most do, a map with "v": 1 and "id"; by its first byte, where it ends.
_ID_AT = 7
_ID = b"\xa2id"
_HEADS = tuple(bytes((0x80 + keys,)) + b"\xa1v\x01" + _ID for keys in range(16))
_ID_ENDS = bytes(
    _ID_AT + 1 if form < 0x80 else _ID_AT + {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}.get(form, -_ID_AT)
    for form in range(256)
)

_SHORTEST = 32  # bytes; shorter is no renewal
_LONGEST = 4_096  # bytes of what is known, several times the usual: with another id it is still no request too large
_BESIDE = 2 * (_TOGETHER - 1)
_CHANCE_SHIFT = 40  # bits of a fingerprint above those that say at which place it is

Answer = dict[str, Any]


class _Kind(NamedTuple):
    """What many requests have in common."""

    product: int  # its number
    ends_at: int  # when the lease's serial ends
    patience_ms: int | None


_Terms = tuple[float, int, int, bytes, bytes]  # the patience in s, lapse or end, the product in keys, the reply's parts


class Sent(Protocol):
    """A request as it came, its sender's key, and when it came."""

    @property
    def body(self) -> bytes: ...

    @property
    def sender(self) -> bytes: ...

    @property
    def arrived_s(self) -> float: ...


Renew = Callable[[Sequence[Sent], int, list[bytes]], int]


class Repeats:
    """What is known of renewals that may come again; of one server and its store."""

    def __init__(self, secret: bytes = b"", places: int = PLACES) -> None:
        """Know none. `secret` is what only this process knows; `places` is a power of two."""
        self._secret = secret
        self._places = places
        # At each place the fingerprint (0: none), then from the top its kind in 16 bits, the change in 16, the computer
        # in 32. The fingerprint says at which places a request may be.
        self._known = _zeros(2 * places, "q")
        self._until = _zeros(places, "I")  # when the lease lapses or ends
        self._mask = 2 * (places - _TOGETHER)
        self._changes = _zeros(CHANGES, "H")  # how often something was written of a computer
        self._kinds: list[_Kind] = []
        self._kind_of: dict[_Kind, int] = {}
        self._terms: dict[int, _Terms] = {}  # of kinds, in one transaction
        self._missed: bytes | None = None  # the last request that was not known
        self._mark = 0  # its fingerprint
        self._catalog: Catalog | None = None
        self._now = 0

    def attend(self, tx: Transaction) -> None:
        """Be told of what is written in a transaction; each that changes the store needs it."""
        tx.memo[_MEMO] = self

    def forget_all(self) -> None:
        """Know none any more."""
        self._known, self._until = _zeros(2 * self._places, "q"), _zeros(self._places, "I")
        self._kinds.clear()
        self._kind_of.clear()
        self._terms.clear()
        self._missed = None

    def change(self, computer: int) -> None:
        """Know none any more of this computer."""
        place = computer % CHANGES
        if self._changes[place] == _CHANGE_MAX:
            self.forget_all()
            self._changes[place] = 0
        self._changes[place] += 1

    def renewing(
        self, tx: Transaction, catalog: Catalog, now: int, monotonic_s: float, answer_of: Callable[[int], Answer]
    ) -> Renew:
        """Give the function that renews in this transaction what is known.

        It takes all requests of a turn, the place of the first that is to be done, and the replies, to which it adds
        one for each up to the first that is not known, and gives that one's place. Who has given up by `monotonic_s` is
        as if he were not known. `answer_of` gives the answer to a product's renewals.
        """
        if catalog is not self._catalog or now < self._now:
            self.forget_all()
        self._catalog, self._now = catalog, now
        secret, mask = self._secret, self._mask
        changes, kinds = self._changes, self._kinds
        stamp, terms = tx.stamping(), self._terms
        terms.clear()

        def terms_of(kind: int) -> _Terms:
            product, ends_at, patience_ms = kinds[kind]
            answer = answer_of(product)
            renew_by: int = answer["renew_by"]
            lease = int.from_bytes(lease_key(product, 0), "big")
            head, tail = protocol.encode_start(answer), protocol.encode_tail(now, answer)
            terms[kind] = found = patience_s(patience_ms), min(renew_by, ends_at or renew_by), lease, head, tail
            return found

        def renew(letters: Sequence[Sent], first: int, replies: list[bytes]) -> int:
            known, until = self._known, self._until  # others than before, once all was forgotten
            for place in range(first, len(letters)):
                letter = letters[place]
                request = letter.body
                if len(request) < _SHORTEST:
                    return place
                end = _ID_ENDS[request[_ID_AT]]
                mark = hash(secret + letter.sender + request[:_ID_AT] + request[end:])
                at = mark & mask
                last = at + _BESIDE
                while known[at] != mark and at != last:
                    at += 2
                lease = known[at + 1]
                computer = lease & _COMPUTERS_MAX
                if (
                    known[at] != mark
                    or now >= until[at >> 1]
                    or lease >> 32 & _CHANGE_MAX != changes[computer % CHANGES]
                    or not end
                ):
                    self._missed, self._mark = request, mark
                    return place
                kind = lease >> 48
                patience, lapses_at, product, head, tail = terms.get(kind) or terms_of(kind)
                if monotonic_s - letter.arrived_s > patience:
                    return place
                until[at >> 1] = lapses_at
                stamp(product + computer, now)
                replies.append(head + request[_ID_AT:end] + tail)
            return len(letters)

        return renew

    def learn(
        self, request: bytes, patience_ms: int | None, product: int, computer: int, lapses_at: int, ends_at: int
    ) -> None:
        """Know a request, if it is the one that was not known just now; it has renewed the lease of this computer.

        `lapses_at` is when the lease lapses now, `ends_at` when its serial ends.
        """
        if request is not self._missed or computer > _COMPUTERS_MAX or not _has_one_id(request):
            return
        common = _Kind(product, ends_at, patience_ms)
        kind = self._kind_of.get(common)
        if kind is None:
            if len(self._kinds) > _KINDS_MAX:
                self.forget_all()
                return
            kind = self._kind_of[common] = len(self._kinds)
            self._kinds.append(common)
        mark, known, until = self._mark, self._known, self._until
        first = at = mark & self._mask
        last = at + _BESIDE
        while known[at] != mark and until[at >> 1] > self._now:
            if at == last:  # all are in use: one of them goes
                at = first + 2 * (mark >> _CHANCE_SHIFT & _TOGETHER - 1)
                break
            at += 2
        known[at] = mark
        known[at + 1] = kind << 48 | self._changes[computer % CHANGES] << 32 | computer
        until[at >> 1] = min(lapses_at, ends_at or lapses_at)


def _has_one_id(request: bytes) -> bool:
    """Say whether a request of usual length has its id where it is looked for, and nothing that may be another."""
    is_usual = len(request) <= _LONGEST and request[:_ID_AT] in _HEADS
    return is_usual and bool(_ID_ENDS[request[_ID_AT]]) and request.count(_ID) == 1


def _zeros(numbers: int, form: str) -> "memoryview[int]":
    """Give numbers that are all 0, and take no memory before they are written. `form` is one of struct's."""
    return memoryview(mmap.mmap(-1, numbers * struct.calcsize(form))).cast(form)  # type: ignore[call-overload, no-any-return]


def forget_all(tx: Transaction) -> None:
    """Have a transaction's server know no renewals any more: something was written that may be about any."""
    repeats: Repeats | None = tx.memo.get(_MEMO)
    if repeats is not None:
        repeats.forget_all()


def change(tx: Transaction, computer: int) -> None:
    """Say that something was written of a computer: of its addresses, or of a lease."""
    repeats: Repeats | None = tx.memo.get(_MEMO)
    if repeats is not None:
        repeats.change(computer)
