"""Small JSON files that several processes of one user share: changed under a lock, set aside when damaged.

It knows files, not what stands in them: a caller's `parse` raises ValueError, KeyError or TypeError for
nonsense.
"""

import errno
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from als import clock, files
from als_agents.errors import FolderUnusable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

DOCUMENT_BYTES_MAX = 4_194_304  # ten thousand servers; more is no file of ours
LOCK_S_MAX = 10.0  # holders write one small file; who holds it longer is stopped or hangs
LOCK_PAUSE_S = 0.02

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # a network file system without them

Document = TypeVar("Document")
Parse = Callable[[Any], Document]

logger = logging.getLogger(__name__)


def read(path: Path, parse: Parse[Document], empty: Document) -> Document:
    """Read a document; `empty` where there is none. A damaged one is set aside with a warning.

    Raises FolderUnusable when it is there and cannot be read.
    """
    try:
        try:
            return _parsed(path, parse)
        except ValueError:
            with locked(path):
                return _set_aside_or_read(path, parse, empty)
    except (FileNotFoundError, NotADirectoryError):
        return empty
    except OSError as error:
        raise FolderUnusable.of(path, error) from None


def change(path: Path, parse: Parse[Document], empty: Document, edit: Callable[[Document], dict[str, Any]]) -> None:
    """Replace a document by what `edit` makes of it; of two processes neither undoes the other's change.

    What `edit` raises leaves the file as it was. Raises FolderUnusable when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(path):
            try:
                document = _set_aside_or_read(path, parse, empty)
            except FileNotFoundError:
                document = empty
            text = json.dumps(edit(document), indent=1, ensure_ascii=False)
            files.write_atomically(path, text.encode("utf-8") + b"\n")
    except OSError as error:
        raise FolderUnusable.of(path, error) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path` (a file beside it). Raises OSError, after LOCK_S_MAX too."""
    handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, files.SECRET_MODE)
    try:
        for _ in range(int(LOCK_S_MAX / LOCK_PAUSE_S)):
            if _take(handle):
                break
            time.sleep(LOCK_PAUSE_S)
        else:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock")
        yield
    finally:
        os.close(handle)  # lets go of the lock too, as does the end of a process


def _take(handle: int) -> bool:
    """Take the lock of an open file without waiting; False when another process has it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True  # going on unlocked can lose one of two changes made at once, never a file
        if isinstance(error, BlockingIOError | PermissionError):
            return False
        raise
    return True


def _parsed(path: Path, parse: Parse[Document]) -> Document:
    """Read and parse. Raises ValueError for a damaged file, OSError for none or an unreadable one."""
    with path.open("rb") as file:
        data = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(data) > DOCUMENT_BYTES_MAX:
        raise ValueError("too long")
    try:
        return parse(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _set_aside_or_read(path: Path, parse: Parse[Document], empty: Document) -> Document:
    """Read under the lock and rename what is damaged: nobody can have mended it meanwhile."""
    try:
        return _parsed(path, parse)
    except ValueError:
        aside = _free_name(path)
        path.replace(aside)
        logger.warning("%s was damaged and is kept as %s; going on without it", path, aside.name)
        return empty


def _free_name(path: Path) -> Path:
    """Name a file beside `path` that does not exist yet: what was set aside before is worth keeping too."""
    moment = datetime.fromtimestamp(clock.wall_s(), UTC).strftime("%Y%m%dT%H%M%SZ")
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.damaged-{moment}{ending}") for ending in endings)
    return next(name for name in names if not name.exists())


def text(value: Any) -> str:
    """Give back a text. Raises TypeError for anything else; for callers' `parse`."""
    if type(value) is not str:
        raise TypeError("not a text")
    return value


def port(value: Any) -> int:
    """Give back a port number. Raises ValueError for anything else; for callers' `parse`."""
    if type(value) is not int or not 0 < value < 65_536:
        raise ValueError("not a port")
    return value
