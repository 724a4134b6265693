"""The commands that list: the manual's two views, the log and the history."""

from typing import Annotated, Any

import typer

from als import clock
from als_tools import arguments, choices, columns, connection, formats, rows
from als_tools.columns import Listing, Row
from als_tools.failures import Exit, Failure
from als_tools.options import Access, Form, Selection, ServerArgument
from als_tools.output import Output, say
from als_tools.rows import Test

USAGE_SINCE_DEFAULT = "7d"

ProductOption = Annotated[
    str | None, typer.Option("--product", metavar="CODE", help="Only this product.", show_default="all")
]
SerialOption = Annotated[
    str | None,
    typer.Option("--serial", metavar="ID", help="Only serials whose id begins so.", show_default="all"),
]
HostOption = Annotated[
    str | None,
    typer.Option("--host", metavar="NAME", help="Only this host; * and ? stand for anything.", show_default="all"),
]


def _print(output: Output, listing: Listing, found: Any, selection: Selection, empty: str, is_filtered: bool) -> None:
    """Write arranged rows; where there are none, a sentence that says what to do next."""
    try:
        listing.choose(selection.columns)  # before anything is fetched
        arranged = rows.arranged(found, listing, selection.sort, selection.reverse, selection.limit)
    except columns.UnknownColumnError as error:
        raise Failure(Exit.WRONG_USAGE, str(error)) from None
    if not output.rows(listing, arranged, selection.columns, tail={"next": None}):
        say("Nothing matches; leave out some of the filters to see more." if is_filtered else empty)


def licenses(
    access: Access,
    form: Form,
    selection: Selection,
    server: ServerArgument = None,
    product: ProductOption = None,
    serial: SerialOption = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="valid, expired or removing.", show_default="all"),
    ] = None,
) -> None:
    """List the available licenses: every serial with its dates and its seats, free and used."""
    output = form.output()
    tests = (
        rows.matches("state", choices.check(state, choices.LICENSE_STATES, "the state")),
        rows.begins("serial_id", serial),
    )
    with connection.connect(server, access) as link:
        found = rows.filtered(rows.all_rows(link.ask, "licenses", product=product), *tests)
        empty = f"No serials yet. Import some: als import-file {link.name} FILE"
        _print(output, columns.LICENSES, found, selection, empty, any((product, serial, state)))


def used(
    access: Access,
    form: Form,
    selection: Selection,
    server: ServerArgument = None,
    product: ProductOption = None,
    host: HostOption = None,
    serial: SerialOption = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="active, lapsed or expired.", show_default="all"),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="server or workstation.", show_default="all"),
    ] = None,
    mac: Annotated[
        str | None,
        typer.Option("--mac", metavar="MAC", help="Only the computer with this address.", show_default="all"),
    ] = None,
) -> None:
    """List the used licenses: which computer holds a seat of what, since when and until when."""
    output = form.output()
    choices.check(state, choices.LEASE_STATES, "the state")
    address = None if mac is None else arguments.read_mac(mac)
    tests: tuple[Test | None, ...] = (
        rows.matches("host", host) if rows.is_pattern(host) else None,
        rows.begins("serial_id", serial),
        rows.matches("kind", choices.check(kind, choices.COMPUTER_KINDS, "the kind")),
        None if address is None else lambda row: row["mac"] == address,
    )
    wanted = {"product": product, "state": state, "host": None if rows.is_pattern(host) else host}
    with connection.connect(server, access) as link:
        found = rows.filtered(rows.all_rows(link.ask, "leases", **wanted), *tests)
        empty = "No license is in use yet: a computer takes one when a licensed program first runs on it."
        is_filtered = any((product, host, serial, state, kind, mac))
        _print(output, columns.USED, found, selection, empty, is_filtered)


def events(
    access: Access,
    form: Form,
    selection: Selection,
    server: ServerArgument = None,
    product: ProductOption = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind, such as denied or imported.", show_default="all"),
    ] = None,
    host: HostOption = None,
    serial: SerialOption = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="NAME", help="Only what this administrator did.", show_default="all"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From a date (2026-01-05T14:00) or an age (2d, 12h).", show_default="all"),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option("--last", metavar="N", min=1, max=100_000, help="The newest N.", show_default="all"),
    ] = None,
) -> None:
    """Show the log: everything that happened, the oldest first."""
    output = form.output()
    choices.check(kind, choices.EVENT_KINDS, "the kind")
    begin = None if since is None else arguments.read_time(since, output.zone)
    tests: tuple[Test | None, ...] = (
        rows.matches("host", host),
        rows.begins("serial_id", serial),
        rows.matches("actor", by),
        None if begin is None else lambda row: row["time"] >= begin,
    )
    with connection.connect(server, access) as link:
        found = rows.filtered(rows.all_rows(link.ask, "events", product=product, kind=kind), *tests)
        is_filtered = any((product, kind, host, serial, by, since))
        _print(output, columns.EVENTS, rows.last(found, last), selection, "The log is empty.", is_filtered)


def usage(
    access: Access,
    form: Form,
    selection: Selection,
    server: ServerArgument = None,
    product: Annotated[
        str | None,
        typer.Option("--product", metavar="CODE", help="The product.", show_default="the one that has serials"),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From a date (2026-01-05T14:00) or an age (7d, 12h).")
    ] = USAGE_SINCE_DEFAULT,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to a date or an age.", show_default="now")
    ] = None,
) -> None:
    """Show the history of a product: for each hour the most seats used, grants, denials and lapses."""
    output = form.output()
    begin = arguments.read_time(since, output.zone)
    end = clock.wall_s() + formats.DAY_S if until is None else arguments.read_time(until, output.zone)
    with connection.connect(server, access) as link:
        code = product or _only_product(link.ask("status")["pools"])
        found = rows.all_rows(link.ask, "usage", product=code, since=begin, until=end)
        empty = f"Nothing happened with {code} from {output.zone.minute(begin)} on; try an earlier --since."
        _print(output, columns.USAGE, found, selection, empty, is_filtered=False)


def _only_product(pools: list[Row]) -> str:
    """Give the one product that is in use. Raises Failure, naming those that there are, when it is not one."""
    known = [str(pool["product"]) for pool in pools]
    busy = [str(pool["product"]) for pool in pools if pool["total"] or pool["used"] or pool["lapsed"]]
    if len(busy) == 1:
        return busy[0]
    if not known:
        raise Failure(Exit.REFUSED, "there are no serials yet, so nothing was used: als import-file SERVER FILE")
    raise Failure(Exit.WRONG_USAGE, f"say which product: --product {' or '.join(busy or known)}")
