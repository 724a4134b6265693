"""Processes that a benchmark starts and ends by itself, and what they use of the processors.

Ends only what it started, by its handle.
"""

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

START_S_MAX = 60.0
STOP_S_MAX = 60.0


class BenchError(Exception):
    """A benchmark cannot go on; the message is one line for the person who runs it."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor seconds used so far: by the thread that began the process, and by its others (sockets' threads)."""

    main_s: float
    others_s: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.main_s - earlier.main_s, self.others_s - earlier.others_s)

    @property
    def total_s(self) -> float:
        """Seconds of all threads."""
        return self.main_s + self.others_s


def cpu_of(pid: int) -> Cpu:
    """Read what a process has used; where threads are not told apart all counts as `main_s`."""
    threads = _thread_times_s(pid)
    if threads is not None:
        main_s = threads.pop(pid, 0.0)
        return Cpu(main_s, sum(threads.values()))
    times = psutil.Process(pid).cpu_times()
    return Cpu(times.user + times.system, 0.0)


def _thread_times_s(pid: int) -> dict[int, float] | None:
    """Read each thread's time as Linux's scheduler counts it, in nanoseconds.

    What psutil reads is sampled at clock ticks and misses most of a thread that sleeps and wakes all the time.
    """
    try:
        return {
            int(task.name): int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
            for task in Path(f"/proc/{pid}/task").iterdir()
        }
    except (OSError, IndexError):
        return None


def private_bytes(pid: int) -> int | None:
    """Give a process's resident memory without the pages of files (the store's), None where nobody tells."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = [int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(found) * 1024 if found else None


class Child:
    """A process of ours. `start` waits for its first line."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._process: subprocess.Popen[str] | None = None

    @property
    def name(self) -> str:
        """The program."""
        return self._arguments[0]

    def add_arguments(self, *arguments: str) -> None:
        """Give it more arguments, from its next start on."""
        self._arguments += arguments

    def start(self, *, wait_for_line: bool = True) -> str:
        """Start it and give its first line. Raises BenchError when it says none in time."""
        try:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if wait_for_line else subprocess.DEVNULL,
                stderr=self._errors,
                env={key: value for key, value in os.environ.items() if not key.startswith("ALS_")},
                text=True,
                start_new_session=True,  # ctrl-C is for the benchmark, which ends its children itself
            )
        except OSError as error:
            raise BenchError(f"{self._arguments[0]} cannot be started: {error.strerror}") from None
        return self._first_line() if wait_for_line else ""

    def _first_line(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        bound = threading.Timer(START_S_MAX, self._process.kill)
        bound.start()
        try:
            line = self._process.stdout.readline()
        finally:
            bound.cancel()
        if not line:
            self.stop()
            raise BenchError(f"{self._arguments[0]} did not start: {self.said() or 'it said nothing'}")
        return line.strip()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_started(self) -> bool:
        """Say whether it has been started."""
        return self._process is not None

    def is_running(self) -> bool:
        """Say whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Give the code with which it ended, None before."""
        return None if self._process is None else self._process.poll()

    def said(self) -> str:
        """Give the last line that it wrote to stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self, *, kill: bool = False) -> None:
        """End it, with SIGTERM or at once."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if kill:
                process.kill()
            else:
                process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def close(self) -> None:
        """End it if it runs, and let go of its files."""
        self.stop()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
