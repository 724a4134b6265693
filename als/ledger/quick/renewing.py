"""Renewals with nothing new but the time, in few looks; None for every other, which the rules of leases.py then decide.

It works on the lease's bytes in place: the conditions below repeat, as comparisons of bytes, what `_standing` and
`_touch` in leases.py say in words, and the model test holds both against each other.
"""

import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import msgspec

from als.catalog import Catalog
from als.ledger import sweep
from als.ledger.quick.repeats import Repeats
from als.ledger.quick.usual import Usual, front_mac
from als.records import (
    COMPUTER_BYTES,
    HOLDER_BYTES,
    LEASE_ENDS,
    LEASE_HEAD_BYTES,
    LEASE_LONE,
    LEASE_STATE_SHIFT,
    NEVER,
    RENEWED,
    TIME,
    TIME_BYTES,
    LeaseState,
    product_key,
)
from als.store.transaction import Table, Transaction

_ACTIVE = LeaseState.ACTIVE << LEASE_STATE_SHIFT
_ACTIVE_ENDS = _ACTIVE | LEASE_ENDS
_ADDRESSES = Table.ADDRESSES
_LEASES = Table.LEASES
_RENEWED_AT, _RENEWED_END = RENEWED.start, RENEWED.stop
_ENDS_HEAD_BYTES = LEASE_HEAD_BYTES + TIME_BYTES
_unpack_head = struct.Struct(">BI4xIII").unpack_from  # state and form, serial; renewed, period, due
_unpack_owner = struct.Struct(f">{COMPUTER_BYTES}sI").unpack  # a computer as in keys, and its fingerprint
_pack_time, _unpack_time = TIME.pack, TIME.unpack_from


IsGone = Callable[[int], bool]
"""Whether a serial was removed. Where its product was not reusable then, its leases are kept and hold no seat."""


def none_is_gone(serial: int) -> bool:
    """Say no."""
    return False


class Renew(Protocol):
    """Renews, when nothing but the time is new; None otherwise."""

    def __call__(self, renewal: Usual, key: bytes, request: bytes = b"") -> dict[str, Any] | None:
        """Take a renewal, its sender's key, and its bytes as they came if they shall be known from now on."""
        ...


class _Terms(NamedTuple):
    """What all renewals of a component have in common in one transaction."""

    number: int  # the product's
    product: bytes  # the same as in the keys of leases
    code: bytes  # the component's
    period_s: int
    answer: dict[str, Any]


def answering(catalog: Catalog, now: int) -> Callable[[int], dict[str, Any]]:
    """Give the function that tells the answer to the renewals of a product, by its number: always the same object.

    So all of a reply but its id need be written only once.
    """

    @cache
    def answer_of(number: int) -> dict[str, Any]:
        product = catalog.by_number[number]
        assert product.period_s is not None
        renew_by = now + product.period_s
        return {"result": "renewed", "renew_by": renew_by, "heartbeat_s": product.heartbeat_s, "lease": None}

    return answer_of


def in_transaction(
    tx: Transaction,
    catalog: Catalog,
    now: int,
    answer_of: Callable[[int], dict[str, Any]] | None = None,
    repeats: Repeats | None = None,
    is_gone: IsGone = none_is_gone,
) -> Renew:
    """Give the function that renews in this transaction.

    The function gives None when something else happens to the lease, or may. `repeats` then knows what it has renewed.
    """
    sweep.removals(tx)  # noted in the memo
    memo, get, replace, stamp = tx.memo, tx.get, tx.replace, tx.stamping()
    terms_of = cache(partial(_terms, answer_of or answering(catalog, now), catalog))

    def renew(renewal: Usual, key: bytes, request: bytes = b"") -> dict[str, Any] | None:
        terms = terms_of(renewal.product, renewal.component)
        if terms is None or renewal.want_lease or memo[sweep.REMOVALS]:
            return None
        owner = _known_owner(get, renewal.computer)
        if owner is None:
            return None
        lease = terms.product + owner
        raw = get(_LEASES, lease)
        if raw is None:
            return None
        what, serial, renewed_at, period_s, due_at = _unpack_head(raw)
        if period_s != terms.period_s or now >= renewed_at + period_s or now + period_s < due_at:
            return None  # `period_s` is not zero: a product that never lapses differs here from its None
        lone = what & LEASE_LONE
        state = what - lone
        place, ends_at = LEASE_HEAD_BYTES, NEVER
        if state == _ACTIVE_ENDS:
            place, ends_at = _ENDS_HEAD_BYTES, _unpack_time(raw, LEASE_HEAD_BYTES)[0]
        elif state != _ACTIVE:
            return None
        if (ends_at and now >= ends_at) or is_gone(serial):
            return None
        version = renewal.version
        own = terms.code + key[:HOLDER_BYTES]
        if lone:
            if version is not None:
                own += version.encode()
                if len(raw) != place + len(own):
                    return None
            if lone != len(terms.code) or not raw.startswith(own, place):
                return None
            stamp(int.from_bytes(lease, "big"), now)
            if repeats is not None:
                computer = int.from_bytes(owner, "big")
                repeats.learn(request, renewal.patience_ms, terms.number, computer, now + period_s, ends_at)
        else:
            renewed = _renew_counted(raw, place, bytes((len(terms.code),)) + own, version, _pack_time(now))
            if renewed is None:
                return None
            replace(_LEASES, lease, renewed)
        return terms.answer

    return renew


def _known_owner(get: Callable[[Table, bytes], bytes | None], computer: msgspec.Raw) -> bytes | None:
    """Give a computer as in keys, when its bytes are the same as when they were read and judged."""
    mac = front_mac(computer)
    raw = get(_ADDRESSES, mac) if mac is not None else None
    if raw is None:
        return None
    owner: bytes
    owner, mark = _unpack_owner(raw)
    return owner if mark == crc32(computer) else None


def renew(tx: Transaction, catalog: Catalog, renewal: Usual, key: bytes, now: int) -> dict[str, Any] | None:
    """Do what `renewing` says, for one of few."""
    made: tuple[Catalog, Renew] | None = tx.memo.get("renewing")
    if made is None or made[0] is not catalog:
        made = tx.memo["renewing"] = catalog, in_transaction(tx, catalog, now)
    return made[1](renewal, key)


def _terms(
    answer_of: Callable[[int], dict[str, Any]], catalog: Catalog, code: str, component_code: str
) -> _Terms | None:
    """Find out what is common; None when nothing of the kind is usual."""
    product = catalog.by_code.get(code)
    if product is None or not product.reusable or not product.period_s:
        return None
    component = product.components.get(component_code)
    if component is None or not component.licensed:
        return None
    number = product.number
    return _Terms(number, product_key(number), component_code.encode(), product.period_s, answer_of(number))


def _renew_counted(raw: bytes, place: int, own: bytes, version: str | None, time: bytes) -> bytes | None:
    """Renew a lease whose components are counted at `place`, each with its length and time; None when none is `own`.

    A lone one loses these (see LEASE_LONE), since it is heard as the lease is renewed.
    """
    count, start = raw[place], place + 1
    seen = 0
    end = start
    for _ in range(count):
        if raw.startswith(own, end):
            seen = end + len(own)
        end += 1 + raw[end] + HOLDER_BYTES + TIME_BYTES
    if not seen or (version is not None and raw[end:] != version.encode()):
        return None
    if count == 1 and raw[start] <= LEASE_LONE:
        head = bytes((raw[0] | raw[start],)) + raw[1:_RENEWED_AT] + time + raw[_RENEWED_END:place]
        return head + raw[start + 1 : seen] + raw[end:]
    return raw[:_RENEWED_AT] + time + raw[_RENEWED_END:seen] + time + raw[seen + TIME_BYTES :]
