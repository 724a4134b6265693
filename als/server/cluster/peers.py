"""The servers of a cluster as their rows in the store tell of them, and the time that they keep together.

Each server writes its card, with its time in it, every TICK_S; each reads all cards every second. No server's time is
behind another's tick, and none runs ahead of the others', whatever its own clock says. Pure: cards and readings in.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from als.clock import Reading
from als.records import pack_value, unpack_value

SERVERS_MAX = 1_024  # ten bits of an event's number
TICK_S = 2.0
SILENT_S = 10.0  # five ticks: no answer from etcd is over by then, or the server is gone
APART_S = 2.0  # clocks kept by NTP are nearer by far
READ_EVERY_S = 1.0
OLD_S_MAX = READ_EVERY_S + 1.0  # a card when it is read; times on it are whole seconds
CARDS_COMPARED = 3  # one of them was read soon after it was written

CARDS = b"servers/"


class Card(NamedTuple):
    """What a server tells of itself. `time` is its time when it wrote this, `wall_s` what its machine's clock said.

    `address` is host:port, as far as the server knows; `catalog` is a hash of what it sells. `era` grows when an
    administrator sets the cluster's time; times of different eras are not compared. `is_held`: its time is the others'.
    """

    name: str
    address: str
    version: str
    catalog: str
    started_at: int
    time: int
    wall_s: float
    era: int = 0
    is_held: bool = False
    stopped: bool = False

    def pack(self) -> bytes:
        """Write as a msgpack array."""
        return pack_value(tuple(self))

    @classmethod
    def unpack(cls, raw: bytes) -> "Card":
        """Read what `pack` wrote; a newer version may have written more."""
        return cls(*unpack_value(raw)[: len(cls._fields)])


def card_key(number: int) -> bytes:
    """Give the key in META of a server's card."""
    return CARDS + b"%d" % number


class Peer(NamedTuple):
    """Another server: its last card, when that was seen first, and whether it ticks.

    `offsets_s` tell for its latest cards how far its wall clock was ahead of our monotonic one.
    """

    card: Card
    seen_at_s: float
    is_live: bool
    offsets_s: tuple[float, ...]


class Peers:
    """The other servers, and the time with respect to theirs."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.era = 0
        self.is_held = False
        self._peers: dict[int, Peer] = {}
        self._offset_s = 0.0  # how far our wall clock is ahead of our monotonic one

    def take(self, cards: Mapping[int, Card], reading: Reading) -> None:
        """Take up all cards as they were just read. One seen for the first time is live if it is of this moment."""
        self._offset_s = reading.wall_s - reading.monotonic_s
        known, self._peers = self._peers, {}
        for number, card in cards.items():
            if number != self.number:
                self._peers[number] = _look_at(card, known.get(number), reading)

    @property
    def others(self) -> dict[int, Peer]:
        """The other servers that are known, by number."""
        return self._peers

    def live(self) -> list[Peer]:
        """The others that tick."""
        return [peer for peer in self._peers.values() if peer.is_live]

    def newest_era(self) -> int:
        """Give the era of whoever's time was set last."""
        return max([self.era, *(peer.card.era for peer in self._peers.values())])

    def adjusted(self, reading: Reading) -> Reading:
        """Bound what the wall clock says by the others' time: never behind a tick, never far ahead.

        A server whose clock is too far off is held: it follows the others, and nobody follows it. So one wrong clock
        moves nobody's time, and two that differ do not drive each other on.
        """
        self._offset_s = reading.wall_s - reading.monotonic_s
        free = [peer for peer in self.live() if peer.card.era == self.era and not peer.card.is_held]
        self.is_held = False
        if not free:
            return reading
        theirs_s = max(peer.card.time + max(reading.monotonic_s - peer.seen_at_s, 0.0) for peer in free)
        lead_s = reading.wall_s - theirs_s
        self.is_held = not -APART_S <= lead_s <= APART_S + OLD_S_MAX
        highest = max(peer.card.time for peer in free)
        return reading._replace(wall_s=theirs_s if self.is_held else max(reading.wall_s, float(highest)))

    def ahead_s(self, peer: Peer) -> float:
        """Give how far another's clock is ahead, by the youngest of its cards: they are older than they seem."""
        return max(peer.offsets_s) - self._offset_s

    def clock_ahead_s(self) -> float:
        """Give how far this machine's clock is ahead of most servers' clocks, itself counted; negative when behind.

        Where opinions are divided evenly, nobody is right.
        """
        ahead = sorted([0.0, *(-self.ahead_s(peer) for peer in self.live())])
        middle = len(ahead) // 2
        return ahead[middle] if len(ahead) % 2 else max(ahead[middle - 1], ahead[middle], key=abs)

    def is_apart(self) -> bool:
        """Say whether this machine's clock is so wrong that others should do what depends on the time alone."""
        return abs(self.clock_ahead_s()) > APART_S


def _look_at(card: Card, known: Peer | None, reading: Reading) -> Peer:
    if known is not None and known.card == card:
        return known._replace(is_live=known.is_live and reading.monotonic_s - known.seen_at_s <= SILENT_S)
    ahead_s = card.wall_s - reading.wall_s
    is_live = not card.stopped and (known is not None or abs(ahead_s) <= SILENT_S)
    earlier = known.offsets_s if known is not None and known.is_live else ()
    offsets_s = (*earlier, card.wall_s - reading.monotonic_s)[-CARDS_COMPARED:]
    return Peer(card, reading.monotonic_s, is_live, offsets_s)


def shown(number: int, card: Card, *, state: str, clock_ahead_s: float, catalog: str) -> dict[str, Any]:
    """Write a server as `status` tells of it."""
    return {
        "number": number,
        "name": card.name,
        "address": card.address,
        "version": card.version,
        "state": state,
        "started_at": card.started_at,
        "last_tick": card.time,
        "clock_ahead_ms": round(clock_ahead_s * 1000),
        "same_catalog": card.catalog == catalog,
    }
