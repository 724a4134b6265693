"""The client of etcd when members die, hang, lose each other, run full, or show the wrong certificate.

Each wait has a bound; the bounds are far above what was seen, for machines that do much else.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als import clock
from als.store.etcd import ops
from als.store.etcd.client import TOTAL_S, EtcdClient
from als.store.etcd.errors import EtcdFullError, EtcdRefusedError, EtcdUnavailableError
from als.store.etcd.tls import TlsFiles
from etcd_certificates import Authority
from etcd_nodes import Cluster, Node

SLACK_S = 2.0
FAILOVER_S = 15.0
ETCDCTL = shutil.which("etcdctl")


@contextmanager
def connected(*endpoints: str, tls: TlsFiles | None = None) -> Iterator[EtcdClient]:
    """Give a client for a while."""
    client = EtcdClient(endpoints, tls=tls)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Fail when what is done inside takes longer."""
    start_s = clock.monotonic_s()
    yield
    assert clock.monotonic_s() - start_s < seconds


def asked_until(wanted: Callable[[], bool], client: EtcdClient) -> None:
    """Read again and again until something is so."""
    end_s = clock.monotonic_s() + FAILOVER_S
    while not wanted():
        assert clock.monotonic_s() < end_s
        try:
            client.range(b"x")
        except EtcdUnavailableError:
            continue


class Tally:
    """A number that one client counts up in etcd, and knows each time whether it was its own doing."""

    def __init__(self, client: EtcdClient, key: bytes) -> None:
        self._client = client
        self._key = key
        self.number = 0
        client.txn([], [ops.put(key, b"0")])

    def count(self) -> None:
        """Add one, over whatever failures there are within FAILOVER_S."""
        end_s = clock.monotonic_s() + FAILOVER_S
        old, new = b"%d" % self.number, b"%d" % (self.number + 1)
        while not self._put(old, new):
            assert clock.monotonic_s() < end_s
        self.number += 1

    def _put(self, old: bytes, new: bytes) -> bool:
        """Try once; a compare that fails tells that an earlier try came through after all."""
        try:
            result = self._client.txn([ops.value_is(self._key, old)], [ops.put(self._key, new)], [ops.get(self._key)])
        except EtcdUnavailableError:
            return False
        if not result.succeeded:
            [rows] = result.responses
            assert isinstance(rows, list) and [row.value for row in rows] == [new]
        return True

    def puts(self) -> int:
        """Give how often the number was written since it was 0."""
        [row] = self._client.range(self._key).rows
        assert row.value == b"%d" % self.number
        return row.version - 1


def leader_of(cluster: Cluster, client: EtcdClient) -> Node:
    """Give the leader, which the client uses from now on."""
    client.prefer_leader()
    node = cluster.at(client.endpoints[0])
    assert client.status(node.endpoint).is_leader
    return node


def test_counting_goes_on_when_the_leader_fails(tmp_path: Path) -> None:
    """Whether the leader is killed, hangs or is stopped, every count is made once and none twice, after a short gap."""
    with Cluster(tmp_path, 3) as cluster, connected(*cluster.endpoints) as client:
        tally = Tally(client, b"n")
        for fail, mend in (
            (Node.kill, cluster.start),
            (Node.freeze, Node.thaw),
            (Node.stop, cluster.start),
        ):
            for _ in range(20):
                tally.count()
            node = leader_of(cluster, client)
            fail(node)
            for _ in range(20):
                tally.count()
            assert client.endpoints[0] != node.endpoint
            mend(node)
        assert tally.puts() == tally.number == 120


def test_a_transaction_that_cannot_be_sent_goes_elsewhere(tmp_path: Path) -> None:
    """When the member in use died before, another one gets the transaction, without an error."""
    with Cluster(tmp_path, 3) as cluster, connected(*cluster.endpoints) as client:
        leader = leader_of(cluster, client)
        follower = next(node for node in cluster.nodes if node is not leader)
        with connected(follower.endpoint, leader.endpoint) as other:
            other.txn([], [ops.put(b"k", b"1")])
            follower.kill()
            with pytest.raises(EtcdUnavailableError):
                other.status(follower.endpoint)
            assert other.txn([ops.value_is(b"k", b"1")], [ops.put(b"k", b"2")]).succeeded
            assert other.endpoints[0] == leader.endpoint


def test_a_member_that_hangs_costs_one_deadline(tmp_path: Path) -> None:
    """A transaction under way ends as unclear at its deadline, a read is asked elsewhere, and both use others then."""
    with Cluster(tmp_path, 3) as cluster, connected(*cluster.endpoints) as client:
        leader = leader_of(cluster, client)
        follower = next(node for node in cluster.nodes if node is not leader)
        order = (follower.endpoint, leader.endpoint)
        with connected(*order) as writer, connected(*order) as reader:
            writer.range(b"k")
            reader.range(b"k")
            follower.freeze()
            with bounded(1.0 + SLACK_S), pytest.raises(EtcdUnavailableError, match="in time") as failed:
                writer.txn([], [ops.put(b"k", b"1")])
            assert failed.value.maybe_applied
            with bounded(1.0 + SLACK_S):
                assert writer.txn([], [ops.put(b"l", b"1")]).succeeded
                assert reader.range(b"l").rows[0].value == b"1"
            assert writer.endpoints[0] == reader.endpoints[0] == leader.endpoint


def test_without_a_majority_nothing_is_done_and_it_is_said(tmp_path: Path) -> None:
    """One of three members knows no leader: a transaction is certainly not applied, an old read still works."""
    with Cluster(tmp_path, 3) as cluster, connected(*cluster.endpoints) as client:
        client.txn([], [ops.put(b"k", b"1")])
        left, *others = cluster.nodes
        assert client.range(b"k").rows and client.status(left.endpoint).leader
        for node in others:
            node.kill()
        with connected(left.endpoint) as alone:
            asked_until(lambda: alone.status(left.endpoint).leader == 0, alone)
            for ask in (lambda: alone.txn([], [ops.put(b"k", b"2")]), lambda: alone.range(b"k")):
                with bounded(TOTAL_S + SLACK_S), pytest.raises(EtcdUnavailableError, match="no leader") as failed:
                    ask()
                assert not failed.value.maybe_applied
            assert alone.range(b"k", serializable=True).rows[0].value == b"1"
        with bounded(TOTAL_S + SLACK_S), pytest.raises(EtcdUnavailableError):
            client.range(b"k")
        cluster.start(others[0])
        asked_until(lambda: client.status(left.endpoint).leader != 0, client)
        assert client.txn([ops.value_is(b"k", b"1")], [ops.put(b"k", b"2")]).succeeded


def test_nobody_there_is_said_within_the_bound() -> None:
    """Addresses where nothing listens give one line with the last of them, and nothing was applied."""
    addresses = [f"127.0.0.1:{port}" for port in etcd_nodes.free_ports(2)]
    with connected(*addresses) as client:
        with bounded(TOTAL_S + SLACK_S), pytest.raises(EtcdUnavailableError, match="refused") as failed:
            client.txn([], [ops.put(b"k", b"1")])
        assert not failed.value.maybe_applied
        assert any(address in str(failed.value) for address in addresses) and "\n" not in str(failed.value)


def fill(client: EtcdClient) -> None:
    """Write until etcd is full."""
    for place in range(1_000):
        client.txn([], [ops.put(b"fill/%d" % place, bytes(100_000))])


def test_a_full_etcd_refuses_writes_alone(tmp_path: Path) -> None:
    """Over its quota etcd raises the alarm NOSPACE: writes are EtcdFullError, reads go on."""
    with Cluster(tmp_path, 1, "--quota-backend-bytes=1000000") as cluster, connected(*cluster.endpoints) as client:
        with pytest.raises(EtcdFullError, match=r"database space exceeded.*make room"):
            fill(client)
        with pytest.raises(EtcdFullError):
            client.txn([], [ops.put(b"k", b"1")])
        assert client.range(b"fill/0").rows
        [alarm] = client.alarms()
        assert alarm.kind == "NOSPACE"
        assert any("NOSPACE" in error for error in client.status(cluster.endpoints[0]).errors)


@pytest.mark.skipif(ETCDCTL is None, reason="there is no etcdctl on this machine (Debian: apt-get install etcd-client)")
def test_a_full_etcd_can_be_helped(tmp_path: Path) -> None:
    """Compacting, defragmenting and disarming, as the error says, makes a full etcd take writes again."""
    with Cluster(tmp_path, 1, "--quota-backend-bytes=1000000") as cluster, connected(*cluster.endpoints) as client:
        with pytest.raises(EtcdFullError):
            fill(client)
        client.compact(client.txn([], [ops.delete(b"fill/", b"fill0")]).revision)
        assert ETCDCTL is not None
        for order in (["defrag"], ["alarm", "disarm"]):
            command = [ETCDCTL, f"--endpoints={cluster.endpoints[0]}", *order]
            subprocess.run(command, env={"ETCDCTL_API": "3"}, capture_output=True, check=True, timeout=30)
        assert client.txn([], [ops.put(b"k", b"1")]).succeeded
        assert client.alarms() == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give the authority that member and client trust."""
    return Authority(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("certificates") / "theirs")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[str]:
    """Give the address of a member that wants a client's certificate."""
    with Cluster(tmp_path_factory.mktemp("guarded"), tls=authority.member()) as cluster:
        yield cluster.endpoints[0]


def refusal(endpoint: str, tls: TlsFiles) -> str:
    """Ask a member in vain; give the one line that says why."""
    with connected(endpoint, tls=tls) as client:
        for ask in (lambda: client.range(b"k"), lambda: client.txn([], [ops.put(b"k", b"1")])):
            with bounded(TOTAL_S + SLACK_S), pytest.raises(EtcdRefusedError) as failed:
                ask()
    assert endpoint in str(failed.value) and "\n" not in str(failed.value)
    return str(failed.value)


def test_certificates_let_a_client_in(guarded: str, authority: Authority) -> None:
    """With a certificate of the authority that the member trusts, and the other way round, calls work."""
    with connected(guarded, tls=authority.client()) as client:
        assert client.txn([], [ops.put(b"k", b"1")]).succeeded
        assert client.range(b"k").rows[0].value == b"1"


def test_a_client_without_a_certificate_is_refused(guarded: str, authority: Authority) -> None:
    """A member that wants a client's certificate does not accept none, and the error says so."""
    assert "does not accept our certificate" in refusal(guarded, TlsFiles(authority.file))


def test_a_client_of_another_authority_is_refused(guarded: str, authority: Authority, stranger: Authority) -> None:
    """A client's certificate must be of the authority that the member trusts."""
    assert "does not accept our certificate" in refusal(guarded, stranger.client()._replace(authority=authority.file))


def test_a_member_of_another_authority_is_refused(guarded: str, stranger: Authority) -> None:
    """A member's certificate must be of the authority that the client trusts."""
    assert "is not accepted: unable to get local issuer" in refusal(guarded, stranger.client())


def test_a_member_under_another_name_is_refused(guarded: str, authority: Authority) -> None:
    """A member's certificate must be for the address that the client was given."""
    other = guarded.replace("127.0.0.1", "localhost")
    assert "is not accepted: Hostname mismatch" in refusal(other, authority.client())


def test_a_certificate_that_has_expired_is_refused(tmp_path: Path, authority: Authority) -> None:
    """The error names the expiry, which is what an administrator forgets."""
    with Cluster(tmp_path / "expired", tls=authority.member(days=-1)) as cluster:
        assert "is not accepted: certificate has expired" in refusal(cluster.endpoints[0], authority.client())


def test_one_member_with_a_bad_certificate_is_passed_over(
    tmp_path: Path, guarded: str, authority: Authority, stranger: Authority
) -> None:
    """As long as one member's certificate is good, it is used."""
    with (
        Cluster(tmp_path / "strange", tls=stranger.member()) as strange,
        connected(strange.endpoints[0], guarded, tls=authority.client()) as client,
    ):
        assert client.txn([], [ops.put(b"k", b"1")]).succeeded
        assert client.endpoints[0] == guarded


def test_a_client_with_tls_is_told_of_a_member_without(etcd_endpoint: str, authority: Authority) -> None:
    """A member that does not speak TLS hangs up, and the error asks the right question."""
    with (
        connected(etcd_endpoint, tls=authority.client()) as client,
        pytest.raises(EtcdUnavailableError, match="does it speak TLS") as failed,
    ):
        client.range(b"k")
    assert not failed.value.maybe_applied


def test_a_client_without_tls_is_told_of_a_member_with(guarded: str) -> None:
    """A member that speaks only TLS hangs up, and the error asks the right question."""
    with connected(guarded) as client, pytest.raises(EtcdUnavailableError, match="does it want TLS"):
        client.range(b"k")


def test_files_that_are_no_certificates_are_refused_at_once(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    """A missing file, junk, and a key of another certificate are told apart from a member's refusal, by name."""
    junk, missing = tmp_path / "junk.pem", tmp_path / "missing.pem"
    junk.write_text("junk")
    good = authority.client()
    for files, reason in (
        (TlsFiles(missing), "missing.pem cannot be read: No such file"),
        (TlsFiles(tmp_path), "cannot be read: Is a directory"),
        (TlsFiles(junk), "junk.pem is no certificate of an authority"),
        (good._replace(certificate=junk), r"junk.pem and .*client-.*key are no certificate with its key"),
        (good._replace(key=stranger.client().key), r"client-.*pem and .*client-.*key are no certificate with its key"),
    ):
        with pytest.raises(EtcdRefusedError, match=reason):
            EtcdClient(["127.0.0.1:1"], tls=files)
