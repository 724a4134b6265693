"""How many seats a fleet needs: the ledger alone, on a virtual clock, from rollout through weeks of ordinary life.

Every run of a component is a renewal that the real ledger decides; nothing of its rules is repeated here. The store
lies in memory where the system has a file system for that, since nothing of it is kept.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from als import clock
from als.ledger import Sender
from als.protocol import ROWS_PER_PAGE_MAX, Refusal, Request
from als.store.lmdb.store import LmdbStore
from als_bench import report, workload
from als_bench.closed_loop import no_collection
from als_bench.population import HOURS, Population
from als_bench.processes import BenchError
from als_bench.report import Results
from als_bench.stage import SEATS_PER_SERIAL
from als_bench.stock import OPERATOR, Stock, Vendor
from als_bench.workload import PRODUCT, RELEASE, RENEW

START = 1_767_571_200  # Monday 2026-01-05, 00:00 UTC
HOUR_S = 3_600
DAY_S = HOURS * HOUR_S
BATCH_MAX = 20_000  # requests in a transaction
SWEPT_MAX = 10_000  # due entries in a transaction
STORE_BYTES_PER_COMPUTER = 2_000
MEMORY_FOLDER = Path("/dev/shm")  # where Linux keeps files in memory
PLENTY = 3  # times the fleet: seats that no churn uses up
REFUSALS_LISTED_MAX = 3
_FLEET = workload.Fleet(salt=6)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated. `churn` and `reinstalls` are parts of the fleet a year; `seats` None: more than enough.

    `uninstalled` is the part of replaced computers whose component was uninstalled, which frees the seat at once.
    """

    computers: int = 10_000
    days: int = 60
    seats: int | None = None
    churn: float = 0.25
    reinstalls: float = 0.2
    uninstalled: float = 0.2
    seed: int = 1


class Simulation:
    """A ledger over a store, driven by a population."""

    def __init__(self, fleet: Fleet, store: LmdbStore) -> None:
        vendor = Vendor()
        self._store = store
        self._stock = Stock(store, vendor)
        self._population = Population(fleet.computers, fleet.churn, fleet.reinstalls, fleet.uninstalled, fleet.seed)
        self._fleet = fleet
        self._requests = 0
        self._refused: dict[str, int] = {}
        self._stock.import_serials(_serials(vendor, fleet), START)

    def run(self) -> Results:
        """Live through all days; give what the ledger's own history says, and how many computers were in service."""
        in_service: list[int] = []
        begin_s = clock.monotonic_s()
        for number, day in enumerate(self._population.days(self._fleet.days)):
            begin = START + number * DAY_S
            self._apply(RELEASE, day.uninstalled, begin)
            for hour, numbers in enumerate(day.runs):
                self._live(numbers, begin + hour * HOUR_S)
            in_service.append(self._population.in_service)
            report.tell(f"day {number + 1} of {self._fleet.days}: {self._requests:,} requests")
        took_s = clock.monotonic_s() - begin_s
        return self._summary(self._history(), in_service) | {
            "requests": self._requests,
            "refused": self._refused,
            "took_s": round(took_s, 1),
            "requests_per_s": round(self._requests / took_s),
        }

    def _live(self, numbers: Sequence[int], begin: int) -> None:
        """Let computers run their component in the course of an hour; then sweep what is due by its end."""
        for first in range(0, len(numbers), BATCH_MAX):
            self._apply(RENEW, numbers[first : first + BATCH_MAX], begin + HOUR_S * first // len(numbers))
        left = True
        while left:
            tx = self._store.begin()
            left = self._stock.ledger.sweep(tx, begin + HOUR_S - 1, SWEPT_MAX) > 0
            self._store.submit(tx)

    def _apply(self, operation: str, numbers: Sequence[int], now: int) -> None:
        """Apply the same operation of many computers in one transaction, and count what is refused."""
        tx = self._store.begin()
        for number in numbers:
            setups = self._population.setups[number]
            sender = Sender(number.to_bytes(16, "big") + bytes([setups]) * 16, "127.0.0.1")
            answer = self._stock.ledger.apply(tx, _request(operation, number, setups), sender, now)
            if isinstance(answer, Refusal):
                self._refused[answer.code] = self._refused.get(answer.code, 0) + 1
        self._store.submit(tx)
        self._requests += len(numbers)

    def _history(self) -> list[Results]:
        """Read the hourly usage of the product, as an administrator would."""
        rows: list[Results] = []
        request: Request = {"op": "usage", "product": PRODUCT, "limit": ROWS_PER_PAGE_MAX}
        request |= {"since": START, "until": START + self._fleet.days * DAY_S}
        tx = self._store.snapshot()
        try:
            while True:
                answer = self._stock.ledger.apply(tx, request, Sender(OPERATOR, ""), START)
                if isinstance(answer, Refusal):
                    raise BenchError(f"the ledger refused its history: {answer.message}")
                rows += answer["rows"]
                if answer["next"] is None:
                    return rows
                request["after"] = answer["next"]
        finally:
            tx.abort()

    def _summary(self, rows: Sequence[Results], in_service: Sequence[int]) -> Results:
        """Sum the history up by day, and say what the most was."""
        days = [{"day": day, "granted": 0, "lapsed": 0, "denied": 0} for day in range(len(in_service))]
        hours: list[Results] = []
        for row in rows:
            hour = (row["hour"] - START) // HOUR_S
            day = hour // HOURS
            for key in ("granted", "lapsed", "denied"):
                days[day][key] += row[key]
            hours.append(
                {"day": hour / HOURS, "used": row["used_max"], "total": row["total"], "in_service": in_service[day]}
            )
        used_max = max((row["used"] for row in hours), default=0)
        sums = {key: sum(day[key] for day in days) for key in ("granted", "lapsed", "denied")}
        return {
            "used_max": used_max,
            "in_service_at_end": in_service[-1],
            "seats_per_computer": round(used_max / max(in_service), 4),
            **sums,
            "days": days,
            "hours": hours,
        }


def run(fleet: Fleet, folder: Path | None) -> Results:
    """Simulate. Raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="als-bench-", dir=place_for(fleet, folder)) as temporary, no_collection():
        store = LmdbStore(Path(temporary) / "store")
        try:
            return Simulation(fleet, store).run()
        finally:
            store.close()


def place_for(fleet: Fleet, folder: Path | None) -> Path | None:
    """Choose where the store lies: as asked, else in memory if it fits there easily, else on the disk (None)."""
    if folder is not None or not MEMORY_FOLDER.is_dir():
        return folder
    needed = 2 * STORE_BYTES_PER_COMPUTER * fleet.computers
    return MEMORY_FOLDER if shutil.disk_usage(MEMORY_FOLDER).free > needed else None


def _serials(vendor: Vendor, fleet: Fleet) -> list[str]:
    """Issue the seats in as few serials as possible."""
    wanted = fleet.seats if fleet.seats is not None else PLENTY * fleet.computers
    whole, rest = divmod(wanted, SEATS_PER_SERIAL)
    return vendor.issue(SEATS_PER_SERIAL, whole) + (vendor.issue(rest) if rest else [])


def _request(operation: str, number: int, setups: int) -> Request:
    """Make a computer's request; after a new setup it has another name and machine_id, and the same address."""
    request: Request = {"op": operation, **_FLEET.fields(number)}
    if setups:
        request["computer"]["machine_id"] = f"{setups:08x}{number:024x}"
        request["computer"]["host"] += f"-{setups}"
    return request


def warnings(results: Results) -> list[str]:
    """Say when computers were refused."""
    if not results["refused"]:
        return []
    listed = ", ".join(f"{code} {count:,}" for code, count in list(results["refused"].items())[:REFUSALS_LISTED_MAX])
    return [f"computers were refused: {listed}"]


def view(results: Results) -> list[str]:
    """Show the results to people."""
    weeks = [results["days"][first : first + 7] for first in range(0, len(results["days"]), 7)]
    most_used = _most_used_by_week(results)
    rows = [
        (number, most_used.get(number), *(sum(day[key] for day in week) for key in ("granted", "lapsed", "denied")))
        for number, week in enumerate(weeks)
    ]
    return [
        f"{results['used_max']:,} seats at most for {results['in_service_at_end']:,} computers in service: "
        f"{results['seats_per_computer']:.3f} for each",
        f"{results['granted']:,} granted, {results['lapsed']:,} lapsed, {results['denied']:,} denied; "
        f"{results['requests']:,} requests in {results['took_s']:.0f} s ({results['requests_per_s']:,}/s)",
        "",
        *report.table(["week", "used at most", "granted", "lapsed", "denied"], rows),
    ]


def _most_used_by_week(results: Results) -> dict[int, int]:
    most: dict[int, int] = {}
    for row in results["hours"]:
        week = int(row["day"]) // 7
        most[week] = max(most.get(week, 0), row["used"])
    return most
