"""Stores over a real etcd for tests: opened anew as often as wanted, by one server or by several."""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import etcd_nodes

if TYPE_CHECKING or not etcd_nodes.MISSING:
    from als.store.etcd import fence
    from als.store.etcd.client import EtcdClient
    from als.store.etcd.keys import Keys
    from als.store.etcd.ops import Compare, Op, RangeResult, TxnResult
    from als.store.etcd.reading import Client
    from als.store.etcd.store import EtcdStore


def open_etcd(endpoint: str, prefix: bytes, server: int = 0) -> "EtcdStore":
    """Open the store under a prefix as a server that starts: it takes its number over from its last run."""
    return open_over(EtcdClient([endpoint]), prefix, server)


def open_over(client: "Client", prefix: bytes, server: int, **options: Any) -> "EtcdStore":
    """Open the store over a client."""
    keys = Keys(prefix)
    row = fence.read_servers(client, keys).get(server)
    claimed = fence.claim(client, keys, server, secrets.token_bytes(16), over=row.value if row else None)
    return EtcdStore(client, keys, claimed, **options)


class CountingClient:
    """Passes calls on, and counts them."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.calls = 0

    def range(
        self,
        start: bytes,
        stop: bytes | None = None,
        *,
        limit: int = 0,
        descending: bool = False,
        revision: int = 0,
    ) -> "RangeResult":
        """Read."""
        self.calls += 1
        return self._client.range(start, stop, limit=limit, descending=descending, revision=revision)

    def txn(self, compares: "Sequence[Compare]", success: "Sequence[Op]", failure: "Sequence[Op]" = ()) -> "TxnResult":
        """Compare and apply."""
        self.calls += 1
        return self._client.txn(compares, success, failure)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
