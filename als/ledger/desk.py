"""What every operation needs at hand: the rules in force, and one request's transaction, sender and time."""

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from als.catalog import Catalog
from als.ledger.journal import Journal
from als.ledger.tally import Tally
from als.protocol import Role
from als.records import Admin
from als.store.transaction import Table, Transaction

AGENTS_OPEN = "open"
AGENTS_LISTED = "listed"
NEW_SEATS_PER_ADDRESS_H_DEFAULT = 100  # a rollout by hand stays below, a script that takes all does not


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings that change what the ledger grants. `new_seats_per_address_h` 0: no limit."""

    agents: str = AGENTS_OPEN
    new_seats_per_address_h: int = NEW_SEATS_PER_ADDRESS_H_DEFAULT


class Sender(NamedTuple):
    """Who sent a request: the proven CURVE key (32 bytes), and the address it came from ("" unknown)."""

    key: bytes
    address: str


@dataclass(slots=True)
class Desk:
    """One request being worked on. `server` is this server's number in a cluster, 0 alone."""

    tx: Transaction
    catalog: Catalog
    rules: Rules
    sender: Sender
    now: int
    server: int = 0
    _tally: Tally | None = field(default=None, init=False)
    _journal: Journal | None = field(default=None, init=False)

    @property
    def tally(self) -> Tally:
        """The numbers of this transaction."""
        tally = self._tally
        if tally is None:
            tally = self._tally = Tally.of(self.tx, self.server)
        return tally

    @property
    def journal(self) -> Journal:
        """The log of this transaction."""
        journal = self._journal
        if journal is None:
            journal = self._journal = Journal.of(self.tx, self.server)
        return journal

    def admin(self) -> Admin | None:
        """The sender's row in the table of administrators; the server itself is none, and has no key here."""
        raw = self.tx.get(Table.ADMINS, self.sender.key) if self.sender.key else None
        return Admin.unpack(raw) if raw is not None else None

    def role(self) -> Role:
        """What the sender may do."""
        admin = self.admin()
        return Role.from_text(admin.role) if admin is not None else Role.AGENT

    def actor(self) -> str | None:
        """The administrator's name, for events."""
        admin = self.admin()
        return admin.name if admin is not None else None


@lru_cache(1_024)
def is_loopback(address: str) -> bool:
    """Say whether an address is this machine's own."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
