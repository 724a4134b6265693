"""Computers that acquire, renew and release at the servers of a cluster, and remember every answer.

Each is its own client with its own key, has one request under way, and turns to the next server as agents do: when one
is silent, or unavailable. What has no answer is asked again until it has one.
"""

import random
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import zmq

from als.clock import monotonic_s
from cluster_history import COMPONENT, Deed
from contract_client import Client, Keys, checked_reply, new_keys

NEXT_SERVER_S = 1.0  # as agents do it
LAST_SERVER_S = 5.0  # for the last server of a round
THINK_S_MAX = 0.08
POLL_MS = 3
END_S_MAX = 12.0
WAIT_S_MAX = 60.0


class Place(NamedTuple):
    """Where a server is."""

    host: str
    port: int
    key: bytes


class Pool(NamedTuple):
    """A product, and whether its licenses lapse within seconds."""

    code: str
    number: int
    lapses: bool


class Worker:
    """One computer and one product; `deeds` are all its requests, in their order."""

    def __init__(self, places: Sequence[Place], pool: Pool, computer: dict[str, Any], source: random.Random) -> None:
        self.pool = pool
        self.deeds: list[Deed] = []
        self.due_s: float | None = 0.0  # when to ask next; None: an answer is awaited
        self.client: Client
        self._places = places
        self._at = source.randrange(len(places))
        self._computer = computer
        self._source = source
        self._keys: Keys = new_keys()
        self._operation = "acquire"
        self._holds = False
        self._silent = 0  # servers of this round that were silent or unavailable
        self._sent_s = self._give_up_s = 0.0
        self._connect()

    def _connect(self) -> None:
        place = self._places[self._at]
        self.client = Client(place.port, place.key, self._keys, host=place.host)

    def ask(self, now_s: float) -> None:
        """Send the next request, or the same again when nobody knows what became of it."""
        self._sent_s, self.due_s = now_s, None
        is_last = self._silent >= len(self._places) - 1
        self._give_up_s = now_s + (LAST_SERVER_S if is_last else NEXT_SERVER_S)
        asked = {"product": self.pool.code, "component": COMPONENT, "computer": self._computer}
        self.client.send(self._operation, **asked)

    def take(self, frame: bytes, now_s: float) -> None:
        """Take an answer."""
        reply = checked_reply(frame)
        self._note(reply, now_s)
        if reply.get("code") == "unavailable":
            self._turn_away(now_s, float(reply["detail"]["retry_after_s"]))
            return
        self._silent = 0
        if reply["ok"]:
            self._holds = self._operation != "release"
        else:
            assert reply["code"] == "no_free_license", reply
            self._holds = False
        self._operation = self._choose()
        self.due_s = now_s + self._source.uniform(0, THINK_S_MAX)

    def look_at_time(self, now_s: float) -> bool:
        """Give up an answer that takes too long; True when the connection is another one now."""
        if self.due_s is not None or now_s < self._give_up_s:
            return False
        self._note(None, now_s)
        self._turn_away(now_s, 0.0)
        return True

    def _note(self, reply: dict[str, Any] | None, now_s: float) -> None:
        mac = self._computer["macs"][0]
        deed = Deed(self.pool.number, mac, self._keys.raw, self._operation, self._at, self._sent_s, now_s, reply)
        self.deeds.append(deed)

    def _turn_away(self, now_s: float, retry_after_s: float) -> None:
        """Go to the next server, at once while there is one that was not asked in this round."""
        self._silent += 1
        self.client.close()
        self._at = (self._at + 1) % len(self._places)
        self._connect()
        self.due_s = now_s
        if self._silent >= len(self._places):
            self._silent = 0
            self.due_s += retry_after_s

    def _choose(self) -> str:
        if not self._holds:
            return "acquire"
        if self.pool.lapses:
            return self._source.choice(("renew", "acquire"))
        return self._source.choices(("renew", "release", "acquire"), (6, 3, 1))[0]


class Load:
    """All computers, in a thread of their own; a context manager that lets them work until its end."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self._ending = threading.Event()
        self._broken = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load")

    @property
    def deeds(self) -> list[Deed]:
        """All deeds, in the order in which they ended."""
        return sorted((deed for worker in self.workers for deed in worker.deeds), key=lambda deed: deed.ended_s)

    def go_on(self, seconds: float) -> None:
        """Let them work for so long."""
        self._broken.wait(seconds)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise AssertionError("the load broke down") from self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._broken.set()
            for worker in self.workers:
                worker.client.close()

    def _work(self) -> None:
        by_socket = {worker.client.socket: worker for worker in self.workers}
        poller = zmq.Poller()
        for socket in by_socket:
            poller.register(socket, zmq.POLLIN)
        end_s: float | None = None
        while True:
            now_s = monotonic_s()
            if self._ending.is_set() and end_s is None:
                end_s = now_s + END_S_MAX
            for worker in self.workers:
                socket = worker.client.socket
                if worker.due_s is not None and worker.due_s <= now_s and end_s is None:
                    worker.ask(now_s)
                else:
                    worker.look_at_time(now_s)
                self._follow(poller, by_socket, socket, worker)
            if end_s is not None and (now_s > end_s or all(worker.due_s is not None for worker in self.workers)):
                return
            for socket, _ in poller.poll(POLL_MS):
                worker = by_socket[socket]
                worker.take(socket.recv(), monotonic_s())
                self._follow(poller, by_socket, socket, worker)

    @staticmethod
    def _follow(poller: zmq.Poller, by_socket: dict[Any, Worker], socket: Any, worker: Worker) -> None:
        """Hear a worker on its new connection, if it has one."""
        if worker.client.socket is not socket:
            poller.unregister(socket)
            del by_socket[socket]
            by_socket[worker.client.socket] = worker
            poller.register(worker.client.socket, zmq.POLLIN)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def end(self) -> None:
        """Let them bring what is under way to an end."""
        self._ending.set()
        self._thread.join(WAIT_S_MAX)
        assert not self._thread.is_alive()
        self._raise()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(WAIT_S_MAX)
