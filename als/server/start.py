"""The first step of `als-server`: says so when its libraries are not installed."""

from als import streams
from als.extras import needing

EXIT_CANNOT_START = 5


def main() -> None:
    """Run the command line."""
    with streams.told("als-server"):
        with needing("als-server", "server", EXIT_CANNOT_START):
            from als.server.main import main as run
        run()
