"""Renewals that come again word for word: known without a look, and never when anything has changed."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from als import catalog, protocol
from als.clock import Reading
from als.ledger import computers, lives
from als.ledger.desk import AGENTS_LISTED
from als.ledger.journal import Journal
from als.ledger.quick import repeats, usual
from als.ledger.tally import Tally
from als.records import Lease
from als.serial import DAY_S, DAY_ZERO_S
from als.server.letters import Letter
from als.store.lmdb.behind import log, stamps, waiting
from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import StoreFullError, Table, Transaction
from press import print_serial
from renewal_office import AGENTS, LAST_DAYS, SERIAL_IDS, TODAY, Office, about, body
from two_ways import ADMIN, MACS, PERIOD_S, PRODUCT, WALL_S, Server, Step

OPERATIONS = st.sampled_from(["renew", "acquire", "release"])
numbers = st.integers(0, len(MACS) - 1)
words = st.one_of(
    st.builds(about, st.just("renew"), numbers),
    st.builds(about, st.just("renew"), numbers, version=st.sampled_from([None, "1", "2"])),
    st.builds(about, OPERATIONS, numbers, st.sampled_from(["agent", "local-console"])),
    st.builds(about, OPERATIONS, numbers, host=st.sampled_from(["pc", "new"])),
    st.builds(about, OPERATIONS, numbers, also=st.lists(st.sampled_from(MACS), min_size=1, max_size=2, unique=True)),
    st.builds(about, st.just("acquire"), numbers, version=st.just("1")),
)
orders = st.one_of(
    st.builds(lambda number: {"op": "revoke", "product": PRODUCT.code, "mac": MACS[number]}, numbers),
    st.builds(lambda serial: {"op": "remove", "serial_id": serial, "force": True}, st.sampled_from(SERIAL_IDS)),
)
ids = st.sampled_from([1, 127, 128, 255, 70_000, 1 << 32, (1 << 64) - 1])
steps = st.one_of(
    *[st.tuples(st.sampled_from(AGENTS), st.just("192.0.2.7"), words, st.just(0))] * 6,
    st.tuples(st.just(ADMIN), st.just("127.0.0.1"), orders, st.just(0)),
)
turns = st.tuples(
    st.lists(steps, min_size=1, max_size=8),
    st.sampled_from([0, 0, 0, 0, 1, 1, 3_600, DAY_S, PERIOD_S]),
    st.sampled_from([0.0, 0.0, 0.0, 3.0, 100.0]),
    ids,
)
Turn = tuple[list[Step], int, float, int]
ACQUIRES: list[Step] = [(AGENTS[0], "192.0.2.7", about("acquire", number), 0) for number in range(4)]
RENEWALS: list[Step] = [(AGENTS[0], "192.0.2.7", about("renew", number), 0) for number in range(4)]
RELEASE: Step = (AGENTS[0], "192.0.2.7", about("release", 0), 0)
FIRST: list[Turn] = [(ACQUIRES, 0, 0.0, 1), (RENEWALS, 1, 0.0, 1)]
REMOVAL: Step = (ADMIN, "127.0.0.1", {"op": "remove", "serial_id": SERIAL_IDS[0], "force": True}, 0)


@settings(max_examples=150)
@given(on_disk=st.booleans(), turns=st.lists(turns, min_size=1, max_size=8))
@example(on_disk=False, turns=[*FIRST, (RENEWALS, 1, 0.0, 7), (RENEWALS, PERIOD_S, 0.0, 7)])
@example(on_disk=True, turns=[*FIRST, (RENEWALS, 1, 3.0, 7), (RENEWALS, 1, 100.0, 7)])
@example(on_disk=True, turns=[*FIRST, (RENEWALS, DAY_S, 0.0, 1), (RENEWALS, 1, 0.0, 1)])
@example(on_disk=True, turns=[*FIRST, ([*RENEWALS, REMOVAL, *RENEWALS], 1, 0.0, 1), (RENEWALS, 1, 0.0, 1)])
@example(on_disk=True, turns=[*FIRST, ([RELEASE, *RENEWALS], 1, 0.0, 1), (RENEWALS, 1, 0.0, 1)])
@example(
    on_disk=False, turns=[FIRST[0], ([RENEWALS[0], ACQUIRES[1], RENEWALS[2]], 1, 0.0, 1), (ACQUIRES[1:], 1, 0.0, 1)]
)
def test_the_shortest_way_leads_where_the_rules_lead(*, on_disk: bool, turns: list[Turn]) -> None:
    """Replies and rows are those of a server to which each request is unusual, whatever happens in between."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for module, name, number in (
            (waiting, "GATHERED_ROWS", 3),
            (waiting, "SLICE_ROWS_LEAST", 1),
            (log, "TRIMMED_LEAST", 1),
            (stamps, "GATHERED_STAMPS", 3),
            (stamps, "STAMPS_A_VALUE", 1),
        ):
            patch.setattr(module, name, number)
        store = LmdbStore(folder, map_bytes=1 << 24) if on_disk else MemoryStore()
        known = Server(store=store, serials=LAST_DAYS, most_an_hour=0)
        by_the_rules = Server(serials=LAST_DAYS, most_an_hour=0, more="than usual")
        passed_s = 0
        for turn, then_s, waited_s, number in turns:
            passed_s += then_s
            numbered = [(sender, peer, {"id": number, **request}, 0) for sender, peer, request, _ in turn]
            assert known.turn(numbered, passed_s, waited_s) == by_the_rules.turn(numbered, passed_s, waited_s)
            assert known.rows() == by_the_rules.rows()
        store.close()


def test_the_administrator_may_remove() -> None:
    """Else the removals above would test nothing."""
    server = Server(serials=LAST_DAYS)
    (reply,) = server.turn([REMOVAL], 1)
    assert protocol.decode_reply(reply)["ok"]


@pytest.fixture
def office() -> Office:
    """An office to which the renewals of all computers are known."""
    opened = Office()
    for number in range(4):
        assert [opened.is_known(about("renew", number)) for _ in range(2)] == [False, True]
    return opened


def knows(office: Office) -> list[bool]:
    """Say of each computer whether its renewal is known; then all are, that can be."""
    return [office.is_known(about("renew", number)) for number in range(4)]


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_whatever_its_id_a_renewal_is_known(office: Office, number: int) -> None:
    """All that differs from one heartbeat to the next is the id."""
    assert office.is_known(about("renew", 0, id=number))


def test_another_sender_or_word_is_not_known(office: Office) -> None:
    """Only who renewed before, in the same words, is known."""
    assert not office.is_known(about("renew", 0), AGENTS[1])
    assert not office.is_known(about("renew", 0, version="2"))
    assert not office.is_known(about("renew", 0, want_lease=True))
    assert not office.is_known(about("acquire", 0))
    assert office.is_known(about("renew", 0))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x86\xa1v\x01\xa2id",
        body(about("renew", 0)).replace(b"\xa1v\x01", b"\xa1v\x02"),
        body(about("renew", 0)).replace(b"\xa2id\x01", b"\xa2id\xd0\x01"),
        body(about("renew", 0)).replace(b"\xa2id\x01", b"\xa2id\xff"),
        body(about("renew", 0)) + b"\x00",
        body(about("renew", 0))[:-1],
    ],
)
def test_frames_that_are_no_renewals_are_not_known(office: Office, frame: bytes) -> None:
    """Nothing but the id may differ, and that has to be one."""
    assert not office.is_known(about("renew", 0), body=frame)
    assert not office.is_known(about("renew", 0), body=frame)


def test_a_client_that_writes_in_another_order_is_served_but_not_known(office: Office) -> None:
    """The id is looked for where most clients write it."""
    frame = protocol.encode({"id": 1, "v": 1, **about("renew", 0)})
    assert not any(office.is_known(about("renew", 0), body=frame) for _ in range(3))


RENEWAL = body(about("renew", 0))
HEAD, REST = RENEWAL[:7], RENEWAL[8:]
INT64 = HEAD + b"\xd3" + bytes(7) + b"\x05" + REST  # an id of a form that none need have
TWICE = bytes((HEAD[0] + 1,)) + HEAD[1:] + b"%b" + REST + b"\xa2id\x07"  # the last one counts


@pytest.mark.parametrize(
    ("learned", "sent"),
    [
        (INT64, HEAD + b"\x01" + INT64),
        (TWICE % b"\x01", TWICE % b"\x02"),
        (TWICE % b"\x07", TWICE % b"\x02"),
    ],
    ids=["nested", "two ids", "two equal ids"],
)
def test_what_the_rules_answer_otherwise_is_not_known(office: Office, learned: bytes, sent: bytes) -> None:
    """Cutting the id out of a request that is no usual one does not make it equal to another."""
    assert [office.is_known({}, body=frame) for frame in (learned, learned, sent)] == [False] * 3


def test_a_request_that_is_too_large_with_a_longer_id_is_not_known(office: Office) -> None:
    """What is known would be answered without looking at its length."""
    request = about("renew", 0)
    request["computer"]["pad"] = ""
    request["computer"]["pad"] = "x" * (protocol.REQUEST_BYTES_MAX - len(body(request)) - 4)
    assert len(body({**request, "op": "acquire"})) <= protocol.REQUEST_BYTES_MAX < len(body(request)) + 8
    assert office.apply({**request, "op": "acquire"})["result"] == "already_held"
    office.is_known(request)
    assert not office.is_known({**request, "id": (1 << 64) - 1})


@pytest.mark.parametrize(("patience_ms", "waited_s"), [(None, 3.0), (500, 0.5), (0, 0.0)])
def test_one_who_has_given_up_is_not_known(office: Office, patience_ms: int | None, waited_s: float) -> None:
    """Patience is a part of what is known; who has none left is answered as by the rules."""
    request = about("renew", 0, patience_ms=patience_ms)
    office.is_known(request)
    assert office.is_known(request, arrived_s=-waited_s)
    assert not office.is_known(request, arrived_s=-protocol.PATIENCE_MS_DEFAULT / 1_000 - waited_s - 0.1)


def forget_computer(tx: Transaction) -> None:
    """Forget the first computer."""
    computers.forget(tx, Tally.of(tx, 0), 1, computers.read(tx, 1))


def write_lease(tx: Transaction) -> None:
    """Write the first computer's lease as it is."""
    lease = lives.read(tx, PRODUCT.number, 1)
    assert lease is not None
    lives.write(tx, PRODUCT.number, 1, lease)


def write_computer(tx: Transaction) -> None:
    """Write the first computer's addresses as they are."""
    request = about("renew", 0)["computer"]
    computers.remember(tx, Journal.of(tx, 0), computers.identify(tx, request), request, WALL_S, 0)


Change = Callable[[Office], Any]
CHANGES: list[tuple[str, Change]] = [
    ("released", lambda office: office.apply(about("release", 0))),
    ("revoked", lambda office: office.apply({"op": "revoke", "product": "ATIW", "mac": MACS[0]}, ADMIN)),
    ("another component", lambda office: office.apply(about("acquire", 0, "local-console"))),
    ("another holder", lambda office: office.apply(about("acquire", 0), AGENTS[1])),
    ("another version", lambda office: office.apply(about("acquire", 0, version="2"))),
    ("a lease is written", lambda office: write_lease(office.tx)),
    ("a computer is written", lambda office: write_computer(office.tx)),
    ("a computer is forgotten", lambda office: forget_computer(office.tx)),
    (
        "another address",
        lambda office: office.apply(about("acquire", 0, also=[bytes(6)])),
    ),
]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
@pytest.mark.parametrize("is_same_turn", [True, False])
def test_a_change_makes_one_computer_unknown(office: Office, change: Change, *, is_same_turn: bool) -> None:
    """Whatever is written of a lease or its computer, its renewals are looked at again; others stay known."""
    change(office)
    if not is_same_turn:
        office.next_turn()
    assert knows(office) == [False, True, True, True]


def test_a_removed_serial_makes_all_unknown(office: Office) -> None:
    """From the removal on, all are looked at again, in the same turn, too."""
    office.apply({"op": "remove", "serial_id": SERIAL_IDS[1], "force": True}, ADMIN)
    assert knows(office) == [False] * 4
    assert knows(office) == [False] * 4, "while leases are being removed none is usual"


def test_another_catalog_makes_all_unknown(office: Office) -> None:
    """What a renewal is told may be another now."""
    office.ledger.catalog = catalog.builtin()
    assert knows(office) == [False] * 4
    assert knows(office) == [True] * 4


def test_a_clock_set_back_makes_all_unknown(office: Office) -> None:
    """When leases lapse was reckoned by the other time."""
    office.next_turn(-1)
    assert knows(office) == [False] * 4


def test_a_lapsed_lease_is_not_known(office: Office) -> None:
    """The last second of the period is known, the next is not; one that ends sooner, not from its end on."""
    end_s = DAY_ZERO_S + (TODAY + 1) * DAY_S - WALL_S
    office.next_turn(end_s - 1)
    assert knows(office) == [True] * 4
    office.next_turn(1)
    assert knows(office).count(False) == 1, "one of the four has a license of the serial that ends"
    office.next_turn(PERIOD_S - 1)
    assert knows(office).count(True) == 3
    office.next_turn(PERIOD_S)
    assert knows(office) == [False] * 4


def test_what_was_learned_once_ends_with_its_serial() -> None:
    """A renewal that has not come again is not known past the end either."""
    office = Office()
    assert knows(office) == [False] * 4
    office.next_turn(DAY_ZERO_S + (TODAY + 1) * DAY_S - WALL_S)
    assert knows(office).count(False) == 1


def test_a_turn_that_is_done_once_more_leaves_nothing_of_the_first_time(tmp_path: Path) -> None:
    """What was learned in a turn that did not fit into the store goes, for not all of it may be done once more."""
    store = LmdbStore(tmp_path, map_bytes=1 << 24)
    server = Server(store=store, most_an_hour=0)
    times = iter([True, False])  # the second time there is time for the first request alone
    submit, attempts = store.submit, iter([True])

    def submit_the_second_time(tx: Transaction) -> Any:
        if next(attempts, False):
            raise StoreFullError
        return submit(tx)

    def letters(*requests: tuple[bytes, dict[str, Any]]) -> list[Letter]:
        return [Letter((sender,), body(request), sender, {}, 1.0) for sender, request in requests]

    check = {"op": "check", "product": PRODUCT.code}
    store.submit = submit_the_second_time  # type: ignore[method-assign]
    renewal = AGENTS[0], about("renew", 0)
    requests = letters((AGENTS[0], check), (AGENTS[0], about("acquire", 0)), renewal, renewal)
    assert len(server.core.turn(requests, Reading(WALL_S + 1, 1.0), lambda: next(times))) == 1
    for request in ((AGENTS[1], about("acquire", 1)), renewal):  # the first gets the number that the other would have
        (reply,) = server.core.turn(letters(request), Reading(WALL_S + 1, 1.0))
        assert protocol.decode_reply(reply)["result"] == "granted"
    store.close()


def test_what_is_learned_in_one_turn_after_all_was_forgotten_is_of_its_own_kind() -> None:
    """A kind's number may mean another kind then, in the same turn."""
    office = Office()
    reusable = (product for product in office.ledger.catalog.products if product.period_s and product.reusable)
    other = next(product for product in reusable if product.number != PRODUCT.number)
    text, _ = print_serial(other, 9, 1)
    office.apply({"op": "import", "serials": [text]}, ADMIN)
    component = next(code for code, it in other.components.items() if it.licensed)
    of_other = about("renew", 1, component, product=other.code)
    office.apply(about("release", 1))
    assert office.apply({**of_other, "op": "acquire"})["result"] == "granted"
    known, usually = office.ledger.renewing(office.tx, office.now, office.known, 0.0)
    told: list[bytes] = []
    for request in (about("renew", 0), of_other):
        for _ in range(2):
            frame = body(request)
            if not known([Letter((b"",), frame, AGENTS[0], {}, 0.0)], 0, told):
                read = usual.read(frame)
                assert read is not None and usually(read, AGENTS[0], frame)
        office.known.forget_all()
    assert [protocol.decode_reply(reply)["renew_by"] for reply in told] == [
        office.now + product.period_s for product in (PRODUCT, other) if product.period_s
    ]


def test_computers_of_a_cluster_are_not_known() -> None:
    """Their numbers do not fit; they are served all the same."""
    office = Office(server=3)
    for _ in range(3):
        office.known.change(1)  # as often as the server's number says, which stands in the same bits
    assert not any(office.is_known(about("renew", 0)) for _ in range(3))
    office.next_turn(5)
    assert not office.is_known(about("renew", 0))
    assert next(Lease.unpack(row).renewed_at for _, row in office.tx.scan(Table.LEASES)) == office.now


def test_what_was_forgotten_takes_no_place() -> None:
    """With as many places as computers all are known, again after all was forgotten."""
    office = Office(places=4)
    for _ in range(2):
        assert [knows(office), knows(office)] == [[False] * 4, [True] * 4]
        office.known.forget_all()


def test_a_newer_request_takes_an_older_ones_place() -> None:
    """With fewer places than computers all are still served, and the newest is known."""
    office = Office(places=4)
    for number in range(4):
        for version in ("1", "2", "3"):
            request = about("renew", number, version=version)
            office.apply(about("acquire", number, version=version))
            assert [office.is_known(request) for _ in range(2)] == [False, True]


def test_counters_of_changes_that_run_over_make_all_unknown(office: Office) -> None:
    """After 65,536 changes a computer's counter is where it was: by then none is known any more."""
    for _ in range(1 << 16):
        office.known.change(0)
    assert knows(office) == [False] * 4


def test_kinds_that_run_over_make_all_unknown(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """More kinds than have a number: all begin anew."""
    monkeypatch.setattr(repeats, "_KINDS_MAX", 2)
    assert [office.is_known(about("renew", 0, patience_ms=patience_ms)) for patience_ms in range(4)] == [False] * 4
    assert office.is_known(about("renew", 0, patience_ms=3))
    assert not office.is_known(about("renew", 0, patience_ms=0))


def test_agents_that_need_a_role_are_not_known() -> None:
    """Whether a key has a role is looked up for each request."""
    office = Office()
    office.ledger.rules = replace(office.ledger.rules, agents=AGENTS_LISTED)
    assert not any(office.is_known(about("renew", 0)) for _ in range(3))


def test_nothing_is_written_but_the_time(office: Office) -> None:
    """A known renewal leaves the lease as the usual one does."""
    before = dict(office.tx.scan(Table.LEASES))
    office.next_turn(7)
    assert knows(office) == [True] * 4
    for key, row in office.tx.scan(Table.LEASES):
        time = (office.now).to_bytes(4, "big")
        assert row == before[key][:9] + time + before[key][13:]
