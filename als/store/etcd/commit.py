"""A transaction as one message of etcd, and its verdicts as etcd gives them back.

    IF the server's row is as it was last written, and the ground is unchanged
    THEN put the server's row; nested: IF what the joint part saw is unchanged THEN its writes ELSE read what it saw;
         nested for every few units that stand alone: IF what they saw is unchanged THEN their writes
    ELSE read the server's row and the ground

etcd makes all compares, nested ones too, before any write. Its limit of operations (--max-txn-ops, 128) is for the
longest list of a level, added up along a path of nested levels: so writes are spread over nested levels without
compares. A joint part that saw more than fits is compared in many levels, each of which has etcd give up the whole
message when it does not hold (`give_up`): that is all or nothing too, for as many compares as there are bytes.
Nested writes do not count for etcd's quota: it is the server's row, outside, by which a full etcd refuses a message.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import NamedTuple

from als.store.etcd.cache import UNKNOWN, after
from als.store.etcd.fence import Fence
from als.store.etcd.moves import Trust
from als.store.etcd.ops import (
    Compare,
    KeyValue,
    Op,
    TxnResult,
    delete,
    get,
    give_up,
    is_absent,
    nested,
    never,
    none_in,
    put,
    unchanged_since,
    value_is,
)
from als.store.etcd.parts import Part

PATH_OPS_MAX = 128
LEVEL_OPS = 40  # three levels of these fit in a path
BUNDLE_COMPARES = 20  # as many renewals: fewer take etcd longer, more are applied again together when one has failed
BUNDLE_WRITES = 60  # of units of which nothing is compared, so that none can fail
GROUND_COMPARES_MAX = 20
NESTED_OPS_MAX = 64  # of a joint part's level: what is left of a path beside the ground, the units, and its own writes

Response = list[KeyValue] | TxnResult | None


class Joint(Enum):
    """What becomes of the joint part when a message is accepted."""

    NONE = 0
    NESTED = 1  # it has a verdict of its own
    WHOLE = 2  # it is written


class Message(NamedTuple):
    """What is sent, `bytes_sent` long, and what it is made of.

    `ground` and `seen` name the rows that are read when the ground, or the joint part, has changed. `bundles` are the
    units that stand alone in the order of their levels. `row` is what it puts into the server's row, None: it only
    looks.
    """

    compares: list[Compare]
    success: list[Op]
    failure: list[Op]
    ground: list[bytes]
    seen: list[bytes]
    joint: Joint
    bundles: list[list[Part]]
    row: bytes | None

    @property
    def bytes_sent(self) -> int:
        """Give the size, but for a few bytes an item."""
        return sum(len(item) for part in (self.compares, self.success, self.failure) for item in part)


class Verdict(NamedTuple):
    """What etcd decided. `fresh` holds rows that were read on the way, None: not there; `moves` what servers told.

    `is_too_large`: it did not even look.
    """

    is_accepted: bool
    is_joint: bool
    bundles: list[bool]
    fresh: dict[bytes, bytes | None]
    moves: Sequence[KeyValue] = ()
    is_too_large: bool = False


def is_large(joint: Part) -> bool:
    """Say whether the joint part cannot have a verdict of its own, so that others better go without it."""
    return max(joint.compares(), len(joint.reads), len(joint.writes) // 2) > NESTED_OPS_MAX


class Bundle(NamedTuple):
    """Units that stand alone and share a level."""

    units: list[Part]
    compares: list[Compare]
    writes: list[Op]


def bundled(alone: Sequence[Part], trust: Trust | None = None) -> list[Bundle]:
    """Put units that stand alone together: by the few, and by the many where trust leaves nothing to compare."""
    bundles: list[Bundle] = []
    sure = few = Bundle([], [], [])
    sure_room = few_room = 0
    for unit in alone:
        compares, writes = _compares_of_unit(unit, trust), writes_of(unit)
        if compares:
            needed = max(len(compares), len(writes))
            if needed > few_room:
                few, few_room = Bundle([], [], []), BUNDLE_COMPARES
                bundles.append(few)
            bundle = few
            few_room -= needed
        else:
            needed = max(1, len(writes))  # what writes nothing new has to be judged as well
            if needed > sure_room:
                sure, sure_room = Bundle([], [], []), BUNDLE_WRITES
                bundles.append(sure)
            bundle = sure
            sure_room -= needed
        bundle.units.append(unit)
        bundle.compares.extend(compares)
        bundle.writes.extend(writes)
    return bundles


def _compares_of_unit(unit: Part, trust: Trust | None) -> list[Compare]:
    """Say what a unit saw and nobody vouches for; it saw no ranges, and there are thousands of them."""
    compares = [
        _compare(name, value)
        for name, value in unit.reads.items()
        if value is None or trust is None or trust.has_to_compare(name, value)
    ]
    if unit.is_broken:
        compares.append(never())
    return compares


def assemble(
    fence: Fence,
    ground: Part,
    joint: Part,
    bundles: list[Bundle],
    trust: Trust | None = None,
    hot: Sequence[bytes] = (),
    last: Sequence[Op] = (),
) -> Message:
    """Build the message for a transaction's parts; `trust` is what the bundles were made with.

    `hot` are rows of the joint part that rivals change often. `last` is done at the end, whatever becomes of the parts.
    """
    trust = trust if bundles else None
    row = None
    own, mark = get(fence.name), []  # without a read of its own etcd may answer from an old state
    if joint.writes or any(bundle.writes for bundle in bundles):
        row = fence.next_value()
        own, mark = put(fence.name, row), [put(fence.joint_name, b"")]
    stands = [fence.name, *ground.reads]
    news = [] if trust is None else [trust.look]
    standing = value_is(fence.name, fence.value), *([] if trust is None else [trust.compare])
    compares = [*standing, *compares_of(ground)]
    success = [own, *leveled([nested(bundle.compares, bundle.writes, ()) for bundle in bundles])]
    units = [bundle.units for bundle in bundles]
    if not joint:
        kind, joint_op = Joint.NONE, None
    else:
        room = PATH_OPS_MAX - max(len(compares), len(stands) + len(news), 1 + len(success) + len(last))
        kind, joint_op = Joint.NESTED, _nested_joint(fence, joint, mark, room)
    if (joint and joint_op is None) or len(compares) > GROUND_COMPARES_MAX:
        success += leveled(_steps(fence, ground, joint))
        stands = [fence.name, *(name for name in hot if name in joint.reads)][:GROUND_COMPARES_MAX]
        compares = [*standing, *(_compare(name, joint.reads[name]) for name in stands[1:])]
        failure = [*map(get, stands), *news]
        return Message(compares, [*success, *last], failure, stands, [], Joint.WHOLE, units, row)
    if joint_op is not None:
        success.insert(1, joint_op)
    failure = [*map(get, stands), *news]
    return Message(compares, [*success, *last], failure, stands, list(joint.reads), kind, units, row)


def _nested_joint(fence: Fence, joint: Part, mark: list[Op], room: int) -> Op | None:
    """Give the joint part a level of its own; None when it takes more than `room` along its path."""
    compares = compares_of(joint)
    failure = list(map(get, joint.reads))
    writes = [*mark, *writes_of(joint)]
    width = max(len(compares), len(failure), min(len(writes), room // 2))
    success = _spread(writes, width, room - width)
    return None if success is None else nested(compares, success, failure)


def _steps(fence: Fence, ground: Part, joint: Part) -> list[Op]:
    """Give ground and joint part in levels that spoil the message when they do not hold."""
    writes = list(writes_of(joint))
    steps = checks([*compares_of(ground), *compares_of(joint)], give_up(fence.name))
    return steps + [nested((), writes[at : at + LEVEL_OPS], ()) for at in range(0, len(writes), LEVEL_OPS)]


def checks(compares: Sequence[Compare], *otherwise: Op) -> list[Op]:
    """Give compares in levels of their own."""
    return [nested(compares[at : at + LEVEL_OPS], (), otherwise) for at in range(0, len(compares), LEVEL_OPS)]


def leveled(ops: list[Op]) -> list[Op]:
    """Nest a list once more if it is too long for a level."""
    if len(ops) <= LEVEL_OPS // 2:
        return ops
    size = max(LEVEL_OPS // 2, -(-len(ops) // LEVEL_OPS))
    return [nested((), ops[at : at + size], ()) for at in range(0, len(ops), size)]


def _spread(ops: list[Op], wide: int, deep: int) -> list[Op] | None:
    """Nest a list so that it is no longer than `wide`, and no longer than `deep` along its path; None: impossible."""
    if len(ops) <= wide and deep >= 0:
        return ops
    if wide < 1 or deep < 1:
        return None
    if len(ops) <= wide * deep:
        return [nested((), ops[at : at + deep], ()) for at in range(0, len(ops), deep)]
    size = -(-len(ops) // wide)
    spread = []
    for at in range(0, len(ops), size):
        inner = _spread(ops[at : at + size], deep // 2, deep - deep // 2)
        if inner is None:
            return None
        spread.append(nested((), inner, ()))
    return spread


def compares_of(part: Part) -> list[Compare]:
    """Say all that a part saw: rows, the gaps between those of its ranges, and ranges of many rows."""
    compares = [_compare(name, value) for name, value in part.reads.items()]
    if part.spans or part.wholes or part.is_broken:
        compares += _more_compares(part)
    return compares


def _compare(name: bytes, value: bytes | None) -> Compare:
    return is_absent(name) if value is None else value_is(name, value)


def _more_compares(part: Part) -> list[Compare]:
    compares: list[Compare] = []
    for (lo, hi), names in part.spans.items():
        for name in names:
            if lo < name:
                compares.append(none_in(lo, name))
            lo = after(name)
        if lo < hi:
            compares.append(none_in(lo, hi))
    for whole in part.wholes:
        compares.append(unchanged_since(whole.lo, whole.hi, whole.revision))
        compares += (value_is(name, value) for name, value in whole.rows.items())
    if part.is_broken:
        compares.append(never())
    return compares


def written_names(part: Part) -> list[bytes]:
    """Give the names of the rows that a part changes; one that it writes as it was is left alone."""
    seen = part.reads
    return [name for name, value in part.writes.items() if seen.get(name, UNKNOWN) != value]


def writes_of(part: Part) -> list[Op]:
    """Write what a part changes."""
    writes, seen = part.writes, part.reads
    return [
        delete(name) if value is None else put(name, value)
        for name, value in writes.items()
        if seen.get(name, UNKNOWN) != value
    ]


def verdict_of(message: Message, result: TxnResult) -> Verdict:
    """Read what etcd decided."""
    if not result.succeeded:
        responses, news = result.responses, result.responses[len(message.ground) :]
        moves = news[0] if news and isinstance(news[0], list) else ()
        fresh = _fresh(message.ground, responses[: len(message.ground)])
        return nothing(message)._replace(fresh=fresh, moves=moves)
    fresh = {}
    is_joint = True
    responses = result.responses[1:]
    moves = responses[-1] if responses and isinstance(responses[-1], list) else ()
    if message.joint is Joint.NESTED:
        joint, *responses = responses
        assert isinstance(joint, TxnResult)
        is_joint = joint.succeeded
        if not is_joint:
            fresh = _fresh(message.seen, joint.responses)
    bundles = list(islice(verdicts(responses), len(message.bundles)))
    return Verdict(True, is_joint, bundles, fresh, moves)


def nothing(message: Message) -> Verdict:
    """Give the verdict on a message of which nothing was applied."""
    return Verdict(False, False, [False] * len(message.bundles), {})


def too_large(message: Message) -> Verdict:
    """Give the verdict on a message that is larger than etcd takes."""
    return nothing(message)._replace(is_too_large=True)


def verdicts(responses: Sequence[Response]) -> Iterator[bool]:
    """Give the verdict of each level, and in place of a level that only holds others, of those."""
    for response in responses:
        if isinstance(response, TxnResult):
            if response.responses and isinstance(response.responses[0], TxnResult):
                yield from verdicts(response.responses)
            else:
                yield response.succeeded


def _fresh(names: Sequence[bytes], responses: Sequence[Response]) -> dict[bytes, bytes | None]:
    """Pair names with the rows that a read of each gave."""
    fresh: dict[bytes, bytes | None] = {}
    for name, rows in zip(names, responses, strict=True):
        assert isinstance(rows, list)
        fresh[name] = rows[0].value if rows else None
    return fresh
