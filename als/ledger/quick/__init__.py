"""The short ways: what speed costs in clarity in the ledger.

Most requests are alike: a heartbeat that says what the last one said, a new computer that asks for a seat. They are
read (usual.py), known again (repeats.py), renewed (renewing.py), told of their seat (acquiring.py) or given one
(granting.py) in a fraction of the time that the rules take, and whatever is not alike in each respect is left to the
rules in leases.py. No rule is made here: both ways leave the same rows and give the same replies, and
tests/test_usual.py, tests/test_repeats.py and the model hold them against each other.
"""
