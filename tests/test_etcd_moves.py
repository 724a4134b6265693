"""Sights of addresses and of own leases are trusted, not compared, until a server tells of changes."""

from collections.abc import Iterator, Sequence

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd import moves
from als.store.etcd.client import EtcdClient
from als.store.etcd.ops import Compare, Op, TxnResult, put
from als.store.etcd.store import EtcdStore
from als.store.transaction import Table
from etcd_stores import CountingClient, open_over

ADDRESSES, LEASES = Table.ADDRESSES, Table.LEASES
UNITS = 45  # more than share a level


class RecordingClient(CountingClient):
    """Keeps what is sent."""

    def __init__(self, client: EtcdClient) -> None:
        super().__init__(client)
        self.sent: list[bytes] = []

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Compare and apply."""
        self.sent.append(b"".join([*compares, *success]))
        return super().txn(compares, success, failure)


class Two:
    """Two servers over one etcd, and computers with a lease for each of them to renew."""

    def __init__(self, endpoint: str, prefix: bytes) -> None:
        self.client = RecordingClient(EtcdClient([endpoint]))
        self.one, self.two = (open_over(self.client, prefix, server) for server in (1, 2))
        for store in (self.one, self.two):
            tx = store.begin()
            for number in range(UNITS):
                if tx.get(ADDRESSES, mac(number)) is None:
                    tx.put(ADDRESSES, mac(number), b"first")
                tx.insert(LEASES, lease(number, store), b"0")
            assert not store.submit(tx).rejected

    def change(self, store: EtcdStore, *numbers: int, value: bytes | None = b"moved") -> None:
        """Let addresses change, or go."""
        tx = store.begin()
        for number in numbers:
            tx.get(ADDRESSES, mac(number))
            if value is None:
                tx.delete(ADDRESSES, mac(number))
            else:
                tx.put(ADDRESSES, mac(number), value)
        assert not store.submit(tx).rejected

    def renew(
        self, store: EtcdStore, value: bytes, owner: EtcdStore | None = None
    ) -> tuple[dict[int, bytes | None], frozenset[int]]:
        """Renew all of a server's, or of another's; give the addresses that were seen, and what was rejected."""
        tx = store.begin()
        seen: dict[int, bytes | None] = {}
        for number in range(UNITS):
            tx.begin_unit(number)
            seen[number] = tx.get(ADDRESSES, mac(number))
            tx.get(LEASES, lease(number, owner or store))
            tx.put(LEASES, lease(number, owner or store), value)
            tx.end_unit(True)
        self.client.sent.clear()
        return seen, store.submit(tx).rejected

    def meet(self) -> None:
        """Let both have told once: who hears from a server for the first time believes nothing that he saw before."""
        for store, number in ((self.one, 0), (self.two, 1)):
            self.change(store, number)
        for store in (self.one, self.two, self.one, self.two):
            self.renew(store, b"1")

    def values(self, owner: EtcdStore) -> set[bytes | None]:
        """Read a server's leases from etcd itself."""
        snapshot = self.one.snapshot()
        return {snapshot.get(LEASES, lease(number, owner)) for number in range(UNITS)}


def mac(number: int) -> bytes:
    """Give an address."""
    return b"mac%03d" % number


def lease(number: int, owner: EtcdStore) -> bytes:
    """Give the key of a lease that a server renews."""
    return b"%d/%03d" % (owner.fence.number, number)


@pytest.fixture
def two(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[Two]:
    """Two servers."""
    two = Two(etcd_endpoint, etcd_prefix)
    yield two
    two.client.close()


def test_what_nobody_else_changes_is_not_compared(two: Two) -> None:
    """A usual renewal is one write: its address is not in the message, its lease once, and not as it was."""
    two.renew(two.one, b"before")
    assert two.renew(two.one, b"after")[1] == frozenset()
    [sent] = two.client.sent
    assert sent.count(two.one.view.keys.name(LEASES, lease(7, two.one))) == 1
    assert two.one.view.keys.name(ADDRESSES, mac(7)) not in sent
    assert b"before" not in sent


def test_a_lease_that_another_server_renews_is_lost_to_its_own(two: Two) -> None:
    """Who last wrote a lease hears that another has, and its renewal of what it knew is rejected."""
    for owner in (two.one, two.two):
        two.renew(owner, b"1")
    assert two.renew(two.one, b"2", owner=two.two)[1] == frozenset()
    assert two.renew(two.two, b"3")[1] == frozenset(range(UNITS))
    assert two.values(two.two) == {b"2"}
    assert two.renew(two.two, b"4")[1] == frozenset()
    assert two.values(two.two) == {b"4"}


def test_a_lease_that_has_changed_servers_has_its_new_one(two: Two) -> None:
    """Once a server has taken leases over, it renews them as its own, with one message and no compare of any."""
    two.renew(two.one, b"taken", owner=two.two)
    two.renew(two.one, b"again", owner=two.two)
    calls = two.client.calls
    assert two.renew(two.one, b"third", owner=two.two)[1] == frozenset()
    [sent] = two.client.sent
    assert b"again" not in sent and two.client.calls == calls + 1


def test_own_leases_are_trusted_beside_those_that_are_not(two: Two) -> None:
    """A lease lost to another server takes no renewal of other leases with it."""
    two.meet()
    tx = two.one.begin()
    tx.get(LEASES, lease(7, two.two))
    tx.put(LEASES, lease(7, two.two), b"lost")
    assert not two.one.submit(tx).rejected
    assert two.renew(two.two, b"2")[1] == {7}
    assert two.values(two.two) == {b"2", b"lost"}


def test_a_lease_that_is_deleted_and_comes_again(two: Two) -> None:
    """A lease that another server has deleted is not renewed by who wrote it, nor is one that came in its place."""
    two.meet()
    for is_there in (True, False):
        tx = two.one.begin()
        if is_there:
            assert tx.get(LEASES, lease(7, two.two)) == b"1"
            tx.delete(LEASES, lease(7, two.two))
        else:
            tx.insert(LEASES, lease(7, two.two), b"new")
        assert not two.one.submit(tx).rejected
    assert two.renew(two.two, b"2")[1] == {7}
    assert two.values(two.two) == {b"2", b"new"}


def test_a_row_that_no_server_wrote_is_renewed_alone_and_compared(two: Two) -> None:
    """A lease as migration brings it has no owner: nobody is told of its first renewal."""
    name = two.one.view.keys.name(LEASES, b"x")
    two.client.txn((), [put(name, b"old")])
    for value in (b"1", b"2"):
        tx = two.one.begin()
        tx.begin_unit(0)
        tx.get(LEASES, b"x")
        tx.put(LEASES, b"x", value)
        tx.end_unit(True)
        assert not tx.joint.writes
        two.client.sent.clear()
        assert not two.one.submit(tx).rejected
        assert (b"old" in two.client.sent[0]) == (value == b"1")


def test_a_lease_written_without_a_look_is_told_of(two: Two) -> None:
    """A server that overwrites leases blindly misleads nobody either."""
    two.meet()
    tx = two.one.begin()
    tx.begin_unit(0)
    tx.put(LEASES, lease(7, two.two), b"blind")
    tx.end_unit(True)
    assert not two.one.submit(tx).rejected
    assert two.renew(two.two, b"2")[1] == {7}


def test_who_has_seen_an_older_address_is_not_written(two: Two) -> None:
    """What stands on an address that another server has changed since is rejected; the next look shows the change."""
    two.renew(two.two, b"1")
    two.change(two.one, 7)
    seen, rejected = two.renew(two.two, b"2")
    assert seen[7] == b"first" and 7 in rejected
    assert len(rejected) <= 20, "only what shares a level with it"
    seen, rejected = two.renew(two.two, b"3")
    assert seen[7] == b"moved" and seen[8] == b"first" and not rejected


@pytest.mark.parametrize("value", [b"moved", None])
def test_more_changes_than_a_row_tells(two: Two, value: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has missed some of many changes believes no address any more, and is not misled."""
    monkeypatch.setattr(moves, "TOLD_MAX", 3)
    two.renew(two.two, b"1")
    for first in range(0, UNITS, 9):
        two.change(two.one, *range(first, first + 9), value=value)
    assert two.renew(two.two, b"2")[1] == frozenset(range(UNITS))
    seen, rejected = two.renew(two.two, b"3")
    assert set(seen.values()) == {value} and not rejected


def test_an_address_that_goes_and_comes_again(two: Two) -> None:
    """An address that was given up, and entered anew by a third, is not taken for what it was."""
    two.renew(two.two, b"1")
    two.change(two.one, 7, value=None)
    two.change(two.one, 7, value=b"anew")
    assert 7 in two.renew(two.two, b"2")[1]
    assert two.renew(two.two, b"3")[0][7] == b"anew"


def test_a_transaction_that_was_open_meanwhile_trusts_nothing(two: Two) -> None:
    """Changes that the server takes up while a transaction is open count for that one, too."""
    two.renew(two.two, b"1")
    tx = two.two.begin()
    tx.begin_unit(0)
    assert tx.get(ADDRESSES, mac(7)) == b"first"
    tx.get(LEASES, lease(7, two.two))
    tx.put(LEASES, lease(7, two.two), b"late")
    tx.end_unit(True)
    two.change(two.one, 7)
    two.renew(two.two, b"2")
    assert two.two.submit(tx).rejected == {0}


def test_a_server_knows_its_own_changes(two: Two) -> None:
    """A server that changes addresses renews by the new ones at once."""
    for value in (b"a", b"b", b"c"):
        two.change(two.one, 7, 8, value=value)
        seen, rejected = two.renew(two.one, value)
        assert seen[7] == value and not rejected


def test_a_server_that_starts_tells_of_changes_too(two: Two, etcd_prefix: bytes) -> None:
    """A server that does not know what its last run has told misleads nobody, and needs no look at it."""
    two.change(two.one, 7)
    for value in (b"0", b"1"):  # the first learns what was told before it began
        two.renew(two.two, value)
    anew = open_over(two.client, etcd_prefix, 1)
    two.change(anew, 8)
    seen, rejected = two.renew(two.two, b"2")
    assert (seen[8] == b"moved") != (8 in rejected), "it has heard of it before, or is told by the message"
    seen, rejected = two.renew(two.two, b"3")
    assert (seen[7], seen[8], rejected) == (b"moved", b"moved", frozenset())


def test_new_addresses_are_not_told_of(two: Two) -> None:
    """A computer that is entered disturbs nobody's renewals."""
    two.renew(two.two, b"1")
    before = two.client.calls
    two.change(two.one, 99)
    assert two.client.calls == before + 2  # a look and a message
    assert two.renew(two.two, b"2")[1] == frozenset()
    assert two.client.calls == before + 3
