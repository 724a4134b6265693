"""Messages for etcd, without an etcd: they keep within its limits, however much a transaction saw and wrote."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd import commit
from als.store.etcd import rpc_pb2 as rpc
from als.store.etcd.commit import Joint, Message
from als.store.etcd.fence import Fence, ServerRow
from als.store.etcd.keys import Keys
from als.store.etcd.marks import mark_of
from als.store.etcd.moves import Moves
from als.store.etcd.ops import delete, get, put, txn_request
from als.store.etcd.parts import Part, Whole
from als.store.transaction import Table

KEYS = Keys(b"p/")
FENCE = Fence(KEYS, 3, ServerRow(b"i" * 16, 5, False, None).pack())


def part_of(place: int, reads: int, writes: int, spans: int = 0, wholes: int = 0, deletes: int = 0) -> Part:
    """A part that saw and wrote so many rows."""
    part = Part(place)
    head = KEYS.name(Table.LEASES, place.to_bytes(4, "big"))
    for number in range(reads):
        part.see(head + b"r%d" % number, None if number % 3 else b"v")
    for number in range(writes):
        part.writes[head + b"w%d" % number] = None if number < deletes else b"v"
    for number in range(spans):
        lo = head + b"s%d" % number
        part.see_span((lo, lo + b"\xff"), (lo + b"1",))
    rows = {head + b"z%04d" % number: b"v" for number in range(wholes)}
    part.wholes = (Whole(head + b"z", head + b"zz", rows, 7),) if rows else ()
    return part


def own_unit(place: int) -> Part:
    """A renewal of a lease that this server wrote last."""
    part = Part(place)
    name = KEYS.name(Table.LEASES, b"own" + place.to_bytes(4, "big"))
    part.see(name, mark_of(FENCE.number) + b"v")
    part.writes[name] = mark_of(FENCE.number) + b"w"
    return part


def path_ops(request: rpc.TxnRequest) -> int:
    """Count as etcd does: the longest list of each level, added up along the worst path."""
    inner = [path_ops(op.request_txn) for op in [*request.success, *request.failure] if op.HasField("request_txn")]
    return max(len(request.compare), len(request.success), len(request.failure)) + max(inner, default=0)


def puts(request: rpc.TxnRequest) -> list[bytes]:
    """Give the names of all rows that are put or deleted when everything holds."""
    names: list[bytes] = []
    for op in request.success:
        if op.HasField("request_txn"):
            names += puts(op.request_txn)
        elif op.HasField("request_put"):
            names.append(op.request_put.key)
        elif op.HasField("request_delete_range"):
            names.append(op.request_delete_range.key)
    return names


def compares(request: rpc.TxnRequest) -> int:
    """Count the compares of all levels."""
    inner = sum(compares(op.request_txn) for op in request.success if op.HasField("request_txn"))
    return len(request.compare) + inner


def parsed(message: Message) -> rpc.TxnRequest:
    """Read a message as etcd does."""
    return rpc.TxnRequest.FromString(txn_request(message.compares, message.success, message.failure))


sizes = st.sampled_from([0, 1, 2, 20, 60, 90, 110, 128, 200, 3_000])


@settings(max_examples=60)
@given(
    ground=st.sampled_from([0, 1, 10, 19, 20, 100]),
    reads=sizes,
    writes=sizes,
    spans=st.sampled_from([0, 3, 40]),
    wholes=st.sampled_from([0, 0, 500]),
    alone=st.sampled_from([0, 1, 19, 200, 1_000, 2_000]),
    trusted=st.sampled_from([0, 0, 1, 19, 1_000, 2_000]),
)
def test_messages_keep_within_etcds_limit(
    ground: int, reads: int, writes: int, spans: int, wholes: int, alone: int, trusted: int
) -> None:
    """No path of a message has more than 128 operations, and nothing of what was seen and written is left out.

    But for what trusted units saw, for which one compare stands.
    """
    joint = part_of(0, reads, writes, spans, wholes)
    units = [part_of(place, 2, 1) for place in range(1, alone + 1)]
    units += [own_unit(place) for place in range(20_000, 20_000 + trusted)]
    trust, last = None, [delete(b"baton"), put(b"told", b""), get(b"told")]
    if trusted:
        trust = Moves(KEYS, FENCE.number).trust()
    bundles = commit.bundled(units, trust)
    message = commit.assemble(FENCE, part_of(9_999, ground, 0), joint, bundles, trust, (), last)
    request = parsed(message)
    assert path_ops(request) <= 128
    wanted = {*joint.writes, *(name for unit in units for name in unit.writes)}
    own = {FENCE.name, FENCE.joint_name} if message.joint is Joint.NESTED else {FENCE.name}
    names = [name for name in puts(request) if name not in (b"baton", b"told")]
    assert len(names) == len(set(names)) and set(names) == wanted | (own if wanted else set())
    seen = 1 + ground + reads + 3 * spans + (1 + wholes if wholes else 0) + 2 * alone + (trust is not None)
    assert seen - spans <= compares(request) <= seen


@given(writes=st.booleans(), saw=st.integers(0, 300), alone=st.integers(0, 3))
def test_etcd_weighs_every_write_against_its_quota(writes: bool, saw: int, alone: int) -> None:
    """A message that writes puts the server's row on its outermost level; one that does not puts nothing."""
    units = [part_of(place, 2, int(writes)) for place in range(1, alone + 1)]
    message = commit.assemble(FENCE, Part(), part_of(0, saw, int(writes)), commit.bundled(units))
    request = parsed(message)
    outermost = [op.request_put.key for op in request.success if op.HasField("request_put")]
    assert outermost == ([FENCE.name] if puts(request) else [])
    if not puts(request):
        assert request.success[0].HasField("request_range"), "else etcd may answer from an old state"


@pytest.mark.parametrize("writes", [1, 30, 500, 1_500])
def test_writes_without_a_look_need_no_spoiling(writes: int) -> None:
    """A joint part that saw little has a verdict of its own, however much it writes."""
    message = commit.assemble(FENCE, Part(), part_of(0, 0, writes), [])
    assert message.joint is Joint.NESTED
    assert len(puts(parsed(message))) == writes + 2


def test_rows_that_stay_as_they_were_are_not_written() -> None:
    """A put of what was read, or a deletion of what was not there, costs nothing; a deletion of anything else does."""
    part = Part(0)
    part.reads = {b"p/\x07same": b"v", b"p/\x07gone": None, b"p/\x07there": b"v"}
    part.writes = {b"p/\x07same": b"v", b"p/\x07gone": None, b"p/\x07there": None, b"p/\x07blind": None}
    message = commit.assemble(FENCE, Part(), part, [])
    assert set(puts(parsed(message))) == {b"p/\x07there", b"p/\x07blind", FENCE.name, FENCE.joint_name}
