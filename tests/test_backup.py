"""Backup, restore, check, repair and reset-admin, with real servers on real folders."""

import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from als.ledger.audit import Audit
from als.records import COMPUTERS_MAX, TIME_MAX, Seats, due_key
from als.store.lmdb.store import LmdbStore
from als.store.transaction import Table
from contract_client import read_keys
from server_process import ServerProcess, Site, run_to_end


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of its own."""
    with Site(tmp_path) as site:
        yield site


def data_dir(site: Site) -> Path:
    """Give the server's data folder."""
    return site.server.data_dir


def command(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run als-server to its end."""
    done = run_to_end(*arguments)
    assert done.returncode == code, done
    return done


def engage(site: Site, computers: int = 3) -> list[dict[str, object]]:
    """Have some computers take licenses; give the leases."""
    product = site.product(5)
    for _ in range(computers):
        site.client().ask("acquire", product=product.code, component="agent", computer=site.computer())
    return site.admin.rows("leases")


def on(leases: list[dict[str, object]]) -> list[tuple[object, ...]]:
    """What must be the same after a restore (renew_by moves on with the outage)."""
    return sorted((row["mac"], row["serial_id"], row["acquired_at"], row["state"]) for row in leases)  # type: ignore[type-var]


def test_backup_beside_a_running_server(site: Site, tmp_path: Path) -> None:
    """One tar, for its owner alone, holds everything that a server cannot do without; nothing else is left behind."""
    engage(site)
    target = tmp_path / "als.tar"
    command("backup", str(target), "--data-dir", str(data_dir(site)))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with tarfile.open(target) as tar:
        names = set(tar.getnames())
    assert names >= {"store/data.mdb", "server.key_secret", "admin.key_secret", "als.toml"}
    assert names >= {"vendors/contract.pub", "catalog.d/contract.toml"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["als.tar", "data"]
    assert len(site.admin.rows("leases")) == 3


def test_restore_brings_back_what_was(site: Site, tmp_path: Path) -> None:
    """After a restore the same server holds the leases of the backup, and the newer folder is kept aside."""
    leases = engage(site)
    target = tmp_path / "als.tar"
    command("backup", str(target), "--data-dir", str(data_dir(site)))
    hello = site.admin.ask("hello")
    engage(site, 2)
    site.server.stop()
    said = command("restore", str(target), "--data-dir", str(data_dir(site))).stdout
    assert "kept in" in said
    assert stat.S_IMODE((data_dir(site) / "server.key_secret").stat().st_mode) == 0o600
    site.reconnect()
    assert on(site.admin.rows("leases")) == on(leases)
    assert site.admin.ask("hello") == hello
    assert "outage" in {event["kind"] for event in site.admin.rows("events")}
    assert len([path for path in tmp_path.iterdir() if "before-restore" in path.name]) == 1


def test_restore_into_nothing(site: Site, tmp_path: Path) -> None:
    """A backup makes a server on a new machine; with a new identity it is another server."""
    leases = engage(site)
    target = tmp_path / "als.tar"
    command("backup", str(target), "--data-dir", str(data_dir(site)))
    second = tmp_path / "second"
    command("restore", str(target), "--new-identity", "--data-dir", str(second))
    with ServerProcess(second) as server:
        assert server.server_key != site.server.server_key
        admin = read_keys(second / "admin.key_secret")
        client = site.client(admin)
        assert client.ask("hello")["your_role"] == "admin"
        client.close()
    store = LmdbStore(second / "store", readonly=True)
    tx = store.snapshot()
    assert len(tx.scan(Table.LEASES)) == len(leases)
    tx.abort()
    store.close()


def test_restore_over_a_live_store_is_refused(site: Site, tmp_path: Path) -> None:
    """A running server's folder is not touched."""
    target = tmp_path / "als.tar"
    command("backup", str(target), "--data-dir", str(data_dir(site)))
    done = command("restore", str(target), "--data-dir", str(data_dir(site)), code=1)
    assert "another als-server is using" in done.stderr
    assert site.admin.ask("hello")["your_role"] == "admin"


@pytest.mark.parametrize("content", [b"", b"no tar", b"cut"])
def test_a_broken_backup_changes_nothing(site: Site, tmp_path: Path, content: bytes) -> None:
    """What is no whole backup is refused in one line, and the old folder stays."""
    target = tmp_path / "als.tar"
    if content == b"cut":
        command("backup", str(target), "--data-dir", str(data_dir(site)))
        whole = target.read_bytes()
        target.write_bytes(whole[: len(whole) // 3])
    else:
        target.write_bytes(content)
    site.server.stop()
    done = command("restore", str(target), "--data-dir", str(data_dir(site)), code=1)
    assert len(done.stderr.strip().splitlines()) == 1
    site.reconnect()
    assert site.admin.ask("hello")["your_role"] == "admin"


def test_a_backup_with_foreign_files_is_refused(tmp_path: Path) -> None:
    """A tar that would write elsewhere is no backup."""
    (tmp_path / "evil").write_text("x")
    target = tmp_path / "evil.tar"
    with tarfile.open(target, "w") as tar:
        tar.add(tmp_path / "evil", "../evil-twin")
    done = command("restore", str(target), "--data-dir", str(tmp_path / "data"), code=1)
    assert "no backup of ALS" in done.stderr
    assert not (tmp_path / "evil-twin").exists()


def test_backup_of_nothing_and_over_something(site: Site, tmp_path: Path) -> None:
    """A folder without a server, and a file that is there already, are refused."""
    done = command("backup", str(tmp_path / "a.tar"), "--data-dir", str(tmp_path / "none"), code=1)
    assert "no server's data" in done.stderr
    (tmp_path / "b.tar").write_text("precious")
    done = command("backup", str(tmp_path / "b.tar"), "--data-dir", str(data_dir(site)), code=1)
    assert "exists already" in done.stderr and (tmp_path / "b.tar").read_text() == "precious"


def test_check_of_sound_books(site: Site) -> None:
    """The check finds nothing in a server that works, running or not."""
    engage(site)
    assert "agree" in command("check", "--data-dir", str(data_dir(site))).stdout
    site.server.stop()
    assert "agree" in command("check", "--data-dir", str(data_dir(site))).stdout


def test_check_finds_and_mends(site: Site) -> None:
    """Every index that was bent is reported, mended from the leases, and then agrees."""
    engage(site)
    site.server.stop()
    store = LmdbStore(data_dir(site) / "store")
    tx = store.begin()
    for table in (Table.POOL, Table.DUE, Table.ADDRESSES, Table.SERIAL_IDS, Table.COUNTS):
        key, _ = tx.scan(table, limit=1)[0]
        tx.delete(table, key)
    key, raw = tx.scan(Table.SEATS, limit=1)[0]
    seats = Seats.unpack(raw)
    seats.used += 1
    tx.put(Table.SEATS, key, seats.pack())
    tx.put(Table.DUE, due_key(0xFFFF, TIME_MAX, COMPUTERS_MAX), b"")
    store.submit(tx)
    store.close()
    done = command("check", "--data-dir", str(data_dir(site)), code=1)
    assert len(done.stdout.splitlines()) >= 7
    assert "mended" in command("check", "--repair", "--data-dir", str(data_dir(site))).stdout
    assert "agree" in command("check", "--data-dir", str(data_dir(site))).stdout
    site.reconnect()
    assert len(site.admin.rows("leases", state="active")) == 3


def test_repair_needs_a_stopped_server(site: Site) -> None:
    """Nobody mends under a running server's hands."""
    done = command("check", "--repair", "--data-dir", str(data_dir(site)), code=1)
    assert "stop it first" in done.stderr


def test_a_record_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """Damage inside a record is a line of the report, not a stack trace."""
    store = LmdbStore(tmp_path)
    tx = store.begin()
    tx.put(Table.EVENTS, bytes(8), b"\xc1")
    assert any("cannot be read" in problem for problem in Audit(tx).run())
    tx.abort()
    store.close()


def test_reset_admin(site: Site) -> None:
    """A new admin key works, and the lost one is an agent's from then on."""
    lost = site.server.admin_keys
    site.server.stop()
    command("reset-admin", "--data-dir", str(data_dir(site)))
    site.reconnect()
    assert site.server.admin_keys != lost
    assert site.admin.ask("hello")["your_role"] == "admin"
    assert site.client(lost).ask("hello")["your_role"] == "agent"


def test_reset_admin_needs_a_stopped_server(site: Site) -> None:
    """A running server's keys are not changed."""
    assert "stop it first" in command("reset-admin", "--data-dir", str(data_dir(site)), code=1).stderr


def test_accept_clock_of_a_running_server(site: Site) -> None:
    """The order reaches a running server, which says that its clock was right all along by doing nothing."""
    said = command("accept-clock", "--data-dir", str(data_dir(site))).stdout
    assert "running server" in said
    assert not (data_dir(site) / "accept-clock").exists()


def test_accept_clock_of_a_stopped_server(site: Site) -> None:
    """Without a server the store is changed directly."""
    site.server.stop()
    assert "nothing to accept" in command("accept-clock", "--data-dir", str(data_dir(site))).stdout
