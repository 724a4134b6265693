"""Reads the whole history of an etcd, revision by revision, by its watch API; the few messages are written by hand.

For clusters that nobody compacts: what happened at a revision is gone once it is compacted.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import grpc

_WATCH = "/etcdserverpb.Watch/Watch"
_TIMEOUT_S = 60.0
_VARINT, _BYTES = 0, 2


class Revision(NamedTuple):
    """What one transaction changed: names with new values, None for a row that was deleted."""

    number: int
    changes: list[tuple[bytes, bytes | None]]


def history(endpoint: str, prefix: bytes, last: int, first: int = 1) -> Iterator[Revision]:
    """Give what happened to the names that begin with `prefix`, from a revision to another, both included.

    `last` should be a revision at which one of them changed: the reading ends there, or at the next change.
    """
    channel = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)])
    with channel:
        watch: Any = channel.stream_stream(_WATCH)
        stream = watch(iter([_request(prefix, first)]), timeout=_TIMEOUT_S)
        try:
            yield from _revisions(stream, last)
        finally:
            stream.cancel()


def _revisions(stream: Iterator[bytes], last: int) -> Iterator[Revision]:
    """Put events together by their revision; one that comes in two answers would be given twice."""
    for answer in stream:
        fields = list(_fields(answer))
        assert not dict(fields).get(4), "the watch was canceled: is the history compacted?"
        events = [_event(value) for number, value in fields if number == 11]
        for revision, changes in groupby(events, key=itemgetter(0)):
            if revision > last:
                return
            yield Revision(revision, [(name, value) for _, name, value in changes])
            if revision == last:
                return
    raise AssertionError(f"the watch ended before revision {last}")


def _request(prefix: bytes, first: int) -> bytes:
    stop = prefix[:-1] + bytes((prefix[-1] + 1,))
    create = _field(1, prefix) + _field(2, stop) + b"\x18" + _varint(first)
    return _field(1, create)


def _event(raw: bytes) -> tuple[int, bytes, bytes | None]:
    """Give revision, name and new value of an event; None for a deletion."""
    event = dict(_fields(raw))
    row = dict(_fields(event[2]))
    return row[3], row[1], None if event.get(1) else row.get(5, b"")


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Take a message apart: the number of each field with its value."""
    place = 0
    while place < len(raw):
        tag, place = _read_varint(raw, place)
        value, place = _read_varint(raw, place)
        if tag & 7 == _BYTES:
            yield tag >> 3, raw[place : place + value]
            place += value
        else:
            assert tag & 7 == _VARINT
            yield tag >> 3, value


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _read_varint(raw: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = raw[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
