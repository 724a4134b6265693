"""The people of the simulation: agents with their real sessions, and an office that administers.

They see the server only through the network. What an agent was told, it expects to be kept (`promise_end`).
"""

import random
from collections.abc import Callable
from typing import Any, Protocol

from als import protocol
from als.protocol import Refusal
from als_agents.session import Ask, Session
from simulated_world import Machine, World

PATIENCE_S = 5.0
TROUBLE_S = 130.0  # longer than any copy of a request is on its way
TRIES_MAX = 8
TIMER_LATE_S = 0.001  # no timer is early, and a second since 1970 has no more digits than this needs

Reply = dict[str, Any]


class Office(Protocol):
    """What agents and administrators need of the simulation."""

    world: World

    def send(self, key: bytes, body: bytes, on_reply: Callable[[bytes], None]) -> None:
        """Give one request to the network; each copy that is answered comes back through `on_reply`."""
        ...

    def next_id(self) -> int:
        """A number for a request."""
        ...

    def make_trouble(self, product: str, mac: bytes | None) -> None:
        """Remember that leases may be taken away from now on by what was just sent (None: anybody's)."""
        ...

    def complain(self, text: str) -> None:
        """Report that a promise was broken."""
        ...

    def is_troubled(self, product: str, mac: bytes) -> bool:
        """Say whether something on its way may take this lease away."""
        ...


class Agent:
    """One component on one computer: its session, and its timers."""

    def __init__(self, office: Office, computer: dict[str, Any], product: str, component: str) -> None:
        self.office = office
        self.world = office.world
        self.machine = Machine(office.world)
        self.computer = computer
        self.product = product
        self.component = component
        self.key = self.world.random.randbytes(32)
        self.promise_end = 0.0  # true time until which the last reply said that the license is held
        self.session: Session | None = None
        self._life = 0
        self._request_id = 0
        self._asked_at = 0.0

    @property
    def mac(self) -> bytes:
        """The computer's first address."""
        mac: bytes = self.computer["macs"][0]
        return mac

    def switch_on(self) -> None:
        """Start the component."""
        if self.session is None:
            self._life += 1
            source = random.Random(self.world.random.random())
            self.session = Session(self.product, self.component, now=self.machine.monotonic_s(), source=source)
            self._set_timer()

    def switch_off(self) -> None:
        """Pull the plug: nothing is released."""
        self._life += 1
        self.session = None
        self._request_id = 0

    def uninstall(self) -> None:
        """Release the component."""
        if self.session is not None:
            self.office.make_trouble(self.product, self.mac)
            self.promise_end = 0.0
            self.session.release(self.machine.monotonic_s())
            self._set_timer()

    def get_new_key(self) -> None:
        """Forget the key, as an installation from scratch does."""
        self.switch_off()
        self.key = self.world.random.randbytes(32)
        self.switch_on()

    def _set_timer(self) -> None:
        if self.session is None:
            return
        deadline = self.session.next_deadline()
        if deadline is not None:
            life, delay_s = self._life, max(0.0, deadline - self.machine.monotonic_s())
            self.world.after(delay_s + TIMER_LATE_S, lambda: self._on_timer(life))

    def _on_timer(self, life: int) -> None:
        if self.session is None or life != self._life:
            return
        now = self.machine.monotonic_s()
        deadline = self.session.next_deadline()
        if deadline is None or deadline > now:
            return  # a timer from before something else happened
        for output in self.session.on_timer(now):
            if isinstance(output, Ask):
                self._ask(output)
        self._set_timer()

    def _ask(self, ask: Ask) -> None:
        self._request_id = request_id = self.office.next_id()
        self._asked_at = self.world.now
        if ask.operation == "release":
            self.office.make_trouble(self.product, self.mac)
        fields = {**ask.fields, "computer": self.computer}
        body = protocol.encode_request(request_id, ask.operation, fields)
        self.office.send(self.key, body, lambda reply: self._receive(request_id, reply))
        self.world.after(PATIENCE_S, lambda: self._give_up(request_id))

    def _receive(self, request_id: int, body: bytes) -> None:
        if self.session is None or request_id != self._request_id:
            return  # too late, or a copy
        self._request_id = 0
        reply = protocol.decode_reply(body)
        if reply["ok"]:
            self._note_promise(reply)
        elif reply["code"] != "unavailable":
            self._note_refusal(reply)
        self.session.receive(reply, self.machine.monotonic_s())
        self._set_timer()

    def _note_promise(self, reply: Reply) -> None:
        if reply["result"] in ("granted", "renewed", "already_held"):
            renew_by = reply["renew_by"]
            length_s = 1e9 if renew_by is None else renew_by - reply["time"]
            self.promise_end = self._asked_at + length_s

    def _note_refusal(self, reply: Reply) -> None:
        held = self.promise_end > self.world.now + 1 and not self.office.is_troubled(self.product, self.mac)
        if held and reply["code"] not in ("license_expired", "not_holder"):
            self.office.complain(f"{self.computer['host']} held {self.product} and was refused: {reply['code']}")
        if reply["code"] != "not_holder":
            self.promise_end = 0.0

    def _give_up(self, request_id: int) -> None:
        if self.session is not None and request_id == self._request_id:
            self._request_id = 0
            self.session.on_silence(self.machine.monotonic_s())
            self._set_timer()


class Errand:
    """One request of an administrator, sent until it is answered."""

    def __init__(self, office: Office, key: bytes, operation: str, **fields: Any) -> None:
        self._office = office
        self._key = key
        self._body = protocol.encode_request(office.next_id(), operation, fields)
        self._tries = 0
        self.on_sending: Callable[[], None] = lambda: None
        self.reply: Reply | Refusal | None = None

    def run(self) -> None:
        """Send it, and again if nothing comes back."""
        if self.reply is not None or self._tries >= TRIES_MAX:
            return
        self._tries += 1
        self.on_sending()
        self._office.send(self._key, self._body, self._receive)
        self._office.world.after(PATIENCE_S, self.run)

    def _receive(self, body: bytes) -> None:
        if self.reply is None:
            self.reply = protocol.decode_reply(body)
