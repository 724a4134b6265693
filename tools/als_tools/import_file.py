"""Serials from the texts that people have to the server that counts them: reading, batches, a row for each.

Knows the `import` operation and how serials lie in texts; where the result is written is the command's affair.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from als import protocol, serial, serialtext
from als_tools.columns import Row
from als_tools.failures import Exit, Failure

STDIN = "-"
FILE_BYTES_MAX = 256 * 2**20  # a million serials; more is a mistake in the file's name
FINE_RESULTS = frozenset({"added", "already_present"})

Ask = Callable[..., dict[str, Any]]


class Entry(NamedTuple):
    """A serial in a text, or what was meant to be one: `text` is None for a mistyped `token`.

    `source` is the file's name as given, "" for the command line, where `line` is the argument's number.
    """

    source: str
    line: int
    text: str | None
    token: str

    @property
    def place(self) -> str:
        """Say where it stands: "serials.txt:17"."""
        return f"{self.source}:{self.line}" if self.source else f"serial {self.line}"


@dataclass(slots=True)
class Tally:
    """What an import came to, counted up while it runs; `licenses_added` counts seats."""

    added: int = 0
    licenses_added: int = 0
    already_present: int = 0
    refused: int = 0
    results: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many serials have their result."""
        return sum(self.results.values())

    def count(self, result: str) -> None:
        """Count one serial's result."""
        self.results[result] = self.results.get(result, 0) + 1
        self.already_present += result == "already_present"
        self.refused += result not in FINE_RESULTS


def read_files(paths: Sequence[str]) -> Iterator[Entry]:
    """Find the serials in files, "-" being stdin. Raises Failure for one that cannot be read."""
    for path in paths:
        source = "stdin" if path == STDIN else path
        for found in serialtext.find(serialtext.decode_file(_read(path))):
            yield Entry(source, found.line, found.text, found.token)


def is_file(path: str) -> bool:
    """Say whether a word names what can be read as a file of serials."""
    return path == STDIN or Path(path).is_file()


def _read(path: str) -> bytes:
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Failure(
            Exit.WRONG_USAGE, f"{path} cannot be read ({error.strerror or error}); name a text file with serials"
        ) from None
    if len(data) > FILE_BYTES_MAX:
        raise Failure(
            Exit.WRONG_USAGE, f"{path} is larger than {FILE_BYTES_MAX // 2**20} MiB; is it a file of serials?"
        )
    return data


def read_arguments(arguments: Sequence[str]) -> list[Entry]:
    """Find the serials in arguments; one that was pasted with blanks may stretch over several.

    What belongs to no serial is one that is mistyped, whatever it looks like: it was typed as a serial.
    """
    lines = [" ".join(argument.split()) or "?" for argument in arguments]
    entries: dict[int, Entry] = {}
    covered: set[int] = set()
    for found in serialtext.find("\n".join(lines)):
        entries[found.line] = Entry("", found.line, found.text, found.token)
        covered.update(range(found.line, found.line + found.token.count("\n") + 1))
    for number, line in enumerate(lines, 1):
        if number not in covered:
            entries[number] = Entry("", number, None, line)
    return [entries[number] for number in sorted(entries)]


def send(ask: Ask, entries: Iterable[Entry], tally: Tally) -> Iterator[tuple[Entry, Row]]:
    """Import entries, as many at once as the protocol lets, and give each its row with its own line, in their order.

    `tally` is right whenever a row is given. Raises what `ask` raises; rows given before are imported.
    """
    source = iter(entries)
    while batch := list(islice(source, protocol.SERIALS_PER_IMPORT_MAX)):
        answered = _answers(ask, batch, tally)
        for number, entry in enumerate(batch):
            row = answered.get(number) or _mistyped(entry)
            tally.count(row["result"])
            yield entry, {**row, "line": entry.line}


def _answers(ask: Ask, batch: Sequence[Entry], tally: Tally) -> dict[int, Row]:
    """Send the serials of a batch that are whole; give the server's rows by their place in the batch."""
    whole = [number for number, entry in enumerate(batch) if entry.text is not None]
    if not whole:
        return {}
    reply = ask("import", serials=[batch[number].text for number in whole])
    tally.added += reply["added"]
    tally.licenses_added += reply["licenses_added"]
    return {whole[row["line"] - 1]: row for row in reply["rows"]}


def _mistyped(entry: Entry) -> Row:
    """Make the row of what no server needs to see, with the reason."""
    try:
        serial.read(entry.token)
        reason = "The serial cannot be read; copy it again."
    except serial.SerialError as error:
        reason = str(error)
    return {"line": entry.line, "serial_id": None, "result": "mistyped", "message": reason}
