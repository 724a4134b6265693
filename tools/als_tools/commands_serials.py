"""The commands that change what the server counts: import serials, revoke a seat, remove a serial."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from als import serial
from als_agents.errors import ClientError, Refused
from als_tools import connection, formats, import_file, output, rows
from als_tools.arguments import read_mac
from als_tools.columns import Column, Listing, Row
from als_tools.connection import Link
from als_tools.failures import Exit, Failure
from als_tools.import_file import Entry, Tally
from als_tools.options import Access, Form, ServerArgument
from als_tools.output import Output, say

PROGRESS_SERIALS_MIN = 1_000  # fewer are done before anybody could read a bar
SERIAL_ARGUMENT_CHARS_MIN = 100  # no host name that anybody types; a serial has 160 symbols
MATCHES_SHOWN_MAX = 5

_IMPORTED = Listing(
    columns=(
        Column("line", "Line", "number"),
        Column("result", "Result"),
        Column("serial_id", "Serial"),
        Column("message", "Message"),
        Column("file", "File"),
    ),
    shown=("line", "result", "serial_id", "message"),
)


def import_serials(
    access: Access,
    form: Form,
    server: ServerArgument = None,
    serials: Annotated[
        list[str] | None, typer.Argument(metavar="SERIAL", help="Serials, with blanks between them.")
    ] = None,
) -> int:
    """Import serials given on the command line."""
    words = _words(server, serials)
    given, wanted = _left_out(words, is_no_server=bool(words) and len(words[0]) >= SERIAL_ARGUMENT_CHARS_MIN)
    if not wanted:
        raise Failure(Exit.WRONG_USAGE, "say which serial: als import SERVER SERIAL [SERIAL ...]")
    return _import(given, access, form.output(), import_file.read_arguments(wanted), several_files=False)


def _words(server: str | None, others: Sequence[str] | None) -> list[str]:
    """Put the arguments together as they were typed."""
    return [] if server is None else [server, *(others or [])]


def _left_out(words: Sequence[str], is_no_server: bool) -> tuple[str | None, list[str]]:
    """Take apart what may begin with a server: when the first word cannot be one, the server was left out."""
    return (None, list(words)) if is_no_server or not words else (words[0], list(words[1:]))


def import_files(
    access: Access,
    form: Form,
    server: ServerArgument = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Text files that hold serials, among whatever else; - is stdin."),
    ] = None,
) -> int:
    """Import all serials of text files."""
    words = _words(server, files)
    given, wanted = _left_out(words, is_no_server=all(import_file.is_file(word) for word in words))
    if not wanted:
        raise Failure(Exit.WRONG_USAGE, "say which file: als import-file SERVER FILE [FILE ...]")
    if import_file.is_file(words[0]) and not any(import_file.is_file(file) for file in wanted):
        raise Failure(
            Exit.WRONG_USAGE,
            f"{words[0]} is a file and {wanted[0]} is none; the server comes first: als import-file SERVER FILE",
        )
    entries = list(import_file.read_files(wanted))
    return _import(given, access, form.output(), entries, several_files=len(wanted) > 1)


def _import(server: str | None, access: Access, result: Output, entries: Sequence[Entry], several_files: bool) -> int:
    """Import entries, write their rows, name the refused ones on stderr, and give the exit code."""
    tally = Tally()
    tail: dict[str, Any] = {"added": 0, "licenses_added": 0}
    with connection.connect(server, access, changes_state=True) as link:
        written = _written(_followed(link, entries, tally), tail, tally, several_files)
        if result.form == "table":
            for _ in written:
                pass
        else:
            result.rows(_IMPORTED, written, "all" if several_files else None, tail)
    if not entries:
        say("No serial was found: one has 160 letters and digits, mostly in 20 groups of 8.")
    if result.form == "table":
        output.screen().print(_summary(tally))
    return Exit.REFUSED if tally.refused else Exit.DONE


def _written(
    imported: Iterable[tuple[Entry, Row]], tail: dict[str, Any], tally: Tally, several_files: bool
) -> Iterator[Row]:
    """Give the rows to write, naming the refused ones on stderr as they pass; `tail` follows the tally."""
    try:
        for entry, row in imported:
            tail.update(added=tally.added, licenses_added=tally.licenses_added)
            if row["result"] not in import_file.FINE_RESULTS:
                say(f"{entry.place}: {row['result']}: {formats.clean(row['message'])}")
            yield {**row, "file": entry.source} if several_files else row
    except ClientError as error:
        if not tally.done:
            raise
        raise Failure(
            Exit(error.exit_code),
            f"{error}; {_summary(tally)} Run it again for the rest: what is present is passed over",
        ) from None


def _followed(link: Link, entries: Sequence[Entry], tally: Tally) -> Iterator[tuple[Entry, Row]]:
    """Import entries, with a bar on a terminal when there are many."""
    imported = import_file.send(link.ask, entries, tally)
    if len(entries) < PROGRESS_SERIALS_MIN or not sys.stderr.isatty():
        yield from imported
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=output.screen(sys.stderr),
    )
    with bar:
        task = bar.add_task("Importing", total=len(entries))
        for pair in imported:
            bar.advance(task)
            yield pair


def _summary(tally: Tally) -> str:
    """Say what an import came to: "12 serials added, 480 licenses; 3 already present; 1 refused."."""
    parts = [f"{formats.counted(tally.added, 'serial')} added, {formats.counted(tally.licenses_added, 'license')}"]
    if tally.already_present:
        parts.append(f"{formats.count(tally.already_present)} already present")
    if tally.refused:
        parts.append(f"{formats.count(tally.refused)} refused")
    return f"{'; '.join(parts)}."


def revoke(
    access: Access,
    form: Form,
    product: Annotated[str, typer.Option("--product", metavar="CODE", help="The product.")],
    mac: Annotated[
        str, typer.Option("--mac", metavar="MAC", help="An address of the computer, like 00:11:22:33:44:55.")
    ],
    server: ServerArgument = None,
) -> None:
    """Take a product's seat away from a computer, so that another can have it."""
    result, address = form.output(), read_mac(mac)
    with connection.connect(server, access, changes_state=True) as link:
        reply = link.content("revoke", product=product, mac=address)
    sentence = f"{formats.binary(address)} gave back its seat of {product}; the next computer can have it."
    result.document(reply, sentence, [reply["result"]])


def remove(
    access: Access,
    form: Form,
    server: ServerArgument = None,
    serial_id: Annotated[
        str | None,
        typer.Argument(metavar="SERIAL_ID", help="The serial's id as als licenses shows it, or how it begins."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even when computers use it: their leases go too.")] = False,
) -> None:
    """Take a serial out of the server for good."""
    words = _words(server, None if serial_id is None else [serial_id])
    given, wanted = _left_out(words, is_no_server=len(words) == 1 and _is_whole(words[0]))
    if not wanted:
        raise Failure(Exit.WRONG_USAGE, "say which serial: als remove SERVER SERIAL_ID (als licenses lists them)")
    result = form.output()
    with connection.connect(given, access, changes_state=True) as link:
        found = find_serial_id(link, wanted[0])
        reply = _remove(link, found, force)
    leases = formats.counted(reply.get("leases", 0), "lease")
    result.document(reply, f"{found} is removed, with {leases} on it.", [found])


def _is_whole(text: str) -> bool:
    """Say whether a text is all of a serial's id; a server may be called like the beginning of one."""
    try:
        serial.parse_short_id(text)
    except ValueError:
        return False
    return True


def _remove(link: Link, serial_id: str, force: bool) -> dict[str, Any]:
    """Remove a serial. Raises Failure for one in use, with what would be lost and the flag that does it."""
    try:
        return link.content("remove", serial_id=serial_id, force=force)
    except Refused as error:
        if error.code != "serial_in_use":
            raise
        leases = formats.counted(int(error.detail["leases"]), "computer")
        raise Failure(
            Exit.REFUSED, f"in use: {leases} would lose a license on {serial_id}; --force removes it all the same"
        ) from None


def _is_there(row: Row) -> bool:
    """Say whether a serial still counts: one that is being removed is listed until its last lease is gone."""
    return bool(row["state"] != "removing")


def find_serial_id(link: Link, text: str) -> str:
    """Give the full id of the one serial whose id begins with `text`. Raises Failure for none or several."""
    if not text.strip():  # a script's unset variable: every id begins so
        raise Failure(Exit.WRONG_USAGE, "the serial id is empty; als licenses lists them all")
    if _is_whole(text):
        return serial.short_id(*serial.parse_short_id(text))
    tests = (rows.begins("serial_id", text.strip()), _is_there)
    found = [str(row["serial_id"]) for row in rows.filtered(rows.all_rows(link.ask, "licenses"), *tests)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Failure(Exit.REFUSED, f'no serial id begins with "{formats.clean(text)}"; als licenses lists them all')
    shown = ", ".join(found[:MATCHES_SHOWN_MAX])
    more = f" and {len(found) - MATCHES_SHOWN_MAX} more" if len(found) > MATCHES_SHOWN_MAX else ""
    raise Failure(Exit.WRONG_USAGE, f'"{formats.clean(text)}" may be {shown}{more}; type more of it')
