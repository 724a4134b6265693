"""How long a server may take to answer before the next is asked, and how long one that was silent is asked last.

It knows servers by their keys alone: addresses with one key are one server, in a cluster too.
"""

from als_agents.server import Server

ANSWER_S_MAX = 5.0  # the last one that is left gets so long
NEXT_SERVER_S_MAX = 2.5  # before another server, which counts for itself; so a fleet has moved within 3 s
NEXT_ADDRESS_S_MAX = 1.0  # before another address of the same server: moving costs nothing, so two may be dead
GIVE_BACK_S_MAX = 2.0  # who has just granted a seat takes it back in milliseconds, or hangs: nobody waits for that
SHUN_S = 60.0  # a server that was silent is asked last for so long; then the preferred one has its turn again


def patience_s(server: Server, following: Server | None) -> float:
    """Say how long `server` may take where `following` would be asked next, None if nobody would."""
    if following is None:
        return ANSWER_S_MAX
    return NEXT_ADDRESS_S_MAX if following.key == server.key else NEXT_SERVER_S_MAX
