"""The terminal while the dashboard has it: the other screen, the keys, its size; and as it was when it is left.

It is left as it was after an end of any kind that can be caught: a key, ctrl-C, an exception, SIGTERM, SIGHUP; and for
as long as ctrl-Z has stopped the program. Knows nothing of what is drawn.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.text import Text

from als_tools.top.keyboard import Keyboard, Waker

SIZE_DEFAULT = (80, 24)
HOME = "\x1b[H"
CLEAR = "\x1b[2J"
HOLD, SHOW = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know it paint the picture in one go; others pass over it


class Terminal:
    """Has the terminal while it is entered. `waker` ends a wait for keys from elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._file = sys.stdout
        self.waker = Waker()
        self._stack = ExitStack()
        self._taken = ExitStack()
        self._keyboard = Keyboard(self.waker)
        self._drawn: tuple[int, int] | None = None
        self._is_stop_wanted = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.waker.close)
            for name, handler in self._handlers().items():
                if hasattr(signal, name):
                    number = getattr(signal, name)
                    stack.callback(signal.signal, number, signal.signal(number, handler))
            stack.callback(self._give_back)
            self._take()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and lines now. The environment's COLUMNS is not asked: it does not follow the window."""
        try:
            columns, lines = os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):
            return SIZE_DEFAULT
        return (columns, lines) if columns and lines else SIZE_DEFAULT

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for keys, a new size, or a call from elsewhere; give the keys."""
        keys = self._keyboard.wait(timeout_s)
        if self._is_stop_wanted:
            self._stop()
        return keys

    def draw(self, lines: Sequence[Text]) -> None:
        """Paint lines over the whole screen; the last must not be longer than the screen is wide."""
        size = self.size
        self._console.size = size
        with self._console.capture() as captured:
            self._console.print(Group(*_with_ends(lines)), end="", soft_wrap=True)
        clear = "" if self._drawn == size else CLEAR
        self._drawn = size
        self._file.write(f"{HOLD}{clear}{HOME}{captured.get()}{SHOW}")
        self._file.flush()

    def _take(self) -> None:
        with ExitStack() as taken:
            taken.enter_context(self._keyboard)
            taken.enter_context(self._console.screen(hide_cursor=True))
            self._taken = taken.pop_all()
        self._drawn = None

    def _give_back(self) -> None:
        self._taken.close()

    def _handlers(self) -> dict[str, Callable[[int, FrameType | None], Any]]:
        return {
            "SIGWINCH": lambda number, frame: self.waker.wake(),
            "SIGTERM": _end,
            "SIGHUP": _end,
            "SIGTSTP": self._want_stop,
        }

    def _want_stop(self, number: int, frame: FrameType | None) -> None:
        """Remember ctrl-Z: a handler may come in the middle of a line being written."""
        self._is_stop_wanted = True
        self.waker.wake()

    def _stop(self) -> None:
        """Give the terminal back for as long as the program is stopped."""
        if sys.platform == "win32":
            return
        self._is_stop_wanted = False
        self._give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # it stops in here, until the shell lets it go on
        signal.signal(signal.SIGTSTP, handler)
        self._take()


def _end(number: int, frame: FrameType | None) -> None:
    """End as if by an exception, so that everything is put back; with the shell's code for a signal."""
    raise SystemExit(128 + number)


def _with_ends(lines: Sequence[Text]) -> list[Text]:
    """Let every line but the last end, so that the screen does not scroll."""
    return [line if n == len(lines) - 1 else line.copy().append("\n") for n, line in enumerate(lines)]
