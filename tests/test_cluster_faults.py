"""A cluster whose parts die and hang under load: nothing acknowledged is lost, no seat is given twice.

tests/cluster_run.py does more of the same.
"""

import os
import random
from pathlib import Path

import pytest

import etcd_nodes

if etcd_nodes.MISSING:
    pytest.skip(etcd_nodes.MISSING, allow_module_level=True)

from cluster_faults import Fault, Outcome, Stage

GAP_S_MAX = 3.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGSTOP")


def holds(outcome: Outcome) -> None:
    """See that a run's history is as it must be."""
    assert not outcome.lost, "\n".join(outcome.lost[:5])
    assert not outcome.over, "\n".join(outcome.over[:5])
    assert not outcome.mistakes, "\n".join(outcome.mistakes[:5])
    assert outcome.acknowledged > 500 and outcome.refused > 0
    assert outcome.gap_s < GAP_S_MAX, outcome.felt


def test_leader_and_server_die_and_hang(tmp_path: Path) -> None:
    """The leader is killed, a server hangs, another is killed: the history is right at every revision all the same."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    faults = (Fault("kill", "leader"), Fault("freeze", "server"), Fault("kill", "server"))
    holds(Stage(tmp_path, seed).run(faults))
