"""Machines on one computer: network namespaces on two bridges, and a cable that can be pulled out.

Each machine has an address on the inner network, over which the machines talk to each other, and one on the outer
network, over which people reach them. Needs root, and a system that lets it make namespaces: `missing` says why not.
"""

import contextlib
import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

INNER, OUTER = "198.18.7", "198.18.8"  # from the range that is set aside for tests of networks
_HOST = 254  # the last number of this computer's own addresses


def missing() -> str:
    """Say why there can be no namespaces here, empty when there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` on this machine (Debian: apt-get install iproute2)"
    if os.geteuid():
        return "network namespaces can be made by root alone"
    name = f"als{os.getpid()}t"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces can be made here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return ""


class Islands:
    """Machines numbered from 0; a context manager that makes them and takes them away."""

    def __init__(self, size: int) -> None:
        self._own = f"als{os.getpid()}"
        self._size = size

    def namespace(self, number: int) -> str:
        """Give the name of a machine's namespace."""
        return f"{self._own}-{number}"

    def command(self, number: int) -> tuple[str, ...]:
        """Give what has to precede a command so that it runs on a machine; it stays one process."""
        return ("ip", "netns", "exec", self.namespace(number))

    @staticmethod
    def inner(number: int) -> str:
        """Give a machine's address on the inner network."""
        return f"{INNER}.{number + 1}"

    @staticmethod
    def outer(number: int) -> str:
        """Give a machine's address on the outer network."""
        return f"{OUTER}.{number + 1}"

    def cut_off(self, number: int) -> None:
        """Pull a machine's cable to the inner network out."""
        _ip("link", "set", self._cable("i", number), "down")

    def join(self, number: int) -> None:
        """Plug it in again."""
        _ip("link", "set", self._cable("i", number), "up")

    def _cable(self, side: str, number: int) -> str:
        return f"{self._own}{side}{number}"

    def __enter__(self) -> Self:
        try:
            for side, network in (("i", INNER), ("o", OUTER)):
                _ip("link", "add", f"{self._own}{side}", "type", "bridge")
                _ip("address", "add", f"{network}.{_HOST}/24", "dev", f"{self._own}{side}")
                _ip("link", "set", f"{self._own}{side}", "up")
            for number in range(self._size):
                self._make(number)
        except BaseException:
            self.close()
            raise
        return self

    def _make(self, number: int) -> None:
        namespace = self.namespace(number)
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        for side, address in (("i", self.inner(number)), ("o", self.outer(number))):
            cable, end = self._cable(side, number), f"eth-{side}"
            _ip("link", "add", cable, "type", "veth", "peer", "name", end, "netns", namespace)
            _ip("link", "set", cable, "master", f"{self._own}{side}", "up")
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", namespace, "link", "set", end, "up")

    def close(self) -> None:
        """Take everything away; what runs in a namespace must have ended."""
        for number in range(self._size):
            _try("netns", "delete", self.namespace(number))
        for side in ("i", "o"):
            for number in range(self._size):
                _try("link", "delete", self._cable(side, number))
            _try("link", "delete", f"{self._own}{side}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _try(*words: str) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):  # was never made, or went with its other end
        _ip(*words)
