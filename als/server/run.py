"""Puts a server together: data folder, store, ledger, sockets, loop; and takes it apart again.

Everything that can keep a server from starting becomes one StartError with one line for the administrator.
"""

import contextlib
import gc
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import cryptography.exceptions  # als/serial.py imports these when it needs them; by then no file may be left to open
import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
import zmq

from als import __version__, beacon, streams
from als.catalog import CatalogError
from als.clock import Clock
from als.keyfile import KeyPair
from als.ledger import Ledger
from als.ledger.quick.repeats import SECRET_BYTES
from als.server import access, answering, founding, slices
from als.server.answering import Answering
from als.server.core import Core, Turns, read_server_id
from als.server.datadir import DataDir, DataDirError
from als.server.loop import Loop, Sockets
from als.server.settings import Settings
from als.store import schema
from als.store.lmdb.store import LmdbStore
from als.store.transaction import StoreError, StoreFullError

if TYPE_CHECKING:
    from als.server.cluster.opening import Opened as Share
    from als.server.metrics import Metrics

GARBAGE_THRESHOLD = 100_000  # a turn makes some ten thousand objects and no cycles: look once in several turns

log = logging.getLogger("als")


class StartError(Exception):
    """The server cannot start; one line that says why and what to do."""


class CommitError(Exception):
    """The server had to stop because the store failed; nothing was promised that is not on disk."""


def run(settings: Settings, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, CommitError."""
    data = DataDir(settings.data_dir)
    _raise_file_limit()
    access.seed_routing_ids()
    access.use_lean_frames()
    slices.ask()  # before the sockets' threads begin
    with contextlib.ExitStack() as stack:
        try:
            data.make()
            data.lock()
            stack.callback(data.unlock)
            opened = stack.enter_context(_open(settings, data, clock))
            sockets = stack.enter_context(_open_sockets(settings, opened.keys))
            answer = beacon.Answer(opened.ledger.server_id, opened.name, __version__, sockets.port, opened.keys.public)
            core = opened.make_core(sockets.port)
            metrics = _serve_metrics(settings, stack)
        except (DataDirError, StoreError, CatalogError) as error:
            raise StartError(str(error)) from None
        wake = stack.enter_context(_woken_by_signals())
        loop = Loop(core, sockets, Answering(answer), clock, wake)
        loop.every_second = lambda: _do_every_second(data, core, metrics)
        _tell_ready(f"{opened.name} on {_shown_address(settings.bind)}:{sockets.port}")
        gc.collect()
        gc.freeze()  # what lives as long as the server need not be looked at again and again
        gc.set_threshold(GARBAGE_THRESHOLD)
        try:
            loop.run()
            core.stop(clock.read())
        except StoreError as error:
            raise CommitError(str(error)) from None
        except Exception as error:  # a record that makes no sense, or a mistake of ours
            log.debug("unexpected", exc_info=True)
            what = f"{type(error).__name__}: {error}"
            hint = "als-server check tells whether the store is sound; --log-level debug shows more"
            raise CommitError(f"the server stopped over what it did not expect ({what}); {hint}") from None
    log.info("stopped")


class _Opened(NamedTuple):
    """An open store with what a server over it is to its clients. `make_core` takes the TCP port."""

    keys: KeyPair
    name: str
    ledger: Ledger
    make_core: Callable[[int], Turns]


@contextlib.contextmanager
def _open_own(settings: Settings, data: DataDir, clock: Clock) -> Iterator[_Opened]:
    """Open the store in the data folder. Raises StoreError, CatalogError, DataDirError."""
    keys = data.server_keys()
    data.refuse_lost_store()
    with contextlib.closing(LmdbStore(data.store)) as store:
        ledger = _open_ledger(settings, data, keys, store, clock)
        data.remember_server(ledger.server_id)
        reload = partial(founding.reload_catalog, settings, data, ledger)
        secret = secrets.token_bytes(SECRET_BYTES)
        yield _Opened(keys, settings.name, ledger, lambda port: Core(store, ledger, clock.read(), reload, secret))


def _open(settings: Settings, data: DataDir, clock: Clock) -> contextlib.AbstractContextManager["_Opened | Share"]:
    """Open the store that the settings name. Raises StoreError, CatalogError, DataDirError."""
    if not settings.is_shared:
        return _open_own(settings, data, clock)
    with _told_what_to_install():
        from als.server.cluster import opening
    return opening.open_share(settings, data, clock)


def migrate(source: str, target: str, settings: Settings, clock: Clock, *, copy: bool) -> int:
    """Move licenses between a data folder and a cluster; give the number of rows. Raises StoreError, DataDirError."""
    with _told_what_to_install():
        from als.server.cluster import migrating
    return migrating.migrate(source, target, settings, clock, copy=copy)


@contextlib.contextmanager
def _told_what_to_install() -> Iterator[None]:
    """Import what is only for clusters: its libraries are optional. Raises StoreError."""
    try:
        yield
    except ImportError as error:
        hint = "pip install 'als-license-server[etcd]'"
        raise StoreError(f"a cluster needs libraries that are not installed ({error}): {hint}") from None


def _open_ledger(settings: Settings, data: DataDir, keys: KeyPair, store: LmdbStore, clock: Clock) -> Ledger:
    """Bring the store up to date and enter the local administrator. Raises StoreError, CatalogError, DataDirError."""
    is_new = not (data.path / "admin.key_secret").exists()
    admin = data.admin_keys()
    _bring_up_to_date(store)
    tx = store.begin()
    try:
        server_id = read_server_id(tx, lambda: secrets.token_hex(16))
        ledger = founding.make_ledger(settings, data, server_id=server_id, server_key=keys.public, name=settings.name)
        founding.enter_local_admin(ledger, tx, admin.public, int(clock.read().wall_s), is_new=is_new)
    except BaseException:
        tx.abort()
        raise
    store.submit(tx)
    return ledger


def _bring_up_to_date(store: LmdbStore) -> None:
    """Make the schema ours, in one transaction; make room where old rows and new ones need it. Raises StoreError."""
    while True:
        tx = store.begin()
        try:
            schema.bring_up_to_date(tx)
            store.submit(tx)
        except StoreFullError:
            tx.abort()
            store.grow()
        except BaseException:
            tx.abort()
            raise
        else:
            return


@contextlib.contextmanager
def _open_sockets(settings: Settings, keys: KeyPair) -> Iterator[Sockets]:
    """Bind everything. A discovery port that is taken is a warning; a TCP port that is taken is a StartError."""
    try:
        sockets = Sockets(keys, settings.bind, settings.port)
    except zmq.ZMQError as error:
        where = f"{_shown_address(settings.bind)}:{settings.port}"
        hint = "; is another als-server running? --port takes another one" if error.errno == zmq.EADDRINUSE else ""
        raise StartError(f"cannot bind TCP {where}: {error.strerror}{hint}") from None
    try:
        for address, port, shared in _discovery_addresses(settings, sockets.port):
            try:
                sockets.discovery.append(answering.open_socket(address, port, shared=shared))
            except OSError as error:
                log.warning("discovery does not answer on UDP %s:%d: %s", address, port, error.strerror)
        yield sockets
    finally:
        sockets.close()


def _tell_ready(where: str) -> None:
    """Print the line that whoever started the server waits for. Raises StartError."""
    try:
        print(f"ready: {where}", flush=True)  # noqa: T201
    except OSError as error:
        streams.let_go()
        raise StartError(f"the line that it is ready could not be written: {error.strerror or error}") from None


def _discovery_addresses(settings: Settings, tcp_port: int) -> list[tuple[str, int, bool]]:
    """Where discovery is heard: broadcasts on every address, unicast queries where the TCP port is, too."""
    wildcard = "0.0.0.0"
    found = [(wildcard, settings.discovery_port, True)] if settings.discovery_port else []
    unicast = (settings.bind.strip("[]") or wildcard, tcp_port, tcp_port == settings.discovery_port)
    if unicast[:2] != (wildcard, settings.discovery_port):
        found.append(unicast)
    return found


def _shown_address(bind: str) -> str:
    return f"[{bind}]" if ":" in bind and not bind.startswith("[") else bind or "0.0.0.0"


def _serve_metrics(settings: Settings, stack: contextlib.ExitStack) -> "Metrics | None":
    """Serve the page that the settings ask for; its library is loaded only then. Raises StartError."""
    address = settings.metrics_address()
    if address is None:
        return None
    from als.server.metrics import Metrics, MetricsError, Page

    metrics = Metrics()
    try:
        page = Page(metrics, *address)
    except MetricsError as error:
        raise StartError(str(error)) from None
    stack.callback(page.close)
    log.info("metrics on http://%s:%d/metrics", _shown_address(address[0]), page.port)
    return metrics


def _do_every_second(data: DataDir, core: Turns, metrics: "Metrics | None") -> None:
    """Look for orders, and tell the page how things are."""
    _look_for_orders(data, core)
    if metrics is not None:
        metrics.status = core.read_status()


def _look_for_orders(data: DataDir, core: Turns) -> None:
    """See whether `als-server accept-clock` has left its word in the data folder."""
    if data.accept_clock.exists():
        core.accept_clock()
        data.accept_clock.unlink(missing_ok=True)


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[socket.socket]:
    """Give a socket that becomes readable when SIGTERM or SIGINT has come."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    reader.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def _raise_file_limit() -> None:
    """Every connection is a file."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has neither limit nor module
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_up_log(level: str) -> None:
    """Log to stderr, one line an event, times in UTC."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper())
