"""How single values look to people: times, durations, counts, and text that strangers wrote.

Knows nothing of tables, servers or terminals.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from als import clock, protocol

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
NEVER = "never"
_TIME_MAX = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp())  # what the calendar can still show, in any zone
_UNIT_S = {"s": 1, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}


@dataclass(frozen=True, slots=True)
class Zone:
    """The zone that times are shown in: this computer's own, or UTC."""

    utc: bool = False

    @property
    def name(self) -> str:
        """The zone's name for a heading; both names where summer has its own ("CET/CEST")."""
        if self.utc:
            return "UTC"
        year = self.at(clock.wall_s()).year
        names = [datetime(year, month, 1, tzinfo=UTC).astimezone().tzname() or "" for month in (1, 7)]
        return "/".join(dict.fromkeys(names))

    def at(self, time: int) -> datetime:
        """Give seconds since 1970 UTC as a date with this zone; times no calendar has are cut to its end."""
        moment = datetime.fromtimestamp(max(0, min(time, _TIME_MAX)), UTC)
        return moment if self.utc else moment.astimezone()

    def minute(self, time: int) -> str:
        """Write a time for people, the zone standing in the heading: "2026-01-05 14:03"."""
        return self.at(time).strftime("%Y-%m-%d %H:%M")

    def second(self, time: int) -> str:
        """Write a time for people to the second: "2026-01-05 14:03:59"."""
        return self.at(time).strftime("%Y-%m-%d %H:%M:%S")

    def day(self, time: int) -> str:
        """Write the date alone."""
        return self.at(time).strftime("%Y-%m-%d")

    def iso(self, time: int) -> str:
        """Write a time for programs, with its offset: "2026-01-05T14:03:00+01:00", "...Z" for UTC."""
        return self.at(time).isoformat().replace("+00:00", "Z")


def parse_time(text: str, zone: Zone, now: int) -> int:
    """Read "2026-01-05", "2026-01-05T14:03" (in `zone` unless it says another) or an age like "7d", "12h", "30m".

    Gives seconds since 1970 UTC. Raises ValueError.
    """
    age = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if age:
        return max(0, now - int(age[1]) * _UNIT_S[age[2]])
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC) if zone.utc else moment.astimezone()
    return max(0, int(moment.timestamp()))


def duration(seconds: int) -> str:
    """Write a length of time with its two greatest units: "3 d 4 h", "12 min", "0 s"."""
    parts = []
    rest = max(0, seconds)
    for name, unit_s in (("d", DAY_S), ("h", HOUR_S), ("min", MINUTE_S), ("s", 1)):
        number, rest = divmod(rest, unit_s)
        if number:
            parts.append(f"{number} {name}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def count(number: int) -> str:
    """Write a whole number with commas between thousands."""
    return f"{number:,}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun: "1 serial", "2,000 serials"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rate(number: float) -> str:
    """Write a rate with as many digits as anybody reads."""
    return f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


def clean(text: str) -> str:
    """Replace what could steer a terminal or reorder a line: names on the wire are written by strangers."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def binary(value: bytes) -> str:
    """Write bytes as the JSON documents do: a MAC address with colons, all else as lowercase hex."""
    return protocol.mac_text(value) if len(value) == protocol.MAC_BYTES else value.hex()


def days_until(time: int, now: int) -> str:
    """Write how far off a time is, in whole days: "today", "in 1 day", "in 12 days"."""
    days = timedelta(seconds=max(0, time - now)).days
    return "today" if days == 0 else f"in {counted(days, 'day')}"
