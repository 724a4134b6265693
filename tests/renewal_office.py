"""A ledger whose computers renew, and what it knows of their renewals; for tests."""

from collections.abc import Sequence
from typing import Any

from als import catalog, protocol
from als.ledger import Ledger, Rules, Sender
from als.ledger.quick import usual
from als.ledger.quick.repeats import Repeats
from als.protocol import Role
from als.serial import DAY_S, DAY_ZERO_S
from als.server.letters import Letter
from als.store.memory import MemoryStore
from als.store.transaction import Transaction
from press import SERVER_KEY, VENDORS, print_serial
from two_ways import ADMIN, MACS, PRODUCT, WALL_S

AGENTS = [b"a" * 32, b"b" * 32]
TODAY = (WALL_S - DAY_ZERO_S) // DAY_S
LAST_DAYS = (0, TODAY)  # of the two serials: one ends within a day
SERIAL_IDS = ("ATIW-0000000000001", "ATIW-0000000000002")


def about(
    op: str, number: int, component: str = "agent", *, host: str = "pc", also: Sequence[bytes] = (), **more: Any
) -> dict[str, Any]:
    """Make a request about a computer, which has these other addresses as well."""
    computer = {"macs": [MACS[number], *also], "host": host, "address": ""}
    return {"op": op, "product": PRODUCT.code, "component": component, "computer": computer, **more}


def body(request: dict[str, Any]) -> bytes:
    """Write a request as most clients do."""
    return protocol.encode({"v": 1, "id": 1, **request})


class Office:
    """A ledger over a store in memory, with four computers that have acquired, and what is known of renewals."""

    def __init__(self, server: int = 0, **settings: Any) -> None:
        self.store = MemoryStore()
        self.known = Repeats(b"secret", **settings)
        products = catalog.builtin()
        self.ledger = Ledger(
            products, server_id="s", server_key=SERVER_KEY, vendors=VENDORS, settings=Rules(), server=server
        )
        self.now = WALL_S
        self.tx = self.begin()
        self.ledger.add_admin(self.tx, ADMIN, "root", Role.ADMIN, self.now)
        texts = [print_serial(PRODUCT, at + 1, 3, last_day=last_day)[0] for at, last_day in enumerate(LAST_DAYS)]
        self.apply({"op": "import", "serials": texts}, ADMIN)
        for number in range(4):
            self.apply(about("acquire", number))

    def begin(self) -> Transaction:
        """Open a transaction that those who know renewals attend."""
        tx = self.store.begin()
        self.known.attend(tx)
        return tx

    def next_turn(self, then_s: int = 0) -> None:
        """Commit, and go on some seconds later."""
        self.store.submit(self.tx)
        self.now += then_s
        self.tx = self.begin()

    def apply(self, request: dict[str, Any], sender: bytes = AGENTS[0]) -> Any:
        """Apply a request by the rules."""
        return self.ledger.decide(self.tx, protocol.decode(body(request)), Sender(sender, ""), self.now)

    def is_known(self, request: dict[str, Any], sender: bytes = AGENTS[0], **sent: Any) -> bool:
        """Send a renewal; say whether it was known. Otherwise it is known from now on, if it is usual."""
        frame = sent.get("body", body(request))
        letter = Letter((b"",), frame, sender, {}, sent.get("arrived_s", 0.0))
        known, usually = self.ledger.renewing(self.tx, self.now, self.known, 0.0)
        replies: list[bytes] = []
        if known([letter], 0, replies):
            told = protocol.decode_reply(replies[0])
            assert (told["result"], told["id"]) == ("renewed", request.get("id", 1))
            return True
        read = usual.read(frame)
        if read is not None:
            usually(read, sender, frame)
        return False
