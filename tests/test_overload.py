"""More than a server can do: floods of requests, connections and datagrams over real sockets, others served meanwhile.

What is measured is printed (pytest -rP); the bounds are far above it.
"""

import contextlib
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import zmq

from als.clock import monotonic_s
from contract_client import query, read_beacon, udp_socket
from server_process import Site

WAIT_S_MAX = 1.0  # what a flood may cost somebody else
MEASURED_S = 1.0
HUNG_UP_S = 5.0  # when a connection that says nothing is closed
UNREAD_MAX = 100_000  # replies of 1 KB each
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module with some leases to list, the same process to the end."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        product, agent = site.product(3_000), site.client()
        wishes = [wish(product.code, number) for number in range(2_000)]
        for batch in (wishes[:1_000], wishes[1_000:]):
            agent.replies_to([agent.send("acquire", **fields) for fields in batch])
        yield site
        assert site.server.exited() is None, site.server.stderr()
        assert "Traceback" not in site.server.stderr()


def wish(product: str, number: int) -> dict[str, Any]:
    """Ask for a license for a computer outside of those that Site gives."""
    computer = {"macs": [(1 << 40 | number).to_bytes(6)], "host": f"pc{number}", "address": ""}
    return {"product": product, "component": "agent", "computer": computer}


# The sender's role, how many requests it sends without waiting, and the operation.
FLOODS: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "hello": ("agent", 20_000, "hello", {}),
    "new computers": ("agent", 10_000, "acquire", {"component": "agent"}),
    "imports that nobody asked for": ("agent", 10_000, "import", {"serials": ["x"] * 20}),
    "lists": ("viewer", 300, "leases", {"limit": 1_000}),
    "searches": ("viewer", 500, "leases", {"host": "*a*b*c*d*e*f*"}),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_makes_nobody_else_wait(site: Site, name: str) -> None:
    """While one client has thousands of requests under way, another's are answered within a second."""
    role, count, operation, fields = FLOODS[name]
    product, other = site.product(20_000), site.client()
    flood = site.client()
    site.admin.ask("admin_add", key=flood.keys.raw, name=name, role=role)
    other.ask("hello")
    flood.ask("hello")
    server = psutil.Process(site.server.pid)
    for number in range(count):
        own = wish(product.code, number) if operation == "acquire" else {}
        flood.socket.send(msgpack.packb({"v": 1, "id": 1_000 + number, "op": operation, **own, **fields}))
    start_s = monotonic_s()
    waits_s: list[float] = []
    while monotonic_s() - start_s < MEASURED_S:
        asked_s = monotonic_s()
        other.ask("acquire", product=product.code, component="agent", computer=site.computer())
        waits_s.append(monotonic_s() - asked_s)
    print(  # noqa: T201
        f"{name}: {len(waits_s)} requests, median {sorted(waits_s)[len(waits_s) // 2] * 1e3:.1f} ms, "
        f"longest {max(waits_s) * 1e3:.1f} ms, server {server.memory_info().rss / MIB:.0f} MiB"
    )
    assert max(waits_s) < WAIT_S_MAX
    flood.close()
    site.client().ask("hello")


def test_a_thousand_under_way_again_and_again(site: Site) -> None:
    """A client that has at most a thousand requests under way loses no reply, however often it does that."""
    with site.client() as client:
        for count in (800, 800, 900, 1_000, 700, 1_000):
            ids = [client.send("check", product="ATIES") for _ in range(count)]
            assert len(client.replies_to(ids)) == count


def test_what_nobody_reads_is_dropped_and_counted(site: Site) -> None:
    """Replies to a client that does not read are dropped, counted in the status, and cost a bounded memory."""
    server = psutil.Process(site.server.pid)
    before = site.admin.ask("status")["server"]["replies_dropped"]
    with unreading_client(site) as unreading:
        dropped = site.admin.ask("status")
        for number in range(UNREAD_MAX):  # the system's buffers hold some thousands
            unreading.send(msgpack.packb({"v": 1, "id": number, "op": "hello"}))
            if number % 1_000 == 999:
                dropped = site.admin.ask("status")
                if dropped["server"]["replies_dropped"] > before:
                    break
        rss_mib = server.memory_info().rss / MIB
    print(f"{dropped['server']['replies_dropped'] - before} replies dropped, server {rss_mib:.0f} MiB")  # noqa: T201
    assert dropped["server"]["replies_dropped"] > before
    assert rss_mib < 400


@contextlib.contextmanager
def unreading_client(site: Site) -> Iterator["zmq.Socket[bytes]"]:
    """A client that takes one message in and then leaves the rest to the network."""
    keys = site.client().keys
    opened: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    with opened:
        opened.setsockopt(zmq.LINGER, 0)
        opened.setsockopt(zmq.RCVHWM, 1)
        opened.setsockopt(zmq.SNDHWM, 0)
        opened.setsockopt(zmq.RCVBUF, 4_096)
        opened.curve_serverkey, opened.curve_publickey, opened.curve_secretkey = (
            site.server.server_key,
            keys.public,
            keys.secret,
        )
        opened.connect(f"tcp://127.0.0.1:{site.server.port}")
        yield opened


def silent_connections(stack: contextlib.ExitStack, port: int, count: int) -> None:
    """Open connections that say nothing."""
    for _ in range(count):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))


def test_silent_connections(site: Site) -> None:
    """With two thousand TCP connections that say nothing, old and new clients are served at once."""
    with contextlib.ExitStack() as stack:
        silent_connections(stack, site.server.port, 2_000)
        asked_s = monotonic_s()
        site.admin.ask("status")
        site.client().ask("hello")
        waited_s = monotonic_s() - asked_s
    print(f"answered after {waited_s * 1e3:.0f} ms")  # noqa: T201
    assert waited_s < HUNG_UP_S / 2


FILES_MAX = 200
_LIMITED = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES_MAX}, {FILES_MAX}))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_more_connections_than_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """When strangers use up all files, who is connected is served, even what reads files; strangers are hung up on."""
    program = (sys.executable, "-c", _LIMITED, str(Path(sys.executable).with_name("als-server")), "run")
    with (
        Site(tmp_path_factory.mktemp("limited"), program=program) as site,
        contextlib.ExitStack() as stack,
    ):
        server = psutil.Process(site.server.pid)
        opened_s = -HUNG_UP_S
        while server.num_fds() < FILES_MAX:
            if monotonic_s() - opened_s > HUNG_UP_S:  # on a slow machine, before all of them were in
                silent_connections(stack, site.server.port, FILES_MAX + 20)
                opened_s = monotonic_s()
            site.admin.ask("hello")
        product = site.product(1)
        assert site.admin.ask("check", product=product.code)["total"] == 1
        late = site.client()
        late.ask("hello")  # answered when the server has hung up on the silent ones
        assert site.server.exited() is None
        assert "the catalog was not read again" in site.server.stderr()
    """One source gets so many answers a second, requests go on, and the answers never exceed the queries."""


# Discovery


def test_a_flood_of_queries(site: Site) -> None:
    """One source gets so many answers a second and no more, none longer than a query, and requests go on."""
    target = ("127.0.0.1", site.server.port)
    source = random.Random(5)
    with udp_socket() as flood:
        flood.settimeout(0.3)
        start_s = monotonic_s()
        for _ in range(20):
            for _ in range(100):
                flood.sendto(query(source.randbytes(16)), target)
            site.admin.ask("hello")
        answers: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            while True:
                answers.append(flood.recv(65_536))
        seconds = int(monotonic_s() - start_s) + 2
    print(f"2,000 queries, {len(answers)} answers in {seconds} s at most")  # noqa: T201
    assert 0 < len(answers) <= 20 * seconds
    assert all(read_beacon(answer).length <= 512 for answer in answers)
