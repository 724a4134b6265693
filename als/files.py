"""Files that are whole or absent: written to a temporary name, synced, renamed, and the folder synced.

Our own fifteen lines, because the libraries for it (atomicwrites and its forks) are archived or do not
sync the folder.
"""

import os
import stat
import tempfile
from pathlib import Path

SECRET_MODE = 0o600


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
