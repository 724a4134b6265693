"""The discovery socket of the server: answers well-formed queries, at a bounded rate a source, and nothing else."""

import contextlib
import socket

from als import beacon

ANSWERS_PER_SOURCE_S = 20  # a person who searches sends one or two, from each of his interfaces
SOURCES_MAX = 10_000  # remembered within a second; beyond, the flood is not answered
DATAGRAMS_PER_TURN_MAX = 100  # the poller comes back for more
_READ_BYTES = beacon.QUERY_BYTES + 1


def open_socket(address: str, port: int, *, shared: bool) -> socket.socket:
    """Bind a UDP socket; `shared` lets several servers of one machine hear the same broadcasts. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        if shared:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        udp.bind((address, port))
    except BaseException:
        udp.close()
        raise
    return udp


class Answering:
    """Answers queries with one fixed answer. `begin_turn` renews the sources' allowance each second."""

    def __init__(self, answer: beacon.Answer) -> None:
        self._answer = answer
        self._second = 0
        self._answered: dict[str, int] = {}

    def answer_all(self, udp: socket.socket, monotonic_s: float) -> None:
        """Read what has come to `udp` and answer what deserves it."""
        if int(monotonic_s) != self._second:
            self._second = int(monotonic_s)
            self._answered.clear()
        for _ in range(DATAGRAMS_PER_TURN_MAX):
            try:
                datagram, source = udp.recvfrom(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier answer bounced, a datagram was too long, a network went away: nobody's end
            reply = self.reply_to(datagram, source[0])
            if reply is not None:
                with contextlib.suppress(OSError):  # nobody is owed an answer
                    udp.sendto(reply, source)

    def reply_to(self, datagram: bytes, source: str) -> bytes | None:
        """Give the answer to a datagram, None when it deserves none."""
        nonce = beacon.decode_query(datagram)
        if nonce is None:
            return None
        sent = self._answered.get(source, 0)
        if sent >= ANSWERS_PER_SOURCE_S or (sent == 0 and len(self._answered) >= SOURCES_MAX):
            return None
        self._answered[source] = sent + 1
        return beacon.encode_answer(nonce, self._answer)
