"""The demo's computers: each a thread with its own key and the same agent that runs on real ones.

Their MAC and IP addresses are made up (ranges that the standards keep for examples); all else is real: they search by
broadcast, connect over CURVE, take licenses and send heartbeats.
"""

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from als import keyfile
from als.protocol import Refusal
from als_agents import discovery, key_pairs
from als_agents.discovery import EVERYBODY_HERE, FoundServer
from als_agents.keeper import Keeper
from als_agents.known_servers import KnownServers
from als_agents.loop import Loop
from als_agents.network import Network
from als_agents.parameters import ParametersFile
from als_agents.servers import Finder, Server
from als_agents.session import Event, Notice, Session

MAC_BLOCK = bytes.fromhex("00005e0053")  # kept for documentation by RFC 7042
JOIN_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class News:
    """Something a computer has to tell: `event` of its license of `product`, or (None) that it found `server`."""

    computer: "Computer"
    event: Event | None = None
    product: str = ""
    why: Refusal | None = None
    server: Server | None = None


class Computer:
    """One simulated computer. Its news go into a queue that the demo reads."""

    def __init__(self, number: int, host: str, folder: Path, discovery_port: int, news: SimpleQueue[News]) -> None:
        self.host = host
        self.mac = MAC_BLOCK + bytes((number,))
        self.address = f"192.0.2.{10 + number}"  # TEST-NET-1 of RFC 5737
        self.is_on = False
        self.programs: dict[str, str] = {}  # what each says: asks, runs, refused
        self.heartbeats = 0
        self._news = news
        self._sessions: dict[str, Session] = {}
        self._finder = Finder(
            folder,
            known=KnownServers(folder / "known_servers.json"),
            parameters=ParametersFile(folder / "parameters.json"),
            net=_Loopback(discovery_port),
            environment={},
        )
        self._identity: keyfile.KeyPair = key_pairs.own_pair(folder)
        self._keeper = Keeper(
            find=self._find,
            identity=self._identity,
            computer=self._describe,
            on_notice=self._on_notice,
        )
        self._loop = Loop(self._keeper)
        self._thread = threading.Thread(target=self._loop.run, name=host, daemon=True)

    def switch_on(self) -> None:
        """Start the computer's agent; it has no program to run yet."""
        self.is_on = True
        self._thread.start()

    def run(self, product: str, component: str) -> None:
        """Start a licensed program, which needs a license from now on."""

        def begin() -> None:
            session = Session(product, component, now=self._keeper.now(), source=random.Random())
            self._sessions[product] = session
            self._keeper.add(session)

        self.programs[product] = "asks"
        self._loop.call(begin)

    def uninstall(self, product: str) -> None:
        """Give the license of a program back."""
        self._loop.call(lambda: self._keeper.release(self._sessions[product]))

    def cut_off(self) -> None:
        """Fall silent without a word, as a computer does whose plug is pulled."""
        self.is_on = False
        self._loop.stop()
        if self._thread.is_alive():
            self._thread.join(JOIN_S_MAX)

    @property
    def says(self) -> str:
        """Say how its programs are: "runs STUDIO, VIEWER"."""
        if not self.is_on:
            return "no power" if self.programs else "off"
        words: dict[str, list[str]] = {}
        for product, state in self.programs.items():
            words.setdefault(state, []).append(product)
        return "; ".join(f"{state} {', '.join(products)}" for state, products in words.items()) or "idle"

    def _find(self) -> Sequence[Server]:
        servers = self._finder.find_all()
        self._news.put(News(self, server=servers[0]))
        return servers

    def _describe(self, server_host: str) -> Mapping[str, Any]:
        return {
            "macs": [self.mac],
            "host": self.host,
            "address": self.address,
            "kind": "workstation",
        }

    def _on_notice(self, session: Session, notice: Notice) -> None:
        if notice.event is Event.RENEWED:
            self.heartbeats += 1
        else:
            self._news.put(News(self, notice.event, session.product, notice.why))


class _Loopback(Network):
    """The network of a computer that hears only this machine: the demo disturbs nobody else's."""

    def search(self) -> list[FoundServer]:
        """Search by broadcast on the loopback interface."""
        return discovery.discover(port=self.discovery_port, destinations=[EVERYBODY_HERE])
