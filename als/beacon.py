"""Discovery datagrams as bytes: a query that is broadcast, an answer that is never longer than it.

Sans I/O: the server's discovery socket and the clients' search both use it.
"""

from typing import Any, NamedTuple

import msgpack

VERSION = 1
NONCE_BYTES = 16
QUERY_BYTES = 512  # padded, so that an answer (at most as long) amplifies nothing
SERVER_ID_BYTES_MAX = 64
NAME_BYTES_MAX = 64
VERSION_BYTES_MAX = 32
KEY_BYTES = 32

_QUERY = b"ALSQ" + bytes([VERSION])
_ANSWER = b"ALSA" + bytes([VERSION])
_HEAD_BYTES = len(_QUERY) + NONCE_BYTES


class Answer(NamedTuple):
    """What a server says of itself: `port` is its TCP port, `key` its CURVE public key (32 bytes)."""

    server_id: str
    name: str
    version: str
    port: int
    key: bytes


def encode_query(nonce: bytes) -> bytes:
    """Write a query with a nonce of 16 bytes."""
    assert len(nonce) == NONCE_BYTES
    return (_QUERY + nonce).ljust(QUERY_BYTES, b"\0")


def decode_query(datagram: bytes) -> bytes | None:
    """Give the nonce of a well-formed query, None for anything else."""
    if len(datagram) != QUERY_BYTES or not datagram.startswith(_QUERY):
        return None
    return datagram[len(_QUERY) : _HEAD_BYTES]


def encode_answer(nonce: bytes, answer: Answer) -> bytes:
    """Write an answer to the query with this nonce. Texts that are too long are cut between characters."""
    body: bytes = msgpack.packb(
        {
            "server_id": _cut(answer.server_id, SERVER_ID_BYTES_MAX),
            "name": _cut(answer.name, NAME_BYTES_MAX),
            "version": _cut(answer.version, VERSION_BYTES_MAX),
            "port": answer.port,
            "key": answer.key,
        }
    )
    datagram = _ANSWER + nonce + body
    assert len(datagram) <= QUERY_BYTES
    return datagram


def decode_answer(datagram: bytes) -> tuple[bytes, Answer] | None:
    """Give nonce and content of a well-formed answer, None for anything else."""
    if not _HEAD_BYTES < len(datagram) <= QUERY_BYTES or not datagram.startswith(_ANSWER):
        return None
    try:
        body = msgpack.unpackb(datagram[_HEAD_BYTES:])
    except Exception:  # whatever a decoder of foreign bytes may raise, it is no answer
        return None
    if type(body) is not dict:
        return None
    texts: list[Any] = [body.get(key) for key in ("server_id", "name", "version")]
    limits = (SERVER_ID_BYTES_MAX, NAME_BYTES_MAX, VERSION_BYTES_MAX)
    port, key = body.get("port"), body.get("key")
    if any(
        type(text) is not str or len(text.encode("utf-8", "surrogatepass")) > most
        for text, most in zip(texts, limits, strict=True)
    ):
        return None
    if type(port) is not int or not 0 < port < 65_536 or type(key) is not bytes or len(key) != KEY_BYTES:
        return None
    return datagram[len(_ANSWER) : _HEAD_BYTES], Answer(texts[0], texts[1], texts[2], port, key)


def _cut(text: str, bytes_max: int) -> str:
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
