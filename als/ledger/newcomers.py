"""How many new seats an address engages in an hour, and whether it has had its share (R17).

Counted in the store, so that neither a restart nor a repeated batch counts wrong.
"""

from als.ledger.desk import Desk, Rules, is_loopback
from als.ledger.tally import HOUR_S
from als.protocol import Refusal, Role
from als.records import hour_key
from als.store.transaction import Table

_ADDRESS_BYTES_MAX = 64


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
    return hour_key(desk.now // HOUR_S) + desk.sender.address.encode()[:_ADDRESS_BYTES_MAX]


def _seats(desk: Desk) -> int:
    return int.from_bytes(desk.tx.get(Table.NEWCOMERS, _key(desk)) or b"", "big")
