"""What a server does for etcd's health: compaction, a full etcd found and said, members that are gone or unsafe."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdCompactedError, EtcdUnavailableError
from als.store.etcd.members import Alarm, Member, MemberStatus
from als.store.etcd.ops import RangeResult, put
from als.store.etcd.upkeep import COMPACT_EVERY_S, KEPT_S, LOOK_EVERY_S, EtcdReport, Upkeep
from als.store.transaction import StoreUnavailableError, Table
from etcd_stores import open_etcd

QUOTA_BYTES = 4 << 20


@pytest.fixture
def upkeep(etcd_endpoint: str) -> Iterator[Upkeep]:
    """The upkeep of the shared etcd."""
    upkeep = Upkeep(EtcdClient([etcd_endpoint]), b"any row")
    yield upkeep
    upkeep.close()


def test_history_is_kept_for_a_minute(upkeep: Upkeep, etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """What is older than a minute is compacted, what is younger can still be read."""
    client = EtcdClient([etcd_endpoint])
    written: list[tuple[float, int]] = []
    now_s = 0.0
    while now_s < 2 * KEPT_S:
        written.append((now_s, client.txn([], [put(etcd_prefix, b"%d" % now_s)]).revision))
        upkeep.step(now_s)
        now_s += LOOK_EVERY_S
    last_s = written[-1][0]
    for then_s, revision in written:
        if last_s - then_s < KEPT_S:
            assert client.range(etcd_prefix, revision=revision).rows[0].value == b"%d" % then_s
        elif last_s - then_s > KEPT_S + 2 * COMPACT_EVERY_S:
            with pytest.raises(EtcdCompactedError):
                client.range(etcd_prefix, revision=revision)
    client.close()


def test_compaction_can_be_switched_off(etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Where others use the same etcd, its history is theirs."""
    upkeep = Upkeep(EtcdClient([etcd_endpoint]), b"any row", compacts=False)
    client = EtcdClient([etcd_endpoint])
    revision = client.txn([], [put(etcd_prefix, b"old")]).revision
    client.txn([], [put(etcd_prefix, b"new")])
    for minute in range(5):
        upkeep.step(minute * KEPT_S)
    assert client.range(etcd_prefix, revision=revision).rows[0].value == b"old"
    client.close()
    upkeep.close()


def test_members_are_reported(upkeep: Upkeep, etcd_endpoint: str) -> None:
    """The report names member, version, leader and sizes, and has nothing to complain of."""
    upkeep.step(0)
    report = upkeep.report
    assert report.revision > 0 and not report.is_full and report.troubles == ()
    [member] = report.members
    assert (member.endpoint, member.name, member.is_leader, member.trouble) == (etcd_endpoint, "n0", True, None)
    assert member.version[:2] == "3." and 0 < member.used_bytes <= member.file_bytes


def test_upkeep_runs_beside(upkeep: Upkeep) -> None:
    """The thread's first look comes soon, and closing ends it at once."""
    upkeep.start()
    for _ in range(10_000):
        if upkeep.report.revision:
            break
        upkeep._ended.wait(0.005)
    assert upkeep.report.revision


def test_a_full_etcd_is_found_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At its quota etcd refuses writes: the store is unavailable, its reads go on, and the report says what to do."""
    with etcd_nodes.Cluster(tmp_path, 1, f"--quota-backend-bytes={QUOTA_BYTES}") as cluster:
        store = open_etcd(cluster.endpoints[0], b"full/")
        written = 0
        with pytest.raises(StoreUnavailableError, match="space exceeded") as caught:
            while written < 100:
                tx = store.begin()
                tx.put(Table.META, b"large/%d" % written, bytes(200_000))
                assert not store.submit(tx).rejected
                written += 1
        assert caught.value.retry_after_s > 1
        rows = store.snapshot().scan(Table.META, b"large/", b"large0")
        assert len(rows) == written, "what was acknowledged is there, and no more"
        with pytest.raises(StoreUnavailableError):
            tx = store.begin()
            tx.put(Table.META, b"small", b"")
            store.submit(tx)
        upkeep = Upkeep(EtcdClient(cluster.endpoints), b"any row")
        with caplog.at_level(logging.WARNING):
            upkeep.step(0)
            upkeep.step(1)
        assert upkeep.report.is_full
        [trouble] = upkeep.report.troubles
        assert "quota" in trouble and "n0" in trouble
        assert [record.message for record in caplog.records] == [trouble]
        upkeep.close()
        store.close()


class OneMember:
    """An etcd that says what it is told to say."""

    def __init__(self, version: str = "3.5.16", alarms: tuple[str, ...] = ()) -> None:
        self.version = version
        self.kinds = alarms
        self.is_gone = False
        self.endpoints = ("a:1", "b:1")

    def range(self, start: bytes) -> RangeResult:
        """Tell a revision."""
        self._fail()
        return RangeResult([], False, 5)

    def compact(self, revision: int) -> None:
        """Forget nothing."""

    def members(self) -> list[Member]:
        """List the one."""
        self._fail()
        return [Member(1, "first", ())]

    def alarms(self) -> list[Alarm]:
        """List what was said."""
        return [Alarm(1, kind) for kind in self.kinds]

    def status(self, endpoint: str) -> MemberStatus:
        """Only the first is there."""
        if endpoint == "b:1":
            raise EtcdUnavailableError("etcd at b:1 cannot be reached", maybe_applied=False)
        self._fail()
        return MemberStatus(1, self.version, 1, 2, 100, 50, True, ())

    def _fail(self) -> None:
        if self.is_gone:
            raise EtcdUnavailableError("etcd has no leader", maybe_applied=False)

    def close(self) -> None:
        """Nothing to let go of."""


def report_of(client: OneMember) -> EtcdReport:
    """Look once."""
    upkeep = Upkeep(client, b"any row")
    upkeep.step(0)
    upkeep.close()
    return upkeep.report


def test_troubles_are_said_each_in_a_line() -> None:
    """A member that is away, a version that may lose data, data in doubt, a cluster without a leader."""
    away = "etcd at b:1 cannot be reached"
    assert report_of(OneMember()).troubles == (away,)
    unsafe = report_of(OneMember(version="3.5.4"))
    assert "3.5.4" in unsafe.troubles[0] and unsafe.members[0].trouble == unsafe.troubles[0]
    assert "CORRUPT" in report_of(OneMember(alarms=("CORRUPT",))).troubles[0]
    gone = OneMember()
    gone.is_gone = True
    report = report_of(gone)
    assert (report.revision, report.troubles) == (0, ("etcd has no leader", away))
    assert [member.trouble for member in report.members] == ["etcd has no leader", away]


def test_trouble_is_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """What stays is not said again and again."""
    client = OneMember()
    upkeep = Upkeep(client, b"any row")
    with caplog.at_level(logging.INFO):
        upkeep.step(0)
        client.is_gone = True
        upkeep.step(5)
        upkeep.step(10)
        client.is_gone = False
        upkeep.step(15)
    assert [record.message for record in caplog.records] == [
        "etcd at b:1 cannot be reached",
        "etcd has no leader",
        "no longer so: etcd has no leader",
    ]
    upkeep.close()
