"""From settings and data folder to a ledger over a store: catalog, vendors, the local administrator."""

import logging

from als import __version__
from als.catalog import CatalogError
from als.ledger import Ledger, Rules
from als.protocol import Role
from als.server.datadir import DataDir
from als.server.settings import Settings
from als.store.transaction import Transaction

LOCAL_ADMIN_NAME = "local administrator"

log = logging.getLogger("als")


def make_ledger(
    settings: Settings, data: DataDir, *, server_id: str, server_key: bytes, name: str, server: int = 0
) -> Ledger:
    """Make the ledger that the settings ask for. Raises CatalogError."""
    return Ledger(
        data.read_catalog(settings.builtin_products),
        server_id=server_id,
        server_key=server_key,
        vendors=data.read_vendors(),
        settings=Rules(settings.agents, settings.new_seats_per_address_h),
        name=name,
        version=__version__,
        server=server,
    )


def enter_local_admin(ledger: Ledger, tx: Transaction, key: bytes, now: int, *, is_new: bool) -> None:
    """Let the data folder's own administrator in, when its key is new or nobody else could administer this store."""
    if is_new or not ledger.has_admin(tx):
        ledger.add_admin(tx, key, LOCAL_ADMIN_NAME, Role.ADMIN, now)


def reload_catalog(settings: Settings, data: DataDir, ledger: Ledger) -> None:
    """Read catalog and vendors again before an import; what cannot be read is logged, and what is in force stays.

    Nothing may end a running server here, such as that connections have used up all files.
    """
    try:
        ledger.catalog, ledger.vendors = data.read_catalog(settings.builtin_products), data.read_vendors()
    except (CatalogError, OSError) as error:
        log.error("the catalog was not read again: %s", error)
