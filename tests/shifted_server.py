"""als-server under clocks that a test can move: it takes the flags of `als-server run`, and CLOCK_SHIFT names a file.

The file holds two numbers, by how many seconds the wall clock and the monotonic clock are ahead of the machine's.
"""

import argparse
import os
import sys
from pathlib import Path

from als.clock import Reading, SystemClock
from als.server import run as server
from als.server.settings import ETCD_PREFIX_DEFAULT, STORE_DEFAULT, Settings

SHIFT_VARIABLE = "CLOCK_SHIFT"


class ShiftedClock:
    """The machine's clocks and what the file adds to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = SystemClock()

    def read(self) -> Reading:
        """Look at both clocks at once."""
        wall_s, monotonic_s = self._clock.read()
        wall_shift_s, monotonic_shift_s = map(float, self._path.read_text(encoding="ascii").split())
        return Reading(wall_s + wall_shift_s, monotonic_s + monotonic_shift_s)


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--discovery-port", type=int, required=True)
    parser.add_argument("--store", default=STORE_DEFAULT)
    parser.add_argument("--cluster-secret", type=Path)
    parser.add_argument("--etcd-prefix", default=ETCD_PREFIX_DEFAULT)
    settings = Settings(**vars(parser.parse_args()))
    server.set_up_log(settings.log_level)
    try:
        server.run(settings, ShiftedClock(Path(os.environ[SHIFT_VARIABLE])))
    except server.StartError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
