"""Which server wrote a lease last: a mark before its bytes in etcd, which nobody above the store sees.

A server's own mark says that no other server relies on the row as it is. So it may renew the lease without having it
compared, and another server that changes it must tell (see moves.py). A row without a mark was written by no server.
"""

from als.store.transaction import Table

MARKED = Table.LEASES
MARK_BYTES = 3
_FIRST = b"\xff"  # no lease begins so


def mark_of(server: int) -> bytes:
    """Give a server's mark."""
    return _FIRST + server.to_bytes(MARK_BYTES - 1, "big")


def is_marked(raw: bytes) -> bool:
    """Say whether a server wrote this row last."""
    return raw.startswith(_FIRST)


def bare(raw: bytes) -> bytes:
    """Give a row's value without its mark."""
    return raw[MARK_BYTES:] if raw.startswith(_FIRST) else raw
