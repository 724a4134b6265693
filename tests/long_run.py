"""A long run: mixed load on a real server, restarts, kills, years that pass; memory, files and disk must stay flat.

    python tests/long_run.py [--minutes 60] [--seed N] [--pause-ms 2]

A cycle is a minute: computers come and go, renew, lapse; serials are imported and removed; lists are read, garbage is
sent, backups are taken; then the server is stopped or killed, its books are checked, and 410 days pass, after which the
log of the cycle has to go and its pages have to be used again. Prints a line a measurement, and ends with 1 when
something grew, was lost, or did not agree.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import shifted_server
from als.clock import monotonic_s
from als.ledger.audit import Audit
from als.store.lmdb.store import LmdbStore
from contract_client import DAY_S, Client
from server_process import Product, Site, run_to_end

CYCLE_S = 60.0
WARM_S = 10.0  # caches are full by then, and libraries loaded
PASSED_S = 410 * DAY_S  # more than events are kept
COMPUTERS = 600
CLIENTS = 8
EVENTS_LEFT_MAX = 3 * COMPUTERS  # every lease lapses when the years have passed, and says so
WINDOW = 4  # requests under way on a connection
MIB = 1 << 20
RSS_GROWN_MIB_MAX = 16.0  # within a process's life; what leaks grows in every cycle
STORE_GROWN_MAX = 1.5  # against the largest of the first cycles
FIRST_CYCLES = 3


class Sample(NamedTuple):
    """One look at the server."""

    at_s: float
    cycle: int
    moment: str
    rss_mib: float
    files: int
    store_mib: float
    events: int
    leases: int
    requests: int

    def line(self) -> str:
        """Give the row of the table."""
        return (
            f"{self.at_s:7.0f} {self.cycle:5} {self.moment:<9} {self.rss_mib:8.1f} {self.files:6} "
            f"{self.store_mib:10.2f} {self.events:8} {self.leases:8} {self.requests:9}"
        )


HEADER = "      s cycle moment     RSS MiB  files  store MiB   events   leases  requests"


class Load:
    """Computers and administrators at work; `requests` counts the replies, `wrong` keeps those that nobody expects."""

    def __init__(self, site: Site, source: random.Random, pause_ms: int) -> None:
        self._site = site
        self._source = source
        self._pause_ms = pause_ms
        self._computers = [site.computer() for _ in range(COMPUTERS)]
        self._keys = [site.client().keys for _ in range(CLIENTS)]
        self._products = [site.product(COMPUTERS // 2), site.product(COMPUTERS, kind="TICK")]
        self._own: list[str] = []
        self.requests = 0
        self.wrong: list[Any] = []

    @contextmanager
    def _connected(self) -> Iterator[list[Client]]:
        clients = [self._site.client(keys) for keys in self._keys]
        try:
            yield clients
        finally:
            for client in clients:
                client.close()

    def run(self, seconds: float) -> None:
        """Work for so long, at an unhurried pace."""
        end_s = monotonic_s() + seconds
        with self._connected() as clients:
            under_way = dict.fromkeys(clients, 0)
            while monotonic_s() < end_s:
                for client in clients:
                    while under_way[client] < WINDOW:
                        self._send(client)
                        under_way[client] += 1
                    while client.socket.poll(0):
                        self._look_at(client.receive())
                        under_way[client] -= 1
                clients[0].socket.poll(self._pause_ms)
                if self._source.randrange(20) == 0:
                    self._administer()

    def _look_at(self, reply: dict[str, Any]) -> None:
        self.requests += 1
        if not reply["ok"] and reply["code"] not in ("no_free_license", "bad_request", "not_holder", "unavailable"):
            self.wrong.append(reply)

    def _send(self, client: Client) -> None:
        number = self._source.randrange(100)
        if number == 0:
            client.socket.send(self._source.randbytes(self._source.randrange(1, 300)))
            return
        operation = "renew" if number < 60 else self._source.choice(("acquire", "acquire", "release", "check"))
        product = self._source.choice(self._products).code
        computer = self._source.choice(self._computers)
        client.send(operation, product=product, component=self._source.choice(("agent", "shield")), computer=computer)

    def _administer(self) -> None:
        """Do one thing that an administrator does."""
        admin, product = self._site.admin, self._products[0]
        deed = self._source.randrange(6)
        if deed == 0:
            self._import(product)
        elif deed == 1 and self._own:
            admin.ask("remove", serial_id=self._own.pop(0), force=True)
        elif deed == 2:
            mac = self._source.choice(self._computers)["macs"][0]
            admin.reply_to(admin.send("revoke", product=product.code, mac=mac))
        else:
            admin.ask(("status", "licenses", "leases", "events")[deed - 2], **({} if deed == 2 else {"limit": 100}))
        self.requests += 1

    def _import(self, product: Product) -> None:
        result, serial_id = self._site.import_one(
            self._site.vendor.issue(product.number, self._source.randrange(1, 50))
        )
        assert result == "added" and serial_id is not None
        self._own.append(serial_id)


class Run:
    """The whole run: cycles, measurements, and what went wrong."""

    def __init__(self, folder: Path, minutes: float, seed: int, pause_ms: int) -> None:
        self._folder = folder
        self._source = random.Random(seed)
        self._minutes = minutes
        self._shift = folder / "shift"
        self._passed_s = 0
        self._write_shift()
        program = (sys.executable, shifted_server.__file__)
        self.site = Site(folder, program=program, variables={shifted_server.SHIFT_VARIABLE: str(self._shift)})
        self._pause_ms = pause_ms
        self.samples: list[Sample] = []
        self.faults: list[str] = []
        self.kills = 0

    def _write_shift(self) -> None:
        new = self._shift.with_suffix(".new")
        new.write_text(f"{self._passed_s} {self._passed_s}", encoding="ascii")
        new.replace(self._shift)

    def run(self) -> None:
        """Run cycles until the time is over."""
        start_s = monotonic_s()
        print(HEADER, flush=True)  # noqa: T201
        with self.site:
            load = Load(self.site, self._source, self._pause_ms)
            cycle = 0
            while monotonic_s() - start_s < self._minutes * 60:
                cycle += 1
                self._cycle(cycle, load, start_s)
            self.faults += [f"unexpected reply: {reply}" for reply in load.wrong[:5]]
            if self.site.server.stop() != 0:
                self.faults.append("the server did not stop cleanly")
        self.faults += [f"{what} in the log" for what in ("Traceback", "ERROR") if what in self._log]
        self.faults += flatness(self.samples)

    def _cycle(self, cycle: int, load: Load, start_s: float) -> None:
        load.run(WARM_S)
        self._measure(cycle, "warm", load, start_s)
        load.run(CYCLE_S / 2)
        self._backup(cycle)
        load.run(CYCLE_S / 2 - WARM_S)
        self._measure(cycle, "worked", load, start_s)
        self._end()
        self._passed_s += PASSED_S
        self._write_shift()
        self.site.admin.ask("hello")
        self.site.admin.wait_until(lambda reply: reply["counts"]["events"] < EVENTS_LEFT_MAX, "status")
        self._measure(cycle, "forgotten", load, start_s)

    def _measure(self, cycle: int, moment: str, load: Load, start_s: float) -> None:
        process = psutil.Process(self.site.server.pid)
        counts = self.site.admin.ask("status")["counts"]
        sample = Sample(
            monotonic_s() - start_s,
            cycle,
            moment,
            process.memory_info().rss / MIB,
            process.num_fds(),
            (self.site.server.data_dir / "store/data.mdb").stat().st_size / MIB,
            counts["events"],
            counts["leases"],
            load.requests,
        )
        self.samples.append(sample)
        print(sample.line(), flush=True)  # noqa: T201

    def _backup(self, cycle: int) -> None:
        """Take a backup beside the running server."""
        target = self._folder / f"{cycle}.tar"
        done = run_to_end("backup", str(target), "--data-dir", str(self.site.server.data_dir))
        if done.returncode:
            self.faults.append(f"backup: {done.stderr.strip()}")
        target.unlink(missing_ok=True)

    def _end(self) -> None:
        """Stop or kill the server, check its books, and start it again."""
        self.site.admin.close()
        if self._source.random() < 0.5:
            self.kills += 1
            self.site.server.kill()
        elif self.site.server.stop() != 0:
            self.faults.append("the server did not stop cleanly")
        store = LmdbStore(self.site.server.data_dir / "store")
        tx = store.snapshot()
        self.faults += Audit(tx).run()
        tx.abort()
        store.close()
        self._log = self.site.server.stderr()
        self.site.reconnect()


def flatness(samples: list[Sample]) -> list[str]:
    """Say what grew."""
    faults = []
    by_cycle = [(warm, worked) for warm, worked in zip(samples[::3], samples[1::3], strict=False)]
    grown_mib = sorted(worked.rss_mib - warm.rss_mib for warm, worked in by_cycle)
    if grown_mib and grown_mib[len(grown_mib) // 2] > RSS_GROWN_MIB_MAX:
        faults.append(f"memory grew by {grown_mib[len(grown_mib) // 2]:.1f} MiB within a cycle")
    more_files = sorted(worked.files - warm.files for warm, worked in by_cycle)
    if more_files and (more_files[len(more_files) // 2] > 0 or more_files[-1] > CLIENTS):
        faults.append("open files grew within a cycle")  # a client that connected anew has two for a moment
    store_mib = [sample.store_mib for sample in samples]
    first = store_mib[: 3 * FIRST_CYCLES]
    if first and max(store_mib) > STORE_GROWN_MAX * max(first):
        faults.append(f"the store grew from {max(first):.1f} to {max(store_mib):.1f} MiB")
    return faults


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(description="A long run of mixed load, restarts and kills.")
    parser.add_argument("--minutes", type=float, default=60, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--pause-ms", type=int, default=2, help="the smaller, the more load; default %(default)s")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="als-long-run-") as folder:
        run = Run(Path(folder), arguments.minutes, arguments.seed, arguments.pause_ms)
        run.run()
    print(f"{len(run.samples) // 3} cycles, {run.kills} kills, {run.samples[-1].requests} requests")  # noqa: T201
    for fault in run.faults:
        print(f"FAULT {fault}")  # noqa: T201
    print("not flat" if run.faults else "flat")  # noqa: T201
    return bool(run.faults)


if __name__ == "__main__":
    sys.exit(main())
