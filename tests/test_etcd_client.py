"""The client of etcd against one real member: what it sends, what it makes of the answers, and what is refused."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd import ops, replies
from als.store.etcd import rpc_pb2 as rpc
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdCompactedError, EtcdRefusedError
from als.store.etcd.members import check_version
from als.store.etcd.ops import Compare, KeyValue, Op, TxnResult


@pytest.fixture(scope="module")
def client(etcd_endpoint: str) -> Iterator[EtcdClient]:
    """Give a client of the member that all tests share."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


def values(client: EtcdClient, prefix: bytes) -> dict[bytes, bytes]:
    """Give all rows of a prefix, which is left out of the keys."""
    return {row.key.removeprefix(prefix): row.value for row in client.range(prefix, prefix + b"\xff").rows}


Response = list[KeyValue] | TxnResult | None


def rows_of(response: Response) -> list[KeyValue]:
    """Give what a read brought."""
    assert isinstance(response, list)
    return response


def verdict_of(response: Response) -> TxnResult:
    """Give the result of what was nested."""
    assert isinstance(response, TxnResult)
    return response


def write(client: EtcdClient, prefix: bytes, **rows: str) -> int:
    """Put rows, all in one transaction; give its revision."""
    return client.txn([], [ops.put(prefix + key.encode(), value.encode()) for key, value in rows.items()]).revision


Text = st.binary(min_size=1, max_size=300) | st.sampled_from([b"a" * 127, b"b" * 128, b"c" * 2047, b"d" * 20_000])
Number = st.integers(0, 2**62)


@given(Text, Text, Text, Number, st.booleans(), st.booleans())
def test_what_is_sent_is_what_protobuf_would_write(
    key: bytes, stop: bytes, value: bytes, number: int, descending: bool, keys_only: bool
) -> None:
    """The messages built by hand read as the same transaction built from protobuf's objects."""
    compare, range_ = rpc.Compare, rpc.RangeRequest
    read = range_(
        key=key,
        range_end=stop,
        limit=number,
        sort_order=range_.DESCEND if descending else range_.NONE,
        keys_only=keys_only,
    )
    inner = rpc.TxnRequest(
        compare=[
            compare(target=compare.VALUE, key=key, value=value),
            compare(target=compare.CREATE, key=key, create_revision=0),
            compare(target=compare.CREATE, key=key, range_end=stop, create_revision=0),
            compare(result=compare.LESS, target=compare.MOD, key=key, range_end=stop, mod_revision=number + 1),
        ],
        success=[
            rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value)),
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key)),
        ],
        failure=[
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=stop)),
            rpc.RequestOp(request_range=read),
        ],
    )
    nested = ops.nested(
        [
            ops.value_is(key, value),
            ops.is_absent(key),
            ops.none_in(key, stop),
            ops.unchanged_since(key, stop, number),
        ],
        [ops.put(key, value), ops.delete(key)],
        [ops.delete(key, stop), ops.get(key, stop, number, descending, keys_only)],
    )
    expected = rpc.TxnRequest(
        success=[rpc.RequestOp(request_txn=inner)], failure=[rpc.RequestOp(request_range=range_(key=key))]
    )
    assert rpc.TxnRequest.FromString(ops.txn_request([], [nested], [ops.get(key)])) == expected


def test_a_read_is_sent_whole() -> None:
    """Every parameter of a read arrives in its field."""
    sent = ops.range_request(b"k", b"l", 7, True, True, 9, True)
    sort = rpc.RangeRequest.DESCEND
    assert rpc.RangeRequest.FromString(sent) == rpc.RangeRequest(
        key=b"k", range_end=b"l", limit=7, revision=9, sort_order=sort, serializable=True, keys_only=True
    )


def compares(prefix: bytes, revision: int) -> list[tuple[str, Compare, bool]]:
    """List compares and whether they hold when there are b=1 and d=2, and d was put again after `revision`."""
    b, c, d, e = (prefix + name for name in (b"b", b"c", b"d", b"e"))
    return [
        ("the value", ops.value_is(b, b"1"), True),
        ("another value", ops.value_is(b, b"2"), False),
        ("the value of nothing", ops.value_is(c, b""), False),
        ("nothing", ops.is_absent(c), True),
        ("something", ops.is_absent(b), False),
        ("a gap", ops.none_in(c, d), True),
        ("a gap with a row at its start", ops.none_in(b, d), False),
        ("a gap with a row in it", ops.none_in(c, e), False),
        ("unchanged", ops.unchanged_since(b, c, revision), True),
        ("changed", ops.unchanged_since(b, e, revision), False),
        ("changed, but not since", ops.unchanged_since(b, e, revision + 1), True),
        ("unchanged, since empty", ops.unchanged_since(c, d, 0), True),
        ("what never holds", ops.never(), False),
    ]


def test_compares_hold_or_not(client: EtcdClient, etcd_prefix: bytes) -> None:
    """Each kind of compare decides as its description says."""
    revision = write(client, etcd_prefix, b="1", d="1")
    assert write(client, etcd_prefix, d="2") == revision + 1
    for name, compare, holds in compares(etcd_prefix, revision):
        assert client.txn([compare], []).succeeded == holds, name


def test_each_operation_gives_its_answer_in_order(client: EtcdClient, etcd_prefix: bytes) -> None:
    """A transaction's reads see its own writes, and give rows; what is nested gives a verdict, the rest None."""
    a, b, c = (etcd_prefix + name for name in (b"a", b"b", b"c"))
    nested = ops.nested([ops.is_absent(b)], [ops.get(a), ops.put(b, b"2")], [])
    result = client.txn([ops.is_absent(a)], [ops.put(a, b"1"), nested, ops.get(b), ops.delete(c)])
    row_a, row_b = (KeyValue(key, value, result.revision, result.revision, 1) for key, value in ((a, b"1"), (b, b"2")))
    verdict = TxnResult(True, [[row_a], None], result.revision)
    assert result == TxnResult(True, [None, verdict, [row_b], None], result.revision)
    assert values(client, etcd_prefix) == {b"a": b"1", b"b": b"2"}


def test_nested_compares_look_at_what_was_before(client: EtcdClient, etcd_prefix: bytes) -> None:
    """All compares of a transaction, nested ones too, are made before any of its writes."""
    write(client, etcd_prefix, a="old")
    a, b = etcd_prefix + b"a", etcd_prefix + b"b"
    result = client.txn([], [ops.put(a, b"new"), ops.nested([ops.value_is(a, b"old")], [ops.put(b, b"1")], [])])
    assert verdict_of(result.responses[1]).succeeded
    assert values(client, etcd_prefix) == {b"a": b"new", b"b": b"1"}


def test_a_failed_compare_runs_the_other_branch(client: EtcdClient, etcd_prefix: bytes) -> None:
    """When one compare fails nothing of `success` is done, and `failure` brings what there is."""
    a = etcd_prefix + b"a"
    write(client, etcd_prefix, a="1")
    result = client.txn([ops.value_is(a, b"1"), ops.is_absent(a)], [ops.put(a, b"2")], [ops.get(a)])
    assert not result.succeeded
    [[row]] = map(rows_of, result.responses)
    assert (row.key, row.value, row.version) == (a, b"1", 1)


def test_a_range_can_be_deleted(client: EtcdClient, etcd_prefix: bytes) -> None:
    """Deleting a range takes its start and leaves its stop."""
    write(client, etcd_prefix, a="1", b="2", c="3")
    client.txn([], [ops.delete(etcd_prefix + b"a", etcd_prefix + b"c")])
    assert values(client, etcd_prefix) == {b"c": b"3"}


def test_a_thousand_renewals_have_a_verdict_each(client: EtcdClient, etcd_prefix: bytes) -> None:
    """1,000 nested transactions fit into one with etcd's default limits, and each is decided for itself."""
    keys = [etcd_prefix + b"%04d" % place for place in range(1_000)]
    for start in range(0, 1_000, 100):
        client.txn([], [ops.put(key, b"old") for key in keys[start : start + 100]])
    client.txn([], [ops.put(keys[70], b"other")])
    units = [ops.nested([ops.value_is(key, b"old")], [ops.put(key, b"new")], [ops.get(key)]) for key in keys]
    groups = [ops.nested([], units[start : start + 50], []) for start in range(0, 1_000, 50)]
    result = client.txn([], groups)
    verdicts = [verdict_of(unit) for group in result.responses for unit in verdict_of(group).responses]
    assert [place for place, unit in enumerate(verdicts) if not unit.succeeded] == [70]
    [[row]] = map(rows_of, verdicts[70].responses)
    assert row.value == b"other"
    assert sorted(values(client, etcd_prefix).values()) == [b"new"] * 999 + [b"other"]


def test_a_range_is_read_in_order_up_to_a_limit(client: EtcdClient, etcd_prefix: bytes) -> None:
    """Rows come by key, from either end, with or without values, and `more` says when the limit cut them short."""
    write(client, etcd_prefix, a="1", b="2", c="3")
    start, stop = etcd_prefix + b"a", etcd_prefix + b"c"

    def seen(**options: bool | int) -> tuple[list[tuple[bytes, bytes]], bool]:
        result = client.range(start, stop, **options)  # type: ignore[arg-type]
        return [(row.key.removeprefix(etcd_prefix), row.value) for row in result.rows], result.more

    assert seen() == ([(b"a", b"1"), (b"b", b"2")], False)
    assert seen(limit=1) == ([(b"a", b"1")], True)
    assert seen(limit=1, descending=True) == ([(b"b", b"2")], True)
    assert seen(keys_only=True) == ([(b"a", b""), (b"b", b"")], False)
    assert seen(serializable=True) == seen()
    assert [row.value for row in client.range(start).rows] == [b"1"]
    assert client.range(etcd_prefix + b"x").rows == []


def test_the_past_is_read_until_it_is_compacted(client: EtcdClient, etcd_prefix: bytes) -> None:
    """A range as of a revision shows the rows of then; compacting again, or to an older revision, is no error."""
    first = write(client, etcd_prefix, a="1")
    second = write(client, etcd_prefix, a="2")
    assert [row.value for row in client.range(etcd_prefix + b"a", revision=first).rows] == [b"1"]
    for revision in (second, second, first):
        client.compact(revision)
    with pytest.raises(EtcdCompactedError, match="compacted"):
        client.range(etcd_prefix + b"a", revision=first)
    assert [row.value for row in client.range(etcd_prefix + b"a").rows] == [b"2"]


def too_many(prefix: bytes) -> list[Op]:
    """Give one operation more than etcd takes at a level."""
    return [ops.put(prefix + b"%d" % place, b"") for place in range(129)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda prefix: [ops.put(prefix, b"1"), ops.put(prefix, b"2")], "duplicate key"),
        (too_many, "too many operations"),
        (lambda prefix: [ops.put(prefix, bytes(1_600_000))], "request is too large"),
        (lambda prefix: [ops.put(prefix, bytes(4_000_000))], "message larger than max"),
        (lambda prefix: [ops.put(b"", prefix)], "key is not provided"),
    ],
    ids=["duplicate", "many", "large", "larger", "no key"],
)
def test_what_etcd_does_not_take_is_refused(
    client: EtcdClient, etcd_prefix: bytes, make: Callable[[bytes], list[Op]], reason: str
) -> None:
    """A request against etcd's rules is an EtcdRefusedError with etcd's reason, and nothing is written."""
    with pytest.raises(EtcdRefusedError, match=f"etcd at .*{reason}"):
        client.txn([], make(etcd_prefix))
    assert values(client, etcd_prefix) == {}


def test_a_revision_to_come_is_refused(client: EtcdClient) -> None:
    """Compacting or reading what has not happened yet is an EtcdRefusedError."""
    ahead = client.range(b"x").revision + 1_000_000
    for ask in (lambda: client.compact(ahead), lambda: client.range(b"x", revision=ahead)):
        with pytest.raises(EtcdRefusedError, match="future revision"):
            ask()


def test_a_member_tells_about_itself(client: EtcdClient, etcd_endpoint: str) -> None:
    """The only member is the leader, of a version that is accepted, with no alarm."""
    [member] = client.members()
    status = client.status(etcd_endpoint)
    assert member.client_urls == (f"http://{etcd_endpoint}",)
    assert status.is_leader and status.member == status.leader == member.id
    assert status.db_size >= status.db_size_in_use > 0 and status.raft_term > 0 and status.errors == ()
    assert client.alarms() == []
    check_version(status.version)


@pytest.mark.parametrize("version", ["3.4.0", "3.4.23", "3.5.6", "3.5.16", "3.6.0", "3.10.1", "4.0.0", "3.6.0-rc.1"])
def test_versions_that_are_accepted(version: str) -> None:
    """Versions from 3.4 on are accepted."""
    check_version(version)


@pytest.mark.parametrize(
    ("version", "reason"),
    [("3.3.27", "too old"), ("2.3.8", "too old"), ("", "too old"), ("3.5.0", "lose data"), ("3.5.5", "lose data")],
)
def test_versions_that_are_refused(version: str, reason: str) -> None:
    """Versions before 3.4, and those of 3.5 that could damage data, are refused with the reason."""
    with pytest.raises(EtcdRefusedError, match=reason):
        check_version(version)


def test_replies_are_read_by_field() -> None:
    """A reply in etcd's field numbers gives the rows with all their numbers."""
    row = rpc.KeyValue(key=b"k", value=b"v", create_revision=1, mod_revision=2, version=3)
    reply = rpc.RangeResponse(header=rpc.ResponseHeader(revision=9), kvs=[row], more=True)
    assert replies.range_result(reply) == ops.RangeResult([KeyValue(b"k", b"v", 1, 2, 3)], True, 9)
