"""What a transaction of etcd is made of, and what it gives back. Knows messages, no transport.

Compares and operations are built in wire format (field number and kind in a byte, length, bytes), since a turn makes
thousands, and through message objects each would be copied once a level that it is nested in. Their `len` is their
size.
"""

from collections.abc import Sequence
from typing import NamedTuple, NewType

# What precedes each field: its number times 8, plus 0 for a number or 2 for a length and as many bytes. So b"\x10" is
# field 2 as a number, b"\x0a", b"\x12", b"\x1a", b"\x22" are fields 1 to 4 as bytes; rpc.proto has their names.

Compare = NewType("Compare", bytes)
Op = NewType("Op", bytes)


class KeyValue(NamedTuple):
    """A row as etcd keeps it; the revisions count the changes of the whole cluster, `version` those of the row."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int


class RangeResult(NamedTuple):
    """The rows of a range, whether `limit` cut it short, and the revision it was read at."""

    rows: list[KeyValue]
    more: bool
    revision: int


class TxnResult(NamedTuple):
    """Whether the compares held, and what each operation of the branch that ran gave, in order.

    A get gives rows, a nested transaction its own result, a put or delete None.
    """

    succeeded: bool
    responses: "list[list[KeyValue] | TxnResult | None]"
    revision: int


def value_is(key: bytes, value: bytes) -> Compare:
    """Hold when the key exists with this value."""
    return Compare(b"".join((b"\x10\x03\x1a", _LENGTHS[len(key)], key, b"\x3a", _LENGTHS[len(value)], value)))


def is_absent(key: bytes) -> Compare:
    """Hold when there is no such key."""
    return Compare(b"".join((b"\x10\x01\x1a", _LENGTHS[len(key)], key, b"\x28\x00")))


def none_in(start: bytes, stop: bytes) -> Compare:
    """Hold when there is no key with start <= key < stop."""
    return Compare(b"".join((is_absent(start), _RANGE_END, _LENGTHS[len(stop)], stop)))


def unchanged_since(start: bytes, stop: bytes, revision: int) -> Compare:
    """Hold when no key with start <= key < stop was put after `revision`; deletions do not show."""
    head = b"".join((b"\x08\x02\x10\x02\x1a", _LENGTHS[len(start)], start, b"\x30", _varint(revision + 1)))
    return Compare(b"".join((head, _RANGE_END, _LENGTHS[len(stop)], stop)))


def never() -> Compare:
    """Hold never: no key has so many versions."""
    return Compare(b"\x08\x01\x1a\x01\x00\x20" + _varint(_NEVER))


def put(key: bytes, value: bytes) -> Op:
    """Insert or replace."""
    return _op(b"\x12", b"".join((b"\x0a", _LENGTHS[len(key)], key, b"\x12", _LENGTHS[len(value)], value)))


def delete(key: bytes, stop: bytes | None = None) -> Op:
    """Remove one key, or all with key <= k < stop; nothing there is no error."""
    return _op(b"\x1a", _key_range(key, stop))


def get(key: bytes, stop: bytes | None = None, limit: int = 0, descending: bool = False, keys_only: bool = False) -> Op:
    """Read one key, or the rows with key <= k < stop in their order, at most `limit` (0: all)."""
    if stop is None and not keys_only:
        return _op(b"\x0a", _key_range(key, None))
    return _op(b"\x0a", range_request(key, stop, limit, descending, keys_only))


def give_up(key: bytes) -> Op:
    """Have etcd refuse the whole outermost transaction, should this run in it (EtcdGaveUpError).

    It reads at a revision that never comes, and etcd looks for such before it applies anything.
    """
    return _op(b"\x0a", range_request(key, revision=_NEVER))


def nested(compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> Op:
    """Decide within a transaction; its verdict is its own. Compares are made before any write of the whole."""
    return _op(b"\x22", txn_request(compares, success, failure))


def txn_request(compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> bytes:
    """Build the message of a transaction."""
    parts: list[bytes] = []
    for compare in compares:
        parts += (b"\x0a", _LENGTHS[len(compare)], compare)
    for op in success:
        parts += (b"\x12", _LENGTHS[len(op)], op)
    for op in failure:
        parts += (b"\x1a", _LENGTHS[len(op)], op)
    return b"".join(parts)


def range_request(
    key: bytes,
    stop: bytes | None = None,
    limit: int = 0,
    descending: bool = False,
    keys_only: bool = False,
    revision: int = 0,
    serializable: bool = False,
) -> bytes:
    """Build the message of a read; `revision` 0 is the newest, `serializable` lets any member answer by itself."""
    parts = [_key_range(key, stop)]
    if limit:
        parts += (b"\x18", _varint(limit))
    if revision:
        parts += (b"\x20", _varint(revision))
    if descending:
        parts.append(b"\x28\x02")
    if serializable:
        parts.append(b"\x38\x01")
    if keys_only:
        parts.append(b"\x40\x01")
    return b"".join(parts)


_RANGE_END = b"\x82\x04"  # field 64 takes two bytes
_NEVER = (1 << 63) - 1


def _key_range(key: bytes, stop: bytes | None) -> bytes:
    if stop is None:
        return b"".join((b"\x0a", _LENGTHS[len(key)], key))
    return b"".join((b"\x0a", _LENGTHS[len(key)], key, b"\x12", _LENGTHS[len(stop)], stop))


def _op(kind: bytes, message: bytes) -> Op:
    return Op(b"".join((kind, _LENGTHS[len(message)], message)))


def _varint(number: int) -> bytes:
    """Write a number as protobuf does: seven bits a byte, the lowest first, the top bit set on all but the last."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


class _Lengths(dict[int, bytes]):
    """Lengths as protobuf writes them, the usual ones ready: they are half of the pieces of a message."""

    def __missing__(self, number: int) -> bytes:
        return _varint(number)


_LENGTHS = _Lengths({number: _varint(number) for number in range(1 << 11)})
