"""Keys as they are pressed, without waiting for enter, by name: "down", "pageup", "escape", or the character itself.

Two kinds of terminals: those of POSIX, whose keys come as bytes, and the Windows console. Where stdin is no terminal
there are no keys, and the program is ended by ctrl-C.
"""

import codecs
import select
import socket
import sys
from types import TracebackType
from typing import Self

from als import clock

SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "[H": "home",
    "[F": "end",
    "[1~": "home",
    "[4~": "end",
    "[7~": "home",
    "[8~": "end",
    "[5~": "pageup",
    "[6~": "pagedown",
    "[Z": "shift-tab",
}
SEQUENCES |= {f"O{letter}": SEQUENCES[f"[{letter}"] for letter in "ABCDHF"}
CHARACTERS = {"\t": "tab", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace"}
ESCAPE = "\x1b"
ESCAPE_WAIT_S = 0.05  # what a terminal sends after an escape comes with it; a person is slower
WINDOWS_POLL_S = 0.05
READ_BYTES = 1_024


def split_keys(text: str) -> tuple[list[str], str]:
    """Cut what a terminal sent into names of keys; give also the rest, which may be the beginning of a sequence."""
    keys: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != ESCAPE:
            keys.append(CHARACTERS.get(text[at], text[at]))
            at += 1
            continue
        end = _sequence_end(text, at + 1)
        if end is None:
            return keys, text[at:]
        body = text[at + 1 : end]
        if body in SEQUENCES:
            keys.append(SEQUENCES[body])
        elif not body:
            keys.append("escape")
        at = end
    return keys, ""


def _sequence_end(text: str, at: int) -> int | None:
    """Find where the sequence that begins behind an escape ends; None when it is not complete."""
    if at >= len(text):
        return None
    if text[at] == "O":
        return at + 2 if at + 1 < len(text) else None
    if text[at] != "[":
        return at  # an escape by itself, another key follows
    for end in range(at + 1, len(text)):
        if "@" <= text[end] <= "~":
            return end + 1
    return None


class Waker:
    """Ends a wait for keys from another thread or from a signal's handler."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        """End the wait; several calls may end it once."""
        try:
            self._writer.send(b"\0")
        except OSError:
            return  # it is full of calls already, or over

    def drain(self) -> None:
        """Forget the calls so far."""
        try:
            while self.reader.recv(READ_BYTES):
                pass
        except OSError:
            return

    def close(self) -> None:
        """Let go of the sockets."""
        self.reader.close()
        self._writer.close()


if sys.platform == "win32":
    import msvcrt

    WINDOWS_KEYS = {"H": "up", "P": "down", "K": "left", "M": "right", "G": "home", "O": "end", "I": "pageup"}
    WINDOWS_KEYS |= {"Q": "pagedown", "\x0f": "shift-tab"}

    class Keyboard:
        """The keys of the Windows console."""

        def __init__(self, waker: Waker) -> None:
            self._waker = waker

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            return None

        def wait(self, timeout_s: float) -> list[str]:
            """Wait for keys, or the waker, and give the keys that came."""
            deadline_s = clock.monotonic_s() + timeout_s
            while not msvcrt.kbhit() and clock.monotonic_s() < deadline_s:
                if select.select([self._waker.reader], [], [], WINDOWS_POLL_S)[0]:
                    break
            self._waker.drain()
            keys = []
            while msvcrt.kbhit():
                char = msvcrt.getwch()
                if char in ("\x00", "\xe0"):
                    keys.append(WINDOWS_KEYS.get(msvcrt.getwch(), ""))
                elif char == "\x03":
                    raise KeyboardInterrupt
                else:
                    keys.append("escape" if char == ESCAPE else CHARACTERS.get(char, char))
            return [key for key in keys if key]

else:
    import os
    import termios
    import tty

    class Keyboard:
        """The keys of a POSIX terminal; entering takes the terminal out of its line mode, leaving puts it back."""

        def __init__(self, waker: Waker) -> None:
            self._waker = waker
            self._file = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
            self._before: list[object] | None = None
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._rest = ""

        def __enter__(self) -> Self:
            if self._file is not None:
                self._before = termios.tcgetattr(self._file)
                tty.setcbreak(self._file, termios.TCSANOW)
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            if self._file is not None and self._before is not None:
                termios.tcsetattr(self._file, termios.TCSANOW, self._before)  # type: ignore[arg-type]
                self._before = None

        def wait(self, timeout_s: float) -> list[str]:
            """Wait for keys, or the waker, and give the keys that came."""
            waits = ESCAPE_WAIT_S if self._rest else timeout_s
            files = [self._waker.reader, *([] if self._file is None else [self._file])]
            ready = select.select(files, [], [], waits)[0]
            self._waker.drain()
            if self._file is not None and self._file in ready:
                data = os.read(self._file, READ_BYTES)
                if not data:
                    self._file = None  # the terminal is gone
                    raise KeyboardInterrupt
                keys, self._rest = split_keys(self._rest + self._decoder.decode(data))
                return keys
            keys = ["escape"] if self._rest == ESCAPE else []
            self._rest = ""
            return keys
