"""A thin client of etcd's API v3 over gRPC: several members, one in use until it fails, a deadline on every call.

Reads are asked again elsewhere within a bound; a transaction only when it certainly did not get anywhere, since a
second one could find the first one's work and take it for another's. What the rows mean is not known here.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import grpc

from als import clock
from als.store.etcd import leader, replies
from als.store.etcd import rpc_pb2 as rpc
from als.store.etcd.errors import EtcdCompactedError, EtcdError, EtcdUnavailableError, explained
from als.store.etcd.members import Alarm, Member, MemberStatus
from als.store.etcd.ops import Compare, Op, RangeResult, TxnResult, range_request, txn_request
from als.store.etcd.tls import Tls, TlsFiles

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Reply = TypeVar("Reply")
Call: TypeAlias = Callable[[bytes, float, Metadata], Reply]  # message, deadline in seconds, metadata

TOTAL_S = 2.0  # for one call with everything that is tried for it; an election takes 1 to 1.5 s
TRY_LEAST_S = 0.25  # a try that has less left would only turn a certain failure into an unclear one
PAUSE_FIRST_S = 0.01  # after every member failed, doubled up to the longest
PAUSE_MAX_S = 0.2
REPLY_BYTES_MAX = 1 << 26

# etcd allows a ping in 5 s, and none while no call is under way: more gets "too many pings" and a closed connection.
# The least backoff is also how long a connection, its TLS included, may take to come about.
_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", REPLY_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
_HAS_LEADER: Metadata = (("hasleader", "true"),)  # a member that is cut off from the others says so at once


class _Endpoint:
    """One member: its channel and the calls on it."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self.address = address
        self.tls = tls
        if tls is None:
            self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
            self._channel = grpc.secure_channel(address, credentials, options=_OPTIONS)
        self.range = self._call("KV/Range", rpc.RangeResponse.FromString)
        self.txn = self._call("KV/Txn", rpc.TxnResponse.FromString)
        self.compact = self._call("KV/Compact", rpc.CompactionResponse.FromString)
        self.members = self._call("Cluster/MemberList", rpc.MemberListResponse.FromString)
        self.status = self._call("Maintenance/Status", rpc.StatusResponse.FromString)
        self.alarms = self._call("Maintenance/Alarm", rpc.AlarmResponse.FromString)
        self.close = self._channel.close
        self._look: Any = self._channel.unary_unary("/etcdserverpb.Maintenance/Status")

    def look(self, tell: leader.Tell, deadline_s: float) -> Callable[[], object]:
        """Have `tell` called with the member's status, None for a failure; give the function that calls it off."""

        def told(future: Any) -> None:
            is_answer = not future.cancelled() and future.code() is grpc.StatusCode.OK
            tell(_status_of(rpc.StatusResponse.FromString(future.result())) if is_answer else None)

        future = self._look.future(b"", timeout=deadline_s)
        future.add_done_callback(told)
        cancel: Callable[[], object] = future.cancel
        return cancel

    def _call(self, method: str, parse: Callable[[bytes], Reply]) -> Call[Reply]:
        """Give a function that makes one call, and raises EtcdError."""
        remote: Callable[..., Reply] = self._channel.unary_unary(f"/etcdserverpb.{method}", response_deserializer=parse)

        def call(message: bytes, deadline_s: float, metadata: Metadata) -> Reply:
            try:
                return remote(message, timeout=deadline_s, metadata=metadata)
            except grpc.RpcError as error:
                raise explained(self.address, error.code().name, error.details() or "") from error

        return call


class EtcdClient:
    """Calls to a cluster by the addresses (`host:port`) of some or all of its members. All errors are EtcdErrors."""

    def __init__(self, endpoints: Sequence[str], *, tls: TlsFiles | None = None, call_deadline_s: float = 1.0) -> None:
        """Prepare; the first call connects. Raises EtcdRefusedError when a TLS file is no good."""
        assert endpoints
        contents = None if tls is None else Tls(tls)
        self._endpoints = [_Endpoint(address, contents) for address in endpoints]
        self._current = 0
        self._has_failed = False  # the member in use
        self._places: dict[int, int] = {}  # of the members whose ids are known
        self._call_deadline_s = call_deadline_s

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses given, the one in use first."""
        order = self._endpoints[self._current :] + self._endpoints[: self._current]
        return tuple(endpoint.address for endpoint in order)

    def range(
        self,
        start: bytes,
        stop: bytes | None = None,
        *,
        limit: int = 0,
        descending: bool = False,
        keys_only: bool = False,
        revision: int = 0,
        serializable: bool = False,
    ) -> RangeResult:
        """Read one key, or the rows with start <= key < stop in their order, at most `limit` (0: all).

        `revision` reads as of then (EtcdCompactedError when it is gone). `serializable` spares the leader and needs
        none, but what it reads may be old.
        """
        message = range_request(start, stop, limit, descending, keys_only, revision, serializable)
        metadata = () if serializable else _HAS_LEADER
        return replies.range_result(self._ask(lambda endpoint: endpoint.range, message, metadata=metadata))

    def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """Apply `success` when all compares hold, else `failure`, at once.

        EtcdUnavailableError says in `maybe_applied` whether it may have been, or may still be, applied.
        """
        message = txn_request(compares, success, failure)
        return replies.txn_result(self._ask(lambda endpoint: endpoint.txn, message, repeatable=False))

    def compact(self, revision: int) -> None:
        """Forget what rows were before `revision`; done already is no error."""
        message = rpc.CompactionRequest(revision=revision).SerializeToString()
        try:
            self._ask(lambda endpoint: endpoint.compact, message)
        except EtcdCompactedError:
            return

    def members(self) -> list[Member]:
        """List the cluster's members."""
        reply = self._ask(lambda endpoint: endpoint.members, b"")
        return [Member(member.id, member.name, tuple(member.client_urls)) for member in reply.members]

    def alarms(self) -> list[Alarm]:
        """List the alarms that are on."""
        reply = self._ask(lambda endpoint: endpoint.alarms, b"")
        return [Alarm(alarm.member_id, rpc.AlarmMember.Kind.Name(alarm.kind)) for alarm in reply.alarms]

    def status(self, endpoint: str) -> MemberStatus:
        """Ask one member, by its address, for itself; it answers without a leader too."""
        [place] = [place for place, known in enumerate(self._endpoints) if known.address == endpoint]
        status = _status_of(self._endpoints[place].status(b"", self._call_deadline_s, ()))
        self._places[status.member] = place
        return status

    def prefer_leader(self) -> None:
        """Use the leader's endpoint from now on, when one of them is it: a follower forwards every write.

        Each member that hangs costs a deadline.
        """
        for place, endpoint in enumerate(self._endpoints):
            try:
                if self.status(endpoint.address).is_leader:
                    self._current = place
                    return
            except EtcdError:
                continue

    def close(self) -> None:
        """Let go of the connections."""
        for endpoint in self._endpoints:
            endpoint.close()

    def _ask(
        self,
        method: Callable[[_Endpoint], Call[Reply]],
        message: bytes,
        *,
        metadata: Metadata = _HAS_LEADER,
        repeatable: bool = True,
    ) -> Reply:
        """Call the member in use, and another after each failure that a call may follow, within TOTAL_S."""
        end_s = clock.monotonic_s() + TOTAL_S
        pause_s = PAUSE_FIRST_S
        failures = 0
        while True:
            if self._has_failed:
                self._turn_to_leader(end_s - TRY_LEAST_S)
            endpoint = self._endpoints[self._current]
            left_s = end_s - clock.monotonic_s()
            try:
                return method(endpoint)(message, min(left_s, self._call_deadline_s), metadata)
            except EtcdUnavailableError as error:
                self._current = (self._current + 1) % len(self._endpoints)
                self._has_failed = True
                failures += 1
                if error.maybe_applied and not repeatable:
                    raise
                if failures % len(self._endpoints) == 0:
                    self._check_certificates(end_s)
                    clock.pause(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)
                if clock.monotonic_s() > end_s - TRY_LEAST_S:
                    raise

    def _turn_to_leader(self, end_s: float) -> None:
        """Use the leader; raises EtcdUnavailableError when there is none in time."""
        if len(self._endpoints) > 1:
            place = leader.find(self._endpoints, self._places, end_s)
            if place is None:
                return  # nobody answers: the call itself will tell why
            self._current = place
        self._has_failed = False

    def _check_certificates(self, end_s: float) -> None:
        """Raise EtcdRefusedError when certificates keep us away from every member."""
        troubles = []
        for endpoint in self._endpoints:
            wait_s = max(TRY_LEAST_S, min(self._call_deadline_s, end_s - clock.monotonic_s()))
            trouble = None if endpoint.tls is None else endpoint.tls.trouble(endpoint.address, wait_s)
            if trouble is None:
                return
            troubles.append(trouble)
        raise troubles[0]


def _status_of(reply: rpc.StatusResponse) -> MemberStatus:
    return MemberStatus(
        member=reply.header.member_id,
        version=reply.version,
        leader=reply.leader,
        raft_term=reply.raft_term,
        db_size=reply.db_size,
        db_size_in_use=reply.db_size_in_use,
        is_leader=reply.leader == reply.header.member_id,
        errors=tuple(reply.errors),
    )
