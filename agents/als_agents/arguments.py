"""What programs give to the SDK, checked where it is given: later it would show in a thread, or at the first lease."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any


def expect(kind: type[Any] | UnionType, *, optional: bool = False, **given: object) -> None:
    """Check arguments, by their names; with `optional` None will do, too. Raises TypeError."""
    for name, value in given.items():
        if not (isinstance(value, kind) or (optional and value is None)):
            wanted = kind.__name__ if isinstance(kind, type) else str(kind)
            raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def expect_wait(wait_s: float) -> None:
    """Check a time to wait. Raises TypeError, and ValueError for one that is not finite, or negative."""
    expect(int | float, wait_s=wait_s)
    if not 0 <= wait_s < math.inf:
        raise ValueError(f"wait_s must be a finite number of seconds, 0 or more, not {wait_s}")


def as_server(server: str | Sequence[str] | None) -> str | None:
    """Give servers as one argument, with commas between them. Raises TypeError."""
    if server is None or isinstance(server, str):
        return server
    expect(Sequence, server=server)
    for one in server:
        expect(str, server=one)
    return ",".join(server)


def as_folder(client_dir: Path | str | None) -> Path | None:
    """Give a folder as a path. Raises TypeError."""
    expect(str | os.PathLike, optional=True, client_dir=client_dir)
    return None if client_dir is None else Path(client_dir)
