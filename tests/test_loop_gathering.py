"""The loop lets lone renewals wait for company, but not while there is more to sweep; and who gets which reply."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from als import beacon, keyfile, protocol
from als.clock import Reading, SystemClock
from als.guard import ClockGuard
from als.server import loop
from als.server.answering import Answering
from als.server.letters import Letter
from als.server.loop import Loop, Sockets

HERE = "127.0.0.1"
REPLY = b"served"
ANSWER = beacon.Answer("s" * 64, "here", "1", 1, bytes(32))
ANSWER_MS_MAX = 10_000


class Turns:
    """A server that answers everything alike, with or without something to sweep."""

    def __init__(self, more_to_sweep: bool) -> None:
        self.replies_dropped = 0
        self.letters_max = 100
        self.guard = ClockGuard(None, SystemClock().read())
        self._more_to_sweep = more_to_sweep

    def turn(
        self,
        letters: Sequence[Letter],
        reading: Reading,
        has_time: Callable[[], bool] = bool,
    ) -> list[bytes]:
        """Answer all."""
        return [REPLY] * len(letters)

    def needs_turn(self, reading: Reading) -> bool:
        """Say whether there is more to sweep."""
        return self._more_to_sweep

    def accept_clock(self) -> None:
        """Do nothing."""

    def read_status(self) -> dict[str, Any] | None:
        """Tell nothing."""

    def stop(self, reading: Reading) -> None:
        """Do nothing."""


class SlowDisk(Turns):
    """A server whose first commit lasts until another request has come."""

    def __init__(self) -> None:
        super().__init__(more_to_sweep=False)
        self.letters_max = 2
        self.turns: list[int] = []
        self.committing = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.router: zmq.Socket[bytes] | None = None

    def turn(
        self,
        letters: Sequence[Letter],
        reading: Reading,
        has_time: Callable[[], bool] = bool,
    ) -> list[bytes]:
        """Answer all."""
        self.turns.append(len(letters))
        if len(self.turns) == 1:
            self.committing.set()
            assert self.router is not None and self.router.poll(ANSWER_MS_MAX), "nothing came"
            assert self.may_end.wait(ANSWER_MS_MAX / 1_000)
        return [REPLY] * len(letters)


@contextmanager
def connected(port: int, server_key: bytes) -> Iterator["zmq.Socket[bytes]"]:
    """Give a client's socket."""
    own = keyfile.generate()
    client = zmq.Context.instance().socket(zmq.DEALER)
    try:
        client.linger = 0
        client.curve_serverkey, client.curve_publickey = z85.encode(server_key), z85.encode(own.public)
        client.curve_secretkey = z85.encode(own.secret)
        client.connect(f"tcp://{HERE}:{port}")
        yield client
    finally:
        client.close()


@contextmanager
def served_two(turns: Turns, pauses: list[float]) -> Iterator[tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]]:
    """Run the loop with these turns; give the sockets of two clients."""
    keys = keyfile.generate()
    sockets = Sockets(keys, HERE, 0)
    stop, wake = socket.socketpair()
    served_by = Loop(turns, sockets, Answering(ANSWER), SystemClock(), wake, pauses.append)
    if isinstance(turns, SlowDisk):
        turns.router = sockets.router
    thread = threading.Thread(target=served_by.run)
    thread.start()
    try:
        with connected(sockets.port, keys.public) as first, connected(sockets.port, keys.public) as second:
            yield first, second
    finally:
        stop.send(b"x")
        thread.join()
        sockets.close()
        stop.close()
        wake.close()


@contextmanager
def served(turns: Turns, pauses: list[float]) -> Iterator["zmq.Socket[bytes]"]:
    """Run the loop with these turns; give a client's socket."""
    with served_two(turns, pauses) as (client, _):
        yield client


@pytest.mark.parametrize("more_to_sweep", [False, True])
def test_a_lone_renewal_waits_unless_there_is_more_to_sweep(more_to_sweep: bool) -> None:
    """A pause in a storm of lapses would make it last for minutes."""
    pauses: list[float] = []
    with served(Turns(more_to_sweep), pauses) as client:
        client.send(protocol.encode_request(1, "renew", {}))
        assert client.poll(ANSWER_MS_MAX), "there was no answer"
        assert client.recv() == REPLY
    assert bool(pauses) is not more_to_sweep


def test_what_comes_during_a_commit_is_served_next() -> None:
    """All get their answers though nothing more wakes the loop, and a turn holds as many as it may."""
    turns = SlowDisk()
    with served(turns, []) as client:
        client.send(protocol.encode_request(1, "hello", {}))
        assert turns.committing.wait(ANSWER_MS_MAX / 1_000)
        for number in range(2, 7):
            client.send(protocol.encode_request(number, "hello", {}))
        for _ in range(6):
            assert client.poll(ANSWER_MS_MAX), "there was no answer"
            assert client.recv() == REPLY
    assert sum(turns.turns) == 6 and max(turns.turns) <= turns.letters_max


class Mirror(SlowDisk):
    """A server that sends requests back, and takes whatever has come in one turn."""

    def __init__(self) -> None:
        super().__init__()
        self.letters_max = 100

    def turn(self, letters: Sequence[Letter], reading: Reading, has_time: Callable[[], bool] = bool) -> list[bytes]:
        """Answer all, each with itself."""
        super().turn(letters, reading, has_time)
        return [letter.body for letter in letters]


def test_each_connection_gets_its_own_replies_in_their_order() -> None:
    """Replies are sent connection by connection, each one's in order, with a delimiter where the request had one."""
    turns = Mirror()
    with served_two(turns, []) as (first, second):
        first.send(b"hello")
        assert turns.committing.wait(ANSWER_MS_MAX / 1_000)
        for number in range(20):
            for client, name in ((first, b"first"), (second, b"second")):
                client.send_multipart([b""] * (number % 3 % 2) + [b"%s %d" % (name, number)])  # some as a REQ does
        expected = {first: [b"hello", *(b"first %d" % number for number in range(20))]}
        expected[second] = [b"second %d" % number for number in range(20)]
        for client, replies in expected.items():
            for reply in replies:
                assert client.poll(ANSWER_MS_MAX), "there was no answer"
                assert client.recv_multipart()[-1] == reply


def test_more_share_a_commit_where_requests_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more wait than need no queue, as behind a slow disk, a turn holds as many as that."""
    monkeypatch.setattr(loop, "BATCH_MAX", 5)
    turns = SlowDisk()
    turns.may_end.clear()
    with served(turns, []) as client:
        client.send(protocol.encode_request(1, "hello", {}))
        assert turns.committing.wait(ANSWER_MS_MAX / 1_000)
        for number in range(2, 100):
            client.send(protocol.encode_request(number, "hello", {}))
        turns.may_end.set()
        for _ in range(99):
            assert client.poll(ANSWER_MS_MAX), "there was no answer"
            assert client.recv() == REPLY
    assert sum(turns.turns) == 99 and max(turns.turns) == 5
