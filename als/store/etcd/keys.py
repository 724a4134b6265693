"""Where a row of ALS stands in etcd: a prefix, the table's number in a byte, the row's own key.

The prefix lets several systems share one etcd; its number is the layout's version. The byte keeps a table's rows
together and in the order of their keys.
"""

from als.store.transaction import Table

PREFIX_DEFAULT = b"als/1/"


class Keys:
    """The names of rows under one prefix: `heads[table] + key`; a table's rows lie before `stops[table]`.

    `name[table_at]` is the number of the table that a name is in.
    """

    def __init__(self, prefix: bytes = PREFIX_DEFAULT) -> None:
        assert prefix
        self.prefix = prefix
        self.heads = [prefix + bytes((table,)) for table in Table]
        self.stops = [prefix + bytes((table + 1,)) for table in Table]
        self.table_at = len(prefix)

    def name(self, table: Table, key: bytes) -> bytes:
        """Give a row's name in etcd."""
        return self.heads[table] + key

    def key_of(self, name: bytes) -> bytes:
        """Give the row's own key."""
        return name[self.table_at + 1 :]

    def bounds(self, table: Table, start: bytes, stop: bytes | None) -> tuple[bytes, bytes]:
        """Give a table's range of keys as names; the second is behind the last."""
        head = self.heads[table]
        return head + start, self.stops[table] if stop is None else head + stop
