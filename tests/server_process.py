"""Real server processes for tests: start, wait for the `ready:` line, stop, kill, start again.

`Site` adds what most tests need around one: a vendor, a catalog of products to use up, clients of every role.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from contract_client import Client, Keys, Vendor, new_keys, read_keys, read_public_key, short_id

START_TIMEOUT_S = 30.0  # far above what a start takes, for machines that do much else
STOP_TIMEOUT_S = 30.0
_READY = re.compile(r"ready: (?P<name>.+) on (?P<address>\S+):(?P<port>[0-9]+)\n\Z")
PROGRAM = str(Path(sys.executable).with_name("als-server"))


def environment(**extra: str) -> dict[str, str]:
    """Give this process's environment without the user's own ALS settings and without the size of his screen.

    The size comes with readline, which pytest loads: the workers of a run on several cores inherit 80 columns.
    """
    unwanted = ("COLUMNS", "LINES")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted and not key.startswith("ALS_")}
    return kept | extra


def free_udp_port() -> int:
    """Find a port for discovery that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """One `als-server run` on a data folder; started again, it takes the same port.

    `program` is another command that takes the same flags, `variables` what its environment has besides.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        bind: str = "127.0.0.1",
        program: Sequence[str] = (PROGRAM, "run"),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.name = ""
        self.address = bind
        self.port = 0
        self._bind = bind
        self._program = program
        self._variables = variables or {}
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object

    def start(self) -> None:
        """Start and wait until it serves. Fails, with what it wrote to stderr, when it does not."""
        assert self._process is None
        self._process = subprocess.Popen(
            [*self._program, *self._options(), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(**self._variables),
            text=True,
        )
        assert self._process.stdout is not None
        bound = threading.Timer(START_TIMEOUT_S, self._process.kill)
        bound.start()
        line = self._process.stdout.readline()
        bound.cancel()
        found = _READY.match(line)
        if found is None:
            self.kill()
            raise AssertionError(f"the server printed {line!r}; stderr: {self.stderr()}")
        self.name, self.address, self.port = found["name"], found["address"], int(found["port"])

    def _options(self) -> list[str]:
        options = ["--data-dir", str(self.data_dir), "--bind", self._bind, "--port", str(self.port)]
        return options if "--discovery-port" in self._arguments else [*options, "--discovery-port", "0"]

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def server_key(self) -> bytes:
        """The server's public key as Z85."""
        return read_public_key(self.data_dir / "server.key")

    @property
    def admin_keys(self) -> Keys:
        """The key pair of the administrator whom the server makes at its first start."""
        return read_keys(self.data_dir / "admin.key_secret")

    def exited(self) -> int | None:
        """Give the exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the process's own end; give its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not stop; stderr: {self.stderr()}") from None
        finally:
            assert process.stdout is not None
            process.stdout.close()
        return process.returncode

    def stop(self) -> int:
        """Stop it as a service manager does; give its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it without giving it a chance to do anything."""
        assert self._process is not None
        self._process.kill()
        self.wait()

    def stderr(self) -> str:
        """Give what all runs wrote to stderr so far."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def close(self) -> None:
        """Kill it if it still runs, and let go of its files."""
        if self._process is not None:
            self.kill()
        self._errors.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_to_end(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run als-server with arguments that should make it end by itself."""
    return subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        env=environment(**variables),
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )


def start_failure(data_dir: Path, *arguments: str) -> str:
    """Run a server that must not start: exit code 5, and one line on stderr, which is given."""
    fixed = ("--data-dir", str(data_dir), "--bind", "127.0.0.1", "--discovery-port", "0")
    done = run_to_end("run", *fixed, *(arguments or ("--port", "0")))
    assert (done.returncode, done.stdout) == (5, ""), done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


class Product(NamedTuple):
    """A product of the test catalog and the serials imported for it, as texts."""

    code: str
    number: int
    serials: tuple[str, ...] = ()

    @property
    def serial_ids(self) -> tuple[str, ...]:
        """The short ids of the serials."""
        return tuple(short_id(self.code, serial) for serial in self.serials)


_PRODUCT = """\
[products.{code}]
number = {number}
name = "Product {code}"
period = "{period}"
heartbeat = "{heartbeat}"
reusable = {reusable}
[products.{code}.components.agent]
name = "Agent"
[products.{code}.components.shield]
name = "Shield"
[products.{code}.components.local]
name = "Local console"
works_offline = true
[products.{code}.components.console]
name = "Console"
licensed = false
"""

# What a test may ask for: its leases live for 30 days, for 1 s, or for ever without giving a seat back.
_KINDS: Mapping[str, Mapping[str, str]] = {
    "P": {"period": "30d", "heartbeat": "1h", "reusable": "true"},
    "TICK": {"period": "1s", "heartbeat": "1s", "reusable": "true"},
    "KEEP": {"period": "never", "heartbeat": "1h", "reusable": "false"},
}
_PRODUCTS_PER_KIND = 40


def product_text(code: str, number: int, period: str, heartbeat: str, reusable: str) -> str:
    """Write one product of a catalog file."""
    values = {"code": code, "number": number, "period": period, "heartbeat": heartbeat, "reusable": reusable}
    return _PRODUCT.format(**values)


def catalog_text() -> str:
    """Write a catalog of many equal products of each kind, one for each test."""
    return "".join(
        product_text(f"{kind}{index}", _number(kind, index), **values)
        for kind, values in _KINDS.items()
        for index in range(_PRODUCTS_PER_KIND)
    )


def _number(kind: str, index: int) -> int:
    return 1_000 * (1 + list(_KINDS).index(kind)) + index


class Site:
    """A server with a vendor and a catalog, and everyone who talks to it; one can serve a whole module.

    Tests stay apart by taking products and computers that no other test uses.
    """

    def __init__(self, folder: Path, *, settings: str = "", **options: Any) -> None:
        """Write the data folder; `options` are those of ServerProcess."""
        self.vendor = Vendor()
        data_dir = folder / "data"
        for name, text in {
            "vendors/contract.pub": self.vendor.pub_line,
            "catalog.d/contract.toml": catalog_text(),
            "als.toml": settings,
        }.items():
            (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (data_dir / name).write_text(text, encoding="utf-8")
        self.server = ServerProcess(data_dir, **options)
        self.admin: Client
        self._clients: list[Client] = []
        self._by_role: dict[str, Client] = {}
        self._products = dict.fromkeys(_KINDS, 0)
        self._computers = 0

    def client(self, keys: Keys | None = None, **options: Any) -> Client:
        """Open a connection, with a key that the server does not know unless `keys` says otherwise."""
        client = Client(
            self.server.port, self.server.server_key, keys or new_keys(), host=self.server.address, **options
        )
        self._clients.append(client)
        return client

    def with_role(self, role: str) -> Client:
        """Give a connection whose key has this role, the same one each time."""
        if role not in self._by_role:
            client = self._by_role[role] = self.client()
            self.admin.ask("admin_add", key=client.keys.raw, name=f"the {role}", role=role)
        return self._by_role[role]

    def product(self, *seats: int, kind: str = "P") -> Product:
        """Give a product that no other test has used, with a serial of so many seats for each argument."""
        index = self._products[kind]
        self._products[kind] += 1
        number = _number(kind, index)
        serials = tuple(self.vendor.issue(number, count) for count in seats)
        if serials:
            rows = self.admin.ask("import", serials=list(serials))["rows"]
            assert [row["result"] for row in rows] == ["added"] * len(serials)
        return Product(f"{kind}{index}", number, serials)

    def import_one(self, serial: str) -> tuple[str, str | None]:
        """Import one serial; give its result and serial_id."""
        row = self.admin.ask("import", serials=[serial])["rows"][0]
        return row["result"], row["serial_id"]

    def computer(self, **changes: Any) -> dict[str, Any]:
        """Give a computer that no other test has used."""
        self._computers += 1
        number = self._computers
        known = {"macs": [number.to_bytes(6)], "host": f"host-{number}", "address": "192.0.2.1"}
        return known | changes

    def now_s(self) -> int:
        """Give the server's time."""
        time_s: int = self.admin.reply_to(self.admin.send("hello"))["time"]
        return time_s

    def reconnect(self) -> None:
        """Start the server again after its end, and connect the administrator anew."""
        self.server.start()
        self.admin = self.client(self.server.admin_keys)

    def __enter__(self) -> Self:
        try:
            self.reconnect()
        except BaseException:
            self.server.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        self.server.close()


def counted(client: Client, product: Product) -> tuple[int, int, int]:
    """Give (total, used, free) of a product as `check` tells it."""
    reply = client.ask("check", product=product.code)
    return reply["total"], reply["used"], reply["free"]


def kinds_of(events: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> list[str]:
    """Give the kinds of those events that are `wanted`, in their order."""
    return [event["kind"] for event in events if wanted(event)]
