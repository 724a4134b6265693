"""What `status` tells of a cluster: its servers, the members of etcd, and what is wrong."""

from typing import Any

from als.server.cluster.house import House
from als.server.cluster.peers import shown
from als.store.etcd.upkeep import MemberReport, Upkeep


class Report:
    """The part `server.cluster` of a status."""

    def __init__(self, house: House, upkeep: Upkeep) -> None:
        self._house = house
        self._upkeep = upkeep

    def write(self) -> dict[str, Any]:
        """Write it as it is now."""
        etcd = self._upkeep.report
        troubles = [*self._own_troubles(), *etcd.troubles]
        return {
            "state": "ok" if self._house.shut_since is None else "unavailable",
            "troubles": troubles,
            "number": self._house.peers.number,
            "servers": self._servers(),
            "members": [_member(member) for member in etcd.members],
            "leader": next((member.name for member in etcd.members if member.is_leader), None),
            "store_bytes": max((member.file_bytes for member in etcd.members), default=0),
        }

    def _own_troubles(self) -> list[str]:
        house, troubles = self._house, []
        if house.shut_since is not None:
            away_s = house.guard.now - house.shut_since
            troubles.append(f"no answer from etcd for {away_s} s, so nothing is granted: {house.shut_message}")
        ahead_s = house.peers.clock_ahead_s()
        if house.peers.is_apart():
            troubles.append(
                f"this server's clock differs from the others' by {ahead_s:+.1f} s: it sweeps nothing until that ends"
            )
        if any(peer.card.catalog != house.card.catalog for peer in house.peers.live()):
            troubles.append("the servers of the cluster do not have the same catalog and vendors")
        return troubles

    def _servers(self) -> list[dict[str, Any]]:
        """Give every server that there is or was, by number; clocks as far as each is ahead of this one's."""
        house = self._house
        own = shown(house.peers.number, house.card, state="running", clock_ahead_s=0.0, catalog=house.card.catalog)
        rows = [own]
        for number, peer in house.peers.others.items():
            state = "running" if peer.is_live else "stopped" if peer.card.stopped else "silent"
            ahead_s = house.peers.ahead_s(peer) if peer.is_live else 0.0
            rows.append(shown(number, peer.card, state=state, clock_ahead_s=ahead_s, catalog=house.card.catalog))
        return sorted(rows, key=lambda row: int(row["number"]))


def _member(member: MemberReport) -> dict[str, Any]:
    return {
        "endpoint": member.endpoint,
        "name": member.name,
        "version": member.version,
        "is_leader": member.is_leader,
        "file_bytes": member.file_bytes,
        "used_bytes": member.used_bytes,
        "trouble": member.trouble,
    }
