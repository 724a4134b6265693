"""The server that is measured: a real `als-server run` with its defaults on a folder of its own, on a free port."""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from als import clock, keyfile
from als.ledger.tally import Tally
from als.store.lmdb.store import LmdbStore
from als_agents.client import Client
from als_bench.processes import BenchError, Child
from als_bench.stock import Stock, Vendor

HERE = "127.0.0.1"
_RUN = "from als.server.start import main; main()"  # with this interpreter, whatever is on the PATH
_READY = re.compile(r"ready: .+ on \S+:([0-9]+)\Z")


class ServerUnderTest(Child):
    """A server process and its data folder, which goes with it. `port` and `ready_s` once started."""

    def __init__(self, folder: Path | None = None, *more: str, vendor: Vendor | None = None) -> None:
        """Make the data folder inside `folder` (None: the system's place for temporary files).

        `more` are options of `als-server run`; the server counts the serials of `vendor`, or of one of its own.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="als-bench-", dir=folder, ignore_cleanup_errors=True)
        self.data_dir = Path(self._temporary.name) / "data"
        self.data_dir.mkdir(mode=0o700)
        self.vendor = vendor or Vendor()
        self.vendor.write_key(self.data_dir)
        self.port = 0
        self.ready_s = 0.0
        options = ["--data-dir", str(self.data_dir), "--bind", HERE, "--port", "0", "--discovery-port", "0"]
        super().__init__([sys.executable, "-c", _RUN, "run", *options, *more, "--log-level", "warning"])

    @property
    def store_dir(self) -> Path:
        """The folder of its store."""
        return self.data_dir / "store"

    def open_stock(self) -> Stock:
        """Open its store in this process, while the server does not run; end with `close_stock`."""
        assert not self.is_running(), "one process at a time has the store"
        return Stock(LmdbStore(self.store_dir), self.vendor)

    def start(self, *, wait_for_line: bool = True) -> str:
        """Start it, and wait until it serves. Raises BenchError."""
        before = clock.monotonic_s()
        line = super().start()
        self.ready_s = clock.monotonic_s() - before
        found = _READY.match(line)
        if found is None:
            raise BenchError(f"als-server said {line!r}")
        self.port = int(found[1])
        return line

    @property
    def server_key(self) -> bytes:
        """Its public key; there once it has been started."""
        return keyfile.read_public(self.data_dir / "server.key")

    def administrator(self) -> Client:
        """Connect with the administrator's key that it made at its first start."""
        return Client(HERE, self.port, self.server_key, keyfile.read(self.data_dir / "admin.key_secret"))

    def leases(self) -> int:
        """Give the number of leases in its store."""
        store = LmdbStore(self.store_dir, readonly=True)
        tx = store.snapshot()
        try:
            return Tally.of(tx).store_sum().leases
        finally:
            tx.abort()
            store.close()

    def store_bytes(self) -> int:
        """Give the bytes that its store takes on the disk (the file is sparse)."""
        return bytes_on_disk(self.store_dir / "data.mdb")

    def compact_bytes(self) -> int:
        """Give the bytes that its store takes without the free pages within, as a backup has it."""
        copy = self.data_dir.parent / "compact"
        copy.mkdir()
        store = LmdbStore(self.store_dir, readonly=True)
        try:
            store.copy(copy)
        finally:
            store.close()
        size = bytes_on_disk(copy / "data.mdb")
        shutil.rmtree(copy)
        return size

    def close(self) -> None:
        """Stop it, and take its folder away."""
        super().close()
        self._temporary.cleanup()


def bytes_on_disk(path: Path) -> int:
    """Give the bytes that a file takes on the disk; one with holes takes less than its length."""
    status = path.stat()
    blocks: int = getattr(status, "st_blocks", -1)
    return blocks * 512 if blocks >= 0 else status.st_size
