"""A closed loop against etcd: keep-alives of its own leases, over its streams.

The two messages are one number each, so they are written here by hand; only grpcio is needed. A client in Python is
slow at this protocol: where the report says that the generator is the bottleneck, etcd could do more.
"""

import importlib
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from als import clock
from als_bench.closed_loop import Count
from als_bench.stage import Load

LEASES = 1_000
TTL_S = 600
STREAMS = 4  # one thread each: more of them only wait for each other
CALL_S_MAX = 10.0
_GRANT = "/etcdserverpb.Lease/LeaseGrant"
_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"


class EtcdLoop:
    """Keeps as many keep-alives under way as `load` says, shared out among STREAMS streams."""

    def __init__(self, port: int, load: Load) -> None:
        grpc: Any = importlib.import_module("grpc")
        self._channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for _ in range(STREAMS)]
        self._under_way = max(load.connections * load.window // STREAMS, 1)
        grant = self._channels[0].unary_unary(_GRANT)
        for number in range(1, LEASES + 1):
            grant(_message(TTL_S) + _message(number, 2), timeout=CALL_S_MAX)

    def run(self, duration_s: float) -> Count:
        """Keep requests under way for so long."""
        counts = [Count() for _ in self._channels]
        begin_s = clock.monotonic_s()
        threads = [
            threading.Thread(target=self._keep, args=(channel, count, begin_s + duration_s))
            for channel, count in zip(self._channels, counts, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Count(sum(count.replies for count in counts), elapsed_s=clock.monotonic_s() - begin_s)

    def _keep(self, channel: Any, count: Count, end_s: float) -> None:
        """Run one stream: each answer lets the next request go."""
        allowed: SimpleQueue[bool] = SimpleQueue()
        for _ in range(self._under_way):
            allowed.put(True)

        def requests() -> Iterator[bytes]:
            number = 0
            while allowed.get():
                number = number % LEASES + 1
                yield _message(number)

        stream = channel.stream_stream(_KEEP_ALIVE)(requests(), timeout=end_s - clock.monotonic_s() + CALL_S_MAX)
        for _ in stream:
            count.replies += 1
            if clock.monotonic_s() >= end_s:
                break
            allowed.put(True)
        allowed.put(False)
        stream.cancel()

    def close(self) -> None:
        """Let go of the connections."""
        for channel in self._channels:
            channel.close()


def _message(value: int, field: int = 1) -> bytes:
    """Write a protobuf message with one positive number in it."""
    written = bytearray([field << 3])
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
