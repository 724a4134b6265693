"""The server's threads ask for short slices where the kernel has them, and start as before where it has not."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from als.server import slices
from als.server.slices import SLICE_NS

T = TypeVar("T")
SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
ATTR = struct.Struct("=IIQiIQQQ")


def slice_ns() -> int:
    """Ask the kernel for the calling thread's slice (0: it tells none)."""
    attr = ctypes.create_string_buffer(ATTR.size)
    done = ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], 0, attr, ATTR.size, 0)
    assert done == 0
    return int(ATTR.unpack(attr.raw)[5])


def in_a_thread_of_its_own(work: Callable[[], T]) -> T:
    """Do something that holds for the thread that does it."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()


needs_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SCHED_GETATTR, reason="Linux has the system call"
)


@needs_linux
def test_the_kernel_takes_the_wish_and_threads_inherit_it() -> None:
    """A kernel that tells a slice tells the one that was asked for, also in a thread that was started afterwards."""

    def ask() -> tuple[int, bool, int, int]:
        before = slice_ns()
        took = slices.ask()
        return before, took, slice_ns(), in_a_thread_of_its_own(slice_ns)

    before, took, after, inherited = in_a_thread_of_its_own(ask)
    assert took
    if before:  # Linux 6.12 and later
        assert before > after == inherited == SLICE_NS


@needs_linux
def test_a_server_that_was_told_to_be_nice_stays_so() -> None:
    """Only the slice changes."""
    code = "import os; from als.server import slices; os.nice(7); assert slices.ask(); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"


def test_what_the_kernel_does_not_have_is_done_without() -> None:
    """An unknown machine is asked nothing, and a kernel may refuse."""
    asked: list[object] = []

    def refuse(*arguments: object) -> int:
        asked.append(arguments)
        return -1

    assert not slices.ask("pdp11", refuse) and not asked
    assert not slices.ask("x86_64", refuse)
    assert len(asked) == (sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER)
