"""`als-agent run`: the licenses of this computer's components, kept alive by heartbeats until a signal comes.

One line on stderr for each change, in words that a service manager's log can show.
"""

import argparse
import contextlib
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from als_agents import flags
from als_agents.commands import EXIT_DONE, complain
from als_agents.keeper import Keeper
from als_agents.loop import Loop
from als_agents.session import Event, Notice, Session
from als_agents.workplace import Workplace

RELEASE_S_MAX = 10.0
CANNOT_RUN = frozenset({Event.REFUSED, Event.LOST})


class Wanted(NamedTuple):
    """One component to keep licensed."""

    product: str
    component: str
    version: str | None = None


class Daemon:
    """Keeps several licenses over one keeper. Ends at `stop`, giving the licenses back when it was told to."""

    def __init__(self, workplace: Workplace, wanted: list[Wanted], *, release_at_stop: bool) -> None:
        self._release_at_stop = release_at_stop
        self._keeper = Keeper(
            find=workplace.find,
            explain=workplace.explain,
            identity=workplace.pair,
            computer=workplace.computer,
            on_notice=self._on_notice,
        )
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
            for item in wanted
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
        if self._release_at_stop and not self._releasing:
            self._loop.call(self._release_all)
        else:
            self._loop.stop()

    def _release_all(self) -> None:
        self._releasing = set(self._sessions)
        for session in self._sessions:
            self._keeper.release(session)

    def _on_notice(self, session: Session, notice: Notice) -> None:
        name = f"{session.product}/{session.component}"
        if notice.event is Event.ACQUIRED:
            where = self._keeper.home(session)
            complain(f"{name}: licensed by {where}" if session.lease else f"{name}: needs no license, says {where}")
        elif notice.event in CANNOT_RUN:
            complain(f"{name}: invalid license: {notice.why.message if notice.why else ''}")
        elif notice.event is not Event.RENEWED:
            reason = f": {notice.why.message}" if notice.why else ""
            complain(f"{name}: {notice.event.value.replace('_', ' ')}{reason}")
        if notice.event in (Event.RELEASED, Event.NOT_RELEASED):
            self._releasing.discard(session)
            if not self._releasing:
                self._loop.stop()


def run(arguments: argparse.Namespace) -> int:
    """Keep licenses until SIGTERM or ctrl-C. They stay with the computer, unless they are to be given back."""
    config = flags.read_config(arguments.config, arguments.client_dir)
    daemon = Daemon(
        flags.workplace(arguments, config),
        wanted(arguments, config),
        release_at_stop=arguments.release_at_stop or bool(config.get("release_at_stop")),
    )
    with signals_to(daemon):
        daemon.run()
    return EXIT_DONE


def wanted(arguments: argparse.Namespace, config: Mapping[str, Any]) -> list[Wanted]:
    """Read what to keep: flags, else pairs, else agent.toml. Raises BadSettings."""
    if arguments.product or arguments.component:
        if not (arguments.product and arguments.component):
            raise flags.BadSettings("--product and --component go together")
        return [Wanted(arguments.product, arguments.component, arguments.version_of_product)]
    found = [_pair(text) for text in arguments.license or []]
    if not found and "product" in config:
        found = [_of_table(config)]
    if not found:
        licenses = config.get("licenses", [])
        if not isinstance(licenses, list):
            raise flags.BadSettings("licenses in agent.toml must be tables: [[licenses]]")
        found = [_of_table(item) for item in licenses]
    if not found:
        raise flags.BadSettings(
            "nothing to keep: give --product and --component, --license, or [[licenses]] in agent.toml"
        )
    return found


def _pair(text: str) -> Wanted:
    product, slash, component = text.partition("/")
    if not (product and slash and component):
        raise flags.BadSettings(f"--license {text}: write it as PRODUCT/COMPONENT")
    return Wanted(product, component)


def _of_table(table: object) -> Wanted:
    if not isinstance(table, Mapping) or not all(isinstance(table.get(key), str) for key in ("product", "component")):
        raise flags.BadSettings("agent.toml: each of [[licenses]] needs the texts product and component")
    version = table.get("version")
    return Wanted(table["product"], table["component"], version if isinstance(version, str) else None)


@contextlib.contextmanager
def signals_to(daemon: Daemon) -> Iterator[None]:
    """Have SIGTERM and SIGINT stop the daemon."""
    before = {number: signal.signal(number, lambda *_: daemon.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.stderr.flush()
