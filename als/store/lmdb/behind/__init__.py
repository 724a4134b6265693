"""What is written at once and entered later: what speed costs in clarity in the store.

A renewal changes four bytes of a lease, and leases that are renewed together lie anywhere in their table: each would
cost a page of 4 KiB. So it goes into a log (log.py), which a commit makes durable, and into memory, where reads find
it. Once many have come they are entered together: whole rows in the order of their keys (waiting.py, ascending.py),
times in values that many leases share (stamps.py).
"""
