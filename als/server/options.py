"""The options that several commands of `als-server` share, each with its environment variable and default."""

from pathlib import Path
from typing import Annotated

import typer

from als import folders


def _read_folder(text: str) -> Path:
    try:
        return folders.read(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


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
    typer.Option(
        "--cluster-secret",
        metavar="FILE",
        envvar="ALS_CLUSTER_SECRET",
        help="File of the secret that the servers of a cluster share.",
        show_default="none",
        readable=False,
    ),
]
EtcdCa = Annotated[
    Path | None,
    typer.Option(
        "--etcd-ca",
        metavar="FILE",
        envvar="ALS_ETCD_CA",
        help="PEM file of the authority that signed etcd's certificates; with it the way to etcd is encrypted.",
        show_default="none",
        readable=False,
    ),
]
EtcdCert = Annotated[
    Path | None,
    typer.Option(
        "--etcd-cert",
        metavar="FILE",
        envvar="ALS_ETCD_CERT",
        help="PEM file of this server's certificate for etcd.",
        show_default="none",
        readable=False,
    ),
]
EtcdKey = Annotated[
    Path | None,
    typer.Option(
        "--etcd-key",
        metavar="FILE",
        envvar="ALS_ETCD_KEY",
        help="PEM file of that certificate's key.",
        show_default="none",
        readable=False,
    ),
]
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
