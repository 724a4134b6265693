"""What a vendor's programmer puts into a program: a license that is held while the program runs.

It turns the events of a license into return values, exceptions, a flag and two callbacks. It knows no socket.
"""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from als import clock
from als.keyfile import KeyPair
from als.protocol import Refusal
from als_agents import arguments
from als_agents.errors import ClientError, NoAnswer, ServerNotFound
from als_agents.license_log import LicenseLog
from als_agents.license_thread import LicenseThread
from als_agents.server import read_server_key
from als_agents.session import LAPSED, NO_ANSWER, Event, Notice, Session, State
from als_agents.silence import BAD_SETTINGS, error_of
from als_agents.workplace import Workplace

if TYPE_CHECKING:
    from als_agents.genuine import Vendor

OPEN_S_MAX = 15.0  # a search, two silent servers and the question why: with less nobody would hear the real reason
RELEASE_S_MAX = 10.0
CLOSED = Refusal("closed", "The license is not open.")

_OUTCOMES = {Event.ACQUIRED, Event.REFUSED, Event.UNANSWERED, Event.RELEASED, Event.NOT_RELEASED}

logger = logging.getLogger("als_agents")


class InvalidLicense(Exception):
    """The component must not run. `code` is for programs, `reason` one sentence for a person.

    Codes are the server's (als.protocol.CODES), and no_server, key_changed, not_trusted, not_genuine, lapsed,
    closed and bad_settings.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"invalid license: {reason}")
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Let it be pickled, as process pools do."""
        return type(self), (self.code, self.reason)


class LicensedComponent:
    """A license for one component of a product on this computer, kept from `open` to `close`.

    - `version`: what the server shows as the product's version on this computer, at most 64 bytes; it decides nothing.
    - `server`: HOST, HOST:PORT, or several; None takes ALS_SERVER, the stored parameters, or a search.
    - `server_key`: the server's public key, 40 characters or 32 bytes; nobody else is believed, nothing pinned.
    - `works_offline`: silence never stops the component; None takes what the server's catalog says.
    - `vendor_key`, `product_number`: only serials that this vendor signed for this product count, and without them
      anybody's do; `requires_lock` wants them locked to their server.
    - `on_lost` is called with the InvalidLicense when the license is lost after `open`, `on_regained` when it is
      back without another `open`; both in the license's own thread.
    - `release_on_close` gives the seat back at `close`, or at the program's end, unless a signal kills it.
    - `wait_s`: how long `open` waits for a first answer, in seconds; a server that is unavailable is asked again
      until then. 0 asks and does not wait.
    - `computer` replaces this computer, as on the wire (`identity.computer(environment={})` is this one, whatever
      ALS_MACS and ALS_HOST say); `client_dir` the folder for keys and parameters, `identity` this user's key pair.

    It has one owner: entering `with`, or `open`, again changes nothing, and the first `close` or end of a `with` closes
    it for all. May be used from several threads. After a fork the child keeps what it knows until `renew_by`, and a
    license of its own when it opens again.
    """

    def __init__(
        self,
        product: str,
        component: str,
        *,
        version: str | None = None,
        server: str | Sequence[str] | None = None,
        server_key: bytes | str | None = None,
        works_offline: bool | None = None,
        vendor_key: bytes | str | None = None,
        product_number: int | None = None,
        requires_lock: bool = False,
        on_lost: Callable[[InvalidLicense], object] | None = None,
        on_regained: Callable[[], object] | None = None,
        release_on_close: bool = False,
        wait_s: float = OPEN_S_MAX,
        client_dir: Path | str | None = None,
        identity: KeyPair | None = None,
        computer: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises TypeError for an argument of another type; ValueError for a vendor key that is none, or is missing.

        Raises ValueError for a `wait_s` that is not finite, or negative; ImportError for a vendor key without
        `cryptography`.
        """
        arguments.expect(str, product=product, component=component)
        arguments.expect(str, optional=True, version=version)
        arguments.expect(int, optional=True, product_number=product_number)
        arguments.expect_wait(wait_s)
        arguments.expect(KeyPair, optional=True, identity=identity)
        arguments.expect(Mapping, optional=True, computer=computer)
        if requires_lock and vendor_key is None:
            raise ValueError("requires_lock needs the vendor_key by which a lock is checked")
        self.product = product
        self.component = component
        self.version = version
        self._server = arguments.as_server(server)
        self._server_key = server_key
        self._works_offline = works_offline
        self._vendor = _vendor(vendor_key, product, product_number, requires_lock)
        self._on_lost = on_lost
        self._on_regained = on_regained
        self._release_on_close = release_on_close
        self._wait_s = wait_s
        self._client_dir = arguments.as_folder(client_dir)
        self._identity = identity
        self._computer = computer
        self._thread: LicenseThread | None = None
        self._session: Session | None = None  # stays when the thread has ended, and in a fork's child
        self._finalizer: weakref.finalize[..., LicensedComponent] | None = None
        self._opening = threading.RLock()  # held while opening, closing and releasing
        self._told = threading.Condition()  # guards what both threads use: _outcome, _is_open, _lost
        self._outcome: Notice | None = None
        self._is_open = False
        self._lost: InvalidLicense | None = None
        self._log = LicenseLog(product, component)
        _components.add(self)

    def __enter__(self) -> Self:
        """Open."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Show product, component and state."""
        is_closed = self._session is None or (self._thread is None and not self._is_open)
        state = "closed" if is_closed or self._session is None else self._session.state.value
        return f"<LicensedComponent {self.product}/{self.component} {state}>"

    @property
    def is_held(self) -> bool:
        """Say whether the program may go on: it holds its license, or works offline."""
        session = self._session
        return self._is_open and self._lost is None and session is not None and session.may_run_at(clock.monotonic_s())

    @property
    def is_offline(self) -> bool:
        """Say whether the program runs without a license, because it may and no server can be reached."""
        return self.is_held and self._session is not None and self._session.state is State.SEEKING

    @property
    def is_late(self) -> bool:
        """Say whether heartbeats go unanswered: the license holds until `renew_by` and is lost then if none is."""
        return self.is_held and self._session is not None and self._session.state is State.LATE

    @property
    def lost(self) -> InvalidLicense | None:
        """Give the reason why the license was lost; None while it is held."""
        return self._lost

    @property
    def lease(self) -> Mapping[str, Any] | None:
        """Give the lease as the server told it last; None offline, and for a component that is not counted."""
        return None if self._session is None else self._session.lease

    @property
    def serial_id(self) -> str | None:
        """Give the short id of the serial that the seat was taken from."""
        lease = self.lease
        return None if lease is None else lease.get("serial_id")

    @property
    def renew_by(self) -> int | None:
        """Give the time (the server's, seconds since 1970 UTC) until which the license holds; None has no end."""
        return None if self._session is None else self._session.renew_by

    def check(self) -> None:
        """Raise InvalidLicense unless the program may go on."""
        lost = self._lost
        if not self._is_open:
            raise InvalidLicense(CLOSED.code, CLOSED.message)
        if lost is not None:
            raise InvalidLicense(lost.code, lost.reason)
        if not self.is_held:
            lapse = LAPSED if self._session is None else self._session.lapse
            raise InvalidLicense(lapse.code, lapse.message)

    def open(self) -> Self:
        """Get the license and keep it; does nothing while it is held, asks anew where it was lost or has run out.

        Raises InvalidLicense: the reason why there is none. In a callback it asks nobody, for the thread that would
        do so is the one that calls: it raises the loss.
        """
        thread = self._thread
        if thread is not None and thread.is_current and not thread.is_stopping:
            self.check()
            return self
        with self._opening:
            if self._thread is not None and (self._thread.is_stopping or not self.is_held):
                self._stop()
            if self._thread is None:
                self._start()
                try:
                    self._await_license()
                except BaseException:
                    self._stop()
                    raise
            return self

    def close(self) -> None:
        """Stop keeping the license. The seat stays this computer's, unless `release_on_close`."""
        thread = self._thread
        if thread is not None and thread.is_current:  # called in a callback: the lock's holder may wait for us
            self._is_open = False
            thread.stop()
            return
        with self._opening:
            if self._thread is None:
                self._is_open = False  # in a fork's child
                return
            if self._release_on_close:
                try:
                    self._release(RELEASE_S_MAX)
                except ClientError as error:
                    logger.warning("the license of %s was not released: %s", self.product, error)
            self._stop()

    def release(self, wait_s: float = RELEASE_S_MAX) -> None:
        """Give the license back, as an uninstaller does, and close.

        The seat is free when the last licensed component of the product on the computer was released. `wait_s` is
        how long the servers may take to confirm it; a search for them comes on top. Raises ClientError, and what is
        open stays open: Refused for a server's no (`not_holder`), NoAnswer when nobody confirms it, KeyChanged and
        others for settings that cannot work. Raises RuntimeError in a callback, ValueError for a `wait_s` that is none.
        """
        arguments.expect_wait(wait_s)
        with self._opening:
            if self._thread is None:
                self._release_unopened(wait_s)
                self._is_open = False  # in a fork's child
                return
            if self._thread.is_current:
                raise RuntimeError("release waits for the license's thread, so it can't be called from on_lost")
            try:
                self._release(wait_s)
            except ClientError:
                self._thread.keep()
                raise
            self._stop()

    def _release_unopened(self, wait_s: float) -> None:
        names = {"product": self.product, "component": self.component}
        try:
            self._make_workplace().ask_for_computer("release", within_s=wait_s, **names)
        except ServerNotFound as error:
            raise NoAnswer(str(error)) from error

    def _make_workplace(self) -> Workplace:
        key = self._server_key
        return Workplace(
            server=self._server,
            server_key=None if key is None else read_server_key(key),
            folder=self._client_dir,
            pair=self._identity,
            computer=self._computer,
        )

    def _start(self) -> None:
        """Make the thread and start it. Raises InvalidLicense for settings that can't work."""
        try:
            workplace = self._make_workplace()
            workplace.computer()
            works_offline = self._works_offline
            if works_offline is None:
                works_offline = workplace.parameters.read().works_offline(self.product, self.component)
        except ClientError as error:
            raise InvalidLicense(BAD_SETTINGS, str(error)) from error
        reference = weakref.ref(self)
        thread = LicenseThread(
            workplace,
            self.product,
            self.component,
            listen=lambda notice: _pass_on(reference, notice),
            version=self.version,
            works_offline=works_offline,
            vendor=self._vendor,
            follows_catalog=self._works_offline is None,
        )
        self._outcome, self._lost, self._is_open = None, None, False
        self._thread, self._session = thread, thread.session
        end = thread.release_and_stop if self._release_on_close else thread.stop
        self._finalizer = weakref.finalize(self, end)  # for a forgotten close, and the program's end
        thread.start()

    def _stop(self) -> None:
        thread, self._thread = self._thread, None
        self._is_open = False
        if thread is not None and self._finalizer is not None and self._finalizer.detach() is not None:
            thread.stop()

    def _await_license(self) -> None:
        """Wait for the first outcome that decides. Raises InvalidLicense for a no, and for silence that matters."""
        deadline = clock.monotonic_s() + self._wait_s
        why = NO_ANSWER
        while (notice := self._next_outcome(deadline)) is not None:
            if notice.event is Event.ACQUIRED:
                return
            why = notice.why or why
            if notice.event is Event.REFUSED:
                raise InvalidLicense(why.code, why.message)
            if why.code != "unavailable":
                break  # who is unavailable asks for patience, and gets it up to the deadline
        with self._told:
            assert self._session is not None
            self._is_open = self._session.may_run
            if not self._is_open:
                raise InvalidLicense(why.code, why.message)

    def _release(self, wait_s: float) -> None:
        assert self._thread is not None
        with self._told:
            self._outcome = None
        self._thread.release()
        deadline = clock.monotonic_s() + wait_s
        while (notice := self._next_outcome(deadline)) is not None:
            if notice.event is Event.RELEASED:
                return
            if notice.event is Event.NOT_RELEASED and notice.why is not None:
                raise error_of(notice.why)
        raise NoAnswer(f"no license server confirmed the release within {wait_s:g} s")

    def _next_outcome(self, deadline: float) -> Notice | None:
        """Wait for an outcome; None when there is none by the deadline."""
        with self._told:
            left_s = min(max(0.0, deadline - clock.monotonic_s()), threading.TIMEOUT_MAX)
            self._told.wait_for(lambda: self._outcome is not None, left_s)
            outcome, self._outcome = self._outcome, None
            return outcome

    def _listen(self, notice: Notice) -> None:
        """Take a notice from the license's thread."""
        self._log.note(notice, self.renew_by)
        call: Callable[[], object] | None = None
        with self._told:
            was_lost = self._lost is not None
            if notice.event is Event.ACQUIRED:
                if was_lost:
                    self._lost, call = None, self._on_regained
                self._is_open = True
            elif notice.event in (Event.LOST, Event.REFUSED) and self._is_open and notice.why is not None:
                lost = InvalidLicense(notice.why.code, notice.why.message)
                if not was_lost and self._on_lost is not None:
                    call = _bind(self._on_lost, lost)
                self._lost = lost
            if notice.event in _OUTCOMES:
                self._outcome = notice
                self._told.notify_all()
            is_loss = self._lost is not None and not was_lost
        if is_loss and notice.why is not None:
            self._log.lose(notice.why)
        if call is not None:
            try:
                call()
            except BaseException:  # the vendor's mistake must not end the heartbeats, nor sys.exit its thread alone
                logger.exception("a callback of %s failed", self.product)

    def _after_fork(self) -> None:
        """Begin anew in a fork's child, where the license's thread is not and locks may be held by nobody."""
        if self._thread is not None:
            self._thread.abandon()
        if self._finalizer is not None:
            self._finalizer.detach()
        self._thread = self._finalizer = None
        self._opening, self._told = threading.RLock(), threading.Condition()


_components: "weakref.WeakSet[LicensedComponent]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for component in list(_components):
        component._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _pass_on(reference: "weakref.ref[LicensedComponent]", notice: Notice) -> None:
    """Tell a component, if it is still there: its thread must not keep it alive."""
    component = reference()
    if component is not None:
        component._listen(notice)


def _bind(function: Callable[[InvalidLicense], object], error: InvalidLicense) -> Callable[[], object]:
    return lambda: function(error)


def _vendor(key: bytes | str | None, product: str, product_number: int | None, requires_lock: bool) -> "Vendor | None":
    """Make what checks serials; loaded only where a key is built in."""
    if key is None:
        return None
    import cryptography  # noqa: F401 - what is missing is missed now, not at the first lease

    from als_agents.genuine import Vendor, product_number_of, read_vendor_key

    number = product_number if product_number is not None else product_number_of(product)
    return Vendor(read_vendor_key(key), product, number, requires_lock)
