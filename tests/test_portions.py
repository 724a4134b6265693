"""An import beside many other requests is done in portions, and nobody can tell: not by its reply, nor by the store."""

from typing import Any

import pytest

from als import protocol
from als.clock import Reading
from als.protocol import Role
from als.server import portions
from als.server.core import Core
from als.server.letters import LATER, Letter
from als.server.portions import FEW, SERIALS_PER_TURN, Portions
from als.store.memory import MemoryStore
from als.store.transaction import Completion, StoreFullError, Table, Transaction
from press import print_serial
from test_core import CATALOG, KEYS, STRANGER, WALL_S, letter, open_core, rows

ATIES = CATALOG.by_code["ATIES"]
TEXTS = [print_serial(ATIES, number, 10)[0] for number in range(2, 12)]
WITH_BAD_ONES = [*TEXTS[:3], "nonsense", TEXTS[0], *TEXTS[3:6]]


def others() -> list[Letter]:
    """So many requests of others that an import among them waits."""
    return [letter("check", product="ATIES") for _ in range(FEW)]


def import_of(texts: list[str], sender: bytes = KEYS[Role.ADMIN]) -> Letter:
    """An import as the loop hands it over."""
    return letter("import", sender, serials=texts)


def serve(core: Core, *imports: Letter) -> tuple[list[dict[str, Any]], int]:
    """Bring imports, those that are asked for again and again, with others; give their replies, and the turns."""
    waiting, replies, turns = list(imports), {}, 0
    while waiting:
        given = core.turn([*waiting, *others()], Reading(WALL_S, 0.0))
        turns += 1
        assert LATER not in given[len(waiting) :]
        replies |= {id(it): protocol.decode_reply(reply) for it, reply in zip(waiting, given, strict=False) if reply}
        waiting = [it for it, reply in zip(waiting, given, strict=False) if reply is LATER]
    return [replies[id(it)] for it in imports], turns


def test_an_import_in_portions_has_the_reply_of_one_at_once() -> None:
    """Its rows, their lines, the sums, and what is in the store are the same."""
    at_once, core = open_core(MemoryStore()), open_core(MemoryStore())
    (whole,) = at_once.turn([import_of(WITH_BAD_ONES)], Reading(WALL_S, 0.0))
    (reply,), turns = serve(core, import_of(WITH_BAD_ONES))
    assert turns == len(WITH_BAD_ONES) // SERIALS_PER_TURN
    assert reply == protocol.decode_reply(whole)
    assert [row["line"] for row in reply["rows"]] == list(range(1, len(WITH_BAD_ONES) + 1))
    assert reply["added"] == 6 and reply["licenses_added"] == 60
    for table in Table:
        if table is not Table.META:
            assert rows(core, table) == rows(at_once, table), table


def test_who_imports_a_little_is_served_at_once() -> None:
    """A portion is enough, and refusals take none."""
    core = open_core(MemoryStore())
    (reply,), turns = serve(core, import_of(TEXTS[:SERIALS_PER_TURN]))
    assert reply["added"] == SERIALS_PER_TURN and turns == 1
    (refused,), turns = serve(core, import_of(TEXTS, STRANGER))
    assert refused["code"] == "not_authorized" and turns == 1


def test_imports_that_come_together_share_a_turns_portion() -> None:
    """One is done after the other; the same request twice finds the serials present, as ever."""
    core = open_core(MemoryStore())
    (first, second, third), turns = serve(core, import_of(TEXTS[:4]), import_of(TEXTS[:4]), import_of(TEXTS[4:8]))
    assert turns == 12 // SERIALS_PER_TURN
    assert first["added"] == third["added"] == 4
    assert [row["result"] for row in second["rows"]] == ["already_present"] * 4


def test_others_see_what_a_portion_has_imported() -> None:
    """Each portion is committed with its turn: seats may be taken before the reply is there."""
    core = open_core(MemoryStore())
    waiting = import_of(TEXTS)
    given = core.turn([waiting, *others()], Reading(WALL_S, 0.0))
    assert given[0] is LATER
    check = protocol.decode_reply(given[-1])
    assert check["total"] == 100 + 10 * SERIALS_PER_TURN
    before = core.rates.per_second(1.0)["requests_per_s"]
    core.turn([waiting, *others()], Reading(WALL_S, 0.0))
    assert core.rates.per_second(1.0)["requests_per_s"] - before == pytest.approx(
        FEW / 10
    )  # the import will count once


class FullNowAndThen(MemoryStore):
    """A store that has to grow for every second commit, once it `is_filling`."""

    is_filling = False
    commits = 0

    def submit(self, transaction: Transaction) -> Completion:
        """Commit, or say that there is no room."""
        self.commits += self.is_filling
        if self.commits % 2:
            raise StoreFullError
        return super().submit(transaction)


def test_a_turn_that_is_done_once_more_goes_on_from_the_same_place() -> None:
    """What a failed commit has taken back is not counted as done."""
    store = FullNowAndThen()
    core = open_core(store)
    store.is_filling = True
    (reply,), turns = serve(core, import_of(TEXTS))
    assert store.commits == 2 * turns
    assert [row["result"] for row in reply["rows"]] == ["added"] * len(TEXTS)
    assert reply["licenses_added"] == 10 * len(TEXTS)


def decide(portion: dict[str, Any]) -> dict[str, Any]:
    """Import everything."""
    return {"rows": [{"line": 1}] * len(portion["serials"]), "added": 1, "licenses_added": 1}


def test_nothing_is_kept_of_imports_that_are_done_or_were_taken_back() -> None:
    """A turn that is begun once more forgets what it had done, and one that ends an import forgets that."""
    under_way, waiting, request = Portions(), import_of(TEXTS), {"op": "import", "serials": TEXTS}
    under_way.begin(FEW + 1)
    assert under_way.go_on(waiting, request, decide) is None
    under_way.begin(FEW + 1)
    under_way.committed()
    assert len(under_way) == 0
    for _ in range(len(TEXTS) // SERIALS_PER_TURN):
        under_way.begin(FEW + 1)
        answer = under_way.go_on(waiting, request, decide)
        under_way.committed()
        assert len(under_way) == (answer is None)
    assert isinstance(answer, dict) and len(answer["rows"]) == len(TEXTS)


def test_imports_whose_letters_went_astray_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was never brought again is forgotten after many others."""
    monkeypatch.setattr(portions, "UNDER_WAY_MAX", 3)
    under_way = Portions()
    request = {"op": "import", "serials": TEXTS}
    for _ in range(10):
        under_way.begin(FEW + 1)
        assert under_way.go_on(import_of(TEXTS), request, decide) is None
        under_way.committed()
        assert 1 <= len(under_way) <= 3
