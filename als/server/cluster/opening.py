"""Puts the part of a server together that a cluster needs: etcd, the identity, a number, and what stands on them.

Everything that fails here is one line for the administrator.
"""

import contextlib
import hashlib
import logging
import random
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from als import clock as clocks
from als import keyfile
from als.clock import Clock
from als.keyfile import KeyPair
from als.ledger import Ledger
from als.ledger.desk import is_loopback
from als.server import founding
from als.server.cluster import identity, numbers, updating
from als.server.cluster.copying import MOVING
from als.server.cluster.house import House
from als.server.cluster.identity import Identity
from als.server.cluster.peers import TICK_S, Card, Peers
from als.server.cluster.report import Report
from als.server.cluster.turns import SharedCore
from als.server.cluster.writing import Writing
from als.server.core import read_server_id
from als.server.datadir import SERVER, DataDir, DataDirError
from als.server.settings import Settings, default_name
from als.store import schema
from als.store.etcd.client import EtcdClient
from als.store.etcd.errors import EtcdError, EtcdUnavailableError
from als.store.etcd.keys import Keys
from als.store.etcd.members import check_version
from als.store.etcd.ops import KeyValue, get, is_absent, put
from als.store.etcd.store import EtcdStore
from als.store.etcd.tls import TlsFiles
from als.store.etcd.transaction import EtcdTransaction
from als.store.etcd.upkeep import Upkeep
from als.store.transaction import StoreError, StoreUnavailableError, Table

log = logging.getLogger("als")

IDENTITY_TRIES_MAX = 5
PROBE_S = 0.25  # for each member: so long may nobody else be served
MEET_S = 2.5 * TICK_S
_LOOK_EVERY_S = 0.5


class Opened(NamedTuple):
    """An open share of a cluster's store. `make_core` takes the TCP port, and starts the server's work."""

    keys: KeyPair
    name: str
    ledger: Ledger
    make_core: Callable[[int], SharedCore]


@contextlib.contextmanager
def open_share(settings: Settings, data: DataDir, clock: Clock) -> Iterator[Opened]:
    """Take part in the cluster that the settings name. Raises StoreError, CatalogError, DataDirError."""
    with contextlib.ExitStack() as stack:
        with told():
            client = connect(settings)
            stack.callback(client.close)
            _warn_of_plain_text(settings)
            _check_members(client)
            keys = Keys(settings.etcd_prefix.encode())
            assert settings.cluster_secret is not None
            secret = identity.read_secret(settings.cluster_secret)
            who = _take_identity(client, keys, settings.name, data, secret)
            _write_public_key(data, who.keys.public)
            updating.bring_up_to_date(client, keys, _pause, compacts=settings.etcd_compact)
            taken = numbers.take(client, keys, data.cluster_instance, clock.read().wall_s, _pause)
            client.prefer_leader()
            writing = Writing(EtcdStore(client, keys, taken.fence), random.random)
            ledger = _found(settings, data, who, taken.number, writing, clock)
            peers = Peers(taken.number)
            _meet(client, keys, peers, clock)
            prober = EtcdClient(settings.etcd_endpoints(), tls=_tls(settings), call_deadline_s=PROBE_S)
            stack.callback(prober.close)
            upkeep = Upkeep(connect(settings), taken.fence.name, compacts=settings.etcd_compact)
            stack.callback(upkeep.close)
            upkeep.start()

        def make_core(port: int) -> SharedCore:
            card = _card(settings, ledger, port)
            probe = partial(_has_leader, prober)
            house = House(writing, ledger, peers, card, clock, random.random, probe)
            with told():
                return SharedCore(
                    writing,
                    ledger,
                    house,
                    Report(house, upkeep),
                    lambda: founding.reload_catalog(settings, data, ledger),
                )

        yield Opened(who.keys, who.name, ledger, make_core)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Raise what keeps a server from starting as StoreError."""
    try:
        yield
    except (EtcdError, StoreUnavailableError) as error:
        raise StoreError(str(error)) from None


def connect(settings: Settings) -> EtcdClient:
    """Make a client from the settings. Raises EtcdError."""
    return EtcdClient(settings.etcd_endpoints(), tls=_tls(settings))


def _warn_of_plain_text(settings: Settings) -> None:
    hosts = [endpoint.rpartition(":")[0].strip("[]") for endpoint in settings.etcd_endpoints()]
    if settings.etcd_ca is None and not all(host == "localhost" or is_loopback(host) for host in hosts):
        log.warning("the way to etcd is not encrypted: whoever is on its network can give licenses away; see --etcd-ca")


def _tls(settings: Settings) -> TlsFiles | None:
    if settings.etcd_ca is None:
        return None
    return TlsFiles(settings.etcd_ca, settings.etcd_cert, settings.etcd_key)


def _has_leader(client: EtcdClient) -> bool:
    """Say whether a member answers, and knows a leader."""
    for endpoint in client.endpoints:
        with contextlib.suppress(EtcdError):
            if client.status(endpoint).leader:
                return True
    return False


def _check_members(client: EtcdClient) -> None:
    """See whether there is an etcd that we can work with. Raises EtcdError."""
    client.range(b"\0")
    for endpoint in client.endpoints:
        with contextlib.suppress(EtcdUnavailableError):
            check_version(client.status(endpoint).version)


def _take_identity(client: EtcdClient, keys: Keys, name: str, data: DataDir, secret: bytes) -> Identity:
    """Give the cluster's identity; the first server makes it. Raises StoreError, EtcdError."""
    row, closed = keys.name(Table.META, identity.KEY), keys.name(Table.META, MOVING)
    _refuse_closed(client.range(closed).rows)
    found = client.range(row).rows
    if not found:
        if (data.store / "data.mdb").exists():
            raise StoreError(
                f"{data.path} holds a server's licenses, and the cluster has none yet: als-server migrate moves them"
            )
        made = identity.seal(Identity(secrets.token_hex(16), name, keyfile.generate()), secret)
        for _ in range(IDENTITY_TRIES_MAX):
            with contextlib.suppress(EtcdUnavailableError):  # a second try finds what the first one made
                client.txn([is_absent(row), is_absent(closed)], [put(row, made)], [get(row)])
                break
        _refuse_closed(client.range(closed).rows)
        found = client.range(row).rows
    who = identity.unseal(found[0].value, secret)
    if name not in (who.name, default_name()):
        log.warning("the cluster's name is %s, as its first server said; %s is not used", who.name, name)
    return who


def _refuse_closed(rows: Sequence[KeyValue]) -> None:
    """Raise StoreError for a cluster whose licenses move, or have moved away."""
    if rows:
        raise StoreError(f"the cluster is closed: {rows[0].value.decode()}")


def _write_public_key(data: DataDir, key: bytes) -> None:
    """Leave the cluster's public key in the data folder, where administrators look for it. Raises DataDirError."""
    try:
        keyfile.write_public(data.path, SERVER, key)
    except OSError as error:
        raise DataDirError(f"the data folder {data.path} cannot be written: {error.strerror or error}") from None


def _found(settings: Settings, data: DataDir, who: Identity, number: int, writing: Writing, clock: Clock) -> Ledger:
    """Bring the store up to date and enter the local administrator. Raises StoreError, CatalogError, DataDirError."""
    is_new = not (data.path / "admin.key_secret").exists()
    admin = data.admin_keys()
    ledger = founding.make_ledger(
        settings, data, server_id=who.server_id, server_key=who.keys.public, name=who.name, server=number
    )

    def work(tx: EtcdTransaction) -> None:
        if tx.get(Table.META, MOVING) is not None:
            raise StoreError("the licenses of this cluster are being moved away")
        schema.require_current(tx)
        read_server_id(tx, lambda: who.server_id)
        founding.enter_local_admin(ledger, tx, admin.public, int(clock.read().wall_s), is_new=is_new)

    if not writing.run(work):
        raise StoreError("other servers change the store all the time; try again")
    return ledger


def _meet(client: EtcdClient, keys: Keys, peers: Peers, clock: Clock) -> None:
    """Learn which other servers there are; watch for a moment when their clocks, or their ends, leave that open."""
    end_s = clock.read().monotonic_s + MEET_S
    while True:
        reading = clock.read()
        peers.take(numbers.read_cards(client, keys), reading)
        doubtful = [peer for peer in peers.others.values() if not peer.is_live and not peer.card.stopped]
        if peers.live() or not doubtful or reading.monotonic_s > end_s:
            return
        _pause(_LOOK_EVERY_S)


def _card(settings: Settings, ledger: Ledger, port: int) -> Card:
    bind = settings.bind.strip("[]")
    address = socket.gethostname() if bind in ("", "0.0.0.0", "::") else bind
    return Card(
        name=default_name(),
        address=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        version=ledger.version,
        catalog=catalog_mark(ledger),
        started_at=0,
        time=0,
        wall_s=0.0,
    )


def catalog_mark(ledger: Ledger) -> str:
    """Sum up what a server sells and whose serials count: servers of a cluster should agree."""
    what = (ledger.catalog.products, sorted(ledger.vendors.items()))
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _pause(seconds: float) -> None:
    clocks.pause(seconds)
