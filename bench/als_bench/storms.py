"""What may come at a bad moment: many leases lapse at once, many serials are imported, a backup is taken.

Each storm breaks into an open loop at half of saturation; latencies of renewals are told apart by whether they were due
before it, during it, or after. The lapsing leases are entered as of one period ago, so they all lapse in one second.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from als import clock, keyfile, protocol
from als_bench import latencies, latency, report
from als_bench.closed_loop import no_collection
from als_bench.connections import Connections
from als_bench.open_loop import schedule
from als_bench.processes import BenchError, Child
from als_bench.report import Results
from als_bench.server_under_test import ServerUnderTest
from als_bench.stage import SEATS_PER_SERIAL, Load, Stage
from als_bench.stock import Stock
from als_bench.workload import PERIOD_S, PRODUCT, Fleet

LAPSE, IMPORT, BACKUP = "lapse", "import", "backup"
KINDS = (LAPSE, IMPORT, BACKUP)
QUIET_S = 2.0  # of load before a storm and after it, to compare with
LOOK_EVERY_S = 0.2
PREPARE_S = 2.0  # for the warm-up, and time to spare
FIRST_RENEWALS_PER_S = 20_000  # at least
START_S = 4.0  # for the server to start, and time to spare
TRIED_LEASES = 500  # by which the time is estimated that filling the store will take
TIMES_ESTIMATE = 2  # others may use the machine meanwhile
ASK_ID = 1
_LAPSING = Fleet(salt=5)
_TRIED = Fleet(salt=8)
_BACKUP = "from als.server.start import main; main()"


@dataclass(frozen=True, slots=True)
class Storm:
    """How strong the storms are."""

    leases: int = 100_000
    serials: int = 10_000


class LapseWatch:
    """Asks for the status until all leases that should lapse have lapsed. Waits for `from_s`."""

    def __init__(self, socket: "zmq.Socket[bytes]", from_s: float, expected: int) -> None:
        self.socket = socket
        self.due_s: float | None = from_s
        self.begin_s = from_s
        self.end_s: float | None = None
        self._expected = expected

    def step(self, now_s: float, reply: bytes | None) -> bytes | None:
        """Ask, look at the answer, and ask again a little later."""
        if reply is None:
            self.due_s = None
            return protocol.encode_request(ASK_ID, "status", {})
        pools = _granted(reply)["pools"]
        if any(pool["product"] == PRODUCT and pool["lapsed"] >= self._expected for pool in pools):
            self.end_s = now_s
        else:
            self.due_s = now_s + LOOK_EVERY_S
        return None


class Import:
    """Imports serials in full requests, one under way at a time, from `begin_s` on."""

    def __init__(self, socket: "zmq.Socket[bytes]", begin_s: float, texts: list[str]) -> None:
        self.socket = socket
        self.due_s: float | None = begin_s
        self.begin_s = begin_s
        self.end_s: float | None = None
        self._texts = texts

    def step(self, now_s: float, reply: bytes | None) -> bytes | None:
        """Send the next serials as soon as the last are in."""
        self.due_s = None
        if reply is not None:
            _granted(reply)
        if not self._texts:
            self.end_s = now_s
            return None
        most = protocol.SERIALS_PER_IMPORT_MAX
        batch, self._texts = self._texts[:most], self._texts[most:]
        return protocol.encode_request(ASK_ID, "import", {"serials": batch})


class Backup:
    """Runs `als-server backup` from `begin_s` on, and sees when it is done; its socket is asked nothing."""

    def __init__(self, socket: "zmq.Socket[bytes]", begin_s: float, server: ServerUnderTest) -> None:
        self.socket = socket
        self.due_s: float | None = begin_s
        self.begin_s = begin_s
        self.end_s: float | None = None
        target = server.data_dir.parent / "backup.tar"
        self._child = Child([sys.executable, "-c", _BACKUP, "backup", str(target), "--data-dir", str(server.data_dir)])

    def step(self, now_s: float, reply: bytes | None) -> bytes | None:
        """Start it, or look whether it has ended."""
        if not self._child.has_started:
            self._child.start(wait_for_line=False)
        if self._child.is_running():
            self.due_s = now_s + LOOK_EVERY_S / 10
        else:
            self.due_s, self.end_s = None, now_s
        return None

    def close(self) -> None:
        """End it if it still runs. Raises BenchError when it failed."""
        failed, said = self._child.exit_code not in (0, None), self._child.said()
        self._child.close()
        if failed:
            raise BenchError(f"the backup failed: {said}")


Breaking = LapseWatch | Import | Backup


def _granted(reply: bytes) -> dict[str, Any]:
    message = protocol.decode_reply(reply)
    if not message["ok"]:
        raise BenchError(f"the server refused: {message['message']}")
    return message


def run(kind: str, load: Load, storm: Storm, rate_per_s: float | None, folder: Path | None) -> Results:
    """Let one storm break; it is watched for `load.duration_s` at most. Raises BenchError."""
    probe_s = 0 if rate_per_s is not None else 2 * latency.PROBE_S
    plan = _Plan(kind, storm, load.leases, PREPARE_S + load.leases / FIRST_RENEWALS_PER_S + probe_s)
    with Stage(load, folder, prepare=plan.prepare) as stage, no_collection():
        administrator = Connections(1, [keyfile.read(stage.server.data_dir / "admin.key_secret")])
        try:
            administrator.open(stage.server.port, stage.server.server_key)
            return _break(plan, stage, administrator.sockets[0], latency.rate_of(stage, rate_per_s))
        finally:
            administrator.close()


class _Plan:
    """One storm: what it needs in the store, and the errand that it is."""

    def __init__(self, kind: str, storm: Storm, leases_beside: int, probe_s: float) -> None:
        """Plan for a store with `leases_beside` more leases, and for `probe_s` between server's start and load."""
        self.kind = kind
        self._leases_beside = leases_beside
        self._probe_s = probe_s
        self._storm = storm
        self._lapse_at = 0
        self._texts: list[str] = []

    def prepare(self, stock: Stock, server: ServerUnderTest) -> None:
        """Put into the store what will lapse or be copied; issue what will be imported."""
        if self.kind == IMPORT:
            report.tell(f"issuing {self._storm.serials:,} serials")
            self._texts = server.vendor.issue(1, self._storm.serials)
            return
        report.tell(f"filling the store with {self._storm.leases:,} leases more")
        now = clock.wall_s()
        stock.import_serials(server.vendor.issue(SEATS_PER_SERIAL), now)
        if self.kind == LAPSE:
            self._lapse_at = now + round(self._seconds_until_load(stock, now))
            now = self._lapse_at - PERIOD_S
        stock.acquire(_LAPSING, range(self._storm.leases), [bytes(32)], now)

    def _seconds_until_load(self, stock: Stock, now: int) -> float:
        """Estimate, by filling in a few leases, when the load can be on."""
        before_s = clock.monotonic_s()
        stock.acquire(_TRIED, range(TRIED_LEASES), [bytes(32)], now)
        per_lease_s = (clock.monotonic_s() - before_s) / TRIED_LEASES
        fill_s = per_lease_s * (self._storm.leases + self._leases_beside)
        return TIMES_ESTIMATE * fill_s + START_S + self._probe_s + QUIET_S

    def errand(self, stage: Stage, socket: "zmq.Socket[bytes]") -> Breaking:
        """Make the errand, to break after the quiet stretch. Raises BenchError when the moment has passed."""
        if self.kind == IMPORT:
            return Import(socket, QUIET_S, self._texts)
        if self.kind == BACKUP:
            return Backup(socket, QUIET_S, stage.server)
        until_s = self._lapse_at - clock.SystemClock().read().wall_s
        if until_s < QUIET_S:
            raise BenchError("this machine is too slow for so many leases: they lapsed before the load began")
        if until_s > QUIET_S:
            report.tell(f"waiting {until_s - QUIET_S:.0f} s for the second in which they all lapse")
            time.sleep(until_s - QUIET_S)
        return LapseWatch(socket, self._lapse_at - clock.SystemClock().read().wall_s, self._storm.leases)


def _break(plan: _Plan, stage: Stage, socket: "zmq.Socket[bytes]", rate_per_s: float) -> Results:
    """Drive the load, let the storm break in it, and tell the latencies apart."""
    stretch_s = QUIET_S + stage.load.duration_s + QUIET_S
    due_s = schedule(rate_per_s, stretch_s, stage.load.seed)
    loop = latency.warmed_up(stage, rate_per_s)
    errand = plan.errand(stage, socket)
    try:
        report.tell(f"{rate_per_s:,.0f} renewals a second, and the storm ({plan.kind}) in it")
        loop.errands = [errand]
        outcome, cost = latency.drive(
            stage, loop, due_s, lambda now_s: errand.end_s is not None and now_s > errand.end_s + QUIET_S
        )
    finally:
        if isinstance(errand, Backup):
            errand.close()
    begin_s = errand.begin_s
    end_s = errand.end_s if errand.end_s is not None else stretch_s
    return {
        "rate_per_s": round(rate_per_s),
        "is_over": errand.end_s is not None,
        "storm_s": round(end_s - begin_s, 3),
        "before": latencies.summary(outcome.latencies(0, begin_s)),
        "during": latencies.summary(outcome.latencies(begin_s, end_s)),
        "after": latencies.summary(outcome.latencies(end_s)),
        "overloaded": outcome.is_overloaded,
        **cost,
    }


def warnings(results: Results) -> list[str]:
    """Say what makes the figures worth less."""
    found = []
    for kind, result in results.items():
        found += latency.warnings(result, kind)
        if not result["is_over"]:
            found.append(f"{kind}: the storm was not over when the load ended; give more --duration-s")
    return found


def view(results: Results) -> list[str]:
    """Show the results to people."""
    names = list(latencies.PERCENTILES)
    rows = [
        (kind, part, result[part]["count"], *(result[part][name] for name in names))
        for kind, result in results.items()
        for part in ("before", "during", "after")
    ]
    lasted: list[str] = [
        f"{kind}: {result['rate_per_s']:,} renewals/s beside it; it lasted {result['storm_s']:.2f} s"
        for kind, result in results.items()
    ]
    return [*lasted, "", *report.table(["storm", "due", "answers", *map(latency.label, names)], rows)]
