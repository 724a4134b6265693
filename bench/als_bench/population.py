"""The people and machines of a simulated company: who switches on when, who is away, what is replaced or set up anew.

Chance comes from one seeded source, and days are numbers from 0, a Monday. Knows nothing of licenses.
"""

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

HOURS = 24
WEEK_DAYS = 7
WORK_DAYS = 5
YEAR_DAYS = 365
ROLLOUT_DAYS = 12  # in which the fleet is set up at first: two working weeks and a weekend
HOLIDAYS = frozenset({17, 38, 39})  # days on which an office is closed
SERVERS = 0.05  # part of the fleet that runs day and night
SICK = 0.04  # part of a working day's people who do not switch on
WEEKEND = 0.05  # part who do on a day off
VACATION_DAYS = (7, 7, 14, 14, 21)  # calendar days in a row, as likely as each other
VACATION_A_DAY = 1 / 110  # chance that one begins: some 25 working days a year
STARTS = (6, 7, 7, 8, 8, 8, 8, 9, 9, 9, 10, 13)  # hours at which people switch on, as likely as each other


@dataclass(frozen=True, slots=True)
class Day:
    """What happens on one day: computers that run a licensed component, by hour; and those that are uninstalled."""

    runs: list[list[int]]
    uninstalled: list[int]


class Population:
    """The computers, numbered in the order in which they came into service."""

    def __init__(self, size: int, churn: float, reinstalls: float, uninstalled: float, seed: int) -> None:
        self._chance = random.Random(seed)
        self._churn_a_day = churn / YEAR_DAYS
        self._reinstalls_a_day = reinstalls / YEAR_DAYS
        self._uninstalled = uninstalled
        self._start_hour = array("b")
        self._away_until = array("h")
        self.setups = array("b")  # how often each was set up anew; it has a new key and a new name in the system since
        self._in_service: list[int] = []
        self._to_come = size

    @property
    def in_service(self) -> int:
        """How many computers there are now."""
        return len(self._in_service)

    def days(self, count: int) -> Iterator[Day]:
        """Live through so many days, one after the other."""
        for day in range(count):
            self._roll_out(day)
            uninstalled = self._replace()
            runs: list[list[int]] = [[] for _ in range(HOURS)]
            for number in self._in_service:
                self._live(number, day, runs)
            yield Day(runs, uninstalled)

    def _roll_out(self, day: int) -> None:
        """Set the day's share of the first computers up."""
        if self._to_come:
            share = self._to_come if day >= ROLLOUT_DAYS - 1 else -(-self._to_come // (ROLLOUT_DAYS - day))
            self._to_come -= share
            for _ in range(share):
                self._add()

    def _add(self) -> int:
        is_server = self._chance.random() < SERVERS
        self._start_hour.append(-1 if is_server else self._chance.choice(STARTS))
        self._away_until.append(0)
        self.setups.append(0)
        number = len(self.setups) - 1
        self._in_service.append(number)
        return number

    def _replace(self) -> list[int]:
        """Take old computers away and put new ones in their places; give those that were uninstalled properly."""
        uninstalled = []
        for place, number in enumerate(self._in_service):
            if self._chance.random() < self._churn_a_day:
                if self._chance.random() < self._uninstalled:
                    uninstalled.append(number)
                self._in_service[place] = -1
        gone = self._in_service.count(-1)
        if gone:
            self._in_service = [number for number in self._in_service if number >= 0]
            for _ in range(gone):
                self._add()
        return uninstalled

    def _live(self, number: int, day: int, runs: list[list[int]]) -> None:
        """Decide whether and when a computer runs today."""
        chance = self._chance.random
        if chance() < self._reinstalls_a_day:
            self.setups[number] = (self.setups[number] + 1) % 100
        hour = self._start_hour[number]
        if hour < 0:
            runs[number % HOURS].append(number)
            return
        if day < self._away_until[number]:
            return
        if chance() < VACATION_A_DAY:
            self._away_until[number] = day + self._chance.choice(VACATION_DAYS)
            return
        is_off = day % WEEK_DAYS >= WORK_DAYS or day in HOLIDAYS
        if chance() < (WEEKEND if is_off else 1 - SICK):
            runs[hour].append(number)
