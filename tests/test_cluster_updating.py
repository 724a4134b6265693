"""A cluster's store that an older version wrote: brought up to date page by page, by whoever starts first or next."""

import gzip
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import etcd_nodes
from cluster_site import cluster_options
from contract_client import Client
from server_process import ServerProcess

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als import keyfile
from als.ledger.audit import Audit
from als.records import pack_value, unpack_value
from als.server.cluster import copying, identity, updating
from als.server.cluster.identity import Identity
from als.server.cluster.peers import Card, card_key
from als.store import schema
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.fence import claim
from als.store.etcd.keys import Keys
from als.store.etcd.marks import mark_of
from als.store.etcd.ops import Compare, Op, TxnResult, put
from als.store.etcd.snapshot import EtcdSnapshot
from als.store.lmdb.store import LmdbStore
from als.store.transaction import SCHEMA_VERSION, Rows, StoreError, Table

DATA = Path(__file__).parent / "data"
PAGE_ROWS = 7  # so that the kept store has many pages


class BrokenClient(EtcdClient):
    """A client that is cut off after some messages; of every third that was applied no answer comes."""

    left = 0

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Compare and apply, as often as is left."""
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        result = super().txn(compares, success, failure)
        if self.left % 3 == 0:
            raise EtcdUnavailableError("cut off", maybe_applied=True)
        return result


class Cluster:
    """Rows of version 2 in an etcd, some of them marked as written by a server, and the same brought up to date."""

    def __init__(self, folder: Path, endpoint: str, prefix: bytes) -> None:
        self.endpoint, self.prefix = endpoint, prefix
        self.keys = Keys(prefix)
        self.client = EtcdClient([endpoint])
        self.schema_row = self.keys.name(Table.META, schema.KEY)
        folder.mkdir()
        with gzip.open(DATA / "store-schema-2.mdb.gz") as packed, (folder / "data.mdb").open("wb") as file:
            shutil.copyfileobj(packed, file)
        store = LmdbStore(folder, map_bytes=1 << 28)
        tx = store.begin()
        copying.into_etcd(tx, self.client, self.keys)
        marked = [put(self.keys.name(Table.LEASES, key), mark_of(3) + raw) for key, raw in tx.scan(Table.LEASES)[::2]]
        self.client.txn((), marked)
        schema.bring_up_to_date(tx)
        self.expected = self.rows(tx)
        tx.abort()
        store.close()

    @staticmethod
    def rows(source: copying.Source) -> list[Rows]:
        """Give all rows that are about licenses, by tables."""
        return [[(row.key, row.value) for row in copying.rows_of(source) if row.table == table] for table in Table]

    def snapshot(self) -> EtcdSnapshot:
        """Look at what is there now."""
        return EtcdSnapshot(self.client, self.keys, self.client.range(self.schema_row).revision)

    def update(self, client: EtcdClient | None = None) -> None:
        """Bring the store up to date."""
        updating.bring_up_to_date(client or self.client, self.keys, lambda seconds: None, compacts=False)

    def version(self) -> int:
        """Give what stands in the schema's row."""
        return int(unpack_value(self.client.range(self.schema_row).rows[0].value))


@pytest.fixture
def cluster(
    tmp_path: Path, etcd_endpoint: str, etcd_prefix: bytes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A cluster of version 2 whose servers are stopped."""
    monkeypatch.setattr(updating, "PAGE_ROWS", PAGE_ROWS)
    monkeypatch.setattr(updating, "MESSAGE_ROWS", 3)
    cluster = Cluster(tmp_path / "kept", etcd_endpoint, etcd_prefix)
    yield cluster
    cluster.client.close()


def test_every_row_becomes_what_one_transaction_makes_of_it(cluster: Cluster) -> None:
    """After the last page all rows are those of a data folder brought up to date, and doing it again changes none."""
    cluster.update()
    assert cluster.version() == SCHEMA_VERSION
    assert cluster.rows(cluster.snapshot()) == cluster.expected
    assert Audit(cluster.snapshot()).run() == []
    revision = cluster.client.range(cluster.schema_row).revision
    cluster.update()
    assert cluster.client.range(cluster.schema_row).revision == revision


@pytest.mark.parametrize("messages", [1, 2, 5, 11, 20])
def test_who_comes_next_goes_on(cluster: Cluster, messages: int) -> None:
    """A server that is cut off leaves a store that older ones take for newer, and that the next one finishes."""
    broken = BrokenClient([cluster.endpoint])
    broken.left = messages
    with pytest.raises(KeyboardInterrupt):
        cluster.update(broken)
    broken.close()
    assert cluster.version() == schema.UNDER_WAY + SCHEMA_VERSION, "as of which every older version refuses"
    with pytest.raises(StoreError, match="to its end"):
        schema.require_current(cluster.snapshot())
    cluster.update()
    assert cluster.version() == SCHEMA_VERSION
    assert cluster.rows(cluster.snapshot()) == cluster.expected


def test_who_is_late_writes_nothing(cluster: Cluster) -> None:
    """A second server that has read old rows when the first comes to the end changes nothing any more."""
    refused: list[bool] = []

    class Late(EtcdClient):
        """Lets another server be faster with the whole store, once it has read."""

        def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
            if not refused:
                cluster.update()
            result = super().txn(compares, success, failure)
            refused.append(not result.succeeded)
            return result

    cluster.client.txn((), [put(cluster.schema_row, pack_value(schema.UNDER_WAY + SCHEMA_VERSION))])
    late = Late([cluster.endpoint])
    cluster.update(late)
    late.close()
    assert refused and all(refused)
    assert cluster.version() == SCHEMA_VERSION
    assert cluster.rows(cluster.snapshot()) == cluster.expected


def test_a_server_that_runs_is_in_the_way(cluster: Cluster) -> None:
    """While a server of the older version runs, the store stays as it is, and the line says what to do."""
    fence = claim(cluster.client, cluster.keys, 4, b"i" * 16, over=None)
    card = Card("pc", "pc:9876", "1.0", "", 1, 1, 1.0)
    cluster.client.txn((), [put(cluster.keys.name(Table.META, card_key(4)), card.pack())])

    def write(seconds: float) -> None:
        cluster.client.txn((), [put(fence.name, b"another")])

    with pytest.raises(StoreError, match=r"server 4 .pc:9876. runs: stop all"):
        updating.bring_up_to_date(cluster.client, cluster.keys, write, compacts=False)
    assert cluster.version() == 2
    cluster.update()  # it is silent by now
    assert cluster.version() == SCHEMA_VERSION


def test_a_newer_store_is_refused(cluster: Cluster) -> None:
    """What a newer version has written, or is about to, is left alone."""
    for found in (SCHEMA_VERSION + 1, schema.UNDER_WAY + SCHEMA_VERSION + 1):
        cluster.client.txn((), [put(cluster.schema_row, pack_value(found))])
        with pytest.raises(StoreError, match=f"newer version of ALS .schema {SCHEMA_VERSION + 1}"):
            cluster.update()


def test_a_server_does_it_when_it_starts(
    cluster: Cluster, tmp_path: Path, etcd_endpoint: str, etcd_prefix: bytes
) -> None:
    """A real server starts on the store of a cluster that version 2 wrote, and lists its leases."""
    options = cluster_options(tmp_path, [etcd_endpoint], etcd_prefix)
    sealed = identity.seal(
        Identity("0f" * 16, "kept", keyfile.generate()), identity.read_secret(tmp_path / "cluster-secret")
    )
    cluster.client.txn((), [put(cluster.keys.name(Table.META, identity.KEY), sealed)])
    with (
        ServerProcess(tmp_path / "data", *options) as server,
        Client(server.port, server.server_key, server.admin_keys) as admin,
    ):
        assert len(list(admin.rows("leases"))) == len(cluster.expected[Table.LEASES])
    assert cluster.version() == SCHEMA_VERSION
