"""What a benchmark says: one JSON document, or the same for people; with all that a figure depends on.

Benchmarks give `results` and their own `warnings`; a view turns results into lines.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from als_bench.environment import Environment

Results = dict[str, Any]
View = Callable[[Results], list[str]]


def document(
    name: str, environment: Environment, settings: Mapping[str, Any], results: Results, warnings: Iterable[str]
) -> dict[str, Any]:
    """Put the document of one benchmark together."""
    return {
        "benchmark": name,
        "environment": environment.as_dict(),
        "settings": dict(settings),
        "results": results,
        "warnings": list(warnings),
    }


def write(content: Mapping[str, Any], view: View, as_json: bool) -> None:
    """Write a document to stdout."""
    if as_json:
        _out(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for line in view(content["results"]):
        _out(line)
    _out("")
    _out(_setting_line(content))
    for warning in content["warnings"]:
        _out(f"warning: {warning}")


def _setting_line(content: Mapping[str, Any]) -> str:
    machine = content["environment"]
    settings = ", ".join(f"{key} {value}" for key, value in content["settings"].items() if value is not None)
    return (
        f"als {machine['als']}, Python {machine['python']}, pyzmq {machine['pyzmq']} (libzmq {machine['libzmq']}), "
        f"lmdb {machine['lmdb']}, {machine['system']}\n"
        f"{machine['cores']} cores {machine['processor']}; {machine['folder']} on {machine['file_system']}, "
        f"fsync on {machine['fsync_mode']}, {machine['fsync_ms']:.2f} ms\n"
        f"{settings}"
    )


def _out(line: str) -> None:
    print(line)  # noqa: T201 - this is the place for it


def tell(sentence: str) -> None:
    """Say on stderr what is going on."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - this is the place for it


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lay rows out under their heads: words to the left, numbers to the right."""
    cells = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    is_word = [all(not _is_number(row[column]) for row in cells[1:]) for column in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(row, widths, is_word, strict=True)
        ).rstrip()
        for row in cells
    ]


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("-").replace(",", "").replace(".", "", 1).isdigit()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
