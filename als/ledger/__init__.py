"""The rules of licensing over a transaction, with the time as an argument; no socket, file or clock in it."""

from als.ledger.desk import Rules, Sender
from als.ledger.ledger import Ledger

__all__ = ["Ledger", "Rules", "Sender"]
