"""A closed loop against Redis: SET of a record like a lease's, pipelined, over plain TCP."""

import contextlib
import selectors
import socket
from collections.abc import Iterator
from itertools import cycle

from als import clock
from als_bench import workload
from als_bench.closed_loop import Count
from als_bench.stage import Load

RECORD = bytes(range(75))  # as long as a lease with one component
OK, LINE_END = b"+OK\r\n", b"\r\n"
READ_BYTES = 65_536
POLL_S = 0.1


class RedisLoop:
    """Keeps `load.window` SETs under way on each of `load.connections` connections."""

    def __init__(self, port: int, load: Load) -> None:
        self._selector = selectors.DefaultSelector()
        self._window = load.window
        self._started = False
        self._hands: list[tuple[socket.socket, Iterator[bytes]]] = []
        for numbers in workload.own_computers(load.leases, load.connections, load.seed):
            peer = socket.create_connection(("127.0.0.1", port))
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hand = peer, cycle([_set(number) for number in numbers])
            self._hands.append(hand)
            self._selector.register(peer, selectors.EVENT_READ, hand)

    def run(self, duration_s: float) -> Count:
        """Go on for so long; what is under way at the end is counted by the next run."""
        if not self._started:
            self._started = True
            for peer, requests in self._hands:
                peer.sendall(b"".join(next(requests) for _ in range(self._window)))
        count = Count()
        begin_s = clock.monotonic_s()
        while count.elapsed_s < duration_s:
            for key, _ in self._selector.select(POLL_S):
                peer, requests = key.data
                self._answer(peer, requests, count)
            count.elapsed_s = clock.monotonic_s() - begin_s
        return count

    @staticmethod
    def _answer(peer: socket.socket, requests: Iterator[bytes], count: Count) -> None:
        """Let as many requests go as replies have come; a reply cut in two is counted by its end."""
        data = peer.recv(READ_BYTES)
        if not data:
            raise ConnectionError("Redis has closed the connection")
        replies = data.count(LINE_END) + data.startswith(b"\n")
        count.replies += replies
        if b"-" in data:
            count.refused += data.count(b"-")
            count.refusals.append(data[data.index(b"-") :].split(LINE_END)[0].decode("utf-8", "replace"))
        peer.sendall(b"".join(next(requests) for _ in range(replies)))

    def close(self) -> None:
        """Let go of the connections."""
        self._selector.close()
        for peer, _ in self._hands:
            with contextlib.suppress(OSError):
                peer.close()


def _set(number: int) -> bytes:
    key = b"lease:2:%012d" % number
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(RECORD), RECORD)
