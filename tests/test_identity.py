"""The computer as on the wire: which adapters' addresses are sent, and what stands beside them."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from als import protocol
from als_agents import adapters as system_adapters
from als_agents import identity
from als_agents.adapters import Adapter, choose
from als_agents.errors import BadIdentity

# (name, MAC, what the system says of hardware, on USB): "hardware", "virtual", "unknown", "usb"
Row = tuple[str, str, str]

ETH0 = ("eth0", "00:11:22:33:44:55", "hardware")
ETH1 = ("eth1", "00:11:22:33:44:01", "hardware")
WLAN = ("wlan0", "a4:c3:f0:00:00:01", "hardware")
LO = ("lo", "00:00:00:00:00:00", "virtual")


def adapter(name: str, mac: str, what: str) -> Adapter:
    is_hardware = {"hardware": True, "usb": True, "virtual": False, "unknown": None}[what]
    return Adapter(name, bytes.fromhex(mac.replace(":", "")) if mac else None, is_hardware, what == "usb")


MACHINES: list[tuple[str, list[Row], list[str]]] = [
    ("a server with two ports", [ETH0, ETH1, LO], ["eth1", "eth0"]),
    ("a laptop", [WLAN, ETH0, LO], ["eth0", "wlan0"]),
    ("order does not depend on the system's", [ETH1, LO, ETH0], ["eth1", "eth0"]),
    ("a USB adapter comes last", [("enx1", "00:00:01:00:00:01", "usb"), ETH0], ["eth0", "enx1"]),
    (
        "containers on the host",
        [ETH0, ("docker0", "02:42:aa:bb:cc:dd", "virtual"), ("veth12ab", "06:00:00:00:00:01", "virtual")],
        ["eth0"],
    ),
    (
        "virtual by name where the system says nothing",
        [
            ("Ethernet", "00:11:22:33:44:55", "unknown"),
            ("vmnet8", "00:50:56:c0:00:08", "unknown"),
            ("VMware Network Adapter VMnet1", "00:50:56:c0:00:01", "unknown"),
            ("virbr0", "00:50:56:c0:00:02", "unknown"),
            ("tun0", "00:50:56:c0:00:03", "unknown"),
            ("tap0", "00:50:56:c0:00:04", "unknown"),
            ("br-0a1b2c", "00:50:56:c0:00:05", "unknown"),
            ("br0", "00:50:56:c0:00:06", "unknown"),
            ("bridge0", "00:50:56:c0:00:07", "unknown"),
            ("bond0", "00:50:56:c0:00:09", "unknown"),
            ("Loopback Pseudo-Interface 1", "00:50:56:c0:00:0a", "unknown"),
            ("Local Area Connection* 1", "00:50:56:c0:00:0b", "unknown"),
        ],
        ["Ethernet"],
    ),
    (
        "people's own names are no virtual ones",
        [("Green LAN", "00:00:00:00:00:01", "unknown"), ("Team", "00:00:00:00:00:02", "unknown")],
        ["Green LAN", "Team"],
    ),
    ("virtual because no device is behind it", [ETH0, ("eth0.100", ETH0[1], "virtual")], ["eth0"]),
    ("a random address beside a real one", [ETH0, ("wlan0", "da:a1:19:00:00:01", "hardware")], ["eth0"]),
    ("a virtual machine: hardware, address by software", [("eth0", "52:54:00:12:34:56", "hardware"), LO], ["eth0"]),
    ("the system knows better than a name", [("tap0", "00:11:22:33:44:55", "hardware"), LO], ["tap0"]),
    ("a container", [LO, ("eth0", "02:42:ac:11:00:02", "virtual")], ["eth0"]),
    (
        "a container with a tunnel",
        [LO, ("docker0", "02:42:00:00:00:01", "virtual"), ("eth0", "02:42:ac:11:00:02", "virtual")],
        ["eth0"],
    ),
    ("a container with a bridge alone", [LO, ("docker0", "02:42:00:00:00:01", "virtual")], ["docker0"]),
    ("loopback alone", [LO, ("lo0", "00:11:22:33:44:55", "unknown")], []),
    ("nothing", [], []),
    (
        "addresses that name nobody",
        [
            ("a", "00:00:00:00:00:00", "hardware"),
            ("b", "ff:ff:ff:ff:ff:ff", "hardware"),
            ("c", "01:00:5e:00:00:01", "hardware"),
            ("d", "", "hardware"),
        ],
        [],
    ),
    ("a bond shares one address", [ETH0, ("eth1", ETH0[1], "hardware"), ("bond0", ETH0[1], "virtual")], ["eth0"]),
    (
        "at most 32",
        [(f"eth{n}", f"00:00:00:00:00:{n:02x}", "hardware") for n in range(1, 41)],
        [f"eth{n}" for n in range(1, 33)],
    ),
]


@pytest.mark.parametrize(("rows", "sent"), [pytest.param(rows, sent, id=id_) for id_, rows, sent in MACHINES])
def test_addresses_that_are_sent(rows: list[Row], sent: list[str]) -> None:
    """Of each machine's adapters these are kept, in this order, and each of the others has a reason."""
    choices = choose([adapter(*row) for row in rows])
    assert [choice.adapter.name for choice in choices if choice.kept] == sent
    assert len(choices) == len(rows) and all(choice.reason for choice in choices)


def test_order_does_not_depend_on_names() -> None:
    """Two adapters whose names were swapped at a start are sent in the same order."""
    swapped = [("eth1", ETH0[1], "hardware"), ("eth0", ETH1[1], "hardware")]
    first = [choice.adapter.mac for choice in choose([adapter(*ETH0), adapter(*ETH1)])]
    assert first == [choice.adapter.mac for choice in choose([adapter(*row) for row in swapped])]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("lo", "00:00:00:00:00:00", "virtual"), "loopback"),
        (("docker0", "02:42:00:00:00:01", "virtual"), "virtual adapter, by its name"),
        (("eth0.5", "00:11:22:33:44:56", "virtual"), "virtual adapter, no device behind it"),
        (("wlan0", "da:a1:19:00:00:01", "hardware"), "locally administered address"),
        (("eth9", ETH0[1], "hardware"), "same address as eth0"),
        (("ib0", "", "hardware"), "no MAC address of 6 bytes"),
        (("eth9", "ff:ff:ff:ff:ff:ff", "hardware"), "broadcast address"),
        (("eth9", "01:00:5e:00:00:01", "hardware"), "multicast address"),
        (("eth9", "00:00:00:00:00:00", "hardware"), "address of zeros"),
    ],
)
def test_reasons_for_leaving_out(row: Row, reason: str) -> None:
    """A person is told why an adapter beside a good one was left out."""
    choices = choose([adapter(*ETH0), adapter(*row)])
    assert [(choice.adapter.name, choice.reason) for choice in choices if not choice.kept] == [(row[0], reason)]


def test_addresses_set_by_hand() -> None:
    """ALS_MACS replaces what the adapters say, in any spelling, each address once."""
    by_hand = {"ALS_MACS": "00:11:22:33:44:55, 00-11-22-33-44-66,001122334455"}
    assert identity.macs(by_hand) == [bytes.fromhex("001122334455"), bytes.fromhex("001122334466")]


@pytest.mark.parametrize("text", ["00:11", "x", "00:11:22:33:44:55,zz"])
def test_wrong_addresses_set_by_hand_are_refused(text: str) -> None:
    """ALS_MACS that makes no sense is an error that names it, not silently another computer."""
    with pytest.raises(BadIdentity, match="ALS_MACS") as caught:
        identity.macs({"ALS_MACS": text})
    assert caught.value.exit_code == 2


def test_computer_is_what_the_protocol_takes() -> None:
    """What this machine says of itself is a well-formed `computer`, whatever machine it is."""
    frame = protocol.encode_request(
        1, "acquire", {"product": "A", "component": "b", "computer": identity.computer("127.0.0.1")}
    )
    assert 1 <= len(protocol.decode(frame)["computer"]["macs"]) <= protocol.MACS_MAX


def test_computer_is_the_same_each_time() -> None:
    """Two descriptions of one machine are equal."""
    assert identity.computer() == identity.computer()


def test_host_name_set_by_hand_and_cut_to_its_limit() -> None:
    """ALS_HOST replaces the host name; a name that is too long is cut between characters."""
    assert identity.computer(environment={"ALS_HOST": "desk-7"})["host"] == "desk-7"
    long = identity.computer(environment={"ALS_HOST": "ä" * 200})["host"]
    assert long == "ä" * 127


def test_made_address_is_locally_administered_and_stable() -> None:
    """An address that is made up can be no maker's, belongs to one host, and stays the same."""
    made = [identity.made_mac(text) for text in ("a", "a", "b")]
    assert made[0] == made[1] != made[2]
    assert all(len(mac) == 6 and mac[0] & 2 and not mac[0] & 1 for mac in made)


def test_address_towards_a_server_on_this_machine_is_not_loopback_where_there_is_another() -> None:
    """The address that an administrator sees is one that leads here, unless there is none."""
    others = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family.name == "AF_INET" and not entry.address.startswith(("127.", "169.254."))
    ]
    address = identity.local_address("127.0.0.1")
    assert address in others if others else address in ("127.0.0.1",) or ":" in address


def test_address_towards_an_unknown_host_is_still_an_address() -> None:
    """A server name that is unknown does not fail; the address is then the machine's first."""
    assert identity.local_address("no-such-host.invalid") == identity.local_address()


def test_machine_id_is_read_from_the_first_file_that_has_one(tmp_path: Path) -> None:
    """A missing file and one of an image that was never started are passed over."""
    raw = "0123456789abcdef0123456789abcdef"
    (tmp_path / "new").write_text("uninitialized\n")
    (tmp_path / "good").write_text(raw + "\n")
    assert identity.machine_id_in([tmp_path / name for name in ("none", "new", "good")]) == raw
    assert identity.machine_id_in([tmp_path / "none", tmp_path / "new"]) is None


def test_raw_machine_id_does_not_leave_the_machine() -> None:
    """What is sent is a hash made for this purpose, the same for the same machine."""
    raw = "0123456789abcdef0123456789abcdef"
    sent = identity.hashed_machine_id(raw)
    assert sent == identity.hashed_machine_id(raw) != identity.hashed_machine_id(raw[::-1])
    assert len(sent) == 32 and raw not in sent


@pytest.mark.parametrize(
    ("machine_info", "chassis", "kind"),
    [
        ("", "23\n", "server"),
        ("", "17", "server"),
        ("", "3", "workstation"),
        ("", "10\n", "workstation"),
        ("", "1", None),
        ("", "", None),
        ("", "garbage", None),
        ('PRETTY_HOSTNAME="x"\nCHASSIS=server\n', "3", "server"),
        ('CHASSIS="laptop"', "", "workstation"),
        ("CHASSIS=vm\n", "3", None),
    ],
)
def test_kind_by_chassis(machine_info: str, chassis: str, kind: str | None) -> None:
    """What an administrator set counts before what the firmware says; a virtual machine is neither."""
    assert identity.kind_by_chassis(machine_info, chassis) == kind


def test_adapters_of_this_machine_are_all_listed() -> None:
    """Every adapter that the system shows gets a choice, up or down."""
    names = {choice.adapter.name for choice in choose(system_adapters.adapters())}
    assert names == set(psutil.net_if_addrs())


def test_hardware_is_read_from_the_systems_folder(tmp_path: Path) -> None:
    """A device behind an adapter tells hardware, one below a USB bus a removable one, no folder nothing."""
    shown = tmp_path / "class"
    for name, device in (("eth0", "pci0"), ("enx0", "pci0/usb1")):
        (tmp_path / device).mkdir(parents=True)
        (shown / name).mkdir(parents=True)
        (shown / name / "device").symlink_to(tmp_path / device)
    (shown / "veth0").mkdir()
    got = {name: system_adapters.hardware(name, shown) for name in ("eth0", "enx0", "veth0", "gone0")}
    assert got == {"eth0": (True, False), "enx0": (True, True), "veth0": (False, False), "gone0": (None, False)}


def test_importing_the_client_side_stays_light() -> None:
    """Agents' machines have no server's and no screen's libraries, and these modules ask for none."""
    modules = "client discovery known_servers servers identity parameters key_pairs"
    program = (
        f"import sys; [__import__('als_agents.' + name) for name in {modules.split()!r}]; "
        "print([name for name in ('lmdb', 'rich', 'textual', 'cryptography', 'typer') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
