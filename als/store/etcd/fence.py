"""A server's row in etcd: only who wrote it last may write anything at all.

Every message of a server compares its row with what it wrote there last, and writes it anew with the next number. So a
server whose number another has taken can write no more, and whether a message was applied is seen in the row.
"""

from typing import Any, NamedTuple

import msgpack

from als.store.etcd.errors import EtcdUnavailableError
from als.store.etcd.keys import Keys
from als.store.etcd.ops import KeyValue, get, is_absent, put, value_is
from als.store.etcd.reading import Client
from als.store.transaction import StoreError, Table

INSTANCE_BYTES = 16
FENCED = "another server has taken this server's number, or its rows were removed: this one must end"
TRIES_MAX = 5  # to take a row while etcd is uncertain


class FencedError(StoreError):
    """Another server took this server's number: it must end."""


class ServerRow(NamedTuple):
    """What stands in a server's row.

    `instance` is random for each run, `counter` grows with each message, `note` is what the server tells of itself.
    `is_void`: the message only made sure that no earlier one comes late.
    """

    instance: bytes
    counter: int
    is_void: bool
    note: Any

    def pack(self) -> bytes:
        """Write as a msgpack array."""
        packed: bytes = msgpack.packb(tuple(self))
        return packed

    @classmethod
    def unpack(cls, raw: bytes) -> "ServerRow":
        """Read what `pack` wrote."""
        return cls(*msgpack.unpackb(raw))


def row_key(server: int) -> bytes:
    """Give the key in META of a server's row."""
    return b"server/%d" % server


def read_servers(client: Client, keys: Keys) -> dict[int, KeyValue]:
    """Read the rows of all servers that there were, by their numbers."""
    start = keys.name(Table.META, b"server/")
    found = client.range(start, keys.name(Table.META, b"server0"))  # the byte after "/"
    return {int(row.key[len(start) :]): row for row in found.rows}


class Fence:
    """The row of this server. `value` is what was last written, `note` goes into it with the next message.

    `joint_name` is a row that is put anew with every joint part that is written: its revision tells.
    """

    def __init__(self, keys: Keys, server: int, value: bytes) -> None:
        self.number = server
        self.name = keys.name(Table.META, row_key(server))
        self.joint_name = keys.name(Table.META, b"joint/%d" % server)
        self.value = value
        self._row = ServerRow.unpack(value)
        self.note = self._row.note

    def next_value(self, *, is_void: bool = False) -> bytes:
        """Give what the next message writes."""
        row = self._row
        return ServerRow(row.instance, row.counter + 1, is_void, self.note).pack()

    def move_on(self, value: bytes) -> None:
        """Take over what was written."""
        self.value = value
        self._row = ServerRow.unpack(value)

    def settle(self, client: Client, written: bytes, *, may_come_late: bool) -> KeyValue | None:
        """Find out what became of a message that puts `written` into the row, and whose answer is missing.

        Gives the row when it was applied, None when it was not and never will be; for that the row is changed, unless
        the message cannot come late. Raises FencedError, EtcdError (nothing is settled).
        """
        void = self.next_value(is_void=True)
        while True:
            rows = client.range(self.name).rows
            value = rows[0].value if rows else b""
            if value == written:
                self.move_on(value)
                return rows[0]
            if value == self.value and may_come_late:
                if not client.txn([value_is(self.name, value)], [put(self.name, void)], [get(self.name)]).succeeded:
                    continue  # the late one came, or another server
                value = void
            if value == void:
                self.move_on(void)
            elif value != self.value:
                raise FencedError(FENCED)
            return None


def claim(
    client: Client, keys: Keys, server: int, instance: bytes, *, over: bytes | None = None, note: Any = None
) -> Fence:
    """Take a server number whose row is `over` (None: it has none).

    Raises FencedError when the row is another, EtcdError.
    """
    assert len(instance) == INSTANCE_BYTES
    fence = Fence(keys, server, ServerRow(instance, 0, False, note).pack())
    expected = is_absent(fence.name) if over is None else value_is(fence.name, over)
    tries = 0
    while True:
        try:
            result = client.txn([expected], [put(fence.name, fence.value)], [get(fence.name)])
        except EtcdUnavailableError:
            tries += 1
            if tries == TRIES_MAX:
                raise
            continue  # asking again is safe: a try that came through after all is known by its instance
        rows = result.responses[0]
        if result.succeeded or (isinstance(rows, list) and [row.value for row in rows] == [fence.value]):
            return fence
        raise FencedError(f"another server has taken the number {server}")
