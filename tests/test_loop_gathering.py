"""The loop lets lone renewals wait for company, but not while there is more to sweep."""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from als import beacon, keyfile, protocol
from als.clock import Reading, SystemClock
from als.guard import ClockGuard
from als.server.answering import Answering
from als.server.core import Letter
from als.server.loop import Loop, Sockets

HERE = "127.0.0.1"
REPLY = b"served"
ANSWER = beacon.Answer("s" * 64, "here", "1", 1, bytes(32))
ANSWER_MS_MAX = 10_000


class Turns:
    """A server that answers everything alike, with or without something to sweep."""

    def __init__(self, more_to_sweep: bool) -> None:
        self.replies_dropped = 0
        self.guard = ClockGuard(None, SystemClock().read())
        self._more_to_sweep = more_to_sweep

    def turn(self, letters: Sequence[Letter], reading: Reading, has_time: Callable[[], bool] = bool) -> list[bytes]:
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


@pytest.mark.parametrize("more_to_sweep", [False, True])
def test_a_lone_renewal_waits_unless_there_is_more_to_sweep(more_to_sweep: bool) -> None:
    """A pause in a storm of lapses would make it last for minutes."""
    keys, own = keyfile.generate(), keyfile.generate()
    pauses: list[float] = []
    sockets = Sockets(keys, HERE, 0)
    stop, wake = socket.socketpair()
    answering = Answering(ANSWER)
    loop = Loop(Turns(more_to_sweep), sockets, answering, SystemClock(), wake, pauses.append)
    thread = threading.Thread(target=loop.run)
    thread.start()
    client = zmq.Context.instance().socket(zmq.DEALER)
    try:
        client.linger = 0
        client.curve_serverkey, client.curve_publickey = z85.encode(keys.public), z85.encode(own.public)
        client.curve_secretkey = z85.encode(own.secret)
        client.connect(f"tcp://{HERE}:{sockets.port}")
        client.send(protocol.encode_request(1, "renew", {}))
        assert client.poll(ANSWER_MS_MAX), "there was no answer"
        assert client.recv() == REPLY
    finally:
        stop.send(b"x")
        thread.join()
        client.close()
        sockets.close()
        stop.close()
        wake.close()
    assert bool(pauses) is not more_to_sweep
