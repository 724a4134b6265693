"""Asks the kernel for short slices: a thread that wakes up with something to send or to commit gets a core at once.

Linux 6.12 and later let a thread choose how long it runs before others do; who asks for less is let in earlier, and
gets no more of the processor than others. Where server and others keep all cores busy, the commit's end would otherwise
often be seen milliseconds later. Older kernels take the wish and do nothing. Neither the standard library nor glibc
before 2.41 has the system call.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable

SLICE_NS = 100_000  # the shortest that the kernel grants
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # the number of the system call
_ATTR = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period


def ask(machine: str = platform.machine(), call: Callable[..., int] | None = None) -> bool:
    """Ask for the calling thread and those that it will start. Say whether the kernel took it."""
    number = _SCHED_SETATTR.get(machine)
    if number is None or sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    if call is None:
        call = ctypes.CDLL(None).syscall
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # stays as it is
    return call(number, 0, _ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0), 0) == 0
