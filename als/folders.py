"""Where things lie on this platform unless somebody says otherwise."""

import os
from pathlib import Path

import platformdirs

DATA_DIR_VARIABLE = "ALS_DATA_DIR"
CLIENT_DIR_VARIABLE = "ALS_CLIENT_DIR"


def server_dir() -> Path:
    """The server's data folder: keys, store, settings, catalog, vendors."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or platformdirs.user_data_path("als-server", appauthor=False))


def client_dir() -> Path:
    """What an agent or a tool keeps of its own: its key pair, known servers, the server's parameters."""
    return Path(os.environ.get(CLIENT_DIR_VARIABLE) or platformdirs.user_data_path("als-client", appauthor=False))
