"""What can go wrong between a client and a server, one class for each thing a person would do next.

Every message is one sentence or two and ends with what to do. `exit_code` is what a command line ends with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from als.keyfile import KeyFileError


class ClientError(Exception):
    """The base of all of them."""

    exit_code: ClassVar[int] = 1


class Refused(ClientError):
    """The server answered no: `code` is one of als.protocol.CODES, `detail` is for programs."""

    exit_code = 1

    def __init__(self, code: str, message: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail: dict[str, Any] = dict(detail or {})

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, dict[str, Any]]]:
        """Let it be pickled: what an exception is made anew from is not what it shows."""
        return type(self), (self.code, self.message, self.detail)


class NoAnswer(ClientError):
    """Nobody answered in time: no server there, another key than expected, or a server that is too busy."""

    exit_code = 3


class BadServerArgument(ClientError):
    """What was given as a server, or as its key, cannot be one."""

    exit_code = 2


class ServerNotFound(ClientError):
    """No server goes by this name or address, or none was found at all."""

    exit_code = 3


class SeveralServers(ClientError):
    """More than one server could be meant; the message lists them."""

    exit_code = 2


class KeyChanged(ClientError):
    """A server shows another key than the remembered one; the message names both fingerprints."""

    exit_code = 4


class NotTrusted(ClientError):
    """A server's key was never confirmed, and what is to be done needs one that was."""

    exit_code = 4


class BadIdentity(ClientError):
    """What was set by hand for this computer, in ALS_MACS, cannot be sent."""

    exit_code = 2


class FolderUnusable(ClientError):
    """What this client keeps on disk cannot be read or written; the message names the file."""

    exit_code = 2

    @classmethod
    def of(cls, path: Path, error: OSError) -> Self:
        """Say which file, and what the system said."""
        reason = error.strerror or str(error)
        return cls(f"{path} cannot be used ({reason}); mend it, or set ALS_CLIENT_DIR to another folder")


class KeyPairUnusable(FolderUnusable, KeyFileError):
    """This client's own key pair cannot be read; a KeyFileError, too, as of key files that somebody has named."""
