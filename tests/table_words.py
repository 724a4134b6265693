"""The small words of a table's lines: reading them off one by one, times, numbers, how an event is written."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

UNITS_S = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_SHORT_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SIZE = re.compile(r"x\d+")
_EVENT = re.compile(
    r"(?P<kind>[a-z_]+)(?::(?P<computer>\w+))?(?:@(?P<serial>\w+))?(?:~(?P<actor>\w+))?(?:\*(?P<amount>\d+))?"
)


class Words:
    """Words that are taken off from the left."""

    def __init__(self, words: list[str]) -> None:
        self.rest = list(words)

    def next(self) -> str:
        """Take one word. Raises IndexError at the end."""
        return self.rest.pop(0)

    def take(self, word: str) -> bool:
        """Take `word` if it comes next."""
        if self.rest[:1] != [word]:
            return False
        self.rest.pop(0)
        return True

    def option(self, word: str, default: str | None = None) -> str | None:
        """Take `word` and the one after it, wherever they stand; else give the default."""
        if word not in self.rest:
            return default
        at = self.rest.index(word)
        value = self.rest[at + 1]
        del self.rest[at : at + 2]
        return value

    def flag(self, word: str) -> bool:
        """Take `word`, wherever it stands."""
        found = word in self.rest
        if found:
            self.rest.remove(word)
        return found

    def time_after(self, word: str) -> int | None:
        """Take `word 30 days`, wherever it stands; in seconds."""
        if word not in self.rest:
            return None
        at = self.rest.index(word)
        length_s = seconds(*self.rest[at + 1 : at + 3])
        del self.rest[at : at + 3]
        return length_s

    def split(self, separator: str) -> list["Words"]:
        """Take all that is left, cut at a word that ends with `separator`."""
        parts: list[list[str]] = [[]]
        for word in self.rest:
            if word != separator:
                parts[-1].append(word.removesuffix(separator))
            if word.endswith(separator):
                parts.append([])
        self.rest = []
        return [Words(part) for part in parts if part]


def seconds(number: str, unit: str) -> int:
    """Read "30", "days"."""
    return int(number) * UNITS_S[unit.removesuffix("s")]


def short_seconds(text: str) -> int:
    """Read "30d"."""
    return int(text[:-1]) * _SHORT_UNITS_S[text[-1]]


def value(text: str, now: int) -> Any:
    """Read a value: yes, no, never, now, +30d (from now on), a number, else a text."""
    plain = {"yes": True, "no": False, "never": None, "none": None, "now": now}
    if text in plain:
        return plain[text]
    if re.fullmatch(r"[+-]\d+[smhd]", text):
        return now + (1 if text[0] == "+" else -1) * short_seconds(text[1:])
    return int(text) if text.isdigit() else text


def size(text: str) -> int:
    """Read "x2"."""
    assert _SIZE.fullmatch(text), f"{text} is no number of seats, like x2"
    return int(text[1:])


class EventWords(NamedTuple):
    """What a line says of an event: `kind:computer@serial~actor*count`, all but the kind optional."""

    kind: str
    computer: str | None
    serial: str | None
    actor: str | None
    amount: str | None

    @classmethod
    def read(cls, text: str) -> "EventWords":
        """Read one event."""
        found = _EVENT.fullmatch(text)
        assert found is not None, f"{text} is no event, like granted:pc1@A"
        return cls(**found.groupdict())

    @classmethod
    def read_all(cls, words: list[str]) -> list["EventWords"]:
        """Read a list of events; `x1000` repeats the one before it."""
        found: list[EventWords] = []
        for word in words:
            found += [found[-1]] * (size(word) - 1) if _SIZE.fullmatch(word) else [cls.read(word)]
        return found

    def is_like(self, row: Mapping[str, Any], macs: Mapping[str, bytes], ids: Mapping[str, str]) -> bool:
        """Say whether an event of the log is the one meant."""
        return (
            row["kind"] == self.kind
            and (self.computer is None or row["mac"] == macs[self.computer])
            and (self.serial is None or row["serial_id"] == ids[self.serial])
            and (self.actor is None or row["actor"] == self.actor)
            and (self.amount is None or row["count"] == int(self.amount))
        )
