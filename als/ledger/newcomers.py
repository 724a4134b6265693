"""How many new seats an address engages in an hour, and whether it has had its share (R17).

Counted in the store, so that neither a restart nor a repeated batch counts wrong. Of IPv6 a whole network counts as one
address: each computer has as many as it likes in its own.
"""

import ipaddress
from functools import lru_cache

from als.ledger.desk import Desk, Rules, is_loopback
from als.ledger.tally import HOUR_S
from als.protocol import Refusal, Role
from als.records import hour_key
from als.store.transaction import Table

_ADDRESS_BYTES_MAX = 64
_NETWORK_BITS = 64  # of an IPv6 address: what a computer is given


def is_exempt(rules: Rules, address: str) -> bool:
    """Say whether whoever asks from this address may engage any number."""
    return not rules.new_seats_per_address_h or is_loopback(address)


def refuse(desk: Desk) -> Refusal | None:
    """Refuse an address that has engaged its share of new seats this hour."""
    limit = desk.rules.new_seats_per_address_h
    if is_exempt(desk.rules, desk.sender.address):
        return None
    if _seats(desk) < limit or desk.role() >= Role.DEPLOYER:
        return None
    message = f"This address has engaged {limit} new licenses this hour; wait, or use a key with the role deployer."
    return Refusal("too_many", message, {"retry_after_s": HOUR_S - desk.now % HOUR_S})


def count(desk: Desk) -> None:
    """Count a seat that the sender's address has engaged."""
    if not is_exempt(desk.rules, desk.sender.address) and desk.role() < Role.DEPLOYER:
        desk.tx.put(Table.NEWCOMERS, _key(desk), (_seats(desk) + 1).to_bytes(4, "big"))


def _key(desk: Desk) -> bytes:
    return hour_key(desk.now // HOUR_S) + _source(desk.sender.address)


@lru_cache(1_024)
def _source(address: str) -> bytes:
    """Give what counts as one address, as it stands in a key."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address.encode()[:_ADDRESS_BYTES_MAX]
    if isinstance(parsed, ipaddress.IPv4Address):
        return address.encode()
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped).encode()
    return str(ipaddress.IPv6Network((int(parsed), _NETWORK_BITS), strict=False)).encode()


def _seats(desk: Desk) -> int:
    return int.from_bytes(desk.tx.get(Table.NEWCOMERS, _key(desk)) or b"", "big")
