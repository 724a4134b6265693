"""A CURVE ROUTER in a thread that answers as a test says, and a UDP port that answers searches as a test says.

Both are real sockets on loopback, on ports that the system chose.
"""

import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import zmq

from als import beacon, keyfile, protocol

POLL_MS = 20
Answers = Callable[[dict[str, Any]], list[bytes]]


def say_yes(request: dict[str, Any]) -> list[bytes]:
    """Answer every request with its own operation."""
    return [protocol.encode_reply(request["id"], 1_000, {"operation": request["op"]})]


class EchoServer:
    """Takes requests, remembers them, and sends the frames that `answers` makes of each."""

    def __init__(self, answers: Answers = say_yes, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.pair = keyfile.generate()
        self.host = host
        self.port = port
        self.requests: list[dict[str, Any]] = []
        self.routing_ids: list[bytes] = []
        self._answers = answers
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._stop.clear()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.LINGER, 0)
        self._router.set(zmq.IPV6, 1)
        self._router.set(zmq.CURVE_SERVER, 1)
        self._router.set(zmq.CURVE_SECRETKEY, self.pair.secret)
        self._router.bind(f"tcp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port or '*'}")
        self.port = int(str(self._router.getsockopt_string(zmq.LAST_ENDPOINT)).rpartition(":")[2])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._router.close(0)
        self._context.term()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not self._router.poll(POLL_MS):
                continue
            routing_id, frame = self._router.recv_multipart()
            request = protocol.decode(frame)
            self.routing_ids.append(routing_id)
            self.requests.append(request)
            for answer in self._answers(request):
                self._router.send_multipart([routing_id, answer])


class Beacon:
    """Takes well-formed queries at a UDP port and sends the datagrams that `answers` makes of each nonce."""

    def __init__(self, answers: Callable[[bytes], list[bytes]], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._answers = answers
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(POLL_MS / 1000)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]
        self.queries = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                datagram, source = self._socket.recvfrom(1_024)
            except TimeoutError:
                continue
            nonce = beacon.decode_query(datagram)
            if nonce is None:
                continue
            self.queries += 1
            for answer in self._answers(nonce):
                self._socket.sendto(answer, source)


def saying(*answers: beacon.Answer) -> Callable[[bytes], list[bytes]]:
    """Answer every query with these."""
    return lambda nonce: [beacon.encode_answer(nonce, answer) for answer in answers]
