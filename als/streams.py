"""What a program writes to: standard streams that may be closed, of another encoding, or on a disk that is full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EXIT_NOT_WRITTEN = 74  # as in sysexits.h: the work was done, but what there is to say of it is lost


@contextmanager
def told(program: str) -> Iterator[None]:
    """Run a whole program in this block, before any file is opened: its output is written, or it is said why not.

    The process ends with the program's own exit code, also when whoever read its output has seen enough.
    """
    _open_all()
    code: object = 0
    try:
        try:
            yield
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
    except BrokenPipeError:
        let_go()
    except OSError as error:
        if error.filename is not None:
            raise  # a mistake of ours: what is wrong with a file is told where it is used
        complain(f"{program}: the output could not be written: {error.strerror or error}")
        let_go()
        code = EXIT_NOT_WRITTEN
    sys.exit(code)  # type: ignore[arg-type]


def _open_all() -> None:
    """Make the standard streams usable, whatever they are.

    The next file would get the number of a stream that is closed, and what a library writes there would go into it. A
    name that the terminal's encoding does not have is shown with escapes.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for the whole process
    if hasattr(sys.stdout, "reconfigure"):  # a text file, as everywhere but in another program's tests
        sys.stdout.reconfigure(errors="backslashreplace")


def complain(sentence: str) -> None:
    """Print a line on stderr. Where that cannot be written there is nobody to tell, and the exit code says enough."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)  # noqa: T201


def let_go() -> None:
    """Write nothing more: the interpreter would complain at its end about what it still holds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
