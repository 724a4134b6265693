"""Programs in a real terminal: a bare pseudo terminal for what they leave behind, tmux for what is seen."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from als import clock

TIMEOUT_S = 30.0  # far above what anything takes, for machines that do much else
LOOK_AGAIN_S = 0.25
READ_BYTES = 65_536

needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="the pseudo terminals of POSIX")
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


def environment(client_dir: Path, **extra: str) -> dict[str, str]:
    """Give an environment without the user's own settings, as a terminal emulator would set it."""
    unwanted = ("ALS_", "NO_COLOR", "COLUMNS", "LINES", "TMUX", "TERM")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    fixed = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC", "ALS_CLIENT_DIR": str(client_dir)}
    return kept | fixed | extra


class Pty:
    """A program on a pseudo terminal of 80x26. What it wrote is in `output`."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self._main, self._side = os.openpty()
        termios.tcsetwinsize(self._side, (26, 80))
        self.before = termios.tcgetattr(self._side)
        self.output = ""
        self.process = subprocess.Popen(
            command,
            stdin=self._side,
            stdout=self._side,
            stderr=self._side,
            env=env,
            preexec_fn=self._control,
            start_new_session=True,
        )

    def _control(self) -> None:
        """Make the terminal the one that ctrl-C comes from."""
        import fcntl

        fcntl.ioctl(self._side, termios.TIOCSCTTY, 0)

    @property
    def settings(self) -> list[Any]:
        """The terminal's settings now."""
        return termios.tcgetattr(self._side)

    def send(self, text: str) -> None:
        """Type."""
        os.write(self._main, text.encode())

    def read_until(self, text: str) -> None:
        """Read until the program has written `text`."""
        while text not in self.output:
            ready = select.select([self._main], [], [], TIMEOUT_S)[0]
            assert ready, f"{text!r} never came: {self.output!r}"
            self.output += os.read(self._main, READ_BYTES).decode("utf-8", "replace")

    def wait(self) -> int:
        """Wait for the end, reading on, but not for ever; give the exit code."""
        end_s = clock.monotonic_s() + TIMEOUT_S
        while self.process.poll() is None:
            assert clock.monotonic_s() < end_s, f"it did not end: {self.output!r}"
            if select.select([self._main], [], [], LOOK_AGAIN_S)[0]:
                self.output += os.read(self._main, READ_BYTES).decode("utf-8", "replace")
        while select.select([self._main], [], [], 0)[0]:
            self.output += os.read(self._main, READ_BYTES).decode("utf-8", "replace")
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
        os.close(self._side)


class Tmux:
    """A program in a window of its own tmux server. Whatever it writes ends a wait, through a pipe."""

    def __init__(self, command: Sequence[str], env: dict[str, str], size: tuple[int, int]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="als-tmux-")
        self._pipe = Path(self._folder.name) / "output"
        self._socket = str(Path(self._folder.name) / "socket")
        self._env = env
        os.mkfifo(self._pipe)
        self._reader = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        width, height = (str(cells) for cells in size)
        words = [f"{key}={value}" for key, value in env.items()]
        shell = ["env", "-i", *words, "PS1=shell> ", "sh"]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, *shell)
        self._tmux("pipe-pane", f"exec cat > '{self._pipe}'")
        self.write(" ".join(f"'{word}'" for word in command))
        self.send("Enter")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], env=self._env, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    def send(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._tmux("send-keys", *keys)

    def write(self, text: str) -> None:
        """Type a text as it stands."""
        self._tmux("send-keys", "-l", text)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def lines(self) -> list[str]:
        """Give what is on the screen."""
        return self._tmux("capture-pane", "-p").split("\n")

    def wait_for(self, seen: str | Callable[[list[str]], bool]) -> list[str]:
        """Wait until a text is on the screen, or something is true of its lines; give them."""
        waited_s = 0.0
        while True:
            lines = self.lines()
            if (seen in "\n".join(lines)) if isinstance(seen, str) else seen(lines):
                return lines
            if not select.select([self._reader], [], [], LOOK_AGAIN_S)[0]:
                waited_s += LOOK_AGAIN_S
                assert waited_s < TIMEOUT_S, "\n".join([f"{seen} never came; on the screen is:", *lines])
            else:
                os.read(self._reader, READ_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], env=self._env, capture_output=True, check=False)
        os.close(self._reader)
        self._folder.cleanup()
