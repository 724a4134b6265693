"""Keys that are sorted a little at a time come in order, none twice and none left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from als.store.lmdb.behind import ascending
from als.store.lmdb.behind.ascending import Ascending


@given(st.sets(st.integers(0, 1 << 64)), st.integers(1, 9), st.integers(1, 4), st.integers(1, 20))
def test_keys_come_in_order(keys: set[int], run_keys: int, steps: int, most: int) -> None:
    """However long the runs are, and however many keys are taken at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ascending, "RUN_KEYS", run_keys)
        waiting = Ascending(keys)
        sorted_in = 0
        while not waiting.is_sorted:
            assert len(waiting) == len(keys)
            waiting.sort(steps)
            sorted_in += steps
    runs = -(-len(keys) // run_keys)
    assert sorted_in <= max(2 * runs - 1, 0) + steps - 1
    given_out: list[int] = []
    while waiting:
        first = waiting.first(most)
        assert first == waiting.first(most)  # until they are dropped
        waiting.drop(len(first))
        given_out += first
    assert given_out == sorted(keys)


def test_one_step_sorts_one_run() -> None:
    """A step never takes up more than RUN_KEYS keys that were in no order: else it would hold up a commit."""
    waiting = Ascending(bytes([number]) for number in (3, 1, 2))
    assert not waiting.is_sorted
    waiting.sort(1)
    assert waiting.is_sorted and waiting.first(2) == [b"\x01", b"\x02"]
    many = Ascending(range(2 * ascending.RUN_KEYS))
    many.sort(1)
    assert not many.is_sorted and len(many) == 2 * ascending.RUN_KEYS
    many.sort(2)
    assert many.is_sorted
