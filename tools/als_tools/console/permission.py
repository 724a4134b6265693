"""What a role may not do, as a reason that can be shown beside what is disabled. Pure."""

from als.protocol import OPERATIONS, Role


def why_not(operation: str, role: Role) -> str | None:
    """Say why `role` may not use an operation; None when it may."""
    needed = OPERATIONS[operation].role
    return None if role >= needed else f"needs the role {needed.text}; you are {role.text}"


def how_to_get(role: Role, needed: Role, key: bytes, server: str) -> str:
    """Say how a key gets a role, for those who have too little of one."""
    return (
        f"Your key has the role {role.text} on this server, which shows nothing of its licenses. On the server's "
        f"own computer choose the local computer (as a user who may read its data folder), or let an administrator "
        f"run:\n\nals admins {server} add {key.hex()} NAME {needed.text}"
    )
