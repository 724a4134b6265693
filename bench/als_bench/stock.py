"""Fills a store before its server starts: a vendor, serials and leases, entered by the ledger itself.

Only what the ledger writes is in it, so a filled store is what the same requests over the wire would have made.
"""

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from als import __version__, catalog, serial, vendorkeys
from als.ledger import Ledger, Rules, Sender
from als.protocol import SERIALS_PER_IMPORT_MAX, Refusal, Role
from als.server.core import read_server_id
from als.store.transaction import Store
from als_bench.processes import BenchError
from als_bench.workload import PRODUCT_NUMBER, Fleet

VENDOR = "bench"
FILL_BATCH_MAX = 5_000  # requests in a transaction: the sync of the commit is spread thin
OPERATOR = bytes(32)


class Vendor:
    """A vendor's key, with which serials are issued."""

    def __init__(self) -> None:
        self._private_key = Ed25519PrivateKey.generate()
        self.public_key = self._private_key.public_key().public_bytes_raw()

    def write_key(self, data_dir: Path) -> None:
        """Let the server of a data folder count this vendor's serials."""
        folder = data_dir / "vendors"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        vendorkeys.write(folder / f"{VENDOR}{vendorkeys.SUFFIX}", self.public_key)

    def issue(self, seats: int, count: int = 1, product: int = PRODUCT_NUMBER) -> list[str]:
        """Issue serials of `seats` seats each, as texts; some 50 µs each."""
        issuer = serial.issuer_of(self.public_key)
        return [
            serial.write(serial.sign(serial.Serial(product, seats, number, issuer=issuer), self._private_key))
            for number in (secrets.randbits(64) for _ in range(count))
        ]


class Stock:
    """A ledger over a store in this process. `server_id` is made when the store has none."""

    def __init__(self, store: Store, vendor: Vendor, products: catalog.Catalog | None = None) -> None:
        self.store = store
        tx = store.begin()
        server_id = read_server_id(tx, lambda: secrets.token_hex(16))
        self.ledger = Ledger(
            products or catalog.builtin(),
            server_id=server_id,
            server_key=bytes(32),
            vendors={VENDOR: vendor.public_key},
            settings=Rules(new_seats_per_address_h=0),
            version=__version__,
        )
        store.submit(tx)

    def import_serials(self, texts: Sequence[str], now: int) -> None:
        """Enter serials as an operator would. Raises BenchError when one is not added."""
        operator = Sender(OPERATOR, "")
        for first in range(0, len(texts), FILL_BATCH_MAX):
            tx = self.store.begin()
            if not first:
                self.ledger.add_admin(tx, OPERATOR, "als-bench", Role.OPERATOR, now)
            batch = texts[first : first + FILL_BATCH_MAX]
            for start in range(0, len(batch), SERIALS_PER_IMPORT_MAX):
                serials = list(batch[start : start + SERIALS_PER_IMPORT_MAX])
                answer = self.ledger.apply(tx, {"op": "import", "serials": serials}, operator, now)
                if isinstance(answer, Refusal) or answer["added"] != len(serials):
                    raise BenchError(f"a serial was not imported: {answer}")
            self.store.submit(tx)

    def acquire(self, fleet: Fleet, numbers: Iterable[int], keys: Sequence[bytes], now: int) -> int:
        """Let computers acquire, number N with key N modulo their count; give how many have. Raises BenchError."""
        tx = self.store.begin()
        done = 0
        for number in numbers:
            request = {"op": "acquire", **fleet.fields(number)}
            sender = Sender(keys[number % len(keys)], "127.0.0.1")
            answer = self.ledger.apply(tx, request, sender, now)
            if isinstance(answer, Refusal):
                raise BenchError(f"a computer was refused: {answer.message}")
            done += 1
            if done % FILL_BATCH_MAX == 0:
                self.store.submit(tx)
                tx = self.store.begin()
        self.store.submit(tx)
        return done
