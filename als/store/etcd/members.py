"""The members of an etcd: what they say of themselves, and which versions ALS works with."""

import re
from typing import NamedTuple

from als.store.etcd.errors import EtcdRefusedError

VERSION_LEAST = (3, 4)
_VERSIONS_UNSAFE = ((3, 5, 0), (3, 5, 6))  # from, up to: data could differ between members after a crash
_VERSION = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)")


class Member(NamedTuple):
    """A member of the cluster as it announces itself; the name is empty until it has joined."""

    id: int
    name: str
    client_urls: tuple[str, ...]


class MemberStatus(NamedTuple):
    """What a member says of itself; sizes in bytes, `leader` a member's id or 0, `errors` such as alarms."""

    member: int
    version: str
    leader: int
    raft_term: int
    db_size: int
    db_size_in_use: int
    is_leader: bool
    errors: tuple[str, ...]


class Alarm(NamedTuple):
    """A trouble that the cluster remembers until an administrator disarms it: NOSPACE or CORRUPT."""

    member: int
    kind: str


def check_version(version: str) -> None:
    """Raise EtcdRefusedError for a member's version that is too old, or known to damage data."""
    found = _VERSION.match(version)
    numbers = tuple(map(int, found.groups())) if found else ()
    if numbers < VERSION_LEAST:
        raise EtcdRefusedError(f"etcd {version} is too old: 3.4 or newer is needed, 3.5.16 or newer is best")
    unsafe_from, unsafe_to = _VERSIONS_UNSAFE
    if unsafe_from <= numbers < unsafe_to:
        raise EtcdRefusedError(f"etcd {version} may lose data in a crash: 3.5.6 or newer is needed")
