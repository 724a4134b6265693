"""The network as this machine sees it: names, own addresses, servers that answer.

Tests put a pretended one in its place.
"""

import ipaddress
import os
import socket
from collections.abc import Mapping

import psutil

from als.protocol import PORT
from als_agents import discovery
from als_agents.discovery import WAIT_S_DEFAULT, FoundServer
from als_agents.errors import BadServerArgument

DISCOVERY_PORT_VARIABLE = "ALS_DISCOVERY_PORT"
HERE_WAIT_S = 0.25  # a server on this machine answers in a millisecond, or has its discovery switched off


class Network:
    """Questions about hosts and servers. None of them raises: what cannot be found out is empty."""

    def __init__(self, discovery_port: int | None = None, environment: Mapping[str, str] = os.environ) -> None:
        """Ask at `discovery_port`, by default ALS_DISCOVERY_PORT or 9876; 0: nobody is asked there."""
        self.discovery_port = _discovery_port(environment) if discovery_port is None else discovery_port

    def addresses(self, host: str) -> list[str]:
        """Give the numeric addresses of a host, none when its name is unknown."""
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(str(row[4][0]) for row in rows))

    def is_here(self, host: str) -> bool:
        """Say whether a host is this machine: loopback, or one of its own addresses."""
        addresses = {_without_scope(address) for address in self.addresses(host)}
        if any(ipaddress.ip_address(address).is_loopback for address in addresses):
            return True
        own = {
            _without_scope(entry.address)
            for entries in psutil.net_if_addrs().values()
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6)
        }
        return not addresses.isdisjoint(own)

    def ask(self, host: str, port: int | None, wait_s: float = WAIT_S_DEFAULT) -> FoundServer | None:
        """Ask one server for its name and key; see discovery.ask."""
        return discovery.ask(host, port, wait_s, self.discovery_port)

    def search(self) -> list[FoundServer]:
        """Search by broadcast; see discovery.discover."""
        return discovery.discover(port=self.discovery_port) if self.discovery_port else []


def _discovery_port(environment: Mapping[str, str]) -> int:
    text = environment.get(DISCOVERY_PORT_VARIABLE) or str(PORT)
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise BadServerArgument(f"{DISCOVERY_PORT_VARIABLE} must be a port number from 0 to 65535")
    return int(text)


def _without_scope(address: str) -> str:
    return address.partition("%")[0]
