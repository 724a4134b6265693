"""Requests that have come and wait their turn: bounded, and fair between senders.

As long as a turn takes all that has come, nothing is kept here. When more comes than can be served, each sender has a
queue of its own and they are served in rounds, so that who floods waits behind himself alone.
"""

from collections import deque

from als.protocol import PIPELINE_REQUESTS_MAX
from als.server.letters import Letter

WAITING_MAX = 50_000  # about a second's work; what is beyond waits in its sender's socket
WAITING_BYTES_MAX = 64 << 20
PER_SENDER_MAX = PIPELINE_REQUESTS_MAX  # nobody may have more under way


class Backlog:
    """The queues of all senders."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Letter]] = {}
        self._round: deque[bytes] = deque()
        self._waiting = 0
        self._waiting_bytes = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Say whether no more should be taken from the sockets."""
        return self._waiting >= WAITING_MAX or self._waiting_bytes >= WAITING_BYTES_MAX

    def add(self, letter: Letter) -> bool:
        """Let a request wait; False when its sender has too many waiting already."""
        queue = self._queues.get(letter.sender)
        if queue is None:
            queue = self._queues[letter.sender] = deque()
            self._round.append(letter.sender)
        elif len(queue) >= PER_SENDER_MAX:
            return False
        queue.append(letter)
        self._waiting += 1
        self._waiting_bytes += len(letter.body)
        return True

    def put_back(self, letters: list[Letter]) -> None:
        """Let requests wait that were taken and not served, before all others of their senders."""
        for letter in reversed(letters):
            queue = self._queues.get(letter.sender)
            if queue is None:
                queue = self._queues[letter.sender] = deque()
                self._round.appendleft(letter.sender)
            queue.appendleft(letter)
            self._waiting += 1
            self._waiting_bytes += len(letter.body)

    def take(self, most: int) -> list[Letter]:
        """Give at most `most` requests, one of each sender in turn, each sender's in their order."""
        taken: list[Letter] = []
        while self._round and len(taken) < most:
            sender = self._round.popleft()
            queue = self._queues[sender]
            letter = queue.popleft()
            taken.append(letter)
            self._waiting -= 1
            self._waiting_bytes -= len(letter.body)
            if queue:
                self._round.append(sender)
            else:
                del self._queues[sender]
        return taken
