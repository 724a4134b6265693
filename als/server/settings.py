"""The server's settings: flag, else environment, else `als.toml`, else default.

Command-line parsing belongs to main.py; this file knows which keys `als.toml` may hold.
"""

import re
import socket
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from als import files
from als.beacon import NAME_BYTES_MAX
from als.ledger.desk import AGENTS_LISTED, AGENTS_OPEN, NEW_SEATS_PER_ADDRESS_H_DEFAULT
from als.protocol import PORT
from als.tomlplace import Place

FILE = "als.toml"
LOG_LEVEL_DEFAULT = "info"
STORE_DEFAULT = "lmdb"
LMDB_SCHEME = "lmdb:"
ETCD_SCHEME = "etcd://"
ETCD_PORT = 2379
ETCD_PREFIX_DEFAULT = "als/1/"
LOG_LEVELS = ("debug", "info", "warning", "error")
_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])(?::(?P<port>[0-9]{1,5}))?")

_METRICS = re.compile(r"(?:(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):)?(?P<port>[0-9]{1,5})")


class SettingsError(Exception):
    """A settings file that cannot be used; the message names file and key."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `als-server run` goes by. `bind` "" hears on every address, `discovery_port` 0 is off."""

    data_dir: Path
    bind: str = ""
    port: int = PORT
    discovery_port: int = PORT
    name: str = field(default_factory=lambda: default_name())
    log_level: str = LOG_LEVEL_DEFAULT
    agents: str = AGENTS_OPEN
    new_seats_per_address_h: int = NEW_SEATS_PER_ADDRESS_H_DEFAULT
    builtin_products: bool = True
    store: str = STORE_DEFAULT
    cluster_secret: Path | None = None
    etcd_ca: Path | None = None
    etcd_cert: Path | None = None
    etcd_key: Path | None = None
    etcd_prefix: str = ETCD_PREFIX_DEFAULT
    etcd_compact: bool = True
    metrics: str = ""

    @property
    def is_shared(self) -> bool:
        """Say whether other servers share the store."""
        return self.store != STORE_DEFAULT

    def metrics_address(self) -> tuple[str, int] | None:
        """Give where the metrics page is served, this machine alone when no host is named. Raises SettingsError."""
        if not self.metrics:
            return None
        found = _METRICS.fullmatch(self.metrics)
        if found is None or int(found["port"]) > 65_535:
            raise SettingsError(f"metrics: {self.metrics!r} is no PORT or HOST:PORT")
        return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"])

    def etcd_endpoints(self) -> list[str]:
        """Give host:port of each member of etcd that `store` names. Raises SettingsError."""
        if not self.store.startswith(ETCD_SCHEME):
            raise SettingsError(f'store: must be "{STORE_DEFAULT}" or {ETCD_SCHEME}HOST:PORT,HOST:PORT,...')
        return [_endpoint(part) for part in self.store.removeprefix(ETCD_SCHEME).rstrip("/").split(",")]


def _endpoint(text: str) -> str:
    """Complete an address with etcd's port. Raises SettingsError."""
    found = _ENDPOINT.fullmatch(text.strip())
    if found is None or not 0 < int(found["port"] or ETCD_PORT) <= 65_535:
        raise SettingsError(f"store: {text!r} is no HOST:PORT of etcd")
    return f"{found['host']}:{found['port'] or ETCD_PORT}"


def default_name() -> str:
    """The machine's name without its domain."""
    return cut_name(socket.gethostname().split(".")[0] or "als")


def cut_name(name: str) -> str:
    """Cut a name to what a discovery answer can carry."""
    return name.encode()[:NAME_BYTES_MAX].decode(errors="ignore")


_TYPES: dict[str, type] = {
    "bind": str,
    "port": int,
    "discovery_port": int,
    "name": str,
    "log_level": str,
    "agents": str,
    "new_seats_per_address_h": int,
    "builtin_products": bool,
    "store": str,
    "cluster_secret": str,
    "etcd_ca": str,
    "etcd_cert": str,
    "etcd_key": str,
    "etcd_prefix": str,
    "etcd_compact": bool,
    "metrics": str,
}
_TYPE_NAMES = {str: 'a text, like "this"', int: "a whole number", bool: "true or false"}
PATHS = ("cluster_secret", "etcd_ca", "etcd_cert", "etcd_key")
CLUSTER_TEXTS = (*PATHS, "store", "etcd_prefix")


def read_file(path: Path, required: bool) -> dict[str, Any]:
    """Read and check `als.toml`; an absent one is empty unless it is required. Raises SettingsError, with the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not required and not path.is_symlink():  # a link to nowhere was meant to lead somewhere
            return {}
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (OSError, ValueError, RecursionError) as error:  # tomllib also lets long numbers and deep nesting through
        raise SettingsError(f"{path}: {error}") from None
    place = Place(str(path), text)
    for key, value in values.items():
        if key not in _TYPES:
            raise SettingsError(f"{place.at(key)}: unknown key; known are {', '.join(_TYPES)}")
        if type(value) is not _TYPES[key]:
            raise SettingsError(f"{place.at(key)}: must be {_TYPE_NAMES[_TYPES[key]]}")
    values |= {key: path.parent / values[key] for key in PATHS if key in values}
    try:
        check(Settings(data_dir=path.parent, **values))
    except SettingsError as error:
        key, _, what = str(error).partition(": ")
        raise SettingsError(f"{place.at(key)}: {what}") from None
    return values


def check(settings: Settings) -> None:
    """Refuse values that no server can run with. Raises SettingsError."""
    for key in ("port", "discovery_port"):
        if not 0 <= getattr(settings, key) <= 65_535:
            raise SettingsError(f"{key}: must be from 0 to 65535")
    if settings.agents not in (AGENTS_OPEN, AGENTS_LISTED):
        raise SettingsError(f'agents: must be "{AGENTS_OPEN}" or "{AGENTS_LISTED}"')
    if settings.new_seats_per_address_h < 0:
        raise SettingsError("new_seats_per_address_h: must be 0 (no limit) or more")
    if settings.log_level not in LOG_LEVELS:
        raise SettingsError(f"log_level: must be one of {', '.join(LOG_LEVELS)}")
    settings.metrics_address()
    if settings.is_shared:
        settings.etcd_endpoints()
    if not settings.etcd_prefix or not settings.etcd_prefix.isascii() or not settings.etcd_prefix.isprintable():
        raise SettingsError("etcd_prefix: must be printable ASCII, and not empty")
    if not _is_name(settings.name):
        raise SettingsError(
            f"name: must be 1 to {NAME_BYTES_MAX} bytes of printable text, without line breaks or control characters"
        )


def check_together(settings: Settings) -> None:
    """Refuse values that miss each other, once all are known, wherever they come from. Raises SettingsError."""
    if settings.is_shared and settings.cluster_secret is None:
        raise SettingsError("cluster_secret: a store that servers share needs the file of the cluster's secret")
    if (settings.etcd_cert is None) != (settings.etcd_key is None):
        raise SettingsError("etcd_cert: a certificate needs its key, and a key its certificate")
    if settings.etcd_cert is not None and settings.etcd_ca is None:
        raise SettingsError("etcd_ca: a certificate is of use only with the authority of etcd's own")


def check_files(settings: Settings) -> None:
    """Refuse a cluster's files that cannot be read, or that too many can. Raises SettingsError."""
    for key in PATHS:
        path: Path | None = getattr(settings, key)
        if path is None:
            continue
        try:
            path.open("rb").close()
            if key == "cluster_secret":
                files.refuse_readable_secret(path)
        except OSError as error:
            raise SettingsError(f"{key}: {path}: {error.strerror or error}") from None
        except files.UnsafeFileError as error:
            raise SettingsError(f"{key}: {error}") from None


def _is_name(name: str) -> bool:
    """Say whether a name can stand in a line, such as the one that says ready, and in a discovery answer."""
    return name.isprintable() and bool(name.strip()) and cut_name(name) == name
