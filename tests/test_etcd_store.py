"""The store over etcd: units and their verdicts, limits, servers that lost their number, answers that got lost."""

from collections.abc import Iterator

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from als.store.etcd import fence
from als.store.etcd.client import EtcdClient
from als.store.etcd.fence import FencedError, ServerRow
from als.store.etcd.keys import Keys
from als.store.etcd.parts import OUTSIDE
from als.store.etcd.store import EtcdStore
from als.store.etcd.transaction import EtcdTransaction
from als.store.transaction import StoreUnavailableError, Table
from etcd_stores import CountingClient, open_etcd, open_over
from unsure_client import Fault, UnsureClient

LEASES, POOL = Table.LEASES, Table.POOL


class Pair:
    """Two servers of one cluster, the first one's calls counted."""

    def __init__(self, endpoint: str, prefix: bytes) -> None:
        self.counting = CountingClient(EtcdClient([endpoint]))
        self.one = open_over(self.counting, prefix, 1)
        self.two = open_etcd(endpoint, prefix, 2)

    def close(self) -> None:
        """Let go of etcd."""
        self.one.close()
        self.two.close()


@pytest.fixture
def pair(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[Pair]:
    """Two stores on one prefix."""
    pair = Pair(etcd_endpoint, etcd_prefix)
    yield pair
    pair.close()


def write(store: EtcdStore, table: Table = LEASES, /, **rows: str | None) -> None:
    """Commit rows, None: deleted, without a look at what they were."""
    tx = store.begin()
    for key, value in rows.items():
        if value is None:
            tx.delete(table, key.encode())
        else:
            tx.put(table, key.encode(), value.encode())
    assert not store.submit(tx).rejected


def read(store: EtcdStore, table: Table = LEASES) -> dict[str, str]:
    """Read a table as it is in etcd."""
    rows = store.snapshot().scan(table, limit=100_000)
    return {key.decode(): value.decode() for key, value in rows}


def unit(tx: EtcdTransaction, place: int, key: str, value: str, *, alone: bool = True) -> str:
    """Replace a row in a unit of its own; give what it was."""
    tx.begin_unit(place)
    seen = tx.get(LEASES, key.encode())
    tx.put(LEASES, key.encode(), value.encode())
    tx.end_unit(alone)
    return (seen or b"").decode()


def test_units_are_judged_one_by_one(pair: Pair) -> None:
    """A change of another server rejects the units that stood on it, and those that share a level with them."""
    write(pair.one, **{f"k{number:02}": "0" for number in range(30)})
    write(pair.two, k04="stolen")
    tx = pair.one.begin()
    for place in range(30):
        unit(tx, place, f"k{place:02}", "1")
    rejected = pair.one.submit(tx).rejected
    assert 4 in rejected and len(rejected) <= 20
    rows = read(pair.one)
    assert rows.pop("k04") == "stolen"
    assert all((rows[key] == "0") == (int(key[1:]) in rejected) for key in rows)
    tx = pair.one.begin()
    assert unit(tx, 4, "k04", "1") == "stolen"
    assert not pair.one.submit(tx).rejected


def test_the_joint_part_is_judged_as_one(pair: Pair) -> None:
    """All units that share numbers are written together, or none of them; those that stand alone are not concerned."""
    write(pair.one, a="0", b="0", c="0")
    write(pair.two, a="stolen")
    tx = pair.one.begin()
    for place, key in enumerate("abc"):
        unit(tx, place, key, "1", alone=key == "c")
    assert pair.one.submit(tx).rejected == {0, 1}
    assert read(pair.one) == {"a": "stolen", "b": "0", "c": "1"}


def test_units_that_meet_share_their_fate(pair: Pair) -> None:
    """Two renewals of one lease in a batch are written both or not, and the second sees the first."""
    for stolen in (False, True):
        write(pair.one, a="0")
        if stolen:
            write(pair.two, a="stolen")
        tx = pair.one.begin()
        assert unit(tx, 0, "a", "1") == "0"
        assert unit(tx, 1, "a", "2") == "1"
        assert pair.one.submit(tx).rejected == ({0, 1} if stolen else frozenset())
        assert read(pair.one) == {"a": "stolen" if stolen else "2"}


def test_a_unit_that_meets_the_joint_part_joins_it(pair: Pair) -> None:
    """A renewal of what a shared request of the same batch wrote stands and falls with that."""
    write(pair.one, a="0", b="0")
    write(pair.two, b="stolen")
    tx = pair.one.begin()
    tx.begin_unit(0)
    tx.put(LEASES, b"a", b"1")
    tx.get(LEASES, b"b")
    tx.end_unit(alone=False)
    assert unit(tx, 1, "a", "2") == "1"
    assert pair.one.submit(tx).rejected == {0, 1}
    assert read(pair.one) == {"a": "0", "b": "stolen"}


def test_all_stand_on_the_ground(pair: Pair) -> None:
    """When what was read before the first unit has changed, nothing at all is written."""
    write(pair.one, ground="0", a="0")
    write(pair.two, ground="1")
    tx = pair.one.begin()
    tx.get(LEASES, b"ground")
    unit(tx, 0, "a", "1")
    unit(tx, 1, "b", "1", alone=False)
    assert pair.one.submit(tx).rejected == {0, 1, OUTSIDE}
    assert read(pair.one) == {"ground": "1", "a": "0"}
    tx = pair.one.begin()
    assert tx.get(LEASES, b"ground") == b"1"
    unit(tx, 0, "a", "1")
    assert not pair.one.submit(tx).rejected


def test_without_units_all_is_one(pair: Pair) -> None:
    """A transaction of a caller that knows no units is written as a whole or not at all."""
    write(pair.one, a="0", b="0")
    write(pair.two, a="stolen")
    tx = pair.one.begin()
    assert tx.get(LEASES, b"a") == b"0"
    tx.put(LEASES, b"b", b"1")
    assert pair.one.submit(tx).rejected == {OUTSIDE}
    assert read(pair.one) == {"a": "stolen", "b": "0"}


def test_what_hooks_write_belongs_to_the_joint_part(pair: Pair) -> None:
    """The sums of a turn are rejected with the requests that changed them, without a place of their own."""
    write(pair.one, a="0", sum="0")
    write(pair.two, sum="7")
    tx = pair.one.begin()
    tx.begin_unit(5)
    tx.put(LEASES, b"a", b"1")
    tx.get(LEASES, b"sum")
    tx.at_commit(lambda: tx.put(LEASES, b"sum", b"1"))
    tx.end_unit(alone=False)
    assert pair.one.submit(tx).rejected == {5}
    assert read(pair.one) == {"a": "0", "sum": "7"}


def test_answers_from_the_cache_are_confirmed(pair: Pair) -> None:
    """A transaction that only read is rejected when it read what is old, and costs no write when it did not."""
    write(pair.one, a="0")
    tx = pair.one.begin()
    assert tx.get(LEASES, b"a") == b"0"
    revision = pair.one.snapshot().revision
    assert not pair.one.submit(tx).rejected
    assert pair.one.snapshot().revision == revision
    write(pair.two, a="1")
    tx = pair.one.begin()
    assert tx.get(LEASES, b"a") == b"0"
    assert pair.one.submit(tx).rejected == {OUTSIDE}
    assert pair.one.begin().get(LEASES, b"a") == b"1"


def test_known_rows_and_ranges_cost_no_call(pair: Pair) -> None:
    """After one look, rows and ranges are known, own changes included; a commit is one call."""
    write(pair.two, POOL, b="", d="")
    keys = [(LEASES, b"k%d" % number) for number in range(5_000)]
    before = pair.counting.calls
    pair.one.prefetch(keys)
    assert pair.counting.calls - before == 2
    tx = pair.one.begin()
    assert tx.scan(POOL, b"a", b"z", limit=1) == [(b"b", b"")]
    before = pair.counting.calls
    for _ in range(3):
        assert all(tx.get(*key) is None for key in keys[:100])
        assert tx.scan(POOL, b"a", b"z", limit=1) == [(b"b", b"")]
        tx.put(POOL, b"aa", b"")
        assert not pair.one.submit(tx).rejected
        tx = pair.one.begin()
        assert tx.scan(POOL, b"a", b"z", limit=1) == [(b"aa", b"")]
        tx.delete(POOL, b"aa")
        assert not pair.one.submit(tx).rejected
        tx = pair.one.begin()
    assert pair.counting.calls - before == 6


@pytest.mark.parametrize("change", ["insert before", "insert between", "delete", "replace", "insert behind"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_range_is_compared_with_its_gaps(pair: Pair, change: str, reverse: bool) -> None:
    """Whatever another server changes in a range that was read, the reader is rejected; beyond it, it is not."""
    write(pair.one, POOL, b="0", d="0", f="0")
    tx = pair.one.begin()
    assert len(tx.scan(POOL, b"a", b"g", limit=2, reverse=reverse)) == 2
    tx.put(LEASES, b"x", b"1")
    rows: dict[str, dict[str, str | None]] = {
        "insert before": {"a": "1"},
        "insert between": {("e" if reverse else "c"): "1"},
        "delete": {"d": None},
        "replace": {"d": "1"},
        "insert behind": {"ff": "1"},
    }
    write(pair.two, POOL, **rows[change])
    concerned = change in ("delete", "replace", "insert between") or (change == "insert behind") == reverse
    assert bool(pair.one.submit(tx).rejected) == concerned
    tx = pair.one.begin()
    expected = sorted(read(pair.two, POOL).items(), reverse=reverse)[:2]
    assert [(key.decode(), value.decode()) for key, value in tx.scan(POOL, b"a", b"g", 2, reverse)] == expected


@pytest.mark.parametrize("change", [{}, {"r0150": "1"}, {"r0150": None}, {"r0150x": "1"}])
def test_a_large_range_is_compared_by_who_writes(pair: Pair, change: dict[str, str | None]) -> None:
    """A range of many rows is compared when its reader writes; a listing shows what was so when it looked."""
    write(pair.one, POOL, **{f"r{number:04}": "0" for number in range(300)})
    for writes in (False, True):
        tx = pair.one.begin()
        tx.begin_unit(3)
        assert len(tx.scan(POOL, limit=200)) == 200
        if writes:
            tx.put(LEASES, b"x", b"1")
        tx.end_unit(alone=False)
        if writes:
            write(pair.two, POOL, **change)
        assert pair.one.submit(tx).rejected == ({3} if writes and change else frozenset())
    assert read(pair.one) == ({} if change else {"x": "1"})


@pytest.mark.parametrize("stolen", [None, 0, 1_499, 2_999])
def test_more_compares_than_etcd_takes_are_all_or_nothing(pair: Pair, stolen: int | None) -> None:
    """A transaction that saw thousands of rows and changes as many is atomic, and is right when applied again."""
    names = [b"n%04d" % number for number in range(3_000)]
    pair.one.prefetch((LEASES, name) for name in names)
    if stolen is not None:
        write(pair.two, **{names[stolen].decode(): "stolen"})
    for is_rejected in [True, False][stolen is None :]:
        tx = pair.one.begin()
        for name in names:
            if tx.get(LEASES, name) is None:
                tx.put(LEASES, name, b"1")
        assert bool(pair.one.submit(tx).rejected) == is_rejected
        assert len(read(pair.one)) == (1 if is_rejected else 3_000)


def test_units_beside_a_large_joint_part_are_written_without_it(pair: Pair) -> None:
    """A large joint part that fails does not take the units with it: they went in a message of their own."""
    write(pair.one, a="0")
    pair.one.prefetch((LEASES, b"n%04d" % number) for number in range(200))
    write(pair.two, n0100="stolen")
    for rejected in (frozenset({1}), frozenset[int]()):
        tx = pair.one.begin()
        unit(tx, 0, "a", "1")
        tx.begin_unit(1)
        for number in range(200):
            if tx.get(LEASES, b"n%04d" % number) is None:
                tx.put(LEASES, b"n%04d" % number, b"1")
        tx.end_unit(alone=False)
        assert pair.one.submit(tx).rejected == rejected
    assert len(read(pair.one)) == 201


def test_more_bytes_than_etcd_takes_go_in_several_messages(pair: Pair) -> None:
    """Units that stand alone may be more than fits in a message; a single part that is, is told of as too large."""
    tx = pair.one.begin()
    for place in range(40):
        unit(tx, place, f"k{place}", "x" * 50_000)
    assert not pair.one.submit(tx).rejected
    assert len(read(pair.one)) == 40
    tx = pair.one.begin()
    tx.put(LEASES, b"large", bytes(2_000_000))
    fate = pair.one.submit(tx)
    assert fate.rejected == fate.too_large == {OUTSIDE}


def test_a_transaction_says_when_it_is_full(pair: Pair) -> None:
    """Before etcd's limits are met the server is told to commit, for shared requests and for those that stand alone."""
    for alone, least, most in ((False, 400, 1_000), (True, 500, 2_000)):
        tx = pair.one.begin()
        place = 0
        pair.one.prefetch((LEASES, b"k%d" % number) for number in range(most))
        while not tx.is_full:
            unit(tx, place, f"k{place}", "1", alone=alone)
            place += 1
        assert least <= place <= most
        assert not pair.one.submit(tx).rejected


def test_old_and_new_sights_are_noticed(pair: Pair) -> None:
    """When a reader stumbles, the store says whether what it saw has changed, and the next one sees what is."""
    write(pair.one, a="0", b="0")
    tx = pair.one.begin()
    assert tx.get(LEASES, b"a") == b"0"
    assert not pair.one.is_outdated(tx)
    write(pair.two, a="1")
    assert pair.one.is_outdated(tx)
    tx.abort()
    assert pair.one.begin().get(LEASES, b"a") == b"1"


def test_a_server_that_lost_its_number_writes_no_more(etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Once another has taken the number, every submission of the former fails, and changes nothing."""
    first = open_etcd(etcd_endpoint, etcd_prefix)
    write(first, a="0")
    under_way = first.begin()
    under_way.put(LEASES, b"a", b"1")
    second = open_etcd(etcd_endpoint, etcd_prefix)
    with pytest.raises(FencedError):
        first.submit(under_way)
    looking = first.begin()
    looking.get(LEASES, b"a")
    with pytest.raises(FencedError):
        first.submit(looking)
    assert read(second) == {"a": "0"}
    write(second, a="2")
    first.close()
    second.close()


def test_a_number_is_taken_by_one_alone(etcd_endpoint: str, etcd_prefix: bytes) -> None:
    """Of two that take a number over from the same server one gets it, whether or not its answer is lost."""
    faults = [Fault.LATE, Fault.REQUEST_LOST, Fault.ANSWER_LOST]
    connection = EtcdClient([etcd_endpoint])
    client = UnsureClient(connection, iter(faults))
    keys = Keys(etcd_prefix)
    fence.claim(client, keys, 7, b"1" * 16, note=["here"])
    client.catch_up()
    [(number, row)] = fence.read_servers(client, keys).items()
    assert (number, ServerRow.unpack(row.value).note) == (7, ["here"])
    fence.claim(client, keys, 7, b"2" * 16, over=row.value)
    for over in (row.value, None):
        with pytest.raises(FencedError):
            fence.claim(client, keys, 7, b"3" * 16, over=over)
    connection.close()


def test_the_note_goes_with_the_next_message(pair: Pair, etcd_prefix: bytes) -> None:
    """What a server tells of itself stands in its row after its next write, and the number of writes too."""
    pair.one.fence.note = {"address": "10.0.0.1"}
    write(pair.one, a="1")
    rows = fence.read_servers(pair.counting, Keys(etcd_prefix))
    row = ServerRow.unpack(rows[1].value)
    assert (row.note, row.counter, set(rows)) == ({"address": "10.0.0.1"}, 1, {1, 2})


class Flaky:
    """A server whose etcd can be made to lose answers, beside one whose etcd is sound."""

    def __init__(self, endpoint: str, prefix: bytes) -> None:
        self.faults: list[Fault] = []
        self.connection = EtcdClient([endpoint])
        self.client = UnsureClient(self.connection, self._next())
        self.store = open_over(self.client, prefix, 1, submit_s=0.2)
        self.sound = open_etcd(endpoint, prefix, 2)

    def _next(self) -> Iterator[Fault]:
        while True:
            yield self.faults.pop(0) if self.faults else Fault.NONE


@pytest.fixture
def flaky(etcd_endpoint: str, etcd_prefix: bytes) -> Iterator[Flaky]:
    """A store over a client that loses answers on demand."""
    flaky = Flaky(etcd_endpoint, etcd_prefix)
    yield flaky
    flaky.connection.close()
    flaky.sound.close()


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.REFUSED])
@pytest.mark.parametrize("stolen", [False, True])
def test_a_lost_answer_is_found_out(flaky: Flaky, fault: Fault, stolen: bool) -> None:
    """Whether a message without an answer was applied or not, or comes late: each part is written once or rejected."""
    write(flaky.store, a="0", b="0", n="0")
    if stolen:
        write(flaky.sound, n="5", b="5")
    tx = flaky.store.begin()
    unit(tx, 0, "a", "1")
    unit(tx, 1, "b", "1")
    tx.begin_unit(2)
    seen = int(tx.get(LEASES, b"n") or b"")
    tx.put(LEASES, b"n", b"%d" % (seen + 1))
    tx.end_unit(alone=False)
    flaky.faults = [fault]
    rejected = flaky.store.submit(tx).rejected
    flaky.client.catch_up()
    assert rejected == ({0, 1, 2} if stolen else frozenset())
    expected = {"a": "0", "b": "5", "n": "5"} if stolen else {"a": "1", "b": "1", "n": "1"}
    assert read(flaky.sound) == expected
    write(flaky.store, a="2")


def test_what_nobody_knows_is_settled_first(flaky: Flaky) -> None:
    """While etcd is away nothing begins; then the message is settled, and everything is looked at anew."""
    write(flaky.store, a="0")
    tx = flaky.store.begin()
    unit(tx, 0, "a", "1")
    flaky.faults = [Fault.LATER]
    flaky.client.calls_left = 1
    with pytest.raises(StoreUnavailableError):
        flaky.store.submit(tx)
    with pytest.raises(StoreUnavailableError):
        flaky.store.begin()
    write(flaky.sound, a="2")
    flaky.client.calls_left = None
    tx = flaky.store.begin()
    assert tx.get(LEASES, b"a") == b"2"
    flaky.client.catch_up()
    assert read(flaky.sound) == {"a": "2"}
    assert unit(tx, 0, "a", "3") == "2"
    assert not flaky.store.submit(tx).rejected
    assert read(flaky.sound) == {"a": "3"}


def test_what_was_certainly_not_applied_is_unavailable(flaky: Flaky) -> None:
    """Without a leader nothing is written; the store says so, and goes on when there is one."""
    write(flaky.store, a="0")
    tx = flaky.store.begin()
    unit(tx, 0, "a", "1")
    flaky.faults = [Fault.REFUSED]
    with pytest.raises(StoreUnavailableError):
        flaky.store.submit(tx)
    assert read(flaky.sound) == {"a": "0"}
    write(flaky.store, a="2")
