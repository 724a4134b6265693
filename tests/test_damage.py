"""A store's file that was damaged: it is named as such, in one line, by the server and by the check."""

import shutil
import struct
from pathlib import Path

import msgpack
import pytest

from als.store.lmdb.store import LmdbStore
from als.store.transaction import Table
from contract_client import Client
from server_process import ServerProcess, Site, run_to_end, start_failure

PAGE_BYTES = 4_096
LEAF = 0x02  # among a page's flags
_HEAD = struct.Struct("<QHH")  # a page's number, what is left over, its flags
DAMAGED_PAGES = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped server's data folder with some thousand records in it."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        product, agent = site.product(1_000), site.client()
        wishes = [{"product": product.code, "component": "agent", "computer": site.computer()} for _ in range(1_000)]
        agent.replies_to([agent.send("acquire", **fields) for fields in wishes])
        assert site.server.stop() == 0
        data_dir = site.server.data_dir
    store = LmdbStore(data_dir / "store")
    store.copy(data_dir)  # without the pages that are free, whose loss is none
    store.close()
    (data_dir / "data.mdb").replace(data_dir / "store/data.mdb")
    return data_dir


@pytest.fixture
def data_dir(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(whole, tmp_path / "data")


def leaves(store: bytes) -> list[int]:
    """The numbers of the pages that hold records."""
    pages = range(len(store) // PAGE_BYTES)
    return [page for page in pages[2:] if _HEAD.unpack_from(store, page * PAGE_BYTES)[::2] == (page, LEAF)]


@pytest.mark.parametrize("place", range(DAMAGED_PAGES))
def test_a_page_that_was_overwritten(data_dir: Path, place: int) -> None:
    """Whichever page is lost, the check ends with 1 and tells of it, though the engine itself may give up over it."""
    file = data_dir / "store/data.mdb"
    store = bytearray(file.read_bytes())
    candidates = leaves(store)
    page = candidates[len(candidates) * (place + 1) // (DAMAGED_PAGES + 1)]
    store[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    file.write_bytes(store)
    done = run_to_end("check", "--data-dir", str(data_dir))
    assert done.returncode == 1, done
    assert len(done.stderr.strip().splitlines()) == 1
    assert "damaged" in done.stderr or "do not agree" in done.stderr


def test_a_file_that_was_cut_off(data_dir: Path) -> None:
    """A file that lacks its second half is named at the start."""
    file = data_dir / "store/data.mdb"
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    message = start_failure(data_dir)
    assert "damaged" in message and str(file.parent) in message


@pytest.mark.parametrize("content", [b"", bytes(100_000), b"no store at all " * 1_000], ids=["empty", "zeros", "text"])
def test_another_file(data_dir: Path, content: bytes) -> None:
    """A file that is no store, or nothing any more, is named at the start, and is not begun anew."""
    file = data_dir / "store/data.mdb"
    file.write_bytes(content)
    assert str(file.parent) in start_failure(data_dir)
    assert file.read_bytes() == content


@pytest.mark.parametrize("lost", ["store/data.mdb", "store"])
def test_a_store_that_is_gone(data_dir: Path, lost: str) -> None:
    """A volume that is not mounted, or half a copy: agents must not believe a server that has forgotten them all."""
    path = data_dir / lost
    path.rename(data_dir.with_name("elsewhere"))
    message = start_failure(data_dir)
    assert "is missing, though a server has run here; restore a backup" in message
    for words in (["check"], ["check", "--repair"], ["reset-admin"], ["accept-clock"]):
        done = run_to_end(*words, "--data-dir", str(data_dir))
        assert (done.returncode, done.stdout) == (1, ""), "whatever an administrator tries next makes no new store"
    assert not path.exists()
    (data_dir / "server.id").unlink()
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0, "as the message says"


def test_keys_that_were_put_there_before_the_first_start(data_dir: Path, tmp_path: Path) -> None:
    """Who gives a new server the keys that it shall have has lost nothing."""
    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    for name in ("server.key", "server.key_secret", "admin.key", "admin.key_secret"):
        shutil.copy(data_dir / name, new / name)
    with ServerProcess(new) as server:
        assert server.stop() == 0


def test_a_store_of_before_there_was_anything_to_miss_it_by(data_dir: Path) -> None:
    """A folder of an older version is known from its first start on, and a store that was cut to nothing at once."""
    (data_dir / "server.id").unlink()
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    assert (data_dir / "server.id").exists()
    (data_dir / "server.id").unlink()
    (data_dir / "store/data.mdb").write_bytes(b"")
    assert "is empty: it was cut off" in start_failure(data_dir)


def test_a_first_start_that_came_no_further(tmp_path: Path) -> None:
    """An empty file that a first start has left, before anything was promised, is a new store."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/data.mdb").touch()
    with ServerProcess(tmp_path) as server:
        assert server.stop() == 0


def test_a_record_that_makes_no_sense(data_dir: Path) -> None:
    """A running server that meets such a record ends with 6 and one line, and no stack trace."""
    store = LmdbStore(data_dir / "store")
    tx = store.begin()
    key = tx.scan(Table.COMPUTERS, limit=1)[0][0]
    tx.put(Table.COMPUTERS, key, msgpack.packb([b"", "h", "a", None, 99, 0]))
    store.submit(tx)
    store.close()
    with ServerProcess(data_dir) as server:
        asking = Client(server.port, server.server_key, server.admin_keys)
        asking.send("leases")
        assert server.wait() == 6
        asking.close()
        said = server.stderr()
    assert "als-server check" in said.strip().splitlines()[-1] and "Traceback" not in said
