"""What can go wrong between ALS and etcd, each with one line for a person. Knows no transport."""

import re


class EtcdError(Exception):
    """A call to etcd failed; the message is one line for the administrator."""


class EtcdUnavailableError(EtcdError):
    """No answer in time, a lost connection, or a cluster without a leader: asking later may help.

    `maybe_applied` says whether a transaction may have been applied, or may still be: only reading tells.
    """

    def __init__(self, message: str, maybe_applied: bool) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied


class EtcdFullError(EtcdError):
    """etcd reached its quota and refuses writes until an administrator makes room."""


class EtcdRefusedError(EtcdError):
    """Asking again cannot help: a certificate, a permission, a request against etcd's rules, a version."""


class EtcdCompactedError(EtcdRefusedError):
    """The revision asked for is no longer kept."""


class EtcdGaveUpError(EtcdRefusedError):
    """A transaction that holds `give_up` where it was to run: nothing of it was applied."""


class EtcdTooLargeError(EtcdRefusedError):
    """A message is larger than etcd takes: nothing of it was applied."""


# What etcd or the transport says before anything was done: the call may go elsewhere.
_NOT_APPLIED = ("DNS resolution failed", "etcdserver: no leader", "etcdserver: too many requests")
_REFUSED = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "UNIMPLEMENTED",
    "RESOURCE_EXHAUSTED",
    "DATA_LOSS",
}
_HUNG_UP = re.compile("closed|reset")
_LAST_REASON = re.compile(r".*last error: \w+: (?:ipv[46]:\S+ )?")


def explained(address: str, code: str, details: str) -> EtcdError:
    """Give the error for what gRPC reports of a call: the name of its status code and its details."""
    said = f"etcd at {address}: {details or code}"
    if "database space exceeded" in details:
        return EtcdFullError(f"{said} (make room: compact, defragment, disarm the alarm)")
    if "has been compacted" in details:
        return EtcdCompactedError(said)
    if "request is too large" in details or "grpc: received message larger" in details:
        return EtcdTooLargeError(said)
    if "future revision" in details:
        return EtcdGaveUpError(said)
    if "failed to connect" in details:
        reason = _LAST_REASON.sub("", details)
        text = f"etcd at {address} cannot be reached: {reason}{_question(reason)}"
        return EtcdUnavailableError(text, maybe_applied=False)
    if any(text in details for text in _NOT_APPLIED):
        return EtcdUnavailableError(said, maybe_applied=False)
    if code in _REFUSED:
        return EtcdRefusedError(said)
    if code == "DEADLINE_EXCEEDED":
        return EtcdUnavailableError(f"etcd at {address} did not answer in time", maybe_applied=True)
    return EtcdUnavailableError(said, maybe_applied=True)


def _question(reason: str) -> str:
    """Ask what an administrator should look at when a member hangs up on a new connection."""
    if not _HUNG_UP.search(reason):
        return ""
    return " (does it speak TLS?)" if "andshake" in reason else " (does it want TLS?)"
