"""One request as it came, and what is told to who comes when the server has no time for him."""

import msgspec

from als import protocol
from als.ledger.quick.usual import patience_s
from als.protocol import MalformedError, Refusal
from als.server.access import Properties

RETRY_AFTER_S = 5  # long enough to let a queue of WAITING_MAX drain
BUSY = Refusal("unavailable", "The server is busy; ask again a little later.", {"retry_after_s": RETRY_AFTER_S})


class Letter(msgspec.Struct, frozen=True, gc=False):
    """One request as it came: `sender` is its proven key, `frame` tells the peer's address when it is asked.

    `envelope` is where the reply goes (the core only sees that equal ones are one connection's), `arrived_s` when it
    came, by the monotonic clock.
    """

    envelope: tuple[bytes, ...]
    body: bytes
    sender: bytes
    frame: Properties
    arrived_s: float


def is_given_up(patience_ms: int | None, waited_s: float) -> bool:
    """Say whether a sender with this patience has given its request up by now."""
    return waited_s > patience_s(patience_ms)


def refuse_busy(body: bytes, now: int) -> bytes:
    """Answer a request that does not even get into the queue."""
    try:
        return protocol.encode_refusal(protocol.decode(body)["id"], now, BUSY)
    except MalformedError as error:
        return protocol.encode_refusal(error.request_id, now, error.refusal)
