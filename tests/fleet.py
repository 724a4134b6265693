"""A data folder with two months of a plausible company in it: four products, some 300 computers, their trouble.

The real ledger is given the requests of that time with the times at which they would have come; then a real server
takes the folder over. Everything a screen can show is in it: a full pool with denials, seats that soon end, computers
on an ended serial, lapsed leases, a history of days.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from als.ledger import Ledger, Sender
from als.protocol import Refusal, Role
from als.server.core import read_server_id
from als.server.datadir import DataDir
from als.store.lmdb.store import LmdbStore
from contract_client import DAY_S, Vendor, day_number

DAYS = 60
STEP_S = 6 * 3_600
SERVER_ID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
COMPONENTS = {"ATIES": "agent", "ATIW": "agent", "ASD": "deployment", "APEC": "agent"}
NUMBERS = {"ATIES": 1, "ATIW": 2, "ASD": 3, "APEC": 4}


@dataclass(frozen=True)
class Machine:
    """A computer: the product it runs, the day it comes, and the day on which it is switched off for good."""

    number: int
    host: str
    product: str
    first_day: float
    last_day: float = DAYS + 1

    @property
    def fields(self) -> dict[str, Any]:
        """Give the fields of its requests."""
        computer = {
            "macs": [bytes.fromhex("00005e00") + (0x5300 + self.number).to_bytes(2)],
            "host": self.host,
            "address": f"192.0.2.{self.number % 250 + 1}",
            "kind": "server" if self.product == "ATIES" else "workstation",
        }
        component = COMPONENTS[self.product]
        return {"product": self.product, "component": component, "computer": computer, "version": "9.1"}


def machines() -> list[Machine]:
    """Give the fleet: more ATIES servers than seats, and workstations of which some have been forgotten."""
    random = Random(7)
    found: list[Machine] = []

    def add(count: int, host: str, product: str, first: float, last: float = DAYS + 1) -> None:
        for number in range(1, count + 1):
            day = random.uniform(first, last if last < DAYS else DAYS - 1)
            found.append(Machine(len(found), f"{host}-{number:02}", product, day if last > DAYS else first, last))

    add(28, "db", "ATIES", 0, 45)
    found[:] = [Machine(m.number, m.host, m.product, m.number * 1.5) for m in found]
    add(12, "mail", "ATIES", 40)
    add(9, "old-pc", "ATIW", 2, 22)
    add(171, "pc", "ATIW", 0)
    add(34, "lab", "ASD", 5)
    add(4, "kiosk", "APEC", 20, DAYS - 5.5)  # still on the serial that has ended since
    add(11, "desk", "APEC", 32)
    return found


def serials(vendor: Vendor, now: int) -> list[tuple[float, str]]:
    """Issue what the company has bought: (day of import, serial)."""
    today = day_number(now)
    number = iter(range(1, 100))

    def issue(product: str, seats: int, **options: Any) -> str:
        return vendor.issue(NUMBERS[product], seats, serial_id=bytes([next(number)] * 8), **options)

    return [
        (0, issue("ATIES", 20)),
        (0, issue("ATIW", 150)),
        (0, issue("ATIW", 50, last_day=today + 12)),
        (4, issue("ASD", 100)),
        (10, issue("APEC", 4, last_day=today - 5)),
        (20, issue("ATIES", 20)),
        (31, issue("APEC", 20, trial=True, trial_days=DAYS - 31 + 3)),
    ]


class Company:
    """Writes the two months into a data folder. `now` is when they end, `agent` the key of all its computers."""

    def __init__(self, data_dir: Path, now: int, vendor: Vendor | None = None, agent: bytes = b"m" * 32) -> None:
        self.now = now
        self._agent = Sender(agent, "127.0.0.1")
        self.vendor = vendor or Vendor()
        folder = DataDir(data_dir)
        folder.make()
        (data_dir / "vendors/example.pub").write_text(self.vendor.pub_line, encoding="ascii")
        self._admin = Sender(folder.admin_keys().public, "127.0.0.1")
        self._store = LmdbStore(folder.store)
        self._ledger = self._open(folder)
        self._serials = serials(self.vendor, now)
        self._machines = machines()

    def _open(self, folder: DataDir) -> Ledger:
        catalog, vendors, keys = folder.read_catalog(True), folder.read_vendors(), folder.server_keys()
        tx = self._store.begin()
        server_id = read_server_id(tx, lambda: SERVER_ID)
        ledger = Ledger(catalog, server_id=server_id, server_key=keys.public, vendors=vendors)
        ledger.add_admin(tx, self._admin.key, "local administrator", Role.ADMIN, self._start)
        self._store.submit(tx)
        return ledger

    @property
    def _start(self) -> int:
        return self.now - DAYS * DAY_S

    def live(self) -> None:
        """Let the time pass, step by step up to now, and the last minutes with their denials."""
        for step in range(DAYS * DAY_S // STEP_S + 1):
            self._pass(step * STEP_S / DAY_S)
        self._turn(self.now - 30 * 60, self._late_comers())
        self._store.close()

    def _pass(self, day: float) -> None:
        """Do all that happens in the step that ends with `day`."""
        before = day - STEP_S / DAY_S
        requests: list[tuple[str, dict[str, Any]]] = []
        for when, serial in self._serials:
            if before < when <= day:
                requests.append(("import", {"serials": [serial]}))
        for machine in self._machines:
            if before < machine.first_day <= day:
                requests.append(("acquire", machine.fields))
            elif machine.first_day <= day <= machine.last_day and day % 1 == 0.5:
                requests.append(("renew", machine.fields))
        self._turn(self._start + round(day * DAY_S), requests)

    def _late_comers(self) -> list[tuple[str, dict[str, Any]]]:
        """Servers that find no seat any more, one of them again and again."""
        late = [Machine(300 + number, f"web-{number:02}", "ATIES", DAYS) for number in range(1, 7)]
        return [("acquire", machine.fields) for machine in [*late, *[late[2]] * 20]]

    def _turn(self, now: int, requests: list[tuple[str, dict[str, Any]]]) -> None:
        tx = self._store.begin()
        for second, (operation, fields) in enumerate(requests):
            at = min(now + second, self.now)
            request = {"v": 1, "id": 1, "op": operation, **fields}
            sender = self._admin if operation == "import" else self._agent
            answer = self._ledger.apply(tx, request, sender, at)
            if operation == "import":
                assert not isinstance(answer, Refusal) and answer["added"] == 1, answer
        while self._ledger.sweep(tx, now, 10_000):
            pass
        self._store.submit(tx)
