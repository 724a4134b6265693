"""Mishaps of an administrator: what is missing, empty, in the way or full is told, and nothing is lost by it."""

import errno
import shutil
from pathlib import Path

import pytest

from als import keyfile, vendorkeys
from als.clock import SystemClock
from als.ledger.admins import Admin
from als.server import backup, offline, vendors
from als.server.backup import BackupError
from als.server.datadir import DataDir, DataDirError
from als.store.lmdb.store import LmdbStore
from als.store.transaction import Table
from server_process import ServerProcess

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which a server has run."""
    folder = tmp_path_factory.mktemp("started") / "data"
    with ServerProcess(folder):
        pass
    return folder


@pytest.fixture
def data(started: Path, tmp_path: Path) -> DataDir:
    """A copy of it."""
    shutil.copytree(started, tmp_path / "data")
    return DataDir(tmp_path / "data")


def admins(data: DataDir) -> dict[bytes, str]:
    """Give the keys with a role, as stored."""
    store = LmdbStore(data.store)
    tx = store.begin()
    found = {key: Admin.unpack(raw).role for key, raw in tx.scan(Table.ADMINS)}
    tx.abort()
    store.close()
    return found


def test_reset_admin_replaces_the_key(data: DataDir) -> None:
    """Afterwards the new key has the role, the old one none, and the files are the new one's."""
    pair = offline.reset_admin(data, CLOCK)
    assert admins(data) == {pair.public: "admin"}
    assert keyfile.read(data.path / "admin.key_secret") == pair
    assert not list(data.path.glob("admin.new*"))


def test_reset_admin_that_fails_changes_nothing(data: DataDir) -> None:
    """The old key keeps its role when the new one's files cannot be put in their place."""
    before = admins(data)
    (data.path / "admin.key_secret").unlink()
    (data.path / "admin.key_secret" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        offline.reset_admin(data, CLOCK)
    assert admins(data) == before
    assert not list(data.path.glob("admin.new*"))


def test_folder_in_which_no_server_ever_ran_is_named(tmp_path: Path) -> None:
    """A misspelt folder is neither made nor called good."""
    data = DataDir(tmp_path / "misspelt")
    with pytest.raises(DataDirError, match=r"there is no server's data in .*misspelt"):
        offline.reset_admin(data, CLOCK)
    with pytest.raises(DataDirError, match=r"there is no server's data in .*misspelt"):
        offline.accept_clock(data, CLOCK, lambda pause_s: None)
    assert not data.path.exists()


def test_folder_into_which_nobody_may_look_is_one_line() -> None:
    """What the system says of it is told, without a trace of our calls."""
    data = DataDir(Path("x" * 300))  # as a folder without rights, for a system refuses to look at such a name
    for command in (
        lambda: offline.check(data, repair=False),
        lambda: offline.accept_clock(data, CLOCK, lambda pause_s: None),
    ):
        with pytest.raises(DataDirError, match="cannot be read"):
            command()
    with pytest.raises(BackupError, match="cannot be read"):
        backup.make(data, Path("never.tar"))


def test_secret_key_that_has_gone_is_not_made_anew(data: DataDir) -> None:
    """All agents would take the server for another. Without its public half, too, it is a new server's."""
    (data.path / "server.key_secret").unlink()
    with pytest.raises(DataDirError, match=r"server\.key_secret is missing"):
        data.server_keys()
    (data.path / "server.key").unlink()
    assert data.server_keys() == keyfile.read(data.path / "server.key_secret")


def test_vendors_key_is_not_replaced_by_another(data: DataDir, tmp_path: Path) -> None:
    """A file of the same name with another key is refused; the same key may be given again."""
    file = tmp_path / "acme.pub"
    file.write_bytes(vendorkeys.encode(bytes(range(32))))
    vendors.add(file, data, with_builtin=True)
    vendors.add(file, data, with_builtin=True)
    file.write_bytes(vendorkeys.encode(bytes(range(1, 33))))
    with pytest.raises(vendorkeys.VendorKeyError, match="another key"):
        vendors.add(file, data, with_builtin=True)
    assert data.read_vendors() == {"acme": bytes(range(32))}


@pytest.mark.parametrize("name", ["server", "admin"])
@pytest.mark.parametrize("damage", ["garbage", "another's"])
def test_backup_with_keys_that_cannot_serve_is_none(data: DataDir, tmp_path: Path, name: str, damage: str) -> None:
    """A file that is no key, and a secret half of another public one, are found when the backup is made."""
    secret = data.path / f"{name}.key_secret"
    if damage == "garbage":
        secret.write_text("garbage")
    else:
        pair = keyfile.KeyPair(keyfile.read(secret).public, keyfile.generate().secret)
        keyfile.write(data.path, name, pair)
    with pytest.raises(BackupError, match=rf"{name}\.key_secret"):
        backup.make(data, tmp_path / "backup.tar")
    assert not (tmp_path / "backup.tar").exists()


def test_backup_into_a_folder_that_is_not_there(data: DataDir, tmp_path: Path) -> None:
    """The folder is named, not a temporary file of ours in it."""
    with pytest.raises(BackupError, match=r"there is no folder .*nowhere; make it first"):
        backup.make(data, tmp_path / "nowhere" / "backup.tar")


def test_full_disk_is_not_the_backups_fault(data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore for which there is no room says so; the backup stays a good one."""
    backup.make(data, tmp_path / "good.tar")

    def no_room(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", no_room)  # the disk
    with pytest.raises(BackupError, match=r"there is no room to unpack .*good\.tar"):
        backup.restore(data, tmp_path / "good.tar", CLOCK.read(), new_identity=False)
