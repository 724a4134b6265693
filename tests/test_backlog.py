"""The queue of requests that wait: nobody waits behind another's flood, nothing is lost, nothing grows for ever."""

from collections import Counter
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from als.server import backlog
from als.server.backlog import PER_SENDER_MAX, WAITING_BYTES_MAX, WAITING_MAX, Backlog
from als.server.letters import Letter

names = st.sampled_from([b"flood", b"alice", b"bob", b"carol"])


def letter(sender: bytes, number: int = 0, size: int = 1) -> Letter:
    """A request of a sender; the number is in its envelope."""
    return Letter((number.to_bytes(4),), b"x" * size, sender, {}, 0.0)


def number_of(of: Letter) -> int:
    """Give the number that `letter` was given."""
    return int.from_bytes(of.envelope[0])


@given(st.lists(names, max_size=200), st.integers(1, 50))
def test_rounds_are_fair(senders: list[bytes], most: int) -> None:
    """In whatever order requests came, nobody is served again while another who waits has been served less often."""
    queue = Backlog()
    for number, sender in enumerate(senders):
        assert queue.add(letter(sender, number))
    waiting = Counter(senders)
    served: Counter[bytes] = Counter()
    while queue:
        for taken in queue.take(most):
            for other in waiting:
                if waiting[other] > served[other]:
                    assert served[taken.sender] <= served[other] + (other != taken.sender)
            served[taken.sender] += 1
    assert served == waiting


@given(st.lists(st.tuples(names, st.integers(0, 3)), max_size=200), st.integers(1, 20))
def test_each_senders_order_is_kept(steps: list[tuple[bytes, int]], most: int) -> None:
    """Every request comes out once, a sender's in the order in which they came, also when some are put back."""
    queue = Backlog()
    out: list[Letter] = []
    for number, (sender, kept) in enumerate(steps):
        queue.add(letter(sender, number))
        taken = queue.take(kept)
        queue.put_back(taken[1:])
        out += taken[:1]
    while queue:
        taken = queue.take(most)
        served = taken[: max(1, len(taken) // 2)]
        queue.put_back(taken[len(served) :])
        out += served
    assert sorted(map(number_of, out)) == list(range(len(steps)))
    for _, of_one in groupby(sorted(out, key=lambda one: one.sender), key=lambda one: one.sender):
        numbers = list(map(number_of, of_one))
        assert numbers == sorted(numbers)
    assert len(queue) == 0 and not queue.is_full


def test_a_newcomer_waits_for_one_request_of_each_other() -> None:
    """Whoever floods, the next sender's request is among the first of the next turn."""
    queue = Backlog()
    for number in range(PER_SENDER_MAX):
        queue.add(letter(b"flood", number))
    queue.add(letter(b"alice", 9))
    assert [taken.sender for taken in queue.take(2)] == [b"flood", b"alice"]


def test_a_sender_may_have_so_many_waiting() -> None:
    """Beyond a sender's share its requests are refused, and everybody else's are not."""
    queue = Backlog()
    assert all(queue.add(letter(b"flood", number)) for number in range(PER_SENDER_MAX))
    assert not queue.add(letter(b"flood"))
    assert queue.add(letter(b"alice"))
    queue.take(2)
    assert queue.add(letter(b"flood"))
    assert not queue.add(letter(b"flood"))


def test_it_is_full_by_number() -> None:
    """No more is taken from the sockets when so many requests wait."""
    queue = Backlog()
    for number in range(WAITING_MAX):
        assert not queue.is_full
        queue.add(letter(number.to_bytes(4)))
    assert queue.is_full
    queue.take(1)
    assert not queue.is_full


def test_it_is_full_by_size() -> None:
    """No more is taken from the sockets when so many bytes wait."""
    queue = Backlog()
    size = 1 << 16
    for number in range(WAITING_BYTES_MAX // size):
        assert not queue.is_full
        queue.add(letter(number.to_bytes(4), size=size))
    assert queue.is_full
    taken = queue.take(1)
    assert not queue.is_full
    queue.put_back(taken)
    assert queue.is_full


@settings(max_examples=20)
@given(st.integers(2, 30))
def test_the_last_of_many_is_served_within_a_round(others: int) -> None:
    """With any number of floods the last sender is served after one request of each."""
    queue = Backlog()
    for number in range(20 * others):
        queue.add(letter(bytes([number % others])))
    queue.add(letter(b"last"))
    senders = [taken.sender for taken in queue.take(backlog.WAITING_MAX)]
    assert senders.index(b"last") == others
