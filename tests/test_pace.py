"""Long work beside a server works for a part of the time only."""

from als.ledger.audit import REST_ROWS, Audit
from als.pace import REST_FOR_WORK, REST_S_MOST, STRETCH_S, Pace
from als.store.memory import MemoryStore
from als.store.transaction import Table


class Watch:
    """A clock that moves when somebody works or rests."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.rests_s: list[float] = []

    def read(self) -> float:
        """Give the time."""
        return self.now_s

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.rests_s.append(seconds)


def test_a_quarter_of_the_time_is_worked() -> None:
    """However often it could rest, a stretch is worked first, and the rest is in proportion to it."""
    watch = Watch()
    rest = Pace(watch.rest, watch.read)
    for _ in range(1_000):
        watch.now_s += STRETCH_S / 10
        rest()
    worked_s = 1_000 * STRETCH_S / 10
    assert len(watch.rests_s) in (90, 91, 100)
    assert abs(sum(watch.rests_s) - REST_FOR_WORK * worked_s) < 2 * REST_FOR_WORK * STRETCH_S


def test_a_slow_disk_does_not_make_it_rest_for_ever() -> None:
    """A sync of a minute is followed by a short rest."""
    watch = Watch()
    rest = Pace(watch.rest, watch.read)
    watch.now_s += 60
    rest()
    assert watch.rests_s == [REST_S_MOST]


def test_the_check_of_a_store_could_rest_often() -> None:
    """Whoever holds books against leases is asked to rest every few rows, whatever the size of a table."""
    rests: list[None] = []
    tx = MemoryStore().begin()
    for number in range(10 * REST_ROWS):
        tx.put(Table.ADMINS, number.to_bytes(32, "big"), b"\x94\xa1n\xa5admin\x00\xa0")
    Audit(tx, rest=lambda: rests.append(None)).run()
    assert len(rests) >= 10
