"""What a figure depends on beside the code: versions, processors, file system, and what one fsync costs here."""

import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import zmq

from als import __version__, clock

FSYNC_PROBES = 20
FSYNC_FAST_S = 20e-6  # no device that keeps its promise is faster
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
FSYNC_MODE = "every commit (LMDB sync and metasync)"


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and the programs, as the report shows them."""

    als: str
    python: str
    pyzmq: str
    libzmq: str
    msgpack: str
    lmdb: str
    system: str
    processor: str
    cores: int
    load_1min: float
    folder: str
    file_system: str
    fsync_mode: str
    fsync_ms: float

    def as_dict(self) -> dict[str, Any]:
        """Give it as the report's JSON."""
        return asdict(self)

    def warnings(self) -> list[str]:
        """Say what makes figures from here worth less."""
        found = []
        if self.file_system in MEMORY_FILE_SYSTEMS:
            found.append(
                f"{self.folder} is on {self.file_system}: nothing is durable there, and commits cost nothing; "
                "give a folder on the server's disk with --folder"
            )
        elif self.fsync_ms < FSYNC_FAST_S * 1e3:
            found.append(f"an fsync takes {self.fsync_ms * 1e3:.0f} µs here: it does not seem to reach a device")
        if self.load_1min > self.cores:
            found.append(f"the machine was busy before: load {self.load_1min:.1f} on {self.cores} cores")
        return found


def look(folder: Path | None) -> Environment:
    """Look at the machine and at the place where the stores of benchmarks will lie."""
    place = folder or Path(tempfile.gettempdir())
    return Environment(
        als=__version__,
        python=platform.python_version(),
        pyzmq=zmq.__version__,
        libzmq=zmq.zmq_version(),
        msgpack=metadata.version("msgpack"),
        lmdb=metadata.version("lmdb"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=len(psutil.Process().cpu_affinity()) if psutil.LINUX else os.cpu_count() or 1,
        load_1min=round(psutil.getloadavg()[0], 2),
        folder=str(place),
        file_system=file_system_of(place),
        fsync_mode=FSYNC_MODE,
        fsync_ms=round(fsync_s(place) * 1e3, 3),
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def file_system_of(folder: Path) -> str:
    """Give the type of the file system that holds a folder, "unknown" where nobody tells."""
    real = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    for place in (real, *real.parents):
        if place in mounts:
            return mounts[place] or "unknown"
    return "unknown"


def fsync_s(folder: Path) -> float:
    """Measure the median of appending 4 KiB to a file in `folder` and syncing it."""
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNC_PROBES):
            file.write(bytes(4096))
            before = clock.monotonic_s()
            file.flush()
            os.fsync(file.fileno())
            took.append(clock.monotonic_s() - before)
    return statistics.median(took)
