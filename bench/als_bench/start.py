"""The first step of `als-bench`: says so when its libraries are not installed."""

from als import streams
from als.extras import needing

EXIT_USAGE = 2


def main() -> None:
    """Run the command line."""
    with streams.told("als-bench"):
        with needing("als-bench", "bench", EXIT_USAGE):
            from als_bench.main import main as run
        run()
