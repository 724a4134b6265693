"""Which rows a request is going to look at, for stores in which every look that is not known costs a round trip.

Only a guess: a row that is missing here is read when it is needed, one too many is read in vain. Changes no rule.
"""

from collections.abc import Callable, Iterable, Iterator

from als.catalog import Catalog
from als.ledger.computers import split_owner
from als.ledger.quick.usual import Usual, front_mac
from als.protocol import Request
from als.records import Lease, computer_key, due_key, end_key, lease_key, serial_key, split_due_key
from als.store.transaction import Rows, Table

Row = tuple[Table, bytes]
Peek = Callable[[Table, bytes], bytes | None]


def addresses_of_renewal(usual: Usual) -> Iterator[Row]:
    """Give the address by which a usual renewal's computer is found."""
    mac = front_mac(usual.computer)
    if mac is not None:
        yield Table.ADDRESSES, mac


def lease_of_renewal(catalog: Catalog, usual: Usual, peek: Peek) -> Iterator[Row]:
    """Give the lease of a usual renewal, when its address is known by now."""
    product = catalog.by_code.get(usual.product)
    mac = front_mac(usual.computer)
    raw = peek(Table.ADDRESSES, mac) if mac is not None else None
    if product is not None and raw is not None:
        yield Table.LEASES, lease_key(product.number, split_owner(raw)[0])


def addresses(request: Request) -> Iterator[Row]:
    """Give the addresses that a request names."""
    computer = request.get("computer")
    if computer is not None:
        for mac in computer["macs"]:
            yield Table.ADDRESSES, mac
    elif request["op"] == "revoke":
        yield Table.ADDRESSES, request["mac"]


def records(catalog: Catalog, request: Request, peek: Peek) -> Iterator[Row]:
    """Give the computers that own a request's addresses, and their leases."""
    product = catalog.by_code.get(request.get("product") or "")
    for table, mac in addresses(request):
        raw = peek(table, mac)
        if raw is not None:
            owner = split_owner(raw)[0]
            yield Table.COMPUTERS, computer_key(owner)
            if product is not None:
                yield Table.LEASES, lease_key(product.number, owner)


def sweep(known: Iterable[int], now: int) -> Iterator[tuple[Table, bytes, bytes]]:
    """Give the ranges that a sweep over these products looks at: what is due, and serials that end."""
    yield Table.DUE, b"", due_key(0, now + 1, 0)
    for product in known:
        yield Table.DUE, due_key(product, 0, 0), due_key(product, now + 1, 0)
        yield Table.ENDS, end_key(product, 0, 0), end_key(product, now + 1, 0)


def due(rows: Rows) -> Iterator[Row]:
    """Give the records that due entries lead to."""
    for key, _ in rows:
        product, _, computer = split_due_key(key)
        yield Table.COMPUTERS, computer_key(computer)
        if product:
            yield Table.LEASES, lease_key(product, computer)


def serials_due(rows: Rows, read: Peek) -> Iterator[Row]:
    """Give the serials of the leases that due entries lead to; `read` gives a lease's row."""
    for key, _ in rows:
        product, _, computer = split_due_key(key)
        raw = read(Table.LEASES, lease_key(product, computer)) if product else None
        if raw is not None:
            number = Lease.unpack(raw).serial
            yield Table.SERIALS, serial_key(number)
            yield Table.SEATS, serial_key(number)
