"""Which key pair a program shows to a server."""

import os
from pathlib import Path

import pytest

from als import keyfile
from als.keyfile import KeyFileError
from als_agents.errors import FolderUnusable
from als_agents.key_pairs import identity_for, own_pair


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Make a server's data folder with its key and its administrator's."""
    folder = tmp_path / "data"
    folder.mkdir()
    keyfile.read_or_make(folder, "server")
    keyfile.read_or_make(folder, "admin")
    return folder


@pytest.fixture(autouse=True)
def client_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this test a client's folder and an empty place for the platform's data folder."""
    monkeypatch.setenv("ALS_CLIENT_DIR", str(tmp_path / "client"))
    monkeypatch.setenv("ALS_DATA_DIR", str(tmp_path / "nothing here"))
    return tmp_path / "client"


def test_own_pair_is_made_once(client_dir: Path) -> None:
    """The first call makes the key pair, 0600, and later ones read it."""
    first = own_pair()
    assert own_pair() == first == keyfile.read(client_dir / "agent.key_secret")
    assert (client_dir / "agent.key_secret").stat().st_mode & 0o777 == 0o600


def test_named_file_comes_before_all(data_dir: Path, tmp_path: Path) -> None:
    """--identity FILE is used even on the server's machine."""
    keyfile.write(tmp_path, "mine", keyfile.generate())
    file = tmp_path / "mine.key_secret"
    assert identity_for(data_dir, file) == keyfile.read(file)


def test_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """A file that was named and is not there is never replaced by another key."""
    with pytest.raises(KeyFileError, match="missing"):
        identity_for(None, tmp_path / "missing.key_secret")


def test_administrators_key_of_the_data_folder(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the server's machine the data folder's administrator is used, for that folder's server alone."""
    admin = keyfile.read(data_dir / "admin.key_secret")
    server_key = keyfile.read_public(data_dir / "server.key")
    assert identity_for(data_dir) == identity_for(data_dir, None, server_key) == admin
    assert identity_for(data_dir, None, bytes(32)) == own_pair()
    monkeypatch.setenv("ALS_DATA_DIR", str(data_dir))
    assert identity_for(None, None, server_key) == admin


def test_without_a_data_folder_it_is_the_users_own() -> None:
    """On other machines each user has a key of their own."""
    assert identity_for() == own_pair()


def test_secret_that_others_can_read_is_refused(data_dir: Path) -> None:
    """An administrator's secret with loose rights is refused with the command that mends it."""
    (data_dir / "admin.key_secret").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        identity_for(data_dir)


def test_the_public_half_is_named_as_such(data_dir: Path) -> None:
    """Who names the wrong file of the pair is told the right one, and not to hide what may be seen."""
    with pytest.raises(KeyFileError, match="holds no secret key; name the file that ends in"):
        keyfile.read(data_dir / "admin.key")


def test_processes_that_start_together_have_one_key(client_dir: Path) -> None:
    """Of eight processes at first use one makes the key and all show the same."""
    read_end, write_end = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            try:
                os.write(write_end, own_pair().secret)
            finally:
                os._exit(0)
        children.append(child)
    os.close(write_end)
    for child in children:
        os.waitpid(child, 0)
    with os.fdopen(read_end, "rb") as pipe:
        shown = pipe.read()
    assert len(shown) == 8 * 32 and {shown[i : i + 32] for i in range(0, len(shown), 32)} == {own_pair().secret}


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A client's folder under a file is one line that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match="agent"):
        own_pair(tmp_path / "file" / "client")
