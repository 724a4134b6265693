"""This computer as servers know it: its MAC addresses, name, address, machine id and kind.

What is sent can be set by hand where nothing can be found out: ALS_MACS (commas between addresses) and
ALS_HOST.
"""

import hmac
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from als.protocol import HOST_BYTES_MAX, MACS_MAX, parse_mac
from als_agents.adapters import Adapter, Choice, adapters, choose
from als_agents.errors import BadIdentity

__all__ = ["Adapter", "Choice", "adapters", "choose", "computer", "kind", "local_address", "machine_id", "macs"]

MACS_VARIABLE = "ALS_MACS"
HOST_VARIABLE = "ALS_HOST"
MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
MACHINE_INFO_FILE = Path("/etc/machine-info")
CHASSIS_FILE = Path("/sys/class/dmi/id/chassis_type")
COMMAND_S_MAX = 5.0

# So that the machine's own id, which other programs know, never leaves it; systemd's documentation asks for this.
_SALT = b"ALS computer, version 1"
_LOCAL_BIT, _GROUP_BIT = 2, 1

# What SMBIOS calls the case that a computer is in.
_SERVER_CHASSIS = frozenset({17, 23, 25, 28, 29})
_WORKSTATION_CHASSIS = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 24, 30, 31, 32, 35, 36})
_WORKSTATION_WORDS = frozenset({"desktop", "laptop", "convertible", "tablet", "handset"})


def computer(server_host: str | None = None, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Describe this computer as a request's `computer`; machine_id and kind are None where nobody knows them.

    `server_host` is the server that the address should be the way to. Raises BadIdentity when ALS_MACS is no
    list of MAC addresses.
    """
    return {
        "macs": macs(environment),
        "host": _host(environment),
        "address": local_address(server_host),
        "machine_id": machine_id(),
        "kind": kind(),
    }


def macs(environment: Mapping[str, str] = os.environ) -> list[bytes]:
    """List the MAC addresses to send: ALS_MACS, or the adapters' (see choose), or one made from the machine id.

    There is always at least one. Raises BadIdentity.
    """
    by_hand = [text for text in environment.get(MACS_VARIABLE, "").split(",") if text.strip()]
    if by_hand:
        try:
            return list(dict.fromkeys(parse_mac(text) for text in by_hand))[:MACS_MAX]
        except ValueError as error:
            raise BadIdentity(f"{MACS_VARIABLE} is no list of addresses with commas: {error}") from None
    found = [adapter.mac for adapter, kept, _ in choose(adapters()) if kept and adapter.mac is not None]
    return found or [made_mac(machine_id() or _host(environment))]


def made_mac(text: str) -> bytes:
    """Make a locally administered MAC address out of a text, always the same from the same."""
    digest = _salted(f"mac {text}")
    return bytes([(digest[0] | _LOCAL_BIT) & ~_GROUP_BIT]) + digest[1:6]


def local_address(server_host: str | None = None) -> str:
    """Give the address of the adapter that reaches the server; "" when there is no network at all.

    For a server on this computer, and for none, it is the first address that is not loopback. No packet is
    sent.
    """
    address = _address_towards(server_host) if server_host else ""
    if address and not address.startswith("127.") and address != "::1":
        return address
    return _first_address() or address


def machine_id() -> str | None:
    """Give what the system calls this installation, hashed for our use alone; None where it has no such thing."""
    raw = _raw_machine_id()
    return hashed_machine_id(raw) if raw else None


def hashed_machine_id(raw: str) -> str:
    """Make of a system's own id one that cannot be followed back to it: 32 hexadecimal digits."""
    return _salted(raw).hex()[:32]


def machine_id_in(files: Iterable[Path]) -> str | None:
    """Read the id of a Linux installation from the first of `files` that holds one."""
    texts = (_text_of(path).strip() for path in files)
    return next((text for text in texts if re.fullmatch(r"[0-9a-f]{32}", text)), None)


def kind() -> str | None:
    """Say "server" or "workstation" where the system knows: the edition of Windows, or the case it is built into."""
    if sys.platform == "win32":
        return "workstation" if sys.getwindowsversion().product_type == 1 else "server"
    if sys.platform == "darwin":
        return "workstation"
    return kind_by_chassis(_text_of(MACHINE_INFO_FILE), _text_of(CHASSIS_FILE))


def kind_by_chassis(machine_info: str, chassis_type: str) -> str | None:
    """Judge by the CHASSIS that an administrator set, else by the firmware's number (a virtual machine has none)."""
    said = re.search(r'^CHASSIS="?([a-z]+)"?\s*$', machine_info, re.MULTILINE)
    if said is not None:
        return "workstation" if said[1] in _WORKSTATION_WORDS else "server" if said[1] == "server" else None
    number = int(chassis_type) if chassis_type.strip().isdecimal() else 0
    return "server" if number in _SERVER_CHASSIS else "workstation" if number in _WORKSTATION_CHASSIS else None


def _host(environment: Mapping[str, str]) -> str:
    name = environment.get(HOST_VARIABLE) or socket.gethostname() or "unknown"
    return name.encode("utf-8", "replace")[:HOST_BYTES_MAX].decode("utf-8", "ignore")


def _address_towards(host: str) -> str:
    """Ask the system which of our addresses it would use: connecting a UDP socket sends nothing."""
    try:
        family, kind_, protocol, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind_, protocol) as udp:
            udp.connect(target)
            return str(udp.getsockname()[0]).partition("%")[0]
    except (OSError, UnicodeError):
        return ""


def _first_address() -> str:
    """Give the first address that others can reach: of a kept adapter before others, IPv4 before IPv6."""
    kept = {adapter.name for adapter, is_kept, _ in choose(adapters()) if is_kept}
    found = [
        (name not in kept, entry.family != socket.AF_INET, name, entry.address)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
        and not entry.address.startswith(("127.", "fe80:", "169.254."))
        and entry.address != "::1"
    ]
    return min(found)[3] if found else ""


def _salted(text: str) -> bytes:
    return hmac.digest(_SALT, text.encode("utf-8", "replace"), "sha256")


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


if sys.platform == "win32":
    import winreg

    def _raw_machine_id() -> str | None:
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
        except OSError:
            return None

elif sys.platform == "darwin":

    def _raw_machine_id() -> str | None:
        command = ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S_MAX, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        found = re.search(r'"IOPlatformUUID" = "([0-9A-Fa-f-]{36})"', shown.stdout)
        return found[1] if found else None

else:

    def _raw_machine_id() -> str | None:
        return machine_id_in(MACHINE_ID_FILES)
