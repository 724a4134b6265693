"""Ten runs of a cluster under load in which everything is killed and frozen once, at random moments, in random order.

    python tests/cluster_run.py [--runs 10] [--seed N]

Prints a line a fault and a line a run; ends with 1 when an acknowledged change was lost, a seat was given twice, the
books were wrong at any revision, or nothing was acknowledged for too long.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

import etcd_nodes
from als.clock import monotonic_s

GAP_S_MAX = 3.0
HEADER = "run  fault            gap s  longest wait s  acknowledged  no answer"


def main() -> int:
    """Run, and say what came of it."""
    parser = argparse.ArgumentParser(description="Kills and freezes the parts of a cluster under load.")
    parser.add_argument("--runs", type=int, default=10, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    if etcd_nodes.MISSING:
        print(etcd_nodes.MISSING, file=sys.stderr)  # noqa: T201
        return 2
    print(f"seed {arguments.seed}\n{HEADER}", flush=True)  # noqa: T201
    source = random.Random(arguments.seed)
    faults = [_run(number, source) for number in range(1, arguments.runs + 1)]
    print("all is well" if not any(faults) else f"{sum(map(bool, faults))} runs with faults")  # noqa: T201
    return any(faults)


def _run(number: int, source: random.Random) -> bool:
    """Do one run and print its rows; True when something was wrong."""
    from cluster_faults import KINDS, Stage

    begin_s = monotonic_s()
    faults = source.sample(KINDS, len(KINDS))
    with tempfile.TemporaryDirectory(prefix="als-cluster-") as folder:
        outcome = Stage(Path(folder), source.randrange(2**32)).run(faults)
    for felt in outcome.felt:
        print(  # noqa: T201
            f"{number:3}  {felt.fault!s:15} {felt.gap_s:6.2f}  {felt.wait_s_max:14.2f}  "
            f"{felt.acknowledged:12,}  {felt.unclear:9}"
        )
    wrong = [*outcome.lost, *outcome.over, *outcome.mistakes]
    print(  # noqa: T201
        f"{number:3}  in all: {outcome.acknowledged:,} acknowledged, {len(outcome.lost)} lost; {outcome.refused:,} "
        f"refused; {outcome.revisions:,} revisions, {len(outcome.over)} with over-allocation or wrong sums; "
        f"{len(outcome.mistakes)} mistakes in the books; longest gap {outcome.gap_s:.2f} s; "
        f"{monotonic_s() - begin_s:.0f} s",
        flush=True,
    )
    for line in wrong[:10]:
        print(f"     FAULT {line}", flush=True)  # noqa: T201
    return bool(wrong) or outcome.gap_s > GAP_S_MAX


if __name__ == "__main__":
    sys.exit(main())
