"""What is said where a program's libraries are not installed: the name of the extra that brings them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from als import streams


@contextmanager
def needing(program: str, extra: str, exit_code: int) -> Iterator[None]:
    """Import a program in this block. Where a library is missing the process ends with one line that names `extra`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "als").partition(".")[0].startswith("als"):
            raise  # a mistake of ours
        streams.complain(f"{program}: {error.name} is not installed: pip install 'als-license-server[{extra}]'")
        sys.exit(exit_code)
