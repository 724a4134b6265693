"""The demo's server: a temporary folder with a vendor, a catalog and serials, and a real `als-server run` on it.

Nothing here is simulated. The folder goes when the site is left, and the server before it.
"""

import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from als import keyfile, serial
from als_agents.client import Client
from als_tools.failures import Exit, Failure
from als_tools.interrupts import held_back

HERE = "127.0.0.1"
SERVER_NAME = "demo"
START_S_MAX = 30.0  # far above what a start takes, for machines that do much else
STOP_S_MAX = 10.0
PERIOD_S = 6  # the manual's 30 days, so short that the demo can show what happens at their end
_READY = re.compile(r"ready: .+ on (\S+):([0-9]+)\s*\Z")
_RUN = "from als.server.start import main; main()"  # with this interpreter, whatever is on the PATH

_CATALOG = """\
# What the demo's vendor sells. A license lapses when its program was not run for {period_s} seconds.
[products.STUDIO]
number = 1001
name = "Example Studio"
period = "{period_s}s"
heartbeat = "1s"
vendor = "example"
[products.STUDIO.components.editor]
name = "Example Studio Editor"

[products.VIEWER]
number = 1002
name = "Example Viewer"
period = "{period_s}s"
heartbeat = "1s"
vendor = "example"
[products.VIEWER.components.viewer]
name = "Example Viewer"
"""


class Sale(NamedTuple):
    """A serial to be issued: for which product, and for how many computers."""

    product_number: int
    seats: int


class Site:
    """A folder with everything in it, and the server while it runs. Use it with `with`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="als-demo-"))
        self.data_dir = self.folder / "server"
        self.serial_file = self.folder / "serials.txt"
        self.discovery_port = _free_udp_port()
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and take the folder away."""
        with held_back():
            try:
                self._stop()
            finally:
                shutil.rmtree(self.folder, ignore_errors=True)

    def issue(self, sales: Sequence[Sale]) -> bytes:
        """Be the vendor: make a key, write a catalog and a text file of signed serials. Gives the public key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private_key = Ed25519PrivateKey.generate()
        public_key = private_key.public_key().public_bytes_raw()
        for name, text in {
            "als.toml": "builtin_products = false\n",
            "vendors/example.pub": base64.b64encode(public_key).decode("ascii") + "\n",
            "catalog.d/example.toml": _CATALOG.format(period_s=PERIOD_S),
        }.items():
            path = self.data_dir / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(text, encoding="utf-8")
        issuer = serial.issuer_of(public_key)
        lines = ["# Thank you for buying Example Studio and Example Viewer."]
        for sale in sales:
            bought = serial.Serial(sale.product_number, sale.seats, secrets.randbits(64), issuer=issuer)
            lines.append(serial.write(serial.sign(bought, private_key)))
        self.serial_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return public_key

    def start_server(self) -> str:
        """Start the server and wait until it serves; give its "ready" line. Raises Failure."""
        errors = self.folder / "server.err"
        options = ["--data-dir", str(self.data_dir), "--bind", HERE, "--port", "0", "--name", SERVER_NAME]
        with errors.open("wb") as stderr, held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN, "run", *options, "--discovery-port", str(self.discovery_port)],
                stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                env=_environment(),
                text=True,
                start_new_session=True,  # ctrl-C is for the demo, which stops the server itself
            )
        line = self._first_line(self._process)
        found = _READY.match(line)
        if found is None:
            said = errors.read_text(encoding="utf-8", errors="replace").strip()
            raise Failure(Exit.REFUSED, f"the demo's server did not start: {said or line.strip() or 'no word'}")
        self.port = int(found[2])
        return line.strip()

    @staticmethod
    def _first_line(process: subprocess.Popen[str]) -> str:
        """Wait for a process's first line, not for ever."""
        assert process.stdout is not None, "it was asked for"
        bound = threading.Timer(START_S_MAX, process.kill)
        bound.start()
        try:
            return process.stdout.readline()
        finally:
            bound.cancel()

    def administrator(self) -> Client:
        """Connect with the administrator's key that the server made at its first start."""
        pair = keyfile.read(self.data_dir / "admin.key_secret")
        return Client(HERE, self.port, self.server_key, pair)

    @property
    def server_key(self) -> bytes:
        """The server's public key."""
        return keyfile.read_public(self.data_dir / "server.key")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            assert process.stdout is not None, "it was asked for"
            process.stdout.close()


def _environment() -> dict[str, str]:
    """Give this process's environment without the user's own ALS settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ALS_")}


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
