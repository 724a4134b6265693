"""Sights of addresses are trusted, not compared, until a server tells that it changed some: nobody is misled."""

from collections.abc import Iterator, Sequence

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd import moves
from als.store.etcd.client import EtcdClient
from als.store.etcd.ops import Compare, Op, TxnResult
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
    """Two servers over one etcd, and computers whose leases each renews."""

    def __init__(self, endpoint: str, prefix: bytes) -> None:
        self.client = RecordingClient(EtcdClient([endpoint]))
        self.one, self.two = (open_over(self.client, prefix, server) for server in (1, 2))
        tx = self.one.begin()
        for number in range(UNITS):
            assert tx.get(ADDRESSES, mac(number)) is None
            tx.put(ADDRESSES, mac(number), b"first")
            tx.put(LEASES, mac(number), b"0")
        assert not self.one.submit(tx).rejected

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

    def renew(self, store: EtcdStore, value: bytes) -> tuple[dict[int, bytes | None], frozenset[int]]:
        """Renew all; give the addresses that were seen, and the renewals that were rejected."""
        tx = store.begin()
        seen: dict[int, bytes | None] = {}
        for number in range(UNITS):
            tx.begin_unit(number)
            seen[number] = tx.get(ADDRESSES, mac(number))
            tx.get(LEASES, mac(number))
            tx.put(LEASES, mac(number), value)
            tx.end_unit(True)
        self.client.sent.clear()
        return seen, store.submit(tx).rejected


def mac(number: int) -> bytes:
    """Give an address."""
    return b"mac%03d" % number


@pytest.fixture
def two(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[Two]:
    """Two servers."""
    two = Two(etcd_endpoint, etcd_prefix)
    yield two
    two.client.close()


def test_an_address_that_nobody_changes_is_not_compared(two: Two) -> None:
    """A usual renewal is one compare and one write: its address is not in the message."""
    two.renew(two.one, b"1")
    assert two.renew(two.one, b"2")[1] == frozenset()
    [sent] = two.client.sent
    assert two.one.view.keys.name(LEASES, mac(7)) in sent
    assert two.one.view.keys.name(ADDRESSES, mac(7)) not in sent


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
    tx.put(LEASES, mac(7), b"late")
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
    assert seen[8] == b"first" and 8 in rejected
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
