"""Which key pair a program shows: one that is named, this machine's administrator's, or its user's own."""

from pathlib import Path

from als import folders, keyfile
from als.keyfile import KeyFileError, KeyPair
from als_agents import documents
from als_agents.errors import FolderUnusable, KeyPairUnusable

OWN_NAME = "agent"


def identity_for(
    data_dir: Path | None = None, identity_file: Path | None = None, server_key: bytes | None = None
) -> KeyPair:
    """Choose the key pair for a tool.

    `identity_file` if there is one; else the administrator's of a data folder on this machine (by default the
    platform's) that this user may read and whose server has `server_key`, or any if that is None; else
    own_pair(). Raises KeyFileError, for a secret that others can read too, and FolderUnusable.
    """
    if identity_file is not None:
        return keyfile.read(identity_file)
    folder = data_dir if data_dir is not None else folders.server_dir()
    admin = folder / "admin.key_secret"
    if _can_read(admin) and server_key in (None, _public(folder / "server.key")):
        return keyfile.read(admin)
    return own_pair()


def own_pair(folder: Path | None = None) -> KeyPair:
    """Read this user's own key pair from the client's folder; the first of all processes makes it.

    Raises KeyPairUnusable, FolderUnusable.
    """
    own = folder if folder is not None else folders.client_dir()
    path = own / f"{OWN_NAME}.key_secret"
    try:
        if not path.exists():
            own.mkdir(parents=True, exist_ok=True, mode=0o700)
            with documents.locked(path):  # of two processes one makes it, the other reads it
                return keyfile.read_or_make(own, OWN_NAME)
        return keyfile.read(path)
    except KeyFileError as error:
        raise KeyPairUnusable(str(error)) from None
    except OSError as error:
        raise FolderUnusable.of(path, error) from None


def _can_read(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _public(path: Path) -> bytes | None:
    try:
        return keyfile.read_public(path)
    except KeyFileError:
        return None
