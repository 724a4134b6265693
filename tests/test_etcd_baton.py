"""Servers that change the same numbers write in turn: the baton is waited for, given back, and nobody depends on it."""

from collections.abc import Iterator

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als import clock
from als.server.cluster import copying
from als.store.etcd import baton
from als.store.etcd.baton import Baton
from als.store.etcd.client import EtcdClient
from als.store.etcd.keys import Keys
from als.store.etcd.ops import get, put
from als.store.transaction import Table
from etcd_stores import open_over


@pytest.fixture
def client(etcd_endpoint: str) -> Iterator[EtcdClient]:
    """A client."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


def is_there(client: EtcdClient, keys: Keys) -> bool:
    """Say whether somebody holds the baton."""
    return bool(client.range(keys.name(Table.META, baton.KEY)).rows)


def test_the_second_waits_for_the_first(client: EtcdClient, etcd_prefix: bytes) -> None:
    """Who asks while another holds it looks until that one's message is written, and sees what it wrote."""
    keys, name = Keys(etcd_prefix), etcd_prefix + b"n"
    first = Baton(client, keys)
    looks = 0

    def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            client.txn([], [put(name, b"1"), *first.giving_back()])
            first.given_back()

    second = Baton(client, keys, pause)
    assert first.take([name]) == {name: None}
    assert second.giving_back() == [], "it has none yet"
    assert second.take([name]) == {name: b"1"}
    assert looks == 2 and is_there(client, keys)
    client.txn([], [get(name), *second.giving_back()])
    assert not is_there(client, keys)


def test_who_died_with_it_is_passed_over(client: EtcdClient, etcd_prefix: bytes) -> None:
    """A baton that is never given back costs WAIT_S, once."""
    keys = Keys(etcd_prefix)
    Baton(client, keys).take([])
    begin_s = clock.monotonic_s()
    late = Baton(client, keys)
    late.take([])
    assert clock.monotonic_s() - begin_s >= baton.WAIT_S
    client.txn([], late.giving_back())
    assert not is_there(client, keys)


def test_it_is_no_license(client: EtcdClient, etcd_prefix: bytes) -> None:
    """What migration copies has no baton in it."""
    store = open_over(client, etcd_prefix, 1)
    Baton(client, store.view.keys).take([])
    assert list(copying.rows_of(store.snapshot())) == []
