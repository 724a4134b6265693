"""Why a command stops: a sentence for stderr and the exit code that goes with it."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of `als`."""

    DONE = 0
    REFUSED = 1
    WRONG_USAGE = 2
    NOT_FOUND = 3
    NOT_TRUSTED = 4
    INTERRUPTED = 130


class Failure(Exception):
    """The command cannot go on: `code` is its exit code, str() one sentence that says what to do next."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
