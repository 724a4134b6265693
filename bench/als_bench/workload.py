"""What the computers of a benchmark ask: requests as bytes, made ahead, with the id at a fixed place.

Knows the wire's layout (als/protocol.py makes the bytes) and neither sockets nor time.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from als import protocol

PRODUCT = "ATIW"  # built in: period 30 days, reusable, like most of what is sold
PRODUCT_NUMBER = 2
PERIOD_S = 30 * 86_400
COMPONENT = "agent"
RENEW, ACQUIRE, RELEASE = "renew", "acquire", "release"

ID_FIRST = 1 << 32  # msgpack writes an id from here on in nine bytes, so it lies at one place and can be patched
ID_AT = 8
ANSWER_AT = 16
GRANTED = b"\xa2ok\xc3"  # what follows the id in a reply of ALS that grants
ECHOED = b"\xa2op"  # what follows it in a request that comes back as it went

# A server of ALS writes the id first; what comes back from an echo has the version before it.
_FIRST_KEY = b"\xa2id\xcf"
_FIRST_ID_AT = 1 + len(_FIRST_KEY)

_SCATTER = 2_654_435_761  # odd, so that multiplying by it modulo 2^32 gives every number once

pack_id = struct.Struct(">Q").pack
_read_id = struct.Struct(">Q").unpack_from


@dataclass(frozen=True, slots=True)
class Fleet:
    """Computers numbered from 0; `salt` (up to 65535) keeps the computers of several fleets apart."""

    product: str = PRODUCT
    component: str = COMPONENT
    salt: int = 0

    def mac(self, number: int) -> bytes:
        """Give a computer's address: all over the range, as those of real adapters are, and no two the same."""
        return (self.salt << 32 | number * _SCATTER & 0xFFFFFFFF).to_bytes(6, "big")

    def computer(self, number: int) -> dict[str, Any]:
        """Give a computer as it stands in a request."""
        return {
            "macs": [self.mac(number)],
            "host": f"workstation-{number:08d}",
            "address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "machine_id": f"{self.salt:08x}{number:024x}",
            "kind": "workstation",
        }

    def fields(self, number: int) -> dict[str, Any]:
        """Give the keys of an acquire, renew or release of a computer."""
        return {"product": self.product, "component": self.component, "computer": self.computer(number)}

    def request(self, operation: str, number: int) -> bytes:
        """Make a request whose id is ID_FIRST + the computer's number."""
        return protocol.encode_request(ID_FIRST + number, operation, self.fields(number))

    def tail(self, operation: str, number: int) -> bytes:
        """Make what follows the id; HEAD + pack_id(id) + tail is a request."""
        return self.request(operation, number)[ANSWER_AT:]

    def new_for_each(self, operation: str, base: int, connections: int) -> list[Iterator[bytes]]:
        """Make the endless requests of so many connections; no computer comes twice, however far one is ahead."""
        return [self.forever_new(operation, base + place, connections) for place in range(connections)]

    def forever_new(self, operation: str, start: int, step: int) -> Iterator[bytes]:
        """Make requests of computers start, start + step, ... without end, by patching a template: 0.5 µs each."""
        template = bytearray(self.request(operation, start))
        mac_at = template.index(self.mac(start))
        host_at = template.index(b"workstation-")
        machine_id_at = template.index(b"%08x%024x" % (self.salt, start))
        number = start
        while True:
            template[ID_AT:ANSWER_AT] = pack_id(ID_FIRST + number)
            template[mac_at : mac_at + 6] = self.mac(number)
            template[host_at : host_at + 20] = b"workstation-%08d" % number
            template[machine_id_at + 8 : machine_id_at + 32] = b"%024x" % number
            yield bytes(template)
            number += step


HEAD = Fleet().request(RENEW, 0)[:ID_AT]


def own_computers(leases: int, connections: int, seed: int, most: int | None = None) -> list[list[int]]:
    """Deal computers 0 .. leases - 1 out to connections (N to N modulo their count), each in random order.

    With `most`, only so many of all are taken, spread over the whole range.
    """
    chance = random.Random(seed)
    chosen = range(leases) if most is None or most >= leases else chance.sample(range(leases), most)
    dealt: list[list[int]] = [[] for _ in range(connections)]
    for number in chosen:
        dealt[number % connections].append(number)
    for connection, numbers in enumerate(dealt):
        chance.shuffle(numbers)
        if not numbers:
            numbers.append(connection)
    return dealt


def renewals(fleet: Fleet, dealt: Sequence[Sequence[int]]) -> list[Iterator[bytes]]:
    """Make each connection's endless renewals of its own computers."""
    return [cycle([fleet.request(RENEW, number) for number in numbers]) for numbers in dealt]


def renewals_one_by_one(fleet: Fleet, dealt: Sequence[Sequence[int]]) -> list[Iterator[bytes]]:
    """Do what `renewals` does, for computers that are too many to keep a request for each."""
    return [(fleet.request(RENEW, number) for number in cycle(numbers)) for numbers in dealt]


def comings_and_goings(fleet: Fleet, connections: int, window: int) -> list[Iterator[bytes]]:
    """Make each connection's endless acquires, `window` of them and then the releases of the same."""
    streams: list[Iterator[bytes]] = []
    for connection in range(connections):
        numbers = range(connection * window, (connection + 1) * window)
        streams.append(cycle([fleet.request(operation, it) for operation in (ACQUIRE, RELEASE) for it in numbers]))
    return streams


def id_of(reply: bytes) -> int:
    """Give a reply's id less ID_FIRST. Raises ValueError when the frame is no reply."""
    if reply[1:_FIRST_ID_AT] == _FIRST_KEY:
        return int(_read_id(reply, _FIRST_ID_AT)[0]) - ID_FIRST
    if reply[1:ID_AT] == HEAD[1:]:
        return int(_read_id(reply, ID_AT)[0]) - ID_FIRST
    return int(protocol.decode_reply(reply)["id"]) - ID_FIRST
