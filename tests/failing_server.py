"""als-server on a disk that fails from a moment on: the flags of `als-server run`, and DISK_ORDER names a file.

While there is no such file all is well. It names the system calls that fail from then on, with EIO, in this process:
the kernel refuses them (seccomp), so that everything above is the real thing. Linux on x86-64 and aarch64.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

from als.clock import Reading, SystemClock
from als.server import main as command_line
from als.server.core import MARK_EVERY_S

ORDER_VARIABLE = "DISK_ORDER"

# Numbers of system calls, and what the kernel calls the machine.
CALLS = {
    "x86_64": {"pwrite": (18, 296, 328, 20), "sync": (74, 75)},  # pwrite64, pwritev, pwritev2, writev; fsync, fdatasync
    "aarch64": {"pwrite": (68, 70, 287, 66), "sync": (82, 83)},
}
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.EIO


def is_possible() -> bool:
    """Say whether this machine can have failing system calls."""
    return sys.platform == "linux" and platform.machine() in CALLS


def fail(kind: str) -> None:
    """Make this thread's system calls of a kind fail from now on, for good. Raises OSError."""
    machine = platform.machine()
    numbers = CALLS[machine][kind]
    program = [
        (_LOAD, 0, 0, 4),
        (_JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
    ]
    for place, number in enumerate(numbers):
        program.append((_JUMP_IF_EQUAL, len(numbers) - place, 0, number))
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FAIL)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


class WatchingClock:
    """The machine's clocks, which are read once a turn: the moment to look for the order.

    With the order a few seconds pass, so that the server has something to write although nobody asks anything.
    """

    def __init__(self, order: Path) -> None:
        self._order = order
        self._clock = SystemClock()
        self._ahead_s = 0.0

    def read(self) -> Reading:
        """Look at both clocks, and for the order."""
        if self._order.exists():
            fail(self._order.read_text(encoding="ascii"))
            self._order.unlink()
            self._ahead_s = MARK_EVERY_S
        wall_s, monotonic_s = self._clock.read()
        return Reading(wall_s + self._ahead_s, monotonic_s + self._ahead_s)


def main() -> None:
    """Run the real command line with this clock."""
    clock = WatchingClock(Path(os.environ[ORDER_VARIABLE]))
    command_line.SystemClock = lambda: clock  # type: ignore[assignment,misc]
    command_line.app(["run", *sys.argv[1:]])


if __name__ == "__main__":
    main()
