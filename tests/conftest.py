"""What several test modules share for a whole run: one member of etcd, started when the first test asks for it."""

from collections.abc import Iterator
from itertools import count

import pytest

import etcd_nodes

_NUMBERS = count()


@pytest.fixture(scope="session")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an etcd of one member; tests stay apart by their key prefix."""
    if etcd_nodes.MISSING:
        pytest.skip(etcd_nodes.MISSING)
    with etcd_nodes.Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster.endpoints[0]


@pytest.fixture
def etcd_prefix() -> bytes:
    """Give a prefix of keys that no other test uses."""
    return b"test/%d/" % next(_NUMBERS)
