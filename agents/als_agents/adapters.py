"""This computer's network adapters, and which of their MAC addresses say who it is.

`choose` is a pure function over what `adapters` found, so that every strange machine can be a line in a test.
"""

import re
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from als.protocol import MAC_BYTES, MACS_MAX, parse_mac

SYSTEM_ADAPTERS = Path("/sys/class/net")

_LOOPBACK = re.compile(r"(lo\d*|loopback.*)\Z", re.IGNORECASE).match
_VIRTUAL = re.compile(
    # Numbered ones of Linux, then of BSD and macOS; then those with a free end; then what Windows shows.
    r"((docker|br|virbr|bridge|vnet|vmnet|tun|tap|bond|team|dummy|ifb|wg|gre|sit|ip6tnl|macvtap|cni|lxcbr|lxdbr"
    r"|utun|awdl|llw|anpi|ap|p2p|gif|stf|feth|vmenet|vboxnet|zt)\d"
    r"|br-|docker_|veth|cali|flannel|podman|tailscale|lxdbr|incusbr"
    r"|vmware|virtualbox|hyper-v|npcap|tap-|openvpn|wireguard|bluetooth|local area connection\*)",
    re.IGNORECASE,
).match


class Adapter(NamedTuple):
    """One network adapter. `mac` is None when it has none of 6 bytes.

    `is_hardware` is what the system says, None where it does not say; `is_removable` is so for USB.
    """

    name: str
    mac: bytes | None
    is_hardware: bool | None = None
    is_removable: bool = False


class Choice(NamedTuple):
    """Whether an adapter's address is sent to servers, and why, in words for a person."""

    adapter: Adapter
    kept: bool
    reason: str


def choose(adapters: Iterable[Adapter]) -> list[Choice]:
    """Decide about each adapter: first those that are kept, in the order in which they are sent, then the others.

    Kept are hardware adapters with an address that its maker gave. If there is none: hardware adapters with a
    locally administered address (virtual machines have such). If there is none either, as in containers: the
    first adapter with a usable address, by name, those that are called like virtual ones last. At most 32 are
    kept.

    The order is by MAC address, removable adapters last. So it depends neither on what is plugged in or up,
    nor on names that change between starts; and an adapter that wanders from computer to computer never comes
    first where there is another.
    """
    found = sorted(adapters, key=lambda adapter: (adapter.is_removable, adapter.mac or b"", adapter.name))
    unusable = {adapter: reason for adapter in found if (reason := _why_unusable(adapter)) is not None}
    usable = [adapter for adapter in found if adapter not in unusable]
    virtual = {adapter: reason for adapter in usable if (reason := _why_virtual(adapter)) is not None}
    hardware = [adapter for adapter in usable if adapter not in virtual]
    genuine = [adapter for adapter in hardware if not _is_locally_administered(adapter)]
    if genuine:
        kept, why = genuine, "hardware adapter"
    elif hardware:
        kept, why = hardware, "hardware adapter with a locally administered address; there is no better one"
    else:
        by_name = sorted(usable, key=lambda adapter: (_VIRTUAL(adapter.name) is not None, adapter.name))
        kept, why = by_name[:1], "the first adapter; there is no hardware adapter"
    left_out = {**unusable, **virtual, **_doubles(kept)}
    sent = [adapter for adapter in kept if adapter not in left_out or adapter in virtual][:MACS_MAX]
    others = sorted((adapter for adapter in found if adapter not in sent), key=lambda adapter: adapter.name)
    return [Choice(adapter, True, why) for adapter in sent] + [
        Choice(adapter, False, left_out.get(adapter) or _why_not_needed(adapter)) for adapter in others
    ]


def adapters() -> list[Adapter]:
    """Ask the system for every adapter, up or down."""
    found = []
    for name, entries in psutil.net_if_addrs().items():
        texts = [entry.address for entry in entries if entry.family == psutil.AF_LINK]
        is_hardware, is_removable = hardware(name)
        mac = _mac(texts[0]) if texts else None
        if is_hardware:
            mac = _permanent_mac(name) or mac
        found.append(Adapter(name, mac, is_hardware, is_removable))
    return found


def _why_unusable(adapter: Adapter) -> str | None:
    """Say why an adapter's address can never name a computer; None if it can."""
    if _LOOPBACK(adapter.name):
        return "loopback"
    if adapter.mac is None:
        return "no MAC address of 6 bytes"
    if not any(adapter.mac):
        return "address of zeros"
    if adapter.mac == b"\xff" * MAC_BYTES:
        return "broadcast address"
    if adapter.mac[0] & 1:
        return "multicast address"
    return None


def _why_virtual(adapter: Adapter) -> str | None:
    if adapter.is_hardware:
        return None  # the system knows better than the name
    if _VIRTUAL(adapter.name):
        return "virtual adapter, by its name"
    return "virtual adapter, no device behind it" if adapter.is_hardware is False else None


def _is_locally_administered(adapter: Adapter) -> bool:
    return adapter.mac is not None and bool(adapter.mac[0] & 2)


def _doubles(kept: list[Adapter]) -> dict[Adapter, str]:
    """Find adapters whose address an earlier one has, as in a bond."""
    first: dict[bytes | None, Adapter] = {}
    for adapter in kept:
        first.setdefault(adapter.mac, adapter)
    return {a: f"same address as {first[a.mac].name}" for a in kept if first[a.mac] is not a}


def _why_not_needed(adapter: Adapter) -> str:
    if _is_locally_administered(adapter):
        return "locally administered address"
    return f"more than {MACS_MAX} adapters"


def _mac(text: str) -> bytes | None:
    try:
        return parse_mac(text)
    except ValueError:
        return None


def hardware(name: str, folder: Path = SYSTEM_ADAPTERS) -> tuple[bool | None, bool]:
    """Say whether a device is behind an adapter and whether it hangs on USB.

    `folder` is where Linux shows its adapters; the first value is None where nothing is shown.
    """
    if not (folder / name).exists():
        return None, False
    device = folder / name / "device"
    return device.exists(), "/usb" in str(device.resolve())


if sys.platform == "linux":
    import array
    import fcntl
    import socket

    _SIOCETHTOOL = 0x8946
    _ETHTOOL_GPERMADDR = 0x20
    _ADDRESS_BYTES_MAX = 32

    def _permanent_mac(name: str) -> bytes | None:
        """Ask for the address that the maker gave: Wi-Fi in search of a network and bonds show another for a while."""
        answer = array.array("B", struct.pack("II", _ETHTOOL_GPERMADDR, _ADDRESS_BYTES_MAX))
        answer.extend(bytes(_ADDRESS_BYTES_MAX))
        request = struct.pack("16sP16x", name.encode()[:15], answer.buffer_info()[0])
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                fcntl.ioctl(control, _SIOCETHTOOL, request)
        except OSError:
            return None
        size, mac = struct.unpack("4xI6s", answer[:14].tobytes())
        return mac if size == MAC_BYTES and any(mac) and mac != b"\xff" * MAC_BYTES else None

else:

    def _permanent_mac(name: str) -> bytes | None:
        """Other systems show the maker's address, or no way to ask for it without rights."""
        return None
