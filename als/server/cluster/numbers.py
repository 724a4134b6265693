"""Which of the 1,024 server numbers a starting server takes, and how nobody takes one that is in use.

A number's row in the store belongs to whoever wrote it last (als/store/etcd/fence.py). Free is a number without a row,
one whose server has stopped in order, and one whose server has been silent for GIVEN_UP_S and stays so while we watch.
The number of this data folder's own last run is free as well: we hold the folder's lock, so that run is over.
"""

import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from als import files
from als.server.cluster.peers import CARDS, SERVERS_MAX, TICK_S, Card
from als.store.etcd.fence import INSTANCE_BYTES, Fence, FencedError, ServerRow, claim, read_servers
from als.store.etcd.keys import Keys
from als.store.etcd.ops import KeyValue
from als.store.etcd.reading import Client
from als.store.transaction import StoreError, Table

GIVEN_UP_S = 60
WATCHED_S = 2.5 * TICK_S
TRIES_MAX = 20


class Taken(NamedTuple):
    """A number, and the row that guards it."""

    number: int
    fence: Fence


def read_cards(client: Client, keys: Keys) -> dict[int, Card]:
    """Read the cards of all servers, by number. Raises EtcdError."""
    start = keys.name(Table.META, CARDS)
    found = client.range(start, keys.name(Table.META, CARDS[:-1] + bytes((CARDS[-1] + 1,))))
    return {int(row.key[len(start) :]): Card.unpack(row.value) for row in found.rows}


def take(client: Client, keys: Keys, memory: Path, wall_s: float, pause: Callable[[float], None]) -> Taken:
    """Take a number. `memory` is the file of this data folder that tells its last run's instance.

    Raises StoreError, EtcdError.
    """
    for _ in range(TRIES_MAX):
        rows = read_servers(client, keys)
        number = _choose(rows, read_cards(client, keys), _remembered(memory), wall_s)
        if number is None:
            raise StoreError(f"all {SERVERS_MAX:,} server numbers of the cluster are in use")
        row, instance = rows.get(number), secrets.token_bytes(INSTANCE_BYTES)
        if row is not None and not _is_over(client, keys, number, row, _remembered(memory), pause):
            continue
        try:
            fence = claim(client, keys, number, instance, over=row.value if row is not None else None)
        except FencedError:
            continue
        _remember(memory, instance)
        return Taken(number, fence)
    raise StoreError("no server number could be taken: too many servers start at once; try again")


def running_server(client: Client, keys: Keys, pause: Callable[[float], None]) -> str | None:
    """Name a server that runs, None when there is none: its row in etcd changes every few seconds. Raises EtcdError."""
    cards = read_cards(client, keys)
    rows = read_servers(client, keys)
    if all(number in cards and cards[number].stopped for number in rows):
        return None
    pause(WATCHED_S)
    for number, row in read_servers(client, keys).items():
        if number not in rows or rows[number].value != row.value:
            return f"server {number}" + (f" ({cards[number].address})" if number in cards else "")
    return None


def _here(memory: Path) -> bytes:
    """Say where this is, so that a folder that was copied to another machine or place takes nobody's number."""
    return f"{socket.gethostname()}\0{memory.resolve()}".encode()


def _remember(memory: Path, instance: bytes) -> None:
    try:
        files.write_atomically(memory, instance + _here(memory))
    except OSError as error:
        raise StoreError(f"{memory} cannot be written: {error.strerror or error}") from None


def _remembered(memory: Path) -> bytes:
    """Give the last run's instance; empty when there was none here."""
    try:
        written = memory.read_bytes()
    except OSError:
        return b""
    instance, where = written[:INSTANCE_BYTES], written[INSTANCE_BYTES:]
    return instance if where == _here(memory) else b""


def _choose(rows: Mapping[int, KeyValue], cards: Mapping[int, Card], own: bytes, wall_s: float) -> int | None:
    """Give our last number, else the lowest that looks free."""
    for number, row in rows.items():
        if own and ServerRow.unpack(row.value).instance == own:
            return number
    for number in range(SERVERS_MAX):
        if number not in rows:
            return number
        card = cards.get(number)
        if card is None or card.stopped or card.wall_s < wall_s - GIVEN_UP_S:
            return number
    return None


def _is_over(
    client: Client, keys: Keys, number: int, row: KeyValue, own: bytes, pause: Callable[[float], None]
) -> bool:
    """Say whether nobody writes a row any more; a clock alone is no proof, so this may watch for a while."""
    if own and ServerRow.unpack(row.value).instance == own:
        return True
    card = read_cards(client, keys).get(number)
    if card is None or not card.stopped:
        pause(WATCHED_S)
    now = read_servers(client, keys).get(number)
    return now is not None and now.value == row.value
