"""`als-server`: the command line of the server's own machine. Parses, calls, and turns failures into exit codes."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from als import __version__, folders, streams
from als.catalog import CatalogError
from als.clock import SystemClock, pause
from als.keyfile import KeyFileError, to_z85
from als.protocol import PORT
from als.server import backup as backups
from als.server import offline, options, vendors
from als.server import run as server
from als.server import settings as settings_file
from als.server.backup import BackupError
from als.server.datadir import DataDir, DataDirError
from als.server.settings import Settings, SettingsError
from als.server.start import EXIT_CANNOT_START
from als.store.transaction import StoreError
from als.vendorkeys import VendorKeyError

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_COMMIT_FAILED = 6

app = typer.Typer(
    name="als-server",
    help="The license server: counts the licenses of a local network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut names off where a terminal has 80 columns; plain help wraps
    context_settings={"help_option_names": ["-h", "--help"]},
)


def fail(message: str, code: int) -> NoReturn:
    """Say in one line what is wrong, and end."""
    streams.complain(f"als-server: {message}")
    raise typer.Exit(code)


def _clean_up_when_stopped() -> None:
    """Have SIGTERM end the program as ctrl-C does, so that nothing half done is left on the disk."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _say(message: str) -> None:
    print(message)  # noqa: T201


def _show_version(wanted: bool) -> None:
    if wanted:
        _say(f"als-server {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    context: typer.Context,
    data_dir: options.DataDir = None,
    bind: Annotated[
        str,
        typer.Option(metavar="ADDRESS", envvar="ALS_BIND", help="Address to serve on.", show_default="every address"),
    ] = "",
    port: Annotated[
        int, typer.Option(metavar="PORT", envvar="ALS_PORT", min=0, max=65535, help="TCP port; 0 takes a free one.")
    ] = PORT,
    discovery_port: options.DiscoveryPort = PORT,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="ALS_NAME", help="Name that discovery shows.", show_default="the machine's name"
        ),
    ] = settings_file.default_name(),
    config: options.Config = None,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", envvar="ALS_LOG_LEVEL", help="debug, info, warning or error.")
    ] = settings_file.LOG_LEVEL_DEFAULT,
    metrics: options.Metrics = "",
    store: options.Store = settings_file.STORE_DEFAULT,
    cluster_secret: options.Secret = None,
    etcd_ca: options.EtcdCa = None,
    etcd_cert: options.EtcdCert = None,
    etcd_key: options.EtcdKey = None,
    etcd_prefix: options.EtcdPrefix = settings_file.ETCD_PREFIX_DEFAULT,
    etcd_compact: options.EtcdCompact = True,
) -> None:
    """Serve until SIGTERM or ctrl-C. Prints one line "ready: NAME on ADDRESS:PORT" when it does."""
    flags = {key: value for key, value in context.params.items() if key not in ("data_dir", "config")}
    chosen = {key: value for key, value in flags.items() if _was_given(context, key)}
    try:
        settings = load_whole_settings(data_dir, config, chosen)
    except SettingsError as error:
        fail(str(error), EXIT_CANNOT_START)
    server.set_up_log(settings.log_level)
    try:
        server.run(settings, SystemClock())
    except server.StartError as error:
        fail(str(error), EXIT_CANNOT_START)
    except server.CommitError as error:
        fail(f"stopped, because {error}", EXIT_COMMIT_FAILED)


def _was_given(context: typer.Context, key: str) -> bool:
    """Say whether a flag or its environment variable was set, so that it wins over the settings file."""
    source = context.get_parameter_source(key)
    return source is not None and source.name != "DEFAULT"


def load_settings(data_dir: Path | None, config: Path | None, chosen: dict[str, Any]) -> Settings:
    """Put flags, environment and settings file together. Raises SettingsError."""
    folder = data_dir or folders.server_dir()
    path = config or folder / settings_file.FILE
    values = settings_file.read_file(path, required=config is not None)
    settings = Settings(data_dir=folder, **{**values, **chosen})
    settings_file.check(settings)
    return settings


def load_whole_settings(data_dir: Path | None, config: Path | None, chosen: dict[str, Any]) -> Settings:
    """Put everything together that a server needs which starts now. Raises SettingsError."""
    settings = load_settings(data_dir, config, chosen)
    settings_file.check_together(settings)
    return settings


def _cluster_environment() -> dict[str, Any]:
    """Give what the environment says of a cluster, for a command that has no flags for it."""
    given = {key: os.environ.get(f"ALS_{key.upper()}") for key in settings_file.CLUSTER_TEXTS}
    return {key: Path(value) if key in settings_file.PATHS else value for key, value in given.items() if value}


@app.command()
def check_config(data_dir: options.DataDir = None, config: options.Config = None) -> None:
    """Check settings, catalog and vendors' keys. Names file, line and key of what is wrong."""
    data = DataDir(data_dir or folders.server_dir())
    try:
        settings = load_whole_settings(data_dir, config, _cluster_environment())
        settings_file.check_files(settings)
        catalog, vendor_keys = data.read_catalog(settings.builtin_products), data.read_vendors()
    except (SettingsError, CatalogError) as error:
        fail(str(error), EXIT_REFUSED)
    _say(f"{data.path}: the configuration is good")
    if not data.path.is_dir():
        _say("  there is no such folder yet; als-server run makes it")
    for product in catalog.products:
        components = ", ".join(product.components)
        _say(f"  product {product.number} {product.code} ({product.name}): {components}")
    for vendor in vendor_keys:
        _say(f"  vendor {vendor}")
    if not vendor_keys:
        _say("  no vendor yet; als-server add-vendor NAME.pub lets a vendor's serials in")


@app.command()
def add_vendor(
    file: Annotated[Path, typer.Argument(help="NAME.pub, or NAME.toml: a catalog file beside its NAME.pub.")],
    data_dir: options.DataDir = None,
) -> None:
    """Let a vendor's serials in.

    Copies its public key, and a catalog file of the same name beside it, if there is one. A running server reads them
    at the next import.
    """
    data = DataDir(data_dir or folders.server_dir())
    try:
        settings = load_settings(data_dir, None, {})
        data.make()
        added = vendors.add(file, data, settings.builtin_products)
    except (SettingsError, DataDirError, VendorKeyError, CatalogError) as error:
        fail(str(error), EXIT_REFUSED)
    except OSError as error:
        fail(f"{error.filename or data.path}: {error.strerror or error}", EXIT_REFUSED)
    for path in added:
        _say(f"added {path}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The tar to write; it holds secrets, and only you can read it.")],
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Write a backup, also while the server runs. One tar holds store, keys, settings, catalog and vendors.

    A settings file that lies elsewhere, --config, goes into it as als.toml: a restored server has it in its folder.

    A cluster keeps its licenses in etcd: etcdctl snapshot save copies all of it; als-server migrate --copy brings them
    into a folder of which this command makes a backup as usual.
    """
    _clean_up_when_stopped()
    if hasattr(os, "nice"):
        os.nice(19)  # a server on this machine goes first
    try:
        size_bytes = backups.make(DataDir(data_dir or folders.server_dir()), file, config)
    except BackupError as error:
        fail(str(error), EXIT_REFUSED)
    _say(f"{file}: {size_bytes:,} bytes, checked; keep it where only you can read it")


@app.command()
def migrate(
    source: Annotated[str, typer.Option("--from", help="lmdb:FOLDER, a data folder, or etcd://HOST:PORT,...")],
    target: Annotated[str, typer.Option("--to", help="The other one of these; without any licenses yet.")],
    copy: Annotated[
        bool, typer.Option("--copy", help="Leave the source in use; a cluster's servers may run meanwhile.")
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="ALS_NAME", help="Name of the new cluster.", show_default="the folder's setting"
        ),
    ] = "",
    cluster_secret: options.Secret = None,
    etcd_ca: options.EtcdCa = None,
    etcd_cert: options.EtcdCert = None,
    etcd_key: options.EtcdKey = None,
    etcd_prefix: options.EtcdPrefix = settings_file.ETCD_PREFIX_DEFAULT,
) -> None:
    """Move licenses and server key into a cluster, or back. Every row and sum is compared.

    No server may use the source, and it cannot be used any more afterwards. With --copy this is a backup of a cluster:
    als-server backup takes the new folder into a tar.
    """
    flags = {"cluster_secret": cluster_secret, "etcd_ca": etcd_ca, "etcd_cert": etcd_cert, "etcd_key": etcd_key}
    urls = {url.startswith(settings_file.LMDB_SCHEME): url for url in (source, target)}
    if urls.keys() != {True, False}:
        fail("--from and --to must be lmdb:FOLDER and etcd://HOST:PORT,..., in any order", EXIT_USAGE)
    given = {"store": urls[False], "etcd_prefix": etcd_prefix, "name": name}
    chosen = {key: value for key, value in (flags | given).items() if value}
    try:
        folder = Path(urls[True].removeprefix(settings_file.LMDB_SCHEME))
        rows = server.migrate(source, target, load_whole_settings(folder, None, chosen), SystemClock(), copy=copy)
    except (SettingsError, StoreError, DataDirError) as error:
        fail(str(error), EXIT_REFUSED)
    _say(f"{rows:,} rows {'copied' if copy else 'moved'} and compared; the books agree")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A tar that als-server backup wrote.")],
    new_identity: Annotated[
        bool, typer.Option("--new-identity", help="Make a second server of it: new key pair, new server id.")
    ] = False,
    data_dir: options.DataDir = None,
) -> None:
    """Put a backup in the place of the data folder. The old one is kept aside; the server must not run.

    The time since the backup counts as an outage: no license lapses by it, unless it is longer than the
    product's period.
    """
    _clean_up_when_stopped()
    data = DataDir(data_dir or folders.server_dir())
    try:
        aside = backups.restore(data, file, SystemClock().read(), new_identity=new_identity)
    except (BackupError, DataDirError) as error:
        fail(str(error), EXIT_REFUSED)
    _say(f"restored {data.path}")
    if aside is not None:
        _say(f"what was there is kept in {aside}")
    if new_identity:
        _say("the server has a new key: serials that are locked to the old one count no more once it starts")


@app.command()
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend indexes and sums from the leases.")] = False,
    data_dir: options.DataDir = None,
) -> None:
    """Hold every table against the leases. Walks all indexes and sums; exit code 1 when something does not agree."""
    try:
        problems = offline.check(DataDir(data_dir or folders.server_dir()), repair=repair)
    except (StoreError, DataDirError) as error:
        fail(str(error), EXIT_REFUSED)
    for problem in problems:
        _say(problem)
    if problems and not repair:
        fail(f"{len(problems)} things do not agree; stop the server and run als-server check --repair", EXIT_REFUSED)
    _say(f"{len(problems)} things mended" if problems else "the books agree with the leases")


@app.command()
def accept_clock(data_dir: options.DataDir = None) -> None:
    """Go by the wall clock from now on. Also when that sets the server's time back or far ahead."""
    try:
        _say(offline.accept_clock(DataDir(data_dir or folders.server_dir()), SystemClock(), pause))
    except (StoreError, DataDirError) as error:
        fail(str(error), EXIT_REFUSED)


@app.command()
def reset_admin(data_dir: options.DataDir = None) -> None:
    """Make a new admin key when the old one is lost. The server must not run."""
    data = DataDir(data_dir or folders.server_dir())
    try:
        pair = offline.reset_admin(data, SystemClock())
    except (StoreError, DataDirError, KeyFileError) as error:
        fail(str(error), EXIT_REFUSED)
    except OSError as error:
        fail(f"{error.filename or data.path}: {error.strerror or error}", EXIT_REFUSED)
    _say(f"{data.path / 'admin.key_secret'} is the new admin key; its public half is {to_z85(pair.public)}")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
