"""The usual renewal on a lease's bytes writes what the rules would: whatever components and end the lease has."""

from itertools import product as every
from typing import Any

import pytest

from als import catalog, protocol
from als.ledger.computers import fingerprint, pack_owner
from als.ledger.quick import usual
from als.ledger.quick.renewing import renew
from als.records import Holder, Lease, lease_key
from als.store.memory import MemoryStore
from als.store.transaction import Table

CATALOG = catalog.builtin()
PRODUCT = CATALOG.by_code["ATIW"]
assert PRODUCT.period_s is not None
PERIOD_S: int = PRODUCT.period_s
MAC, KEY, OTHER = bytes.fromhex("020000000001"), bytes(range(32)), bytes(range(100, 132))
COMPUTER, NOW, EARLY = 7 << 32 | 5, 1_800_000_000, 1_799_990_000
MINE, THEIRS = Holder(KEY[:8], EARLY), Holder(OTHER[:8], EARLY)


def renewed(lease: Lease, **more: Any) -> Lease | None:
    """Renew the lease at NOW by its bytes; None when the rules have to do it."""
    asked = {
        "v": 1,
        "id": 1,
        "op": "renew",
        "product": "ATIW",
        "component": "agent",
        "computer": {"macs": [MAC], "host": "pc", "address": ""},
        **more,
    }
    renewal = usual.of(asked)
    assert renewal is not None
    tx = MemoryStore().begin()
    tx.put(Table.ADDRESSES, MAC, pack_owner(COMPUTER, fingerprint(protocol.encode(asked["computer"]))))
    row = lease_key(PRODUCT.number, COMPUTER)
    tx.put(Table.LEASES, row, lease.pack())
    answer = renew(tx, CATALOG, renewal, KEY, NOW)
    raw = tx.get(Table.LEASES, row)
    assert raw is not None
    if answer is None:
        assert raw == lease.pack()
        return None
    assert answer["renew_by"] == NOW + PERIOD_S
    found = Lease.unpack(raw)
    assert raw == found.pack(), "it is written as the rules would write it"
    return found


def lease(components: dict[str, Holder], expires_at: int = 0, version: str = "") -> Lease:
    """Give a lease that was renewed EARLY."""
    return Lease(1, EARLY, EARLY, PERIOD_S, EARLY + PERIOD_S, expires_at, components=components, version=version)


COMPONENTS = [
    {"agent": MINE},
    {"agent": MINE._replace(seen_at=EARLY - 5)},
    {"agent": MINE, "local-console": THEIRS},
    {"local-console": MINE._replace(seen_at=EARLY - 9), "agent": MINE._replace(seen_at=EARLY - 5)},
    {"agen": MINE, "agent": MINE, "agents": MINE},
]


@pytest.mark.parametrize(("components", "expires_at", "version"), list(every(COMPONENTS, [0, NOW + 1], ["", "9.1 é"])))
def test_only_times_change(components: dict[str, Holder], expires_at: int, version: str) -> None:
    """The lease's time and the component's become now, and nothing else changes."""
    after = {**components, "agent": components["agent"]._replace(seen_at=NOW)}
    expected = lease(after, expires_at, version)
    expected.renewed_at = NOW
    for more in ({}, {"version": version}):
        assert renewed(lease(components, expires_at, version), **more) == expected


@pytest.mark.parametrize(
    "components",
    [{}, {"agent": THEIRS}, {"local-console": MINE}, {"agents": MINE}, {"agen": MINE}, {"agent": THEIRS, "agen": MINE}],
)
@pytest.mark.parametrize("seen_at", [EARLY, EARLY - 5])
def test_others_components_are_left_to_the_rules(components: dict[str, Holder], seen_at: int) -> None:
    """A component that is not there, or another's, is nothing that bytes decide."""
    seen = {code: holder._replace(seen_at=seen_at) for code, holder in components.items()}
    assert renewed(lease(seen)) is None


@pytest.mark.parametrize("components", COMPONENTS)
def test_an_ended_serial_or_another_version_is_left_to_the_rules(components: dict[str, Holder]) -> None:
    """At the serial's end a renewal moves the lease; a new version is written down."""
    assert renewed(lease(components, expires_at=NOW)) is None
    assert renewed(lease(components, version="9.1"), version="9") is None
    assert renewed(lease(components, version="9"), version="9.1") is None
    assert renewed(lease(components), version="9.1") is None


def test_a_lapsed_lease_is_left_to_the_rules() -> None:
    """What is lapsed, or is at its last second, needs a seat first."""
    late = lease({"agent": MINE})
    late.renewed_at = NOW - PERIOD_S
    assert renewed(late) is None
