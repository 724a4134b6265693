"""Serials as they stand in the store: found by number or by the id that people see."""

from functools import lru_cache

from als import serial
from als.catalog import Catalog
from als.ledger import products
from als.ledger.tally import Tally
from als.records import SerialRecord, serial_key
from als.store.transaction import Table, Transaction, prefix_stop

_TEXTS_CACHED_MAX = 4_096  # a text takes 20 µs to write; the serials in daily use fit


def read(tx: Transaction, number: int) -> SerialRecord | None:
    """Read a serial by its number; None once it is removed for good."""
    memo_key = ("serial", number)
    record: SerialRecord | None = tx.memo.get(memo_key)
    if record is None:
        raw = tx.get(Table.SERIALS, serial_key(number))
        if raw is not None:
            record = tx.memo[memo_key] = SerialRecord.unpack(raw)
    return record


def id_of(tx: Transaction, number: int) -> int | None:
    """Give a serial's id by its number."""
    record = read(tx, number)
    return record.serial_id if record is not None else None


@lru_cache(_TEXTS_CACHED_MAX)
def text(raw: bytes) -> str:
    """Write a serial's full text."""
    return serial.write(raw)


@lru_cache(_TEXTS_CACHED_MAX)
def short_id_of(code: str, serial_id: int) -> str:
    """Write a serial's id with its product's code."""
    return serial.short_id(code, serial_id)


def texts(tx: Transaction, number: int, code: str) -> tuple[str | None, str | None]:
    """Give a serial's full text and its id as people see them, None once it is removed for good."""
    memo_key = ("serial's texts", number)
    written: tuple[str, str] | None = tx.memo.get(memo_key)
    if written is None:
        record = read(tx, number)
        if record is None:
            return None, None
        written = tx.memo[memo_key] = (text(record.raw), short_id_of(code, record.serial_id))
    return written


def short_id(tx: Transaction, catalog: Catalog, product: int, serial_id: int) -> str:
    """Write a serial's id as people see it."""
    return short_id_of(products.name_of(tx, catalog, product)[0], serial_id)


def number_of_identity(tx: Transaction, identity: bytes) -> int | None:
    """Find a serial's number by (id, vendor key)."""
    raw = tx.get(Table.SERIAL_IDS, identity)
    return int.from_bytes(raw, "big") if raw is not None else None


def find(tx: Transaction, catalog: Catalog, text_of_id: str) -> int | None:
    """Find a serial's number by a full short id; None when there is none, or when it says another product."""
    try:
        code, serial_id = serial.parse_short_id(text_of_id)
    except ValueError:
        return None
    prefix = serial_id.to_bytes(8, "big")
    for _, raw in tx.scan(Table.SERIAL_IDS, prefix, prefix_stop(prefix), limit=16):
        number = int.from_bytes(raw, "big")
        record = read(tx, number)
        if record is not None and products.name_of(tx, catalog, record.product)[0] == code:
            return number
    return None


def next_number(tx: Transaction) -> int:
    """The number of the next import; numbers grow, so they order serials by import."""
    last = tx.scan(Table.SERIALS, limit=1, reverse=True)
    return int.from_bytes(last[0][0], "big") + 1 if last else 1


def forget(tx: Transaction, tally: Tally, number: int) -> None:
    """Delete the record of a serial whose leases are all gone."""
    record = read(tx, number)
    assert record is not None
    if number_of_identity(tx, record.identity()) == number:
        tx.delete(Table.SERIAL_IDS, record.identity())
    tx.delete(Table.SERIALS, serial_key(number))
    tx.memo.pop(("serial", number), None)
    tx.memo.pop(("serial's texts", number), None)
    tally.drop_seats(number)
    tally.store().serials -= 1
