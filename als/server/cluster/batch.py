"""The requests of a turn, read once, and the rows that they need, read ahead for all of them together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from als import protocol
from als.catalog import Catalog
from als.ledger import ahead
from als.ledger.ahead import Peek, Row
from als.ledger.quick.usual import Usual, read_renewal
from als.protocol import MalformedError, Refusal, Request
from als.server.letters import BUSY, Letter, is_given_up
from als.store.transaction import Table

READS = frozenset({"status", "licenses", "leases", "events", "usage", "admins"})


class Item(NamedTuple):
    """A letter as it is understood: a renewal that looks usual, a request, or a refusal already written."""

    letter: Letter
    usual: Usual | None = None
    request: Request | None = None
    refusal: bytes = b""

    @property
    def op(self) -> str:
        """The operation; empty when there is none."""
        if self.usual is not None:
            return "renew"
        return str(self.request["op"]) if self.request is not None else ""

    @property
    def is_read(self) -> bool:
        """Say whether it only reads, and may read much."""
        return self.op in READS

    def as_request(self) -> Request:
        """Give it as the rules take it, not for a refusal. Raises MalformedError: it only looked like a renewal."""
        return self.request if self.request is not None else protocol.decode(self.letter.body)

    def refused(self, refusal: Refusal, now: int) -> bytes:
        """Write a refusal to it; one that it has already wins."""
        if self.refusal:
            return self.refusal
        number = self.usual.id if self.usual is not None else self.request["id"] if self.request is not None else 0
        return protocol.encode_refusal(number, now, refusal)


class Reader:
    """Reads letters; those that a turn had no time for are known in the next, since reading is a tenth of serving."""

    def __init__(self) -> None:
        self._unserved: dict[int, Item] = {}  # by the letter's identity, which is its own as long as the item holds it

    def understand(self, letters: Sequence[Letter], now: int, monotonic_s: float) -> list[Item]:
        """Read letters, and refuse those that their senders have given up by now."""
        known, self._unserved = self._unserved, {}
        return [_patient(known.get(id(letter)) or _read(letter, now), now, monotonic_s) for letter in letters]

    def keep(self, items: Sequence[Item]) -> None:
        """Remember what was not served."""
        self._unserved = {id(item.letter): item for item in items}


def _patient(item: Item, now: int, monotonic_s: float) -> Item:
    letter = item.letter
    if letter.arrived_s != monotonic_s and not item.refusal:
        patience_ms = item.usual.patience_ms if item.usual is not None else (item.request or {}).get("patience_ms")
        if is_given_up(patience_ms, monotonic_s - letter.arrived_s):
            return Item(letter, refusal=item.refused(BUSY, now))
    return item


def _read(letter: Letter, now: int) -> Item:
    usual = read_renewal(letter.body)
    if usual is not None:
        return Item(letter, usual=usual)
    try:
        return Item(letter, request=protocol.decode(letter.body))
    except MalformedError as error:
        return Item(letter, refusal=protocol.encode_refusal(error.request_id, now, error.refusal))


def addresses(items: Sequence[Item], is_open: bool = True) -> Iterator[Row]:
    """Give what is needed first: addresses, and the senders who may have roles; unless `is_open`, each needs one."""
    for item in items:
        if item.usual is not None:
            if not is_open:
                yield Table.ADMINS, item.letter.sender
            yield from ahead.addresses_of_renewal(item.usual)
        elif item.request is not None:
            yield Table.ADMINS, item.letter.sender
            yield from ahead.addresses(item.request)


def records(items: Sequence[Item], catalog: Catalog, peek: Peek) -> Iterator[Row]:
    """Give what the addresses lead to."""
    for item in items:
        if item.usual is not None:
            yield from ahead.lease_of_renewal(catalog, item.usual, peek)
        elif item.request is not None:
            yield from ahead.records(catalog, item.request, peek)
