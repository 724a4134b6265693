"""The speed of the socket itself: a CURVE ROUTER that sends every frame back, in a process of its own.

One recv and one send a frame, without ZAP, store or a look at the content; what pyzmq can do at best.
"""

import os
import sys
import threading

import zmq

from als import keyfile
from als_bench.connections import bare
from als_bench.processes import BenchError, Child

READY = "ready:"


def serve() -> None:
    """Bind a free port on loopback, tell it and the key in one line, and echo until stdin closes."""
    keys = keyfile.generate()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.curve_server = True
    router.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    router.bind("tcp://127.0.0.1:*")
    port = str(router.getsockopt_string(zmq.LAST_ENDPOINT)).rsplit(":", 1)[1]
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    print(READY, port, keyfile.to_z85(keys.public), flush=True)  # noqa: T201 - the parent reads it
    receive, send = bare(router)
    while True:
        routing_id = receive()
        frame = receive()
        send(routing_id, zmq.SNDMORE)
        send(frame)


def _end_with_stdin() -> None:
    """End when the benchmark has gone, however it went."""
    sys.stdin.read()
    os._exit(0)


class Echo(Child):
    """The echo as a process; `port` and `server_key` once started."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-c", "from als_bench.echo import serve; serve()"])
        self.port = 0
        self.server_key = b""

    def start(self, *, wait_for_line: bool = True) -> str:
        """Start it and learn its port and key. Raises BenchError."""
        line = super().start()
        words = line.split()
        if len(words) != 3 or words[0] != READY:
            raise BenchError(f"the echo said {line!r}")
        self.port, self.server_key = int(words[1]), keyfile.from_z85(words[2])
        return line
