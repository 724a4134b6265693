"""A server that serves requests in the short ways, or, if each holds a key more, by the rules alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from als import catalog, protocol
from als.clock import Reading
from als.ledger import Ledger, Rules, Sender
from als.server.core import Core
from als.server.letters import Letter
from als.store.lmdb.store import OWN_TABLES
from als.store.memory import MemoryStore
from als.store.transaction import Rows, Store, Table
from press import SERVER_KEY, VENDORS, print_serial

WALL_S = 1_800_000_000
PRODUCT = catalog.builtin().by_code["ATIW"]
LONG = "x" * 32  # the longest code that the protocol admits, too long for the short form of a lease
assert PRODUCT.period_s is not None
PERIOD_S: int = PRODUCT.period_s
ADMIN = b"A" * 32
MACS = [bytes([2, 0, 0, 0, 0, number]) for number in range(4)]
SEATS = 3
SOLD = catalog.Catalog([replace(PRODUCT, components={**PRODUCT.components, LONG: catalog.Component(LONG, "Long")})])
Step = tuple[bytes, str, dict[str, Any], int]


class Server:
    """A core over a store, in memory as a rule, with serials of few seats that end with these days (0: never).

    So many new seats does an address get in an hour (0: any number). `more` stands in every request, too.
    """

    def __init__(
        self, *, store: Store | None = None, serials: Sequence[int] = (0,), most_an_hour: int = 1, **more: Any
    ) -> None:
        self.store = store or MemoryStore()
        ledger = Ledger(
            SOLD,
            server_id="s",
            server_key=SERVER_KEY,
            vendors=VENDORS,
            settings=Rules(new_seats_per_address_h=most_an_hour),
        )
        self.core = Core(self.store, ledger, Reading(WALL_S, 0.0), lambda: None)
        tx = self.store.begin()
        ledger.add_admin(tx, ADMIN, "admin", protocol.Role.ADMIN, WALL_S)
        texts = [print_serial(PRODUCT, at + 1, SEATS, last_day=last_day)[0] for at, last_day in enumerate(serials)]
        imported = ledger.apply(tx, {"op": "import", "serials": texts}, Sender(ADMIN, ""), WALL_S)
        assert isinstance(imported, dict) and imported["added"] == len(serials)
        self.store.submit(tx)
        self._more = more

    def turn(self, turn: Sequence[Step], passed_s: int, waited_s: float = 0.0) -> list[bytes]:
        """Serve these requests in one turn; a computer's key MACS becomes macs, which may then come twice."""
        letters = []
        for sender, address, wish, _ in turn:
            body = protocol.encode({"v": 1, "id": 1, **wish, **self._more}).replace(b"MACS", b"macs")
            letters.append(
                Letter((address.encode(),), body, sender, {b"Peer-Address": address}, float(passed_s) - waited_s)
            )
        return self.core.turn(letters, Reading(WALL_S + passed_s, float(passed_s)))

    def rows(self) -> dict[Table, Rows]:
        """Give everything that is stored, whatever the engine."""
        tx = self.store.begin()
        try:
            return {table: tx.scan(table, limit=100_000) for table in Table if table not in OWN_TABLES}
        finally:
            tx.abort()
