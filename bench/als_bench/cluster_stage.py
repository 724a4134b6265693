"""A cluster to be measured: members of etcd, servers over it, and the load's connections, spread over the servers.

Its leases are acquired over the wire before anything is measured, since no other way leads into a store that is shared.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from als.protocol import SERIALS_PER_IMPORT_MAX
from als_agents.client import granted
from als_bench import report
from als_bench.closed_loop import ClosedLoop, Count
from als_bench.connections import Connections
from als_bench.etcd_members import Members, MissingError
from als_bench.processes import BenchError, Cpu, cpu_of
from als_bench.report import Results
from als_bench.server_under_test import ServerUnderTest
from als_bench.stage import NEW, SEATS_PER_SERIAL, SERIALS, STEADY, WARM_UP_S, Load, figures
from als_bench.stock import Vendor
from als_bench.workload import ACQUIRE, GRANTED, Fleet

POOLS = 16  # products beside the hot one, for acquires that are spread
_FIRST_POOL = 30_000
_POOL = """\
[products.POOL{place}]
number = {number}
name = "Pool {place}"
period = "30d"
heartbeat = "1h"
reusable = true
[products.POOL{place}.components.agent]
name = "Agent"
"""


def flags_for(folder: Path, members: Members) -> list[str]:
    """Give the flags by which servers share this etcd, with a secret of their own."""
    secret = folder / "cluster-secret"
    secret.write_text(secrets.token_hex(32), encoding="ascii")
    secret.chmod(0o600)
    return ["--store", "etcd://" + ",".join(members.endpoints), "--cluster-secret", str(secret)]


class ClusterStage:
    """The cluster, running, with `servers` of its servers in use; a context manager."""

    def __init__(self, load: Load, members: int, servers: int, folder: Path | None, *flags: str) -> None:
        self.load = load
        self._temporary = tempfile.TemporaryDirectory(prefix="als-bench-", dir=folder, ignore_cleanup_errors=True)
        try:
            self.members = Members(Path(self._temporary.name), members, *flags)
        except MissingError as error:
            self._temporary.cleanup()
            raise BenchError(str(error)) from None
        self.connections = Connections(load.connections)
        self.vendor = Vendor()
        options = flags_for(Path(self._temporary.name), self.members)
        self.servers = [ServerUnderTest(folder, *options, vendor=self.vendor) for _ in range(servers)]
        self._new_computers = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        self.members.start()
        for server in self.servers:
            for place in range(POOLS):
                text = _POOL.format(place=place, number=_FIRST_POOL + place)
                file = server.data_dir / "catalog.d" / f"pool{place}.toml"
                file.parent.mkdir(exist_ok=True)
                file.write_text(text, encoding="utf-8")
        self.servers[0].start()
        self._import()
        for server in self.servers[1:]:
            server.start()
        self.connect(1)
        self._fill()

    def _import(self) -> None:
        """Import serials for all the seats that will be needed."""
        texts = self.vendor.issue(SEATS_PER_SERIAL, SERIALS)
        for place in range(POOLS):
            texts += self.vendor.issue(SEATS_PER_SERIAL, 1, _FIRST_POOL + place)
        client = self.servers[0].administrator()
        try:
            for start in range(0, len(texts), SERIALS_PER_IMPORT_MAX):
                some = texts[start : start + SERIALS_PER_IMPORT_MAX]
                answer = granted(client.request("import", serials=some))
                if answer["added"] != len(some):
                    raise BenchError(f"serials were not imported: {answer}")
        finally:
            client.close()

    def _fill(self) -> None:
        """Let the computers that renew later acquire, as fast as it goes."""
        report.tell(f"{self.load.leases:,} computers acquire")
        count = self.load.connections
        mine = [range(place, self.load.leases, count) for place in range(count)]
        streams = [cycle([STEADY.request(ACQUIRE, number) for number in numbers or (0,)]) for numbers in mine]
        loop = self.closed_loop(streams, min(self.load.window, len(mine[0]) or 1))
        loop.start()
        done = Count()
        while done.replies < self.load.leases + count * self.load.window:
            got = loop.run(WARM_UP_S)
            done.replies += got.replies
            if got.refused or not got.replies:
                raise BenchError(f"computers were refused: {got.refusals}")
        loop.finish()

    def connect(self, servers: int) -> None:
        """Spread the connections over so many of the servers."""
        self.connections.disconnect()
        for place, pair in enumerate(self.connections.keys):
            server = self.servers[place % servers]
            self.connections.open_one(pair, server.port, server.server_key)

    def closed_loop(self, streams: Sequence[Iterator[bytes]], window: int) -> ClosedLoop:
        """Make the load at saturation."""
        return ClosedLoop(self.connections.sockets, streams, window, GRANTED)

    def acquires(self, pools: int) -> list[Iterator[bytes]]:
        """Make each connection's endless acquires of ever new computers: of one product, or of one of `pools`."""
        streams = []
        for place in range(self.load.connections):
            start, self._new_computers = self._new_computers, self._new_computers + SEATS_PER_SERIAL // 100
            fleet = Fleet(f"POOL{place % pools}", salt=NEW.salt) if pools else NEW
            streams.append(fleet.forever_new(ACQUIRE, start, 1))
        return streams

    def measure(self, streams: Sequence[Iterator[bytes]], servers: int) -> Results:
        """Run the closed loop; give its rate and what it cost whom."""
        loop = self.closed_loop(streams, self.load.window)
        loop.start()
        loop.run(min(WARM_UP_S, self.load.duration_s))
        before = self._cpu(servers), cpu_of(os.getpid())
        count = loop.run(self.load.duration_s)
        after = self._cpu(servers), cpu_of(os.getpid())
        loop.finish()
        one = [later - earlier for earlier, later in zip(before[0][0], after[0][0], strict=True)]
        etcd_s = after[0][1].total_s - before[0][1].total_s
        busiest = max(one, key=lambda cpu: cpu.main_s)
        total = Cpu(sum(cpu.main_s for cpu in one), sum(cpu.others_s for cpu in one))
        return figures(count, total, after[1] - before[1]) | {
            "servers": servers,
            "server_main_busy": round(busiest.main_s / count.elapsed_s, 3),
            "etcd_cpu_us_per_request": round(etcd_s / max(count.replies, 1) * 1e6, 2),
            "etcd_busy": round(etcd_s / count.elapsed_s, 3),
        }

    def _cpu(self, servers: int) -> tuple[list[Cpu], Cpu]:
        """Read what each server in use has used, and what all members have."""
        members = [cpu_of(member.pid) for member in self.members.all]
        return [cpu_of(server.pid) for server in self.servers[:servers]], Cpu(sum(cpu.total_s for cpu in members), 0.0)

    def status(self, place: int = 0) -> dict[str, Any]:
        """Ask a server for its status."""
        client = self.servers[place].administrator()
        try:
            return granted(client.request("status"))
        finally:
            client.close()

    def close(self) -> None:
        """End everything."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._temporary.cleanup)
            stack.callback(self.members.close)
            for server in self.servers:
                stack.callback(server.close)
            stack.callback(self.connections.close)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
