"""Files that are whole or absent: written to a temporary name, synced, renamed, and the folder synced.

Our own fifteen lines, because the libraries for it (atomicwrites and its forks) are archived or do not
sync the folder.
"""

import io
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from als.pace import Rest, hurry

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SECRET_MODE = 0o600
PACED_BYTES = 1 << 18
BEGINNING_S_MAX = 1.0  # a thread that has not begun by then was never started


class UnsafeFileError(Exception):
    """A secret that other users can read; the message says which and how to mend it."""


def write_atomically(path: Path, data: bytes, mode: int = SECRET_MODE) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            temporary.chmod(mode)
            give_to_owner_of(path.parent, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class PacedWriter(io.FileIO):
    """A new file that is synced after every PACED_BYTES, and when it is closed; `rest` is called after each sync.

    So the disk never has much to write at once, and who else waits for it, as a server does at each commit, is hardly
    held up. Raises OSError.
    """

    def __init__(self, path: Path, mode: int = SECRET_MODE, rest: Rest = hurry) -> None:
        super().__init__(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
        self._unsynced_bytes = 0
        self._rest = rest

    def write(self, data: "ReadableBuffer") -> int:
        """Write all of it."""
        whole = memoryview(data).cast("B")
        rest = whole
        while rest:
            written = super().write(rest[:PACED_BYTES]) or 0
            rest = rest[written:]
            self._unsynced_bytes += written
            if self._unsynced_bytes >= PACED_BYTES:
                self._sync()
        return len(whole)

    def close(self) -> None:
        """Sync what is left, and close."""
        if not self.closed:
            try:
                self._sync()
            finally:
                super().close()

    def _sync(self) -> None:
        os.fsync(self.fileno())
        self._unsynced_bytes = 0
        self._rest()


def give_to_owner_of(folder: Path, file: int | Path) -> None:
    """Give what root has made in another user's folder to that user, whose server could not read it otherwise."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        owner = folder.stat()
        os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=not isinstance(file, Path))


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_readable_secret(path: Path) -> None:
    """Raise UnsafeFileError when others than the owner can read `path`. Windows: the folder's rights decide."""
    if os.name != "nt" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UnsafeFileError(f"{path} can be read by other users; run: chmod 600 {path}")


class PipeFeeder:
    """Calls `feed` with the end of a pipe in a thread of its own, and closes it; `error` says why it failed.

    For a call that hears no signal until it ends: whoever reads the pipe hears them, and ends it by closing his end
    before `wait`.
    """

    def __init__(self, feed: Callable[[int], object], sink: int) -> None:
        self.error: Exception | None = None
        self._feed = feed
        self._sink = sink
        self._thread = threading.Thread(target=self._run, name="als-copy")
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin. Raises RuntimeError where the system grants no thread."""
        try:
            self._thread.start()
        except RuntimeError:
            self._end()
            raise

    def wait(self) -> None:
        """Wait for the end of the call. A signal that came just before it began has kept it from being made."""
        if not self._ended.wait(BEGINNING_S_MAX) and self._thread.ident is None:
            return
        self._ended.wait()

    def _run(self) -> None:
        try:
            self._feed(self._sink)
        except Exception as error:
            self.error = error
        finally:
            self._end()

    def _end(self) -> None:
        os.close(self._sink)
        self._ended.set()
