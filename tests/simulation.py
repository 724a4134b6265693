"""The whole system in one thread, from a seed: the server's core, agents' sessions, network, disk and clocks.

The server crashes between any two steps and between commit and reply; the network loses, delays, doubles and reorders.
After every turn the invariants are checked; every reply is held against the model.

    python tests/simulation.py --seeds 1000 [--first 0]
"""

import argparse
import logging
import sys
from collections.abc import Callable

from als import protocol
from als.catalog import Catalog, Component, Product
from als.ledger import Ledger, Rules
from als.protocol import Refusal, Role
from als.records import LeaseState
from als.server.core import Core
from als.server.letters import Letter
from books import deadline, lease_of, mistakes, outages, seats_by_serial
from comparison import AUDITOR, Comparison, differences
from model import Model
from pair import ROOT
from press import SERVER_KEY, VENDORS, Slip, print_serial
from simulated_agents import TROUBLE_S, Agent, Errand, Reply
from simulated_world import CrashError, Disk, Machine, Network, World

DAY_S = 86_400
DAY_ZERO = 10_957  # 2000-01-01, in days since 1970
STORM_S = 2_400
CALM_S = 1_300  # everybody has asked again: no pause of a session is longer than 300 s
BOOKS_EVERY_TURNS = 40
JUMP_S = 86_400  # R13: a clock that is set further is not believed at once
NOTICED_S = 61  # R12: what a clock is set forward counts as an outage, but for less than a minute


def _product(code: str, number: int, period_s: int | None, heartbeat_s: int, reusable: bool) -> Product:
    return Product(code, number, code, {c: Component(c, c) for c in "ab"}, period_s, heartbeat_s, reusable)


CATALOG = Catalog(
    [
        _product("SHORT", 901, 600, 60, reusable=True),
        _product("DAY", 902, DAY_S, 1_800, reusable=True),
        _product("ONCE", 903, None, 900, reusable=False),
    ]
)


class InvariantError(AssertionError):
    """Something that must always hold did not; the message names the seed and the time."""


class Simulation:
    """One story, told by its seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.random = self.world.random
        self.network = Network.of(self.world)
        self.machine = Machine(self.world)
        self.disk = Disk()
        self.slips: dict[str, Slip] = {}
        self.limit = self.random.choice([0, 2, 100])
        self.model = Model(CATALOG, self.slips, self.limit, listed=False)
        self.model.roles = {ROOT: Role.ADMIN, AUDITOR: Role.VIEWER}
        self.core: Core | None = None
        self.is_suspended = False
        self.turns = 0
        self._last_seen = (self.world.now, int(self.world.now))  # true and effective time of the latest turn
        self._inbox: list[tuple[Letter, Callable[[bytes], None]]] = []
        self._turn_is_due = False
        self._ids = 0
        self._life = 0
        self._troubles: list[tuple[float, str, bytes | None]] = []
        self.agents: list[Agent] = []

    def complain(self, text: str) -> None:
        """Report a broken invariant."""
        raise InvariantError(f"seed {self.seed} at {self.world.now - 20_834 * DAY_S:.3f} s: {text}")

    def next_id(self) -> int:
        """A number for a request."""
        self._ids += 1
        return self._ids

    # The server.

    def start_server(self) -> None:
        """Start the process on what is on the disk; it may crash at that."""
        self._life += 1
        ledger = Ledger(
            CATALOG, server_id="s", server_key=SERVER_KEY, vendors=VENDORS, settings=Rules("open", self.limit)
        )
        self.is_suspended = False
        try:
            tx = self.disk.begin()
            ledger.add_admin(tx, ROOT, "root", Role.ADMIN, int(self.world.now))
            ledger.add_admin(tx, AUDITOR, "auditor", Role.VIEWER, int(self.world.now))
            self.disk.submit(tx)
            self.core = Core(self.disk, ledger, self.machine.read(), lambda: None)
        except CrashError:
            self.crash()
            return
        self._idle(self._life)

    def crash(self) -> None:
        """The process is gone with all that it had in hand; it is started again some time."""
        self.core = None
        self._life += 1
        self._inbox.clear()
        self.disk.recover()
        down_s = self.random.choice([0.5, 5.0, 30.0, 120.0, 700.0, 4_000.0]) * self.random.uniform(0.5, 1.5)
        if self.world.chance(0.3):
            self.machine.boot()
        self.world.after(down_s, self.start_server)

    def _idle(self, life: int) -> None:
        """Take a turn now and then, although nothing has come."""
        if life == self._life:
            self._turn()
            self.world.after(self.random.uniform(1, 50), lambda: self._idle(life))

    def send(self, key: bytes, body: bytes, on_reply: Callable[[bytes], None]) -> None:
        """Carry a request to the server, and its reply back."""
        self.network.carry(lambda: self._arrive(key, body, on_reply))

    def _arrive(self, key: bytes, body: bytes, on_reply: Callable[[bytes], None]) -> None:
        if self.core is None:
            return
        frame = {b"Peer-Address": "127.0.0.1" if key == ROOT else "192.0.2.1"}
        letter = Letter((key,), body, key, frame, self.machine.monotonic_s())
        self._inbox += [(letter, on_reply)] * (2 if self.world.chance(0.05) else 1)
        if not self._turn_is_due:
            self._turn_is_due = True
            self.world.after(self.random.choice([0.0005, 0.005, 0.3]), self._take_due_turn)

    def _take_due_turn(self) -> None:
        self._turn_is_due = False
        self._turn()

    def _turn(self) -> None:
        """One turn of the core; what it has committed is checked, whether or not the replies get away."""
        if self.core is None or self.is_suspended:
            return
        core, inbox = self.core, self._inbox
        self._inbox = []
        commits = self.disk.commits
        letters = [letter for letter, _ in inbox]
        try:
            replies: list[bytes] | None = core.turn(letters, self.machine.read())
        except CrashError:
            replies = None
        self.turns += 1
        if self.disk.commits > commits:
            self._check_replies(core.guard.now, letters, replies)
        if replies is None:
            self.crash()
        self._note_leap(core.guard.now)
        self._check_promises(core.guard.now)
        for (_, on_reply), reply in zip(inbox, replies or [], strict=False):
            self._carry_back(on_reply, reply)

    def _carry_back(self, on_reply: Callable[[bytes], None], reply: bytes) -> None:
        self.network.carry(lambda: on_reply(reply))

    # Invariants.

    def _check_replies(self, now: int, letters: list[Letter], replies: list[bytes] | None) -> None:
        """Tell the model what was committed; its answers are what the replies must be."""
        tx = self.disk.look()
        self.model.outages = [(outage.start, outage.end) for outage in outages(tx)]
        tx.abort()
        before: tuple[bytes, Reply] | None = None
        for place, letter in enumerate(letters):
            request = protocol.decode(letter.body)
            waited_s = self.machine.monotonic_s() - letter.arrived_s
            if waited_s * 1_000 > protocol.PATIENCE_MS_DEFAULT:
                if replies is not None and protocol.decode_reply(replies[place]).get("code") != "unavailable":
                    self.complain(f"{request} was served after {waited_s} s")
                continue
            answer = self.model.apply(request, letter.sender, letter.frame[b"Peer-Address"], now)
            if replies is None:
                continue
            reply = protocol.decode_reply(replies[place])
            found = differences(request["op"], _as_answer(reply), answer)
            if found:
                self.complain(f"{request} got {reply}, and the model says {answer}: {found}")
            if before is not None and before[0] == letter.body:
                self._check_repetition(before[1], reply)
            before = letter.body, reply

    def _check_repetition(self, first: Reply, second: Reply) -> None:
        """The same request twice in a row changes nothing the second time, and says so."""
        if first["ok"] and "renew_by" in first and first["renew_by"] != second.get("renew_by"):
            self.complain(f"the same request twice got {first}, then {second}")
        if not first["ok"] and first["code"] != second.get("code"):
            self.complain(f"the same request twice got {first}, then {second}")

    def _note_leap(self, now: int) -> None:
        """See whether the server's time has leapt ahead of the true one, which costs its holders that much.

        What it leaps counts as an outage, unless it is less than a minute; but for no more than a period (R12), and
        never after a leap of more than a day (R13).
        """
        true_s, effective_s = self._last_seen
        self._last_seen = self.world.now, now
        leap_s = (now - effective_s) - (self.world.now - true_s)
        for agent in self.agents:
            period_s = CATALOG.by_code[agent.product].period_s
            if 0 < leap_s < NOTICED_S:
                agent.promise_end -= leap_s
            elif period_s is not None and period_s < leap_s <= JUMP_S:
                agent.promise_end = 0.0

    def _check_promises(self, now: int) -> None:
        """No lease ends before the time told to its holder, and nobody is told of more seats than there are."""
        tx = self.disk.look()
        if self.turns % BOOKS_EVERY_TURNS == 0:
            found = mistakes(tx, CATALOG)
            if found:
                self.complain(f"the books are wrong: {found}")
        away = outages(tx)
        for number, seats in seats_by_serial(tx).items():
            if seats.used > seats.total:
                self.complain(f"serial {number} has {seats.used} of {seats.total} seats used")
        holders: dict[str, set[bytes]] = {code: set() for code in CATALOG.by_code}
        for agent in self.agents:
            if agent.promise_end <= self.world.now + 1 or self.is_troubled(agent.product, agent.mac):
                continue
            holders[agent.product].add(agent.mac)
            product = CATALOG.by_code[agent.product].number
            lease = lease_of(tx, product, agent.mac)
            if lease is None or lease.state is not LeaseState.ACTIVE:
                self.complain(f"{agent.computer['host']} was told of {agent.product}, and {lease} is there")
            elif lease.period_s and deadline(lease, away) <= now:
                self.complain(f"{agent.computer['host']} was told of {agent.product}, and {lease} has lapsed")
        tx.abort()
        for code, macs in holders.items():
            seats_of_all = sum(s["slip"].seats for s in self.model.serials.values() if s["slip"].product == code)
            if len(macs) > seats_of_all:
                self.complain(f"{len(macs)} computers were told of {seats_of_all} seats of {code}")

    def make_trouble(self, product: str, mac: bytes | None) -> None:
        """Leases of a product (of one computer) may be taken away by what was just sent."""
        self._troubles = [trouble for trouble in self._troubles if trouble[0] > self.world.now]
        self._troubles.append((self.world.now + TROUBLE_S, product, mac))
        for agent in self.agents:
            if agent.product == product and mac in (None, agent.mac):
                agent.promise_end = 0.0

    def is_troubled(self, product: str, mac: bytes) -> bool:
        """Say whether something on its way may take this lease away."""
        return any(
            until > self.world.now and code == product and whose in (None, mac) for until, code, whose in self._troubles
        )

    # The story.

    def run(self) -> None:
        """Tell it from beginning to end. Raises InvariantError, DifferenceError."""
        self._found_company()
        self.start_server()
        for _ in range(self.random.randint(0, 40)):
            happening = self.random.choice(
                [
                    self._kill,
                    self._kill_in_a_turn,
                    self._suspend,
                    self._set_clock,
                    self._change_agent,
                    self._change_agent,
                    self._sell,
                    self._revoke,
                    self._remove,
                ]
            )
            self.world.after(self.random.uniform(0, STORM_S), happening)
        end = self.world.now + STORM_S
        if self.world.chance(0.1):
            end += self.random.choice([20_000, 100_000])
        self.world.run_until(end)
        self._calm_down()
        self.world.run_until(self.world.now + 5_000 if self.core is None else self.world.now)
        self.world.run_until(self.world.now + CALM_S)
        self._check_the_end()

    def _found_company(self) -> None:
        texts = [self._print(code, self.random.randint(1, 3), 0) for code in CATALOG.by_code]
        self._import(texts)
        for number in range(self.random.randint(2, 5)):
            macs = [bytes([2, 0, 0, 0, number, port]) for port in range(self.random.randint(1, 2))]
            computer = {"macs": macs, "host": f"pc{number}", "address": ""}
            for code in self.random.sample(sorted(CATALOG.by_code), self.random.randint(1, 2)):
                for component in self.random.choice(["a", "a", "ab"]):
                    agent = Agent(self, computer, code, component)
                    self.agents.append(agent)
                    self.world.after(self.random.uniform(0, 60), agent.switch_on)

    def _print(self, code: str, seats: int, trial_days: int) -> str:
        today = int(self.world.now) // DAY_S - DAY_ZERO
        last_day = today if self.world.chance(0.1) else 0
        text, slip = print_serial(
            CATALOG.by_code[code], len(self.slips) + 1, seats, last_day=last_day, trial_days=trial_days
        )
        self.slips[text] = slip
        return text

    def _import(self, texts: list[str]) -> None:
        Errand(self, ROOT, "import", serials=texts).run()

    def _kill(self) -> None:
        if self.core is not None:
            self.crash()

    def _kill_in_a_turn(self) -> None:
        if self.world.chance(0.5):
            self.disk.crash_at_commit = self.random.choice(["before", "after"])
        else:
            self.disk.crash_after_steps = self.random.randint(0, 60)

    def _suspend(self) -> None:
        self.is_suspended = True
        self.world.after(self.random.choice([20.0, 61.0, 300.0, 900.0]), self._wake_up)

    def _wake_up(self) -> None:
        self.is_suspended = False

    def _set_clock(self) -> None:
        """Somebody sets the wall clock, or sets it right again."""
        choices = [0.0, 0.0, 2.0, -2.0, -200.0, -4_000.0, 100.0, 3_000.0, 3 * DAY_S, -3 * DAY_S]
        self.machine.wall_error_s = self.random.choice(choices)

    def _change_agent(self) -> None:
        agent = self.random.choice(self.agents)
        self.random.choice([agent.switch_off, agent.switch_on, agent.switch_on, agent.uninstall, agent.get_new_key])()

    def _sell(self) -> None:
        code = self.random.choice(sorted(CATALOG.by_code))
        again = [text for text in self.slips if self.world.chance(0.3)]
        self._import([self._print(code, self.random.randint(1, 2), self.random.choice([0, 0, 1])), *again])

    def _revoke(self) -> None:
        agent = self.random.choice(self.agents)
        errand = Errand(self, ROOT, "revoke", product=agent.product, mac=agent.mac)
        errand.on_sending = lambda: self.make_trouble(agent.product, agent.mac)
        errand.run()

    def _remove(self) -> None:
        slip = self.random.choice(list(self.slips.values()))
        errand = Errand(self, ROOT, "remove", serial_id=slip.id, force=self.world.chance(0.7))
        errand.on_sending = lambda: self.make_trouble(slip.product, None)
        errand.run()

    def _calm_down(self) -> None:
        self.network.calm_down()
        self.is_suspended = False
        self.disk.crash_at_commit = self.disk.crash_after_steps = None

    def _check_the_end(self) -> None:
        """All that can be seen is what the model knows, and who can work does."""
        assert self.core is not None
        comparison = Comparison(self.core.ledger, self.disk, self.model, CATALOG, self.core.guard.now)
        comparison.check_listings()
        comparison.check_events()
        comparison.check_books()
        if self.limit == 2:
            return
        for agent in self.agents:
            free = self.model.pool(agent.product, self.core.guard.now)["free"]
            session = agent.session
            if session is not None and session.state.value != "released" and free and not session.may_run:
                self.complain(f"{agent.computer['host']} stands idle with {free} free seats of {agent.product}")


def _as_answer(reply: Reply) -> Reply | Refusal:
    """Read a reply of the wire as the ledger's own."""
    return reply if reply["ok"] else Refusal(reply["code"], reply["message"], reply["detail"])


def main(arguments: list[str] | None = None) -> int:
    """Run many seeds; print the ones that fail."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger("als").setLevel(logging.ERROR)
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            Simulation(seed).run()
        except Exception as error:
            failed += 1
            sys.stdout.write(f"seed {seed} failed: {error}\n")
    sys.stdout.write(f"{options.seeds} seeds, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
