"""The speed of light of each stage of a request, one at a time and in this process, so that a microsecond has a place.

Stages call the server's own functions: decode, ledger, commit, encode, the sockets' recv and send. What a request takes
in a running server beyond their sum is waiting, and the two processes' struggle for the cores.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import zmq
import zmq.backend

from als import clock, keyfile, protocol
from als.ledger import Sender
from als.ledger.quick import renewing, usual
from als.server import access
from als.server.core import Core
from als.server.letters import Letter
from als.store.lmdb.store import LmdbStore
from als.store.memory import MemoryStore
from als.store.transaction import Store
from als_bench import report
from als_bench.closed_loop import no_collection
from als_bench.connections import bare
from als_bench.processes import BenchError
from als_bench.report import Results
from als_bench.stage import SEATS_PER_SERIAL
from als_bench.stock import Stock, Vendor
from als_bench.workload import ACQUIRE, Fleet

BATCH = 1_000  # what a busy server finds in a turn
COMMIT_BATCHES = (1, 10, 100, 1_000, 10_000)
TURN_BATCHES = (1, 10, 100, 1_000)
SOCKET_BATCH = 64  # below the ROUTER's high-water mark
ARRIVAL_S = 0.003  # for a batch to come through loopback into the ROUTER's queue
HANDSHAKE_S_MAX = 10.0
REPEATS_MAX = 2_000
_SALT_HELD, _SALT_NEW, _SALT_NEWEST = 3, 4, 5
_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Scale:
    """How long each stage is repeated, over how many leases, and the seed of their order."""

    duration_s: float = 0.5
    leases: int = 20_000
    seed: int = 1


class Stages:
    """Gathers the stages' figures, in the order of a request's way."""

    def __init__(self, scale: Scale) -> None:
        self.rows: list[Results] = []
        self._scale = scale

    def add(self, stage: str, batch: int, once: Callable[[], float]) -> None:
        """Repeat `once`, which gives the seconds that a batch took, and keep median and best a request."""
        report.tell(f"{stage} by {batch}")
        once()
        took: list[float] = []
        end_s = clock.monotonic_s() + self._scale.duration_s
        while not took or (clock.monotonic_s() < end_s and len(took) < REPEATS_MAX):
            took.append(once())
        self.rows.append(
            {
                "stage": stage,
                "batch": batch,
                "us_per_request": round(statistics.median(took) / batch * 1e6, 3),
                "best_us_per_request": round(min(took) / batch * 1e6, 3),
                "batch_ms": round(statistics.median(took) * 1e3, 4),
                "repeats": len(took),
            }
        )


class Office:
    """A ledger over one store with leases that a fleet holds."""

    def __init__(self, store: Store, scale: Scale, key: bytes) -> None:
        self.store = store
        self.fleet = Fleet(salt=_SALT_HELD)
        self.key = key
        self.sender = Sender(key, _ADDRESS)
        self.now = clock.wall_s()
        vendor = Vendor()
        self.stock = Stock(store, vendor)
        self.stock.import_serials(vendor.issue(SEATS_PER_SERIAL, 2), self.now)
        self.stock.acquire(self.fleet, range(scale.leases), [key], self.now)
        numbers = list(range(scale.leases))
        random.Random(scale.seed).shuffle(numbers)
        self.frames = [self.fleet.request("renew", number) for number in numbers]
        self.renewals = [read for frame in self.frames if (read := usual.read(frame)) is not None]
        self._place = 0
        self._new = 0

    def next_of(self, items: Sequence[Any], count: int) -> Sequence[Any]:
        """Give the next `count` of the fleet's items, round and round in random order of computers."""
        if self._place + count > len(items):
            self._place = 0
        self._place += count
        return items[self._place - count : self._place]

    def new_computers(self, count: int) -> list[bytes]:
        """Give acquires of computers that hold nothing yet."""
        self._new += count
        fleet = Fleet(salt=_SALT_NEW)
        return [fleet.request("acquire", number) for number in range(self._new - count, self._new)]

    def renew(self, renewals: Sequence[usual.Usual]) -> tuple[float, float]:
        """Renew a batch in one transaction; give the seconds of renewing and of the commit. Raises BenchError."""
        before_s = clock.monotonic_s()
        tx = self.store.begin()
        renew, key = renewing.in_transaction(tx, self.stock.ledger.catalog, self.now), self.key
        for renewal in renewals:
            answer = renew(renewal, key)
        applied_s = clock.monotonic_s()
        self.store.submit(tx)
        if answer is None:
            raise BenchError("the ledger did not take a usual renewal quickly")
        return applied_s - before_s, clock.monotonic_s() - applied_s

    def acquire(self, frames: Sequence[bytes]) -> tuple[float, float]:
        """Do `renew`'s work for acquires; the first works off what is due, so others are usual. Raises BenchError."""
        ledger, key, address = self.stock.ledger, self.key, self.sender.address
        requests = [read for frame in frames[1:] if (read := usual.read(frame)) is not None]
        before_s = clock.monotonic_s()
        tx = self.store.begin()
        ledger.apply(tx, protocol.decode(frames[0]), self.sender, self.now)
        acquire = ledger.acquiring(tx, self.now)
        for request in requests:
            answer = acquire(request, key, address)
        applied_s = clock.monotonic_s()
        self.store.submit(tx)
        if answer is None:
            raise BenchError("the ledger did not take a usual acquire quickly")
        return applied_s - before_s, clock.monotonic_s() - applied_s


def run(scale: Scale, folder: Path | None) -> Results:
    """Measure all stages. Raises BenchError."""
    stages = Stages(scale)
    key = keyfile.generate().public
    with tempfile.TemporaryDirectory(prefix="als-bench-", dir=folder) as temporary, no_collection():
        _measure_sockets(stages)
        memory = Office(MemoryStore(), scale, key)
        _measure_codec(stages, memory)
        _measure_ledger(stages, memory, "memory")
        store = LmdbStore(Path(temporary) / "store")
        try:
            disk = Office(store, scale, key)
            _measure_ledger(stages, disk, "lmdb")
            _measure_commits(stages, disk, scale.leases)
            _measure_turns(stages, disk)
        finally:
            store.close()
    return {"stages": stages.rows}


def _measure_codec(stages: Stages, office: Office) -> None:
    frames = office.next_of(office.frames, BATCH)
    stages.add("read a usual renewal", BATCH, lambda: _time(usual.read, frames))
    answer = {"result": "renewed", "renew_by": office.now, "heartbeat_s": 3_600, "lease": None}
    stages.add("decode any request", BATCH, lambda: _time(protocol.decode, frames))
    ids = range(1 << 32, (1 << 32) + BATCH)
    stages.add("encode its reply", BATCH, lambda: _time(lambda it: protocol.encode_reply(it, office.now, answer), ids))


def _measure_ledger(stages: Stages, office: Office, engine: str) -> None:
    renewals = office.renewals
    stages.add(f"ledger renew, {engine}", BATCH, lambda: office.renew(office.next_of(renewals, BATCH))[0])
    stages.add(f"ledger acquire, {engine}", BATCH, lambda: office.acquire(office.new_computers(BATCH))[0])


def _measure_commits(stages: Stages, office: Office, leases: int) -> None:
    """Time the commit alone, after so many renewals of leases that lie all over the table."""
    for batch in COMMIT_BATCHES:
        if batch <= leases:
            stages.add("commit renewals, lmdb", batch, lambda: office.renew(office.next_of(office.renewals, batch))[1])  # noqa: B023
    stages.add("commit acquires, lmdb", BATCH, lambda: office.acquire(office.new_computers(BATCH))[1])


def _measure_turns(stages: Stages, office: Office) -> None:
    """Time the server's whole turn without sockets: decode, ledger, commit, encode."""
    system = clock.SystemClock()
    core = Core(office.store, office.stock.ledger, system.read(), lambda: None)

    def turn(frames: Sequence[bytes]) -> float:
        reading = system.read()
        peer = {b"Peer-Address": _ADDRESS}
        letters = [Letter((b"",), frame, office.key, peer, reading.monotonic_s) for frame in frames]
        before_s = clock.monotonic_s()
        core.turn(letters, reading)
        return clock.monotonic_s() - before_s

    for batch in TURN_BATCHES:
        stages.add("turn of renewals, lmdb", batch, lambda: turn(office.next_of(office.frames, batch)))  # noqa: B023
    new = Fleet(salt=_SALT_NEWEST).forever_new(ACQUIRE, 0, 1)
    stages.add("turn of acquires, lmdb", BATCH, lambda: turn(list(islice(new, BATCH))))


def _time(function: Callable[[Any], Any], items: Sequence[Any]) -> float:
    before_s = clock.monotonic_s()
    for item in items:
        function(item)
    return clock.monotonic_s() - before_s


# Sockets: the server's ROUTER and a DEALER over CURVE on loopback, both in this thread, a batch at a time.


def _measure_sockets(stages: Stages) -> None:
    frame = Fleet().request("renew", 0)
    with _connected() as (router, dealer):

        def arrive() -> None:
            for _ in range(SOCKET_BATCH):
                dealer.send(frame)
            router.poll()
            time.sleep(ARRIVAL_S)

        def timed(receive: Callable[[], Any]) -> float:
            arrive()
            before_s = clock.monotonic_s()
            for _ in range(SOCKET_BATCH):
                receive()
            return clock.monotonic_s() - before_s

        plain = bare(router)
        stages.add("recv_multipart", SOCKET_BATCH, lambda: timed(router.recv_multipart))
        stages.add("recv by frames", SOCKET_BATCH, lambda: timed(lambda: (router.recv(), router.recv())))
        stages.add("recv by frames, bare", SOCKET_BATCH, lambda: timed(lambda: (plain.receive(), plain.receive())))
        stages.add("recv with its sender", SOCKET_BATCH, lambda: timed(lambda: _receive_with_sender(router)))
        _measure_sends(stages, router, dealer, timed)


def _measure_sends(
    stages: Stages,
    router: "zmq.Socket[bytes]",
    dealer: "zmq.Socket[bytes]",
    timed: Callable[[Callable[[], Any]], float],
) -> None:
    reply = protocol.encode_reply(1 << 32, 0, {"result": "renewed", "renew_by": 1, "heartbeat_s": 1, "lease": None})
    peers: list[bytes] = []
    timed(lambda: peers.append(router.recv_multipart()[0]))
    more = int(zmq.SNDMORE | zmq.NOBLOCK)

    def sent(send: Callable[..., Any]) -> float:
        router.poll(0)  # lets libzmq see that the last batch has left the queue
        before_s = clock.monotonic_s()
        for _ in range(SOCKET_BATCH):
            send(peers[0], more)
            send(reply, int(zmq.NOBLOCK))
        took_s = clock.monotonic_s() - before_s
        for _ in range(SOCKET_BATCH):
            dealer.recv()
        return took_s

    stages.add("send two frames", SOCKET_BATCH, lambda: sent(router.send))
    stages.add("send two frames, bare", SOCKET_BATCH, lambda: sent(bare(router).send))


def _receive_with_sender(router: "zmq.Socket[bytes]") -> tuple[bytes, bytes]:
    receive: Any = zmq.backend.Socket.recv
    receive(router)
    frame = receive(router, 0, False)
    return frame.bytes, access.sender_key(frame.get(b"User-Id"))


@contextmanager
def _connected() -> Iterator[tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]]:
    """Give the server's ROUTER and a DEALER that has been let in. Raises BenchError."""
    keys, own = keyfile.generate(), keyfile.generate()
    access.use_lean_frames()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = access.open_zap(context)
    router, port = access.open_router(context, keys, _ADDRESS, 0)
    dealer = context.socket(zmq.DEALER)
    try:
        dealer.linger = 0
        dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.public)
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, own.public)
        dealer.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
        dealer.connect(f"tcp://{_ADDRESS}:{port}")
        dealer.send(b"")
        end_s = clock.monotonic_s() + HANDSHAKE_S_MAX
        while not router.poll(10):
            access.answer_zap(zap)
            if clock.monotonic_s() > end_s:
                raise BenchError("a connection on loopback was not let in")
        router.recv_multipart()
        yield router, dealer
    finally:
        dealer.close(0)
        router.close(0)
        zap.close(0)
        context.term()


def view(results: Results) -> list[str]:
    """Show the results to people."""
    heads = ("stage", "batch", "µs a request", "best", "ms a batch")
    return report.table(
        heads,
        [
            (row["stage"], row["batch"], row["us_per_request"], row["best_us_per_request"], row["batch_ms"])
            for row in results["stages"]
        ],
    )
