"""A program in a terminal of its own: what it writes there, and what a person types. Not on Windows."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence

END_S_MAX = 90.0
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _take_terminal() -> None:
    """Make stdin the terminal of this session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """One program with a terminal of `columns` by `lines` as stdin, stdout and stderr; use it with `with`."""

    def __init__(self, words: Sequence[str], variables: Mapping[str, str], columns: int = 80, lines: int = 26) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {key: value for key, value in variables.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kept, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=_take_terminal,  # so that ctrl-C goes to the program
        )
        os.close(slave)
        self.raw = ""
        self._bound = threading.Timer(END_S_MAX, self.process.kill)
        self._bound.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._bound.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was written so far, without what steers the terminal."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def read_until(self, wanted: str) -> None:
        """Read what the program writes until `wanted` is there. Fails when the program ends first."""
        while wanted not in self.text:
            assert self._read(), f"it ended without {wanted!r}: {self.text}"

    def read_to_end(self) -> int:
        """Read all that is left, and give the exit code."""
        while self._read():
            pass
        return self.process.wait()

    def type(self, keys: str) -> None:
        """Type keys; ctrl-C is "\\x03"."""
        os.write(self._master, keys.encode())

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # Linux: nobody has the other end open any more
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)
