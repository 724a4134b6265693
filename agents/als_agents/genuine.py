"""Whether a lease's serial is the vendor's own: signature, product, last day, and the lock to the server that shows it.

It knows serials, not sessions. A serial without a lock proves that the vendor sold it, not to whom.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from als import serial
from als.protocol import SERIAL_TEXT_BYTES_MAX, Refusal
from als_agents.session import NOT_GENUINE

KEY_BYTES = 32


@dataclass(frozen=True)
class Vendor:
    """What a vendor builds into a program: its public key (32 bytes) and the number of the product in its serials."""

    key: bytes
    product: str
    product_number: int
    requires_lock: bool = False

    def doubt(self, lease: Mapping[str, Any] | None, server_key: bytes, now: int) -> Refusal | None:
        """Give the reason not to believe the server with this key, None when its lease is genuine.

        `now` is the computer's own wall clock, since the server's word is what is in doubt.
        """
        reason = self._reason(lease, server_key, now)
        return None if reason is None else Refusal(NOT_GENUINE, f"The license is not genuine: {reason}.")

    def _reason(self, lease: Mapping[str, Any] | None, server_key: bytes, now: int) -> str | None:
        if lease is None:
            return "the server shows no serial"
        if lease.get("product") != self.product:
            return "the server shows a lease of another product"
        text = lease.get("serial")
        try:
            raw = serial.read(text if isinstance(text, str) and len(text) <= SERIAL_TEXT_BYTES_MAX else "")
            facts = serial.decode(raw)
        except serial.SerialError:
            return "the server shows something that is no serial"
        if not serial.verify(raw, self.key):
            return "its serial was not signed by the vendor"
        if facts.product_number != self.product_number:
            return "its serial is for another product"
        if facts.lock != serial.NO_LOCK and facts.lock != serial.lock_of(server_key):
            return "its serial is locked to another server"
        if facts.lock == serial.NO_LOCK and self.requires_lock:
            return "its serial is not locked to this server"
        end = serial.end_of_last_day(facts.last_day)
        if end is not None and now >= end:
            return "its serial has ended by this computer's clock"
        return None


def read_vendor_key(key: bytes | str) -> bytes:
    """Read a vendor's public key: 32 bytes, or the line of its NAME.pub (base64). Raises ValueError."""
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.strip(), validate=True)
        except binascii.Error:
            raise ValueError("a vendor key is 32 bytes, or the line of text in NAME.pub") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"a vendor key has {KEY_BYTES} bytes, not {len(key)}")
    return key


def product_number_of(product: str) -> int:
    """Give the number of a product of the manual. Raises ValueError for another's, whose vendor must tell it."""
    from als import catalog

    found = catalog.builtin().by_code.get(product)
    if found is None:
        raise ValueError(f"with vendor_key, give product_number too: the number of {product} in its serials")
    return found.number
