"""What an administrator does to a server that does not run: check and mend its store, a new admin key, its clock.

Each holds the data folder's lock while it works. `accept_clock` also reaches a running server, through a file that the
server looks for.
"""

import multiprocessing
import os
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from als import keyfile
from als.catalog import Catalog
from als.clock import Clock
from als.guard import ClockGuard
from als.ledger import Ledger, Rules
from als.ledger.audit import Audit
from als.pace import Pace, hurry
from als.protocol import Role
from als.server.core import read_server_id, take_up_clock
from als.server.datadir import ADMIN, DataDir, DataDirError
from als.store import schema
from als.store.lmdb.store import MORE_TOLD, LmdbStore
from als.store.transaction import StoreError, Transaction

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ORDER_WAIT_S = 5.0
_LOOK_EVERY_S = 0.1
_NEW_ADMIN = "admin.new"  # until the store knows it


def check(data: DataDir, *, repair: bool) -> list[str]:
    """Hold the books against the leases; give the problems. Without repair this also works beside a running server.

    Raises DataDirError, StoreError.
    """
    if repair:
        data.refuse_nothing()
        data.lock()
    try:
        data.refuse_cluster("als-server migrate --copy checks them, and brings them into a folder")
        data.refuse_lost_store()
        return check_apart(data.store, repair)
    finally:
        data.unlock()


def check_apart(folder: Path, repair: bool, *, rests: bool = False) -> list[str]:
    """Check a store in a process of its own, since LMDB aborts it over some damaged pages. Raises StoreError.

    `rests`: a server runs on this machine, and goes first.
    """
    # A new process would load Python once more, and a busy server beside it would feel that. A copy of this one need
    # not, and works while there are no other threads.
    can_fork = sys.platform == "linux" and threading.active_count() == 1
    context: Any = multiprocessing.get_context("fork" if can_fork else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_check_here, args=(folder, repair, rests, sender))
    process.start()
    sender.close()
    try:
        problems, failure = receiver.recv()
    except EOFError:
        problems, failure = [], f"the store {folder} cannot be read to its end: the file is damaged; restore a backup"
    except BaseException:
        process.terminate()  # we are to end at once, so nobody waits for what it finds
        raise
    finally:
        receiver.close()
        process.join()
    if failure:
        raise StoreError(failure)
    return list(problems)


def _check_here(folder: Path, repair: bool, rests: bool, sender: "Connection[Any, Any]") -> None:
    """Check, and send the problems, and what keeps them from being known."""
    if (nowhere := os.open(os.devnull, os.O_WRONLY)) != 2:
        os.dup2(nowhere, 2)  # where LMDB says which of its own lines gave up
    try:
        store = LmdbStore(folder, readonly=not repair)
        tx = store.begin() if repair else store.snapshot()
        schema.require_current(tx)
        problems = Audit(tx, repair, Pace() if rests else hurry).run()
        if repair and problems:
            store.submit(tx)
        else:
            tx.abort()
        store.close()
    except StoreError as error:
        sender.send(([], str(error).replace(MORE_TOLD, "")))
    except Exception as error:  # a mistake of ours must not look like damage
        sender.send(([], f"the check gave up: {type(error).__name__}: {error}"))
    else:
        sender.send((problems, ""))


def reset_admin(data: DataDir, clock: Clock) -> keyfile.KeyPair:
    """Make a new admin key pair and let it in; the old key, if it was the local one, loses its role.

    Raises DataDirError, StoreError, KeyFileError, OSError.
    """
    data.refuse_nothing()
    data.lock()
    try:
        data.refuse_cluster("remove its admin.key and admin.key_secret and start it: it makes a new administrator")
        data.refuse_lost_store()
        store = LmdbStore(data.store)
        try:
            return _replace_admin(store, data, int(clock.read().wall_s))
        finally:
            store.close()
    finally:
        data.unlock()


def _replace_admin(store: LmdbStore, data: DataDir, now: int) -> keyfile.KeyPair:
    """Let a new key in, put its files in their place, and only then drop the old one: who has files has a role."""
    old, pair = _public_half(data), keyfile.generate()
    try:
        keyfile.write(data.path, _NEW_ADMIN, pair)
        _change_admins(store, data, lambda ledger, tx: _let_in(ledger, tx, pair.public, now))
        keyfile.move(data.path, _NEW_ADMIN, ADMIN)
    except BaseException:
        keyfile.remove(data.path, _NEW_ADMIN)
        if _public_half(data) == old:
            _change_admins(store, data, lambda ledger, tx: ledger.drop_admin(tx, pair.public, now))
        raise
    if old is not None:
        _change_admins(store, data, lambda ledger, tx: ledger.drop_admin(tx, old, now))
    return pair


def _let_in(ledger: Ledger, tx: Transaction, key: bytes, now: int) -> None:
    ledger.add_admin(tx, key, "local administrator", Role.ADMIN, now)


def _change_admins(store: LmdbStore, data: DataDir, change: Callable[[Ledger, Transaction], None]) -> None:
    tx = store.begin()
    change(_ledger(read_server_id(tx, lambda: secrets.token_hex(16)), data), tx)
    store.submit(tx)


def _public_half(data: DataDir) -> bytes | None:
    try:
        return keyfile.read_public(data.path / f"{ADMIN}.key")
    except keyfile.KeyFileError:
        return None


def _ledger(server_id: str, data: DataDir) -> Ledger:
    """A ledger that is only used for its table of administrators."""
    return Ledger(Catalog([]), server_id=server_id, server_key=bytes(32), vendors={}, settings=Rules())


def accept_clock(data: DataDir, clock: Clock, wait: Callable[[float], None]) -> str:
    """Have the wall clock believed; give a sentence that says what came of it. Raises DataDirError, StoreError."""
    data.refuse_nothing()
    try:
        data.lock()
    except DataDirError:
        return _order_accept_clock(data, wait)
    try:
        data.refuse_cluster("start a server of it, then say this again")
        data.refuse_lost_store()
        store = LmdbStore(data.store)
        try:
            tx = store.begin()
            changed: list[bool] = []

            def take_up(mark: int | None) -> ClockGuard:
                guard = ClockGuard(mark, clock.read())
                changed.append(guard.accept())
                return guard

            take_up_clock(tx, take_up)
            store.submit(tx)
        finally:
            store.close()
    finally:
        data.unlock()
    if changed[0]:
        return "the clock is accepted; the server will go by it when it starts"
    return "there was nothing to accept: the clock agrees with the time that the server goes by"


def _order_accept_clock(data: DataDir, wait: Callable[[float], None]) -> str:
    """Leave the order for the running server, and wait until it is carried out. Raises DataDirError."""
    try:
        data.accept_clock.touch(mode=0o600)
    except OSError as error:
        raise DataDirError(f"{data.accept_clock} cannot be written: {error.strerror or error}") from None
    for _ in range(round(ORDER_WAIT_S / _LOOK_EVERY_S)):
        if not data.accept_clock.exists():
            return "the running server goes by the wall clock now"
        wait(_LOOK_EVERY_S)
    data.accept_clock.unlink(missing_ok=True)
    raise DataDirError(f"the server of {data.path} did not answer within {ORDER_WAIT_S:.0f} s; is it hanging?")
