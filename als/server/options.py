"""The options that several commands of `als-server` share, each with its environment variable and default."""

from pathlib import Path
from typing import Annotated, Any

import typer

from als import folders


def _read_folder(text: str) -> Path:
    if not text:  # a shell's variable that is not set
        raise typer.BadParameter("it is empty; name a folder")
    return Path(text)


def _file(flag: str, variable: str, text: str) -> Any:
    """Make an option that names a file; which one is read, and what is wrong with it, is told where it is used."""
    return typer.Option(flag, metavar="FILE", envvar=variable, help=text, show_default="none", readable=False)


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar=folders.DATA_DIR_VARIABLE,
        help="Folder of keys, store, settings, catalog and vendors.",
        show_default="the platform's data folder",
        parser=_read_folder,
        metavar="DIR",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="ALS_CONFIG",
        help="Settings file.",
        show_default="als.toml in the data folder",
        readable=False,  # typer's own check would call a file without rights wrong usage
    ),
]
DiscoveryPort = Annotated[
    int,
    typer.Option(
        metavar="PORT",
        envvar="ALS_DISCOVERY_PORT",
        min=0,
        max=65535,
        help="UDP port that hears broadcasts; 0 is off.",
    ),
]
Metrics = Annotated[
    str,
    typer.Option(
        metavar="[HOST:]PORT",
        envvar="ALS_METRICS",
        help="PORT or HOST:PORT of a page for Prometheus; without a host for this machine alone.",
        show_default="off",
    ),
]
Store = Annotated[
    str,
    typer.Option(
        metavar="STORE",
        envvar="ALS_STORE",
        help='"lmdb", in the data folder, or a cluster\'s etcd://HOST:PORT,HOST:PORT,...',
    ),
]
Secret = Annotated[
    Path | None,
    _file("--cluster-secret", "ALS_CLUSTER_SECRET", "File of the secret that the servers of a cluster share."),
]
EtcdCa = Annotated[
    Path | None,
    _file(
        "--etcd-ca",
        "ALS_ETCD_CA",
        "PEM file of the authority that signed etcd's certificates; with it the way to etcd is encrypted.",
    ),
]
EtcdCert = Annotated[
    Path | None, _file("--etcd-cert", "ALS_ETCD_CERT", "PEM file of this server's certificate for etcd.")
]
EtcdKey = Annotated[Path | None, _file("--etcd-key", "ALS_ETCD_KEY", "PEM file of that certificate's key.")]
EtcdPrefix = Annotated[
    str,
    typer.Option(
        "--etcd-prefix", metavar="TEXT", envvar="ALS_ETCD_PREFIX", help="What the keys of this cluster begin with."
    ),
]
EtcdCompact = Annotated[
    bool,
    typer.Option(
        "--etcd-compact/--no-etcd-compact",
        envvar="ALS_ETCD_COMPACT",
        help="Compact etcd's history; off where others use the same etcd and need it.",
    ),
]
