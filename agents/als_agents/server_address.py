"""A server argument as text: HOST, HOST:PORT, [V6]:PORT, or a name that only a search can find."""

import ipaddress
import re
from typing import NamedTuple

from als.protocol import PORT
from als_agents.errors import BadServerArgument

ARGUMENT_CHARS_MAX = 512  # the longest host name, brackets and a port, twice over

_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]+))?\Z").match
_WITH_PORT = re.compile(r"([^:]+):([0-9]+)\Z").match


class ServerAddress(NamedTuple):
    """`host` without brackets, in lower case; `port` is None where none was given."""

    host: str
    port: int | None

    @property
    def text(self) -> str:
        """The address as it is remembered: always with a port, an IPv6 address in brackets."""
        return address_text(self.host, self.port or PORT)

    @property
    def is_numeric(self) -> bool:
        """Say whether the host is an IP address and no name."""
        return is_ip(self.host)


def parse(argument: str) -> ServerAddress:
    """Read a server argument. Raises BadServerArgument for one that is empty or names an impossible port.

    A name may hold anything, so text that is no address is taken for a name.
    """
    stripped = argument.strip()
    if not stripped or len(stripped) > ARGUMENT_CHARS_MAX:
        raise BadServerArgument("a server is HOST, HOST:PORT, [IPv6]:PORT or a name that als --list shows")
    match = _BRACKETED(stripped) or _WITH_PORT(stripped)
    if match is None or (stripped.startswith("[") and not is_ip(match[1])):
        return ServerAddress(_lower(stripped), None)
    return ServerAddress(_lower(match[1]), _port(match[2]) if match[2] else None)


def address_text(host: str, port: int) -> str:
    """Write an address as people do: "host:9876", "[::1]:9876"."""
    return f"[{host}]:{port}" if ":" in host and is_ip(host) else f"{host}:{port}"


def _lower(host: str) -> str:
    """Ignore the case of a host, but not of the adapter's name that follows % in a link-local address."""
    name, percent, scope = host.partition("%")
    return name.lower() + percent + scope


def _port(digits: str) -> int:
    port = int(digits) if len(digits) <= 5 else 0
    if not 0 < port < 65_536:
        raise BadServerArgument(f"the port {digits[:20]} is none; ports go from 1 to 65535")
    return port


def is_ip(text: str) -> bool:
    """Say whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
