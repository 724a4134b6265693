"""What a server does for etcd's health beside its turns: it compacts, and looks at the members.

Every renewal is a new revision of its row. Without compaction etcd's file fills its quota within minutes of a busy day,
and then the whole cluster refuses to write. Any server may compact, all do, and compacting twice is no harm; but it is
for the whole etcd, so it can be switched off where others use it.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from als import clock
from als.store.etcd.errors import EtcdError
from als.store.etcd.members import Alarm, Member, MemberStatus, check_version
from als.store.etcd.ops import RangeResult

LOOK_EVERY_S = 5.0
COMPACT_EVERY_S = 15.0
KEPT_S = 60.0  # of history: a listing or backup reads at one revision
NOSPACE = "NOSPACE"

log = logging.getLogger("als")


class Keeper(Protocol):
    """What is needed of a client; als/store/etcd/client.py says what each does and raises."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses given."""
        ...

    def range(self, start: bytes) -> RangeResult:
        """Read a row."""
        ...

    def compact(self, revision: int) -> None:
        """Forget older revisions."""
        ...

    def members(self) -> list[Member]:
        """List the members."""
        ...

    def alarms(self) -> list[Alarm]:
        """List the alarms that are on."""
        ...

    def status(self, endpoint: str) -> MemberStatus:
        """Ask one member for itself."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


@dataclass(frozen=True, slots=True)
class MemberReport:
    """One address of etcd, and what the member there says of itself. `trouble`: what is wrong with it, in a line."""

    endpoint: str
    name: str = ""
    version: str = ""
    is_leader: bool = False
    file_bytes: int = 0
    used_bytes: int = 0
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class EtcdReport:
    """How etcd is. `revision` 0: it did not answer; `troubles` are lines for an administrator, the worst first."""

    members: tuple[MemberReport, ...] = ()
    revision: int = 0
    is_full: bool = False
    troubles: tuple[str, ...] = ()


class Upkeep:
    """Steps that may wait for an etcd that hangs, so they run in a thread of their own, over a client of their own."""

    def __init__(self, client: Keeper, row: bytes, *, compacts: bool = True) -> None:
        """`row` is any row's name: reading it tells etcd's revision."""
        self.report = EtcdReport()
        self._client = client
        self._row = row
        self._compacts = compacts
        self._noted: deque[tuple[float, int]] = deque()  # when etcd was at which revision
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="etcd upkeep", daemon=True)

    def start(self) -> None:
        """Look now, and again and again."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, which may be waiting for an answer, and let go of the connections."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.step(clock.monotonic_s())
            self._ended.wait(LOOK_EVERY_S)

    def step(self, now_s: float) -> None:
        """Look at etcd, log what is new of troubles, and compact when it is time."""
        report = self._look()
        for trouble in report.troubles:
            if trouble not in self.report.troubles:
                log.warning("%s", trouble)
        for trouble in self.report.troubles:
            if trouble not in report.troubles:
                log.info("no longer so: %s", trouble)
        self.report = report
        if self._compacts and report.revision:
            self._compact(now_s, report.revision)

    def _look(self) -> EtcdReport:
        said = [(endpoint, self._status(endpoint)) for endpoint in sorted(self._client.endpoints)]
        names: dict[int, str] = {}
        revision, alarms, lost = 0, [], []
        try:
            names = {member.id: member.name for member in self._client.members()}
            alarms = self._client.alarms()
            revision = self._client.range(self._row).revision
        except EtcdError as error:
            lost.append(str(error))
        members = tuple(_member(endpoint, status, names) for endpoint, status in said)
        lost += (member.trouble for member in members if member.trouble is not None)
        is_full = any(alarm.kind == NOSPACE for alarm in alarms)
        troubles = [_explained(alarm, names) for alarm in alarms] + lost
        return EtcdReport(members, revision, is_full, tuple(dict.fromkeys(troubles)))

    def _status(self, endpoint: str) -> MemberStatus | EtcdError:
        try:
            return self._client.status(endpoint)
        except EtcdError as error:
            return error

    def _compact(self, now_s: float, revision: int) -> None:
        """Forget all that was before the newest revision that is old enough."""
        if self._noted and now_s - self._noted[-1][0] < COMPACT_EVERY_S:
            return
        self._noted.append((now_s, revision))
        past = None
        while self._noted and now_s - self._noted[0][0] >= KEPT_S:
            past = self._noted.popleft()[1]
        if past is None:
            return
        try:
            self._client.compact(past)
        except EtcdError as error:
            log.warning("etcd could not be compacted: %s", error)


def _member(endpoint: str, status: MemberStatus | EtcdError, names: dict[int, str]) -> MemberReport:
    """Tell what is known of a member."""
    if isinstance(status, EtcdError):
        return MemberReport(endpoint, trouble=str(status))
    trouble = None
    try:
        check_version(status.version)
    except EtcdError as error:
        trouble = str(error)
    name = names.get(status.member, "")
    return MemberReport(
        endpoint, name, status.version, status.is_leader, status.db_size, status.db_size_in_use, trouble
    )


def _explained(alarm: Alarm, names: dict[int, str]) -> str:
    """Say what an alarm means, and what is to be done."""
    member = names.get(alarm.member) or f"{alarm.member:x}"
    if alarm.kind == NOSPACE:
        return (
            f"etcd's member {member} has reached its quota: all writes are refused until an administrator makes room "
            "(etcdctl compact, defrag, alarm disarm; a larger --quota-backend-bytes)"
        )
    return f"etcd's member {member} has the alarm {alarm.kind}: its data is in doubt, replace it"
