"""The discovery socket's manners, with a pretended socket: few answers, short answers, and nothing that ends it."""

import errno
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from als import beacon
from als.server.answering import ANSWERS_PER_SOURCE_S, DATAGRAMS_PER_TURN_MAX, SOURCES_MAX, Answering

ANSWER = beacon.Answer("s" * 64, "ü" * 32, "9" * 32, 65_535, bytes(range(32)))
NONCE = bytes(range(16))
QUERY = beacon.encode_query(NONCE)
Source = tuple[str, int]


class PretendedSocket:
    """Gives what has come in, raises the errors among it, and notes what was sent."""

    def __init__(self, *arrived: tuple[bytes, Source] | OSError) -> None:
        self.arrived = list(arrived)
        self.sent: list[tuple[bytes, Source]] = []
        self.send_error: OSError | None = None

    def recvfrom(self, size: int) -> tuple[bytes, Source]:
        """Take the next datagram, as far as it fits."""
        if not self.arrived:
            raise BlockingIOError
        first = self.arrived.pop(0)
        if isinstance(first, OSError):
            raise first
        return first[0][:size], first[1]

    def sendto(self, datagram: bytes, source: Source) -> int:
        """Note a datagram, or fail."""
        if self.send_error is not None:
            raise self.send_error
        self.sent.append((datagram, source))
        return len(datagram)


def answer(udp: Any, monotonic_s: float = 0.0, answering: Answering | None = None) -> Answering:
    """Have a socket answered, turn after turn, until all that came is read."""
    answering = answering or Answering(ANSWER)
    while udp.arrived:
        answering.answer_all(udp, monotonic_s)
    return answering


@given(st.one_of(st.binary(max_size=600), st.binary(min_size=491, max_size=491).map(lambda rest: QUERY[:21] + rest)))
def test_an_answer_is_never_longer_than_its_query(datagram: bytes) -> None:
    """Whatever comes, and however long the server's names are, nothing longer goes out."""
    udp = PretendedSocket((datagram, ("192.0.2.1", 9)))
    answer(udp)
    assert sum(len(sent) for sent, _ in udp.sent) <= len(datagram)


def test_a_query_is_answered_where_it_came_from() -> None:
    """The answer has the query's nonce and goes to its sender alone."""
    udp = PretendedSocket((QUERY, ("192.0.2.1", 1_234)))
    answer(udp)
    ((datagram, source),) = udp.sent
    assert source == ("192.0.2.1", 1_234)
    found = beacon.decode_answer(datagram)
    assert found is not None and found[0] == NONCE


def test_a_source_gets_few_answers_a_second() -> None:
    """One address gets its share each second whatever ports it uses; others are answered meanwhile."""
    flood = [(QUERY, ("192.0.2.1", port)) for port in range(1, 501)]
    udp = PretendedSocket(*flood, (QUERY, ("192.0.2.2", 7)))
    answering = answer(udp)
    assert Counter(source[0] for _, source in udp.sent) == {"192.0.2.1": ANSWERS_PER_SOURCE_S, "192.0.2.2": 1}
    later = PretendedSocket(*flood)
    answer(later, 1.0, answering)
    assert len(later.sent) == ANSWERS_PER_SOURCE_S


def test_pretended_sources_fill_no_memory() -> None:
    """Of a flood from more addresses than are remembered the rest goes unanswered, until the next second."""
    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(SOURCES_MAX + 500)]
    udp = PretendedSocket(*[(QUERY, (address, 9)) for address in addresses])
    answering = answer(udp)
    assert len(udp.sent) == SOURCES_MAX
    later = PretendedSocket((QUERY, (addresses[-1], 9)))
    answer(later, 1.0, answering)
    assert len(later.sent) == 1


def test_a_turn_reads_so_many() -> None:
    """A flood does not hold the loop: after so many datagrams it has its turn, and the poller comes back."""
    udp = PretendedSocket(*[(random.Random(1).randbytes(60), ("192.0.2.1", 9))] * (DATAGRAMS_PER_TURN_MAX + 7))
    Answering(ANSWER).answer_all(udp, 0.0)  # type: ignore[arg-type]
    assert len(udp.arrived) == 7


@pytest.mark.parametrize(
    "number", [errno.ECONNREFUSED, errno.ECONNRESET, errno.EMSGSIZE, errno.ENETRESET, errno.ENETDOWN, errno.ENOMEM]
)
def test_errors_of_the_network_end_nothing(number: int) -> None:
    """An error that the network reports at reading or at sending is passed over, and the next query is answered."""
    good = (QUERY, ("192.0.2.1", 9))
    udp = PretendedSocket(OSError(number, "reported"), good)
    answering = answer(udp)
    assert len(udp.sent) == 1
    udp = PretendedSocket(good)
    udp.send_error = OSError(number, "reported")
    answer(udp, 0.0, answering)
