"""What a server said of itself at one moment, as values that never change: what every view is made from.

Knows the keys of a `status` reply, and nothing of how it was fetched or how it will look.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pool:
    """All seats of one product. `total`, `free` and `used` are those of valid serials; `next_expiry` may be None."""

    product: str
    product_name: str
    total: int
    free: int
    used: int
    lapsed: int
    on_expired: int
    denied_24h: int
    expiring_30d: int
    next_expiry: int | None

    @property
    def is_in_use(self) -> bool:
        """Whether there is anything to say of it: a catalog names products that nobody bought."""
        return any((self.total, self.used, self.lapsed, self.on_expired, self.denied_24h))


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which no server ran; it does not count against any lease."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ClusterServer:
    """One of a cluster's servers. `state` is "running", "stopped" or "silent", `last_tick` when it was heard last."""

    number: int
    name: str
    address: str
    version: str
    state: str
    last_tick: int
    clock_ahead_ms: int


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One of the etcd members that a server knows. `version` is empty when it does not answer."""

    endpoint: str
    name: str
    version: str
    is_leader: bool
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """The etcd cluster behind the server. `leader` is None while there is none, `number` is the server's own."""

    servers: int
    members: int
    leader: str | None
    store_bytes: int
    number: int = 0
    troubles: tuple[str, ...] = ()
    server_rows: tuple[ClusterServer, ...] = ()
    member_rows: tuple[ClusterMember, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One `status` reply, and where it came from: `address` is "host:port", `fingerprint` the server key's.

    Times are seconds since 1970 UTC; `now` is the server's, `clock_state` "ok", "set_back" or "jumped".
    """

    address: str
    fingerprint: str
    now: int
    server_id: str
    name: str
    version: str
    engine: str
    started_at: int
    clock_state: str
    clock_behind_s: int
    outages: tuple[Outage, ...]
    replies_dropped: int
    cluster: Cluster | None
    pools: tuple[Pool, ...]
    serials: int
    leases: int
    computers: int
    events: int
    requests_per_s: float
    renewals_per_s: float


def take(reply: Mapping[str, Any], address: str = "", fingerprint: str = "") -> Snapshot:
    """Make a snapshot of a `status` reply. Raises KeyError for one that lacks what the protocol promises."""
    server, counts, rates = reply["server"], reply["counts"], reply["rates"]
    cluster = server.get("cluster")
    return Snapshot(
        address=address,
        fingerprint=fingerprint,
        now=reply["time"],
        server_id=server["server_id"],
        name=server["name"],
        version=server["version"],
        engine=server["engine"],
        started_at=server["started_at"],
        clock_state=server["clock"]["state"],
        clock_behind_s=server["clock"]["behind_s"],
        outages=tuple(Outage(outage["from"], outage["to"]) for outage in server["outages"]),
        replies_dropped=server["replies_dropped"],
        cluster=None if cluster is None else _cluster(cluster),
        pools=tuple(_pool(pool) for pool in reply["pools"]),
        serials=counts["serials"],
        leases=counts["leases"],
        computers=counts["computers"],
        events=counts["events"],
        requests_per_s=rates["requests_per_s"],
        renewals_per_s=rates["renewals_per_s"],
    )


def _pool(pool: Mapping[str, Any]) -> Pool:
    return Pool(**{name: pool[name] for name in Pool.__dataclass_fields__})


def _cluster(cluster: Mapping[str, Any]) -> Cluster:
    leader = cluster["leader"]
    return Cluster(
        sum(row["state"] == "running" for row in cluster["servers"]),
        len(cluster["members"]),
        None if leader is None else str(leader),
        int(cluster["store_bytes"]),
        int(cluster["number"]),
        tuple(map(str, cluster["troubles"])),
        tuple(ClusterServer(**_kept(ClusterServer, row)) for row in cluster["servers"]),
        tuple(ClusterMember(**_kept(ClusterMember, row)) for row in cluster["members"]),
    )


def _kept(kind: type[ClusterServer] | type[ClusterMember], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in kind.__dataclass_fields__}
