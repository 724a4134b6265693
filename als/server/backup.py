"""Backup and restore: one tar of mode 0600 with the store, keys, settings, catalog and vendors' keys.

A backup is taken beside a running server from a read snapshot, and checked before it gets its name. A restore never
touches a live store, and keeps what was there.
"""

import errno
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from als import files, keyfile
from als.clock import Reading
from als.guard import ClockGuard
from als.pace import Pace, Rest, hurry
from als.server.core import store_new_server_id, take_up_clock
from als.server.datadir import ADMIN, SERVER, DataDir, DataDirError
from als.server.offline import check_apart
from als.server.settings import FILE as SETTINGS_FILE
from als.store.lmdb.store import LmdbStore
from als.store.transaction import StoreError

STORE_MEMBER = "store/data.mdb"
MEMBER_BYTES_MAX = 1 << 40
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SINGLE = ("server.key", "server.key_secret", "admin.key", "admin.key_secret", SETTINGS_FILE)
_FOLDERS = ("catalog.d", "vendors")
_SUFFIXES = {"catalog.d": ".toml", "vendors": ".pub"}


class BackupError(Exception):
    """A backup that cannot be made or used; one line for the administrator."""


def make(data: DataDir, target: Path, settings: Path | None = None) -> int:
    """Write a backup of a data folder, running or not, to `target`; give its size in bytes. Raises BackupError.

    `settings` is the file of settings, where that is not the folder's own. It works in short stretches, so that a
    server beside it is hardly held up.
    """
    rest = Pace()
    try:
        data.refuse_cluster(
            "etcdctl snapshot save keeps them, or als-server migrate --copy and a backup of that folder"
        )
    except DataDirError as error:
        raise BackupError(str(error)) from None
    if not (data.store / "data.mdb").exists():
        raise BackupError(f"there is no server's data in {data.path}; name its folder with --data-dir")
    if target.exists():
        raise BackupError(f"{target} exists already; name a new file")
    if not target.parent.is_dir():
        raise BackupError(f"there is no folder {target.parent}; make it first")
    if settings is not None and not settings.is_file():
        raise BackupError(f"there is no settings file {settings}")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with tempfile.TemporaryDirectory(prefix=".als-backup-", dir=target.parent) as folder:
            _copy_store(data, Path(folder), rest)
            _write_tar(data, Path(folder) / "data.mdb", settings, temporary, rest)
        _verify(temporary, rest)
        temporary.rename(target)
        files.sync_folder(target.parent)
        return target.stat().st_size
    except (OSError, StoreError, tarfile.TarError) as error:
        raise BackupError(f"the backup {target} could not be made: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _copy_store(data: DataDir, folder: Path, rest: Rest) -> None:
    store = LmdbStore(data.store, readonly=True)
    try:
        store.copy(folder, rest)
    finally:
        store.close()


def _write_tar(data: DataDir, store: Path, settings: Path | None, target: Path, rest: Rest) -> None:
    """Write the members, and have them on the disk."""
    with (
        files.PacedWriter(target, rest=rest) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.add(store, STORE_MEMBER, recursive=False)
        for member, path in _settings_files(data.path, settings):
            # What a link leads to, for a restore takes plain files only.
            tar.add(path.resolve(), member, recursive=False)


def _settings_files(folder: Path, settings: Path | None) -> Iterator[tuple[str, Path]]:
    """Everything beside the store that a server cannot do without: each member's name, and where it lies."""
    places = {name: folder / name for name in _SINGLE}
    if settings is not None:
        places[SETTINGS_FILE] = settings
    yield from ((name, path) for name, path in places.items() if path.is_file())
    for name in _FOLDERS:
        for path in sorted((folder / name).glob(f"*{_SUFFIXES[name]}")):
            yield f"{name}/{path.name}", path


def _verify(path: Path, rest: Rest) -> None:
    """Read a backup as a restore would, and hold its books against its leases. Raises BackupError."""
    with tempfile.TemporaryDirectory(prefix=".als-verify-", dir=path.parent) as folder:
        _extract(path, Path(folder), rest)
        _audit(Path(folder) / "store", rests=True)


def _audit(folder: Path, *, rests: bool) -> None:
    problems = check_apart(folder, repair=False, rests=rests)
    if problems:
        raise BackupError(
            f"the books in it do not agree ({problems[0]}); als-server check --repair mends a stopped server"
        )


def _extract(path: Path, folder: Path, rest: Rest = hurry) -> None:
    """Unpack the members that a backup has, and no others. Raises BackupError."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not _is_ours(member):
                    raise BackupError(f"{path} is no backup of ALS: it holds {member.name!r}")
                source = tar.extractfile(member)
                assert source is not None
                target = folder / member.name
                target.parent.mkdir(mode=0o700, exist_ok=True)
                with files.PacedWriter(target, _mode_of(target), rest) as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise BackupError(f"there is no room to unpack {path} beside {folder.parent}: {error.strerror}") from None
        raise BackupError(f"{path} cannot be read as a backup: {error}") from None
    for name in (STORE_MEMBER, f"{SERVER}.key_secret"):
        if not (folder / name).exists():
            raise BackupError(f"{path} is no whole backup: {name} is missing")
    _check_keys(path, folder)


def _check_keys(path: Path, folder: Path) -> None:
    """See whether a server could start with these keys. Raises BackupError."""
    for name in (SERVER, ADMIN):
        secret = folder / f"{name}.key_secret"
        try:
            if secret.exists() and not keyfile.is_pair(keyfile.read(secret)):
                raise BackupError(f"{path} is no sound backup: the halves of {secret.name} in it are no pair")
        except keyfile.KeyFileError:
            raise BackupError(f"{path} is no sound backup: {secret.name} in it is damaged") from None


def _mode_of(path: Path) -> int:
    return files.SECRET_MODE if path.suffix not in (".key", ".pub", ".toml") else 0o644


def _is_ours(member: tarfile.TarInfo) -> bool:
    """Say whether a member is a plain file with a name of a backup: nothing is ever written elsewhere."""
    if not member.isfile() or member.size > MEMBER_BYTES_MAX:
        return False
    if member.name in (STORE_MEMBER, *_SINGLE):
        return True
    folder, _, name = member.name.partition("/")
    return folder in _FOLDERS and "/" not in name and "\\" not in name and name.endswith(_SUFFIXES[folder])


def restore(data: DataDir, source: Path, reading: Reading, *, new_identity: bool) -> Path | None:
    """Put a backup in the place of a data folder that no server uses; give where the old one is kept, if there was.

    The time since the backup counts as an outage: no license lapses by up to a period of it. With `new_identity` the
    copy gets a key pair and a server_id of its own, so that it can run beside its original. Raises BackupError and
    DataDirError.
    """
    if not source.is_file():
        raise BackupError(f"there is no backup {source}")
    data.make()
    data.lock()
    try:
        parent = data.path.absolute().parent
        stamp = datetime.fromtimestamp(reading.wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = parent / f"{data.path.name}.before-restore-{stamp}-{secrets.token_hex(2)}"
        folder = Path(tempfile.mkdtemp(prefix=f".{data.path.name}.restoring-", dir=parent))
        try:
            _extract(source, folder)
            _audit(folder / "store", rests=False)
            _take_up(folder, reading, new_identity)
            for path in (*folder.rglob("*"), folder):
                files.give_to_owner_of(data.path, path)
            return _swap(data.path, folder, aside)
        except (OSError, StoreError) as error:
            raise BackupError(f"{source} could not be restored: {error}; nothing was changed") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        data.unlock()


def _take_up(folder: Path, reading: Reading, new_identity: bool) -> None:
    """Prepare the copied store for its new life."""
    if new_identity:
        keyfile.write(folder, SERVER, keyfile.generate())
    store = LmdbStore(folder / "store")
    try:
        tx = store.begin()
        take_up_clock(tx, lambda mark: _accepted(mark, reading))
        if new_identity:
            store_new_server_id(tx, secrets.token_hex(16))
        store.submit(tx)
    finally:
        store.close()


def _accepted(mark: int | None, reading: Reading) -> ClockGuard:
    """Believe the clock of the machine on which an administrator restores."""
    guard = ClockGuard(mark, reading)
    guard.accept()
    return guard


def _swap(path: Path, new: Path, aside: Path) -> Path | None:
    """Rename the old folder aside and the new one into its place. A crash between leaves both, by their names."""
    was_empty = not any(entry.name not in ("server.lock", *_FOLDERS) for entry in path.iterdir())
    path.rename(aside)
    try:
        new.rename(path)
    except BaseException:  # stopped just here, say: no folder at all would be begun anew by the next start
        aside.rename(path)
        raise
    files.sync_folder(aside.parent)
    if was_empty:
        shutil.rmtree(aside)
        return None
    return aside
