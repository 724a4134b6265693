"""The benchmark of failovers asks members that were just started again, on a machine that has much to do."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd.client import EtcdClient
from als_bench.etcd_members import Members
from als_bench.failover import is_leading

LATE_S = 1.0  # far more than some tries at a port without a listener take


def test_a_member_that_is_not_up_yet_is_waited_for(tmp_path: Path) -> None:
    """A member without a listener is asked again until it is there."""
    with Members(tmp_path, 1) as members, ThreadPoolExecutor() as threads:
        [member] = members.all
        client = EtcdClient(members.endpoints)
        try:
            member.stop(kill=True)
            asked = threads.submit(is_leading, client, member)
            with pytest.raises(TimeoutError):
                asked.result(LATE_S)
            member.start()
            assert asked.result()
        finally:
            client.close()
