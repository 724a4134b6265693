"""The turns of a server without its sockets: what is asked of strangers, of time, and of a store that fails."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from als import catalog, protocol
from als.catalog import Catalog
from als.clock import Reading
from als.ledger import Ledger, Rules, mercy
from als.ledger.audit import Audit
from als.ledger.journal import Journal
from als.protocol import Role
from als.records import Event, hour_key, pack_value, product_key
from als.server.applying import LOOK_EVERY_REQUESTS
from als.server.core import Core, read_mark
from als.server.letters import Letter
from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import Completion, Store, StoreError, StoreFullError, Table, Transaction
from press import OTHER_SERVER_KEY, SERVER_KEY, VENDORS, print_serial

WALL_S = 1_790_000_000
KEYS = {role: role.text.encode().ljust(32, b".") for role in Role}
STRANGER = b"stranger".ljust(32, b".")
CATALOG = catalog.builtin()


def open_core(store: Store, rules: Rules | None = None, reload: Callable[[], None] = lambda: None) -> Core:
    """A server's turns over a new store: the built-in catalog, a key for every role, 100 seats of ATIES."""
    ledger = Ledger(CATALOG, server_id="0" * 32, server_key=SERVER_KEY, vendors=VENDORS, settings=rules)
    tx = store.begin()
    for role, key in KEYS.items():
        ledger.add_admin(tx, key, role.text, role, WALL_S)
    store.submit(tx)
    core = Core(store, ledger, Reading(WALL_S, 0.0), reload)
    text, _ = print_serial(CATALOG.by_code["ATIES"], 1, 100)
    assert ask(core, "import", KEYS[Role.ADMIN], serials=[text])["added"] == 1
    return core


def letter(
    operation: str, sender: bytes = STRANGER, peer: str = "192.0.2.7", arrived_s: float = 0.0, **fields: Any
) -> Letter:
    """A request as the loop hands it over."""
    envelope = (peer.encode(),)
    return Letter(envelope, protocol.encode_request(1, operation, fields), sender, {b"Peer-Address": peer}, arrived_s)


def ask(core: Core, operation: str, sender: bytes = STRANGER, peer: str = "192.0.2.7", **fields: Any) -> dict[str, Any]:
    """Make one request in a turn of its own; give the reply."""
    (reply,) = core.turn([letter(operation, sender, peer, **fields)], Reading(WALL_S, 0.0))
    return protocol.decode_reply(reply)


def wish(number: int, product: str = "ATIES") -> dict[str, Any]:
    """The fields by which a computer asks for a license."""
    computer = {"macs": [number.to_bytes(6)], "host": f"pc{number}", "address": ""}
    return {"product": product, "component": "agent", "computer": computer}


# Access: the protocol's table, written down once more.

NEEDED: dict[str, tuple[Role, dict[str, Any]]] = {
    "hello": (Role.AGENT, {}),
    "acquire": (Role.AGENT, wish(1)),
    "renew": (Role.AGENT, wish(1)),
    "release": (Role.AGENT, wish(1)),
    "check": (Role.AGENT, {"product": "ATIES"}),
    "status": (Role.VIEWER, {}),
    "licenses": (Role.VIEWER, {}),
    "leases": (Role.VIEWER, {}),
    "events": (Role.VIEWER, {}),
    "usage": (Role.VIEWER, {"product": "ATIES", "since": 0, "until": WALL_S}),
    "import": (Role.OPERATOR, {"serials": ["x"]}),
    "revoke": (Role.OPERATOR, {"product": "ATIES", "mac": bytes(6)}),
    "remove": (Role.ADMIN, {"serial_id": "ATIES-0000000000000"}),
    "admins": (Role.ADMIN, {}),
    "admin_add": (Role.ADMIN, {"key": bytes(32), "name": "new", "role": "viewer"}),
    "admin_remove": (Role.ADMIN, {"key": bytes(32)}),
}


def test_the_table_is_whole() -> None:
    """There is no operation that this table of roles does not hold against the server."""
    assert NEEDED.keys() == protocol.OPERATIONS.keys()


@pytest.mark.parametrize("operation", NEEDED)
def test_every_operation_with_every_role(operation: str) -> None:
    """A key may do exactly what its role may, an unknown key what an agent may, and a refusal changes nothing."""
    needed, fields = NEEDED[operation]
    for role, key in [*KEYS.items(), (Role.AGENT, STRANGER)]:
        core = open_core(MemoryStore())
        events = len(rows(core, Table.EVENTS))
        reply = ask(core, operation, key, **fields)
        if role >= needed:
            assert reply["ok"] or reply["code"] in ("unknown_lease", "unknown_serial"), (role, reply)
        else:
            assert (reply["code"], reply["detail"]) == ("not_authorized", {"role": needed.text}), role
            assert len(rows(core, Table.EVENTS)) == events


def rows(core: Core, table: Table) -> list[tuple[bytes, bytes]]:
    """All rows of a table."""
    tx = core.store.begin()
    found = tx.scan(table, limit=1_000_000)
    tx.abort()
    return found


def test_a_seat_that_comes_back_within_a_turn_is_free_in_it() -> None:
    """Requests of one turn see each other: a seat given back is there for who asks next, in the same transaction."""
    core = open_core(MemoryStore())
    wishes = [("acquire", number) for number in range(101)]  # one more than there are seats
    wishes += [("release", 7), ("acquire", 100), ("acquire", 7)]
    turn = [letter(operation, peer="127.0.0.1", **wish(number)) for operation, number in wishes]
    replies = [protocol.decode_reply(reply) for reply in core.turn(turn, Reading(WALL_S, 0.0))]
    outcomes = [reply["result"] if reply["ok"] else reply["code"] for reply in replies]
    assert outcomes == ["granted"] * 100 + ["no_free_license", "freed", "granted", "no_free_license"]


@pytest.mark.parametrize(("role", "reads"), [(Role.AGENT, 0), (Role.VIEWER, 0), (Role.OPERATOR, 1), (Role.ADMIN, 1)])
def test_the_catalog_is_read_again_for_those_who_may_import(role: Role, reads: int) -> None:
    """Who may not import cannot make the server read files, and who may makes it read them once a turn."""
    read: list[None] = []
    core = open_core(MemoryStore(), reload=lambda: read.append(None))
    read.clear()
    core.turn([letter("import", KEYS[role], serials=["x"]) for _ in range(50)], Reading(WALL_S, 0.0))
    assert len(read) == reads


def test_renewals_after_an_import_go_by_the_catalog_that_it_read() -> None:
    """What is known of a product for the rest of a turn is forgotten when the catalog is read anew in it."""
    opened: list[Core] = []

    def forget_products() -> None:
        for core in opened:
            core.ledger.catalog = catalog.Catalog(())

    core = open_core(MemoryStore(), reload=forget_products)
    opened.append(core)
    assert ask(core, "acquire", **wish(1))["result"] == "granted"
    turn = [letter("renew", **wish(1)), letter("import", KEYS[Role.ADMIN], serials=["x"]), letter("renew", **wish(1))]
    before, _, after = (protocol.decode_reply(reply) for reply in core.turn(turn, Reading(WALL_S, 0.0)))
    assert (before["result"], after["code"]) == ("renewed", "unknown_product")


def test_only_listed_agents_renew_where_agents_are_listed() -> None:
    """The short way of renewals asks who is listed, too."""
    core = open_core(MemoryStore(), Rules(agents="listed"))
    assert ask(core, "acquire", KEYS[Role.VIEWER], **wish(1))["result"] == "granted"
    turn = [letter("renew", sender, **wish(1)) for sender in (KEYS[Role.VIEWER], STRANGER)]
    listed, stranger = (protocol.decode_reply(reply) for reply in core.turn(turn, Reading(WALL_S, 0.0)))
    assert (listed["result"], stranger["code"]) == ("renewed", "not_authorized")


# R17, with addresses that this machine need not have


def granted(core: Core, first: int, count: int, key: bytes = STRANGER, peer: str = "192.0.2.7") -> list[str]:
    """Ask for licenses for so many new computers; give the outcomes."""
    replies = [ask(core, "acquire", key, peer, **wish(number)) for number in range(first, first + count)]
    return [reply.get("result") or reply["code"] for reply in replies]


def test_one_script_does_not_take_every_seat() -> None:
    """An address engages so many new seats an hour, whatever key it shows; other addresses are not touched by it."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=5))
    assert granted(core, 0, 4) == ["granted"] * 4
    assert granted(core, 10, 3, key=b"another".ljust(32)) == ["granted", "too_many", "too_many"]
    assert granted(core, 20, 2, peer="192.0.2.8") == ["granted"] * 2
    assert granted(core, 30, 6, peer="2001:db8::1") == ["granted"] * 5 + ["too_many"]
    used = ask(core, "check", product="ATIES")["used"]
    assert used == 12


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_the_servers_own_machine_is_not_limited(peer: str) -> None:
    """The loopback's addresses engage as many new seats as they ask for."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=1))
    assert granted(core, 0, 3, peer=peer) == ["granted"] * 3


def test_deployers_are_not_limited() -> None:
    """A key with the role deployer, or a higher one, engages new seats for the computers that it deploys."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=1))
    assert granted(core, 0, 3, key=KEYS[Role.DEPLOYER]) == ["granted"] * 3
    assert granted(core, 10, 2, key=KEYS[Role.AGENT]) == ["granted", "too_many"]


def test_the_share_is_new_seats_alone() -> None:
    """An address that has used its share still renews, shares and gets back what it holds."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=2))
    assert granted(core, 0, 3) == ["granted", "granted", "too_many"]
    assert ask(core, "renew", **wish(0))["result"] == "renewed"
    assert ask(core, "acquire", **(wish(1) | {"component": "local-console"}))["result"] == "already_held"


def test_the_share_comes_back_with_the_hour() -> None:
    """In the next hour an address may engage its share again."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=1))
    assert granted(core, 0, 2) == ["granted", "too_many"]
    (reply,) = core.turn([letter("acquire", arrived_s=3_600.0, **wish(5))], Reading(WALL_S + 3_600, 3_600.0))
    assert protocol.decode_reply(reply)["ok"]


def test_a_refused_script_leaves_no_computers() -> None:
    """Refusals by the hundred enter no computers, and their events are few."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=1))
    granted(core, 0, 1)
    computers, events = len(rows(core, Table.COMPUTERS)), len(rows(core, Table.EVENTS))
    letters = [letter("acquire", **wish(100 + number)) for number in range(1_500)]
    core.turn(letters, Reading(WALL_S, 0.0))
    assert len(rows(core, Table.COMPUTERS)) == computers
    assert len(rows(core, Table.EVENTS)) - events <= 1_001


# Time: a request that waited too long, and a turn that takes too long


@pytest.mark.parametrize(
    ("patience_ms", "waited_s", "is_served"),
    [(None, 29.0, True), (None, 31.0, False), (0, 0.0, True), (0, 0.001, False), (1, 0.0005, True), (1, 0.002, False)],
)
def test_patience(patience_ms: int | None, waited_s: float, is_served: bool) -> None:
    """A request whose sender has given up by now is answered `unavailable` with a hint, and changes nothing."""
    core = open_core(MemoryStore())
    waiting = letter("acquire", arrived_s=100.0 - waited_s, patience_ms=patience_ms, **wish(3))
    (reply,) = map(protocol.decode_reply, core.turn([waiting], Reading(WALL_S + 100, 100.0)))
    assert reply["ok"] == is_served
    assert ask(core, "check", product="ATIES")["used"] == is_served
    if not is_served:
        assert reply["code"] == "unavailable" and reply["detail"]["retry_after_s"] > 0


def test_a_turn_ends_when_its_time_is_over() -> None:
    """The requests that a turn has no time for are not applied; those before them are, and get their replies."""
    core = open_core(MemoryStore(), Rules(new_seats_per_address_h=0))
    letters = [letter("acquire", more="than usual", **wish(number)) for number in range(100)]
    looks = iter([True] * 4 + [False])
    assert len(core.turn(letters, Reading(WALL_S, 0.0), lambda: next(looks))) == 5
    assert ask(core, "check", product="ATIES")["used"] == 5
    assert len(core.turn(letters, Reading(WALL_S, 0.0))) == 100
    for usual in ("acquire", "renew"):
        letters = [letter(usual, **wish(number)) for number in range(100)]
        assert len(core.turn(letters, Reading(WALL_S, 0.0), lambda: False)) == LOOK_EVERY_REQUESTS


def test_a_lease_whose_serial_was_removed_for_good_is_not_renewed_once_its_product_is_reusable_again() -> None:
    """A product that is not reusable keeps a removed serial's leases; once it is reusable, they hold no seat."""
    core = open_core(MemoryStore())
    assert ask(core, "acquire", **wish(1))["ok"] and ask(core, "renew", **wish(1))["result"] == "renewed"
    usual = core.ledger.catalog
    (serial_id,) = (row["serial_id"] for row in ask(core, "licenses", KEYS[Role.ADMIN])["rows"])
    for_good = [replace(it, reusable=False, period_s=None) if it.code == "ATIES" else it for it in usual.products]
    core.ledger.catalog = Catalog(for_good)
    assert ask(core, "remove", KEYS[Role.ADMIN], serial_id=serial_id, force=True)["result"] == "removed"
    core.ledger.catalog = usual
    for operation in ("acquire", "renew", "renew"):
        assert ask(core, operation, **wish(1))["code"] == "no_free_license"


class GrowingStore(LmdbStore):
    """Counts how often it had to grow."""

    grown = 0

    def grow(self) -> None:
        """Grow as ever."""
        self.grown += 1
        super().grow()


def test_a_store_that_grows_keeps_the_bargain(tmp_path: Path) -> None:
    """When the store has to grow in the midst of a turn, each request is still applied once and answered once."""
    store = GrowingStore(tmp_path, map_bytes=1 << 17)
    core = open_core(store, Rules(new_seats_per_address_h=0))
    grown = store.grown
    letters = [letter("acquire", **wish(number)) for number in range(150)]
    replies = [protocol.decode_reply(reply) for reply in core.turn(letters, Reading(WALL_S, 0.0))]
    assert sum(reply["ok"] for reply in replies) == 100
    assert ask(core, "check", product="ATIES")["used"] == 100
    assert len(rows(core, Table.COMPUTERS)) == 100
    assert store.grown > grown
    store.close()


# A store that fails


class FailingStore(MemoryStore):
    """A store whose commits fail from a moment on, as a device's errors come out of an engine."""

    def __init__(self) -> None:
        super().__init__()
        self.message = ""

    def submit(self, transaction: Transaction) -> Completion:
        """Commit, or take everything back and fail."""
        if self.message:
            transaction.abort()
            raise StoreError(self.message)
        return super().submit(transaction)


def test_nothing_is_promised_when_the_commit_fails() -> None:
    """A turn whose commit fails gives no reply at all, and what was there before is what a restart finds."""
    store = FailingStore()
    core = open_core(store)
    assert ask(core, "acquire", **wish(1))["ok"]
    before = {table: rows(core, table) for table in Table}
    store.message = "the device failed"
    with pytest.raises(StoreError, match="the device failed"):
        core.turn([letter("hello"), letter("acquire", **wish(2))], Reading(WALL_S + 60, 60.0))
    assert {table: rows(core, table) for table in Table} == before


class FullOnceStore(MemoryStore):
    """A store that is found to be full at a commit, once each time that it is told so."""

    is_full = False

    def submit(self, transaction: Transaction) -> Completion:
        """Commit, or find that there is no room."""
        if self.is_full:
            self.is_full = False
            raise StoreFullError
        return super().submit(transaction)


def test_a_turn_that_is_applied_again_keeps_house_as_well() -> None:
    """The time that the server was last alive is written by the second application as by the first."""
    store = FullOnceStore()
    core = open_core(store)
    store.is_full = True
    core.turn([], Reading(WALL_S + 20, 20.0))
    tx = store.begin()
    assert read_mark(tx) == WALL_S + 20


@pytest.mark.parametrize("moment", ["start", "stop"])
def test_a_full_store_grows_at_a_start_and_at_a_stop(moment: str) -> None:
    """What is written then is applied again, too."""
    store = FullOnceStore()
    core = open_core(store)
    store.is_full = True
    if moment == "start":
        core = Core(store, core.ledger, Reading(WALL_S + 1, 1.0), lambda: None)
    else:
        core.stop(Reading(WALL_S + 1, 1.0))
    assert not store.is_full
    kinds = [row["kind"] for row in ask(core, "events", KEYS[Role.ADMIN])["rows"]]
    assert kinds.count("started" if moment == "start" else "stopped") == (2 if moment == "start" else 1)


def test_a_catalog_that_changes_within_a_turn_holds_for_the_rest_of_it() -> None:
    """A renewal after an import that has read a shorter period is told that, though one before it was not."""
    product = CATALOG.by_code["ATIW"]
    short = Catalog([replace(product, period_s=86_400, heartbeat_s=60)])
    edited: list[Catalog] = []  # what the import's look into the folder finds to be new

    def reload() -> None:
        if edited:
            core.ledger.catalog = edited[0]

    core = open_core(MemoryStore(), reload=reload)
    texts = [print_serial(product, number, 5)[0] for number in (11, 12)]
    ask(core, "import", KEYS[Role.ADMIN], serials=texts[:1])
    for number in (1, 2):
        assert ask(core, "acquire", **wish(number, product="ATIW"))["result"] == "granted"
    edited.append(short)
    renewals = [letter("renew", **wish(number, product="ATIW")) for number in (1, 2, 2)]
    bringing = letter("import", KEYS[Role.ADMIN], serials=texts[1:])
    turn = [renewals[0], bringing, *renewals[1:]]
    replies = [protocol.decode_reply(reply) for reply in core.turn(turn, Reading(WALL_S + 1, 1.0))]
    told = [(reply["renew_by"] - WALL_S - 1, reply["heartbeat_s"]) for reply in (replies[0], *replies[2:])]
    assert told == [(product.period_s, product.heartbeat_s), (86_400, 60), (86_400, 60)]


def test_an_outage_is_not_forgotten_for_short_ones() -> None:
    """A night of restarts pushes out the shortest outages: none that a license lives by."""
    tx = MemoryStore().begin()
    mercy.add_outage(tx, WALL_S, WALL_S + 20 * 86_400)
    for number in range(mercy.OUTAGES_MAX + 10):
        start = WALL_S + 21 * 86_400 + 100 * number
        mercy.add_outage(tx, start, start + 5 + number)
    mercy.add_outage(tx, WALL_S + 40 * 86_400, WALL_S + 40 * 86_400 + 1)
    known = mercy.outages(tx)
    assert len(known) == mercy.OUTAGES_MAX
    assert known[-1].end - known[-1].start == 1, "the newest may be all that a license lives by"
    assert known[0] == (WALL_S, WALL_S + 20 * 86_400) and known[1].end - known[1].start > 5


def test_codes_that_are_none_are_not_kept() -> None:
    """Checks are remembered, but not of what is too long for a code: a stranger must not choose what we keep."""
    text = "x" * 60_000 + str(WALL_S)
    before = sys.getrefcount(text)
    assert not protocol.is_code(text)
    assert sys.getrefcount(text) == before


@pytest.mark.parametrize("engine", ["memory", "lmdb"])
def test_a_copy_with_a_key_of_its_own_does_not_count_what_is_locked_to_the_original(
    engine: str, tmp_path: Path
) -> None:
    """Else two servers would count one serial; what is locked to nobody counts on."""
    store: Store = MemoryStore() if engine == "memory" else LmdbStore(tmp_path / "store")
    core = open_core(store)
    texts = [
        print_serial(CATALOG.by_code["ATIES"], 7, 5, locked=True)[0],
        print_serial(CATALOG.by_code["ATIES"], 8, 2)[0],
    ]
    before = ask(core, "check", product="ATIES")["total"]
    assert ask(core, "import", KEYS[Role.OPERATOR], serials=texts)["added"] == 2
    assert ask(core, "check", product="ATIES")["total"] == before + 7
    Core(store, core.ledger, Reading(WALL_S, 1.0), lambda: None)
    assert ask(core, "check", product="ATIES")["total"] == before + 7, "the same key"
    twin = Ledger(CATALOG, server_id="1" * 32, server_key=OTHER_SERVER_KEY, vendors=VENDORS)
    core = Core(store, twin, Reading(WALL_S, 2.0), lambda: None)
    assert ask(core, "check", product="ATIES")["total"] == before + 2
    (event,) = [row for row in ask(core, "events", KEYS[Role.VIEWER])["rows"] if row["kind"] == "removed"]
    assert event["detail"] == {"leases": 0, "reason": "wrong_server"}
    (verdict, _) = ask(core, "import", KEYS[Role.OPERATOR], serials=texts)["rows"]
    assert verdict["result"] == "wrong_server"
    tx = store.begin()
    assert Audit(tx).run() == []


def test_a_denial_for_a_reason_of_a_newer_server_is_told_all_the_same() -> None:
    """Servers of a cluster are updated one after the other, and an older one may be put back."""
    tx = MemoryStore().begin()
    hour = WALL_S // 3_600
    key = hour_key(hour) + product_key(1) + bytes([99]) + bytes(6)
    tx.put(Table.DENIALS, key, pack_value([3, "pc", "agent"]))
    journal = Journal.of(tx)
    assert journal.merge_denials(WALL_S + 3_600, 10) == 1
    ((number, raw),) = tx.scan(Table.EVENTS)
    event = Event.unpack(int.from_bytes(number, "big"), raw)
    assert (event.amount, event.detail) == (3, {"reason": "other"})
