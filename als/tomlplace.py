"""Where a key stands in a TOML file, for messages that name file, line and key: tomllib does not tell it."""

import re


class Place:
    """Finds the lines of keys in the text of a file, which is named as in messages."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = text.splitlines()

    def at(self, *path: str) -> str:
        """Name file, line and key of `path`, such as ("products", "ATIES", "period")."""
        return f"{self._file}:{self._line(path)}: {'.'.join(path)}"

    def _line(self, path: tuple[str, ...]) -> int:
        """The line of the key, else of its nearest table that has a header, else 1."""
        header: tuple[str, ...] = ()
        best_length, best_line = 0, 1
        for number, line in enumerate(self._lines, 1):
            here: tuple[str, ...] | None = None
            if found := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
                here = header = _split_key(found[1])
            elif found := re.match(r"\s*([^=#]+?)\s*=", line):
                here = header + _split_key(found[1])
            if here and path[: len(here)] == here and len(here) > best_length:
                best_length, best_line = len(here), number
        return best_line


def _split_key(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
