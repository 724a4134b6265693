"""Backup, check and restore where they could go wrong: a store with free pages at its end, another user's folder."""

import os
import signal
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from als.server import backup
from als.store.lmdb.store import LmdbStore
from als.store.transaction import Table
from server_process import PROGRAM, ServerProcess, environment, run_to_end

LARGE_BYTES = 1 << 25  # takes a second to copy


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run als-server to its end, which must be 0."""
    done = run_to_end(*arguments)
    assert done.returncode == 0, done
    return done


def test_a_store_whose_last_pages_are_free(tmp_path: Path) -> None:
    """A store in which a large record came and went in one commit is sound to whoever reads beside it."""
    data_dir = tmp_path / "data"
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    store = LmdbStore(data_dir / "store")
    tx = store.begin()
    tx.put(Table.META, b"large", bytes(1 << 20))
    tx.delete(Table.META, b"large")
    store.submit(tx)
    assert (data_dir / "store/data.mdb").stat().st_size >= store.used_bytes()
    assert "agree" in command("check", "--data-dir", str(data_dir)).stdout
    command("backup", str(tmp_path / "als.tar"), "--data-dir", str(data_dir))
    store.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act for another user")
def test_root_restores_for_the_servers_user(tmp_path: Path) -> None:
    """What root restores, or resets, in a folder of the server's user belongs to that user, and not to root."""
    data_dir, user, group = tmp_path / "data", 12_345, 12_346
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    command("backup", str(tmp_path / "als.tar"), "--data-dir", str(data_dir))
    for path in (data_dir, *data_dir.rglob("*")):
        os.chown(path, user, group)
    command("restore", str(tmp_path / "als.tar"), "--data-dir", str(data_dir))
    command("reset-admin", "--data-dir", str(data_dir))
    for path in (data_dir, *data_dir.rglob("*")):
        owner = path.stat()
        assert (owner.st_uid, owner.st_gid) == (user, group), path


def settings_in(backup: Path) -> bytes:
    """Give the settings that a backup holds; there are no other members of the name."""
    with tarfile.open(backup) as tar:
        (member,) = [member for member in tar if member.name == "als.toml"]
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


def test_settings_that_lie_elsewhere_go_into_the_backup(tmp_path: Path) -> None:
    """Whether --config names them or a link leads there, a restored server finds them in its own folder."""
    data_dir, settings = tmp_path / "data", tmp_path / "etc.toml"
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    settings.write_text('name = "elsewhere"\n')
    named, linked = tmp_path / "named.tar", tmp_path / "linked.tar"
    command("backup", str(named), "--data-dir", str(data_dir), "--config", str(settings))
    assert settings_in(named) == settings.read_bytes()
    (data_dir / "als.toml").unlink(missing_ok=True)
    (data_dir / "als.toml").symlink_to(settings)
    command("backup", str(linked), "--data-dir", str(data_dir))
    assert settings_in(linked) == settings.read_bytes()
    command("restore", str(linked), "--data-dir", str(tmp_path / "second"))
    with ServerProcess(tmp_path / "second") as server:
        assert server.name == "elsewhere"
        assert server.stop() == 0
    done = run_to_end("backup", str(tmp_path / "c.tar"), "--data-dir", str(data_dir), "--config", str(tmp_path / "no"))
    assert done.returncode == 1 and "there is no settings file" in done.stderr


def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A target in a folder that is not there is named, in one line."""
    data_dir = tmp_path / "data"
    with ServerProcess(data_dir) as server:
        done = run_to_end("backup", str(tmp_path / "nowhere" / "als.tar"), "--data-dir", str(data_dir))
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1 and "nowhere" in done.stderr
        assert server.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_stopped_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """What is half done goes away, and is not as large as the store for ever."""
    data_dir = tmp_path / "data"
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    store = LmdbStore(data_dir / "store")
    tx = store.begin()
    tx.put(Table.META, b"large", bytes(LARGE_BYTES))
    store.submit(tx)
    store.close()
    arguments = ["backup", str(tmp_path / "als.tar"), "--data-dir", str(data_dir)]
    with subprocess.Popen([PROGRAM, *arguments], env=environment(), stderr=subprocess.PIPE) as process:
        while process.poll() is None and not list(tmp_path.glob(".als-backup-*/data.mdb")):
            pass
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.skipif(os.name == "nt", reason="there is no ulimit")
def test_a_backup_for_which_there_is_no_room_leaves_nothing(tmp_path: Path) -> None:
    """A copy that cannot be written to its end is given up with a line that says why, and hangs nothing."""
    data_dir = tmp_path / "data"
    with ServerProcess(data_dir) as server:
        limited = 'ulimit -f 16; exec "$0" -c "from als.server.main import main; main()" backup "$1" --data-dir "$2"'
        done = subprocess.run(
            ["sh", "-c", limited, sys.executable, str(tmp_path / "als.tar"), str(data_dir)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "could not be made" in done.stderr and "File too large" in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert server.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_is_taken_while_requests_change_everything(tmp_path: Path) -> None:
    """Backups beside a server under load hold books that agree, each the state of one moment, for their owner alone."""
    from server_process import Site

    with Site(tmp_path) as site:
        product, agent = site.product(10_000), site.client()
        computers = [site.computer() for _ in range(400)]
        sent = 0
        for number in range(3):
            target = tmp_path / f"{number}.tar"
            ids = [
                agent.send(operation, product=product.code, component="agent", computer=computer)
                for operation in ("acquire", "release")
                for computer in computers
            ]
            command("backup", str(target), "--data-dir", str(site.server.data_dir))
            sent += len(agent.replies_to(ids))
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
            with tarfile.open(target) as tar:
                assert "store/data.mdb" in tar.getnames()
        assert sent == 3 * 800


def test_a_restore_that_is_stopped_between_its_renames_leaves_the_old_folder(tmp_path: Path) -> None:
    """A data folder that is not there would be begun anew by the next start, with another key."""
    old = tmp_path / "data"
    old.mkdir()
    (old / "server.key").touch()
    with pytest.raises(FileNotFoundError):
        backup._swap(old, tmp_path / "gone", tmp_path / "aside")
    assert (old / "server.key").exists() and not (tmp_path / "aside").exists()
