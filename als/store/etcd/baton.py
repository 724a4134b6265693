"""Whose turn it is, among servers that change the same numbers: a row that is there while one of them writes.

Two large messages on the same numbers can't both be right, and the second costs etcd as much as the first, in vain. So
who expects rivals takes the baton before he sends. It is advice alone: nothing is wrong without it, and who holds it
for too long is passed over.
"""

from collections.abc import Callable, Sequence

from als import clock
from als.store.etcd.keys import Keys
from als.store.etcd.ops import Op, TxnResult, delete, get, is_absent, put
from als.store.etcd.reading import Client
from als.store.transaction import Table

KEY = b"baton"  # in META
WAIT_S = 0.15  # several large messages
LOOK_EVERY_S = 0.003


class Baton:
    """One server's view of it."""

    def __init__(self, client: Client, keys: Keys, pause: Callable[[float], None] = clock.pause) -> None:
        self._client = client
        self._name = keys.name(Table.META, KEY)
        self._pause = pause
        self._is_held = False

    def take(self, names: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Wait for the baton and take it; give the rows of these names as they are then. Raises EtcdError."""
        end_s = clock.monotonic_s() + WAIT_S
        looks = [get(name) for name in names]
        taking = [put(self._name, b""), *looks]
        while True:
            is_late = clock.monotonic_s() > end_s
            result = self._client.txn([] if is_late else [is_absent(self._name)], taking, [])
            if result.succeeded:
                self._is_held = True
                return _rows(names, result)
            while self._client.range(self._name).rows and clock.monotonic_s() <= end_s:
                self._pause(LOOK_EVERY_S)

    def giving_back(self) -> list[Op]:
        """Give what gives it back, for the message that it was taken for, again each time that it is sent."""
        return [delete(self._name)] if self._is_held else []

    def given_back(self) -> None:
        """The message was written."""
        self._is_held = False


def _rows(names: Sequence[bytes], result: TxnResult) -> dict[bytes, bytes | None]:
    rows: dict[bytes, bytes | None] = {}
    for name, found in zip(names, result.responses[1:], strict=True):
        assert isinstance(found, list)
        rows[name] = found[0].value if found else None
    return rows
