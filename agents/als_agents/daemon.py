"""`als-agent run`: the licenses of this computer's components, kept alive by heartbeats until a signal comes.

One line on stderr for each change, `ready:` on stdout, and a word to systemd where it wants one. It knows no socket
to a server.
"""

import argparse
import os
import random
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from als_agents import flags
from als_agents.catalog_news import CatalogNews
from als_agents.commands import EXIT_DONE, complain
from als_agents.flags import License
from als_agents.keeper import Keeper
from als_agents.loop import Loop
from als_agents.session import Event, Notice, Session
from als_agents.workplace import Workplace

EXIT_INTERRUPTED = 130
NOTIFY_VARIABLE = "NOTIFY_SOCKET"  # of systemd, for services of Type=notify
JOURNAL_VARIABLE = "JOURNAL_STREAM"  # set by systemd where stderr goes into its journal
_BAD_NEWS = frozenset({Event.REFUSED, Event.LOST, Event.NOT_RELEASED})
_WARNINGS = frozenset({Event.LATE, Event.UNANSWERED, Event.OFFLINE})
_ERROR, _WARNING, _INFO = "<3>", "<4>", "<6>"  # how the journal reads what a line weighs


class Daemon:
    """Keeps several licenses over one keeper. Ends at `stop`, giving the licenses back when it was told to."""

    def __init__(
        self, workplace: Workplace, licenses: Sequence[License], *, release_at_end: bool, in_journal: bool = False
    ) -> None:
        self._release_at_end = release_at_end
        self._in_journal = in_journal
        self._keeper = Keeper(
            find=workplace.find,
            explain=workplace.explain,
            identity=workplace.pair,
            computer=workplace.computer,
            on_notice=self._on_notice,
        )
        self._news = CatalogNews(self._keeper, workplace.parameters)
        facts = workplace.parameters.read()
        self._sessions = [
            Session(
                item.product,
                item.component,
                now=self._keeper.now(),
                source=random.Random(),
                version=item.version,
                works_offline=facts.works_offline(item.product, item.component),
            )
            for item in licenses
        ]
        self._releasing: set[Session] = set()
        self._loop = Loop(self._keeper)

    def run(self) -> None:
        """Work until `stop`."""
        names = ", ".join(f"{session.product}/{session.component}" for session in self._sessions)
        print(f"ready: keeping {names}", flush=True)  # noqa: T201
        for session in self._sessions:
            self._keeper.add(session)
        self._loop.run()

    def stop(self) -> None:
        """End after what is being done now; from a signal handler too. A second call does not wait for releases."""
        if self._release_at_end and not self._releasing:
            self._releasing = set(self._sessions)
            self._loop.call(self._release_all)
        else:
            self._loop.stop()

    def _release_all(self) -> None:
        for session in self._sessions:
            self._keeper.release(session)

    def _on_notice(self, session: Session, notice: Notice) -> None:
        self._news.after(session, notice)
        line = self._line(session, notice)
        if line:
            level = _ERROR if notice.event in _BAD_NEWS else _WARNING if notice.event in _WARNINGS else _INFO
            complain((level if self._in_journal else "") + line)
        if notice.event in (Event.RELEASED, Event.NOT_RELEASED):
            self._releasing.discard(session)
            if not self._releasing:
                self._loop.stop()

    def _line(self, session: Session, notice: Notice) -> str:
        """Say an event in a line, "" for one that nobody wants to read each hour."""
        name = f"{session.product}/{session.component}"
        if notice.event is Event.RENEWED:
            return ""
        if notice.event is Event.ACQUIRED:
            where = self._keeper.home(session)
            lease = session.lease
            return f"{name}: " + (
                f"licensed by {where}, serial {lease['serial_id']}" if lease else f"needs no license, says {where}"
            )
        why = notice.why.message if notice.why else ""
        if notice.event in (Event.REFUSED, Event.LOST):
            return f"{name}: invalid license: {why}"
        return f"{name}: {notice.event.value.replace('_', ' ')}{': ' if why else ''}{why}"


def run(settings: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> int:
    """Keep licenses until SIGTERM (0) or ctrl-C (130); they stay with the computer, unless they are to go back."""
    daemon = Daemon(
        flags.workplace(settings),
        wanted(settings),
        release_at_end=settings.release_at_end,
        in_journal=bool(environment.get(JOURNAL_VARIABLE)),
    )
    with _signals_to(daemon) as got:
        _notify("READY=1", environment)
        daemon.run()
        _notify("STOPPING=1", environment)
    return EXIT_INTERRUPTED if signal.SIGINT in got else EXIT_DONE


def wanted(settings: argparse.Namespace) -> list[License]:
    """Give what to keep: --product and --component, and the list of licenses, each once. Raises BadSettings."""
    found: list[License] = []
    if settings.product or settings.component:
        product, component = flags.required(settings, "product", "component")
        found.append(License(product, component, settings.version_of_product))
    found += settings.licenses or []
    if not found:
        raise flags.BadSettings(
            "nothing to keep: give --product and --component, --license, or [[licenses]] in agent.toml"
        )
    return list({(item.product, item.component): item for item in found}.values())


@contextmanager
def _signals_to(daemon: Daemon) -> Iterator[list[int]]:
    """Have SIGTERM and SIGINT stop the daemon; what came is in the list that is given."""
    got: list[int] = []

    def stop(number: int, frame: object) -> None:
        got.append(number)
        daemon.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _notify(state: str, environment: Mapping[str, str]) -> None:
    """Tell systemd how the service is, where it asks."""
    address = environment.get(NOTIFY_VARIABLE, "")
    if address[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(state.encode("ascii"), "\0" + address[1:] if address[0] == "@" else address)
