"""Requests of one turn share a transaction: what one of them did, or left to do, the next one knows (R2, R5)."""

from typing import Any

from als import catalog
from als.ledger.leases import WORK_OFF_MAX
from als.protocol import SERIALS_PER_IMPORT_MAX, Refusal
from als.store.memory import MemoryStore
from pair import ROOT, ROOT_ADDRESS, START, Pair, Post
from press import print_serial

DAY_S = 86_400
TODAY = START // DAY_S - 10_957  # in days since 2000-01-01


def open_pair() -> Pair:
    """A ledger over memory, and the model beside it."""
    store = MemoryStore()
    return Pair(lambda: store, catalog.builtin())


def print_one(pair: Pair, number: int, last_day: int = 0) -> str:
    """Print a serial of one seat, and tell the model of it."""
    text, slip = print_serial(pair.catalog.by_code["ATIES"], number, 1, last_day=last_day)
    pair.slips[text] = slip
    return text


def run(operation: str, number: int) -> Post:
    """What a computer of this number asks."""
    computer = {"macs": [number.to_bytes(6)], "host": f"pc{number}", "address": ""}
    fields: dict[str, Any] = {"product": "ATIES", "component": "agent", "computer": computer}
    return Post(operation, b"k" * 32, "192.0.2.1", fields)


def outcomes(pair: Pair, posts: list[Post]) -> list[str]:
    """Apply a turn; give each reply's result or code."""
    return [reply.code if isinstance(reply, Refusal) else str(reply.get("result")) for reply in pair.turn(posts)]


def test_a_serial_that_is_imported_within_a_turn_counts_in_it() -> None:
    """Who asks after the import gets its seat, also when it is a better serial than the one before."""
    pair = open_pair()
    sale = [
        Post("import", ROOT, ROOT_ADDRESS, {"serials": [print_one(pair, number, last_day)]})
        for number, last_day in enumerate([TODAY + 5, TODAY + 9, 0], 1)
    ]
    turn = [run("acquire", 1), sale[0], run("check", 1), sale[1], run("acquire", 2), sale[2], run("acquire", 3)]
    assert outcomes(pair, turn)[::2] == ["no_free_license", "None", "granted", "granted"]
    pair.check_listings()  # the model says on which serials


def test_what_is_due_is_worked_off_by_each_request_of_a_turn() -> None:
    """One request leaves more than it may do at once to the next one of its turn, which answers by what is true."""
    pair = open_pair()
    texts = [print_one(pair, number, TODAY) for number in range(1, WORK_OFF_MAX + 2)]
    for first in range(0, len(texts), SERIALS_PER_IMPORT_MAX):
        pair.ask("import", serials=texts[first : first + SERIALS_PER_IMPORT_MAX])
    pair.now += DAY_S
    pair.modeled = frozenset()  # the model is never busy
    assert outcomes(pair, [run("acquire", 1), run("acquire", 2)]) == ["unavailable", "license_expired"]
    pair.check_books()
