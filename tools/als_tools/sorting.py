"""Rows in the order of any column, however many there are: what memory should not hold waits in temporary files.

A sort needs all rows before it can give the first. Up to ROWS_IN_MEMORY_MAX are sorted at once; more are sorted in runs
of that many, each run in a file of its own, and the runs are merged while they are read.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO, Any

import msgpack

from als_tools.columns import Row, SortKey

ROWS_IN_MEMORY_MAX = 20_000  # about 20 MB of leases; five runs for 100,000 rows
READ_BYTES = 65_536  # from each run; the library's own megabyte would add up

Order = Callable[[Row], SortKey]


def in_order(rows: Iterable[Row], order: Order, reverse: bool = False) -> Iterator[Row]:
    """Give `rows` sorted by `order`; rows that compare equal keep their order. The files go when the iterator ends."""
    source = iter(rows)
    with ExitStack() as files:
        runs: list[IO[bytes]] = []
        while True:
            run = sorted(islice(source, ROWS_IN_MEMORY_MAX), key=order, reverse=reverse)
            if len(run) < ROWS_IN_MEMORY_MAX:
                break
            runs.append(_spill(run, files))
        yield from heapq.merge(*map(_read, runs), run, key=order, reverse=reverse)


def _spill(run: Iterable[Row], files: ExitStack) -> IO[bytes]:
    """Put a sorted run into a temporary file and give it, set to its beginning."""
    file = files.enter_context(tempfile.TemporaryFile(prefix="als-sort-"))  # noqa: SIM115 - it is one
    for row in run:
        file.write(msgpack.packb(dict(row)))
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    unpacker: Iterable[dict[str, Any]] = msgpack.Unpacker(file, read_size=READ_BYTES, strict_map_key=False)
    yield from unpacker


def turned_round(rows: Iterable[Row]) -> Iterator[Row]:
    """Give rows in the opposite of the order in which they come."""
    numbered = ({"at": at, "row": row} for at, row in enumerate(rows))
    return (item["row"] for item in in_order(numbered, lambda item: (0, item["at"]), reverse=True))
