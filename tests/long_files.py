"""Which test files take longest: they are begun first, so that in a run on several cores none is left over at the end.

Seconds are rough, of a machine that did other work besides; a file that is missing here takes less than the least.
"""

from pathlib import Path

SECONDS = {
    "test_console.py": 110,
    "test_als_cli_transcripts.py": 100,
    "test_bench_smoke.py": 75,
    "test_simulation.py": 60,
    "test_cluster_clocks.py": 40,
    "test_component.py": 40,
    "test_component_edges.py": 40,
    "test_model.py": 31,
    "test_als_cli_demo.py": 25,
    "test_cluster_faults.py": 22,
}


def long_first(path: Path) -> int:
    """Give a key that sorts test files by their length, the longest first; files that are alike stay as they are."""
    return -SECONDS.get(path.name, 0)
