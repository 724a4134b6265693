"""Records and keys come back from their bytes as they were, and are as short as they are meant to be."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from als.ledger.computers import pack_owner, split_owner
from als.protocol import ADDRESS_BYTES_MAX, HOST_BYTES_MAX, MACHINE_ID_BYTES_MAX, MACS_MAX
from als.records import (
    COMPUTERS_MAX,
    EVENT_KINDS,
    TIME_MAX,
    Computer,
    Event,
    EventForm,
    Holder,
    Lease,
    LeaseState,
    computer_key,
    due_key,
    event_number,
    event_time,
    lease_key,
    split_due_key,
    split_lease_key,
)

MAC = bytes.fromhex("020000000001")
NOW = 1_800_000_000
HEX = "0123456789abcdef" * 2
ADDRESSES = [
    *("", "10.0.0.1", "::1", "010.0.0.1", "10.0.1", "1", "256.1.1.1", "1.2.3.4 ", "1.2.3.4\n"),
    *("+1.2.3.4", "1.2.3.\0", "0x7f.0.0.1", "1.2.3.4.5", "\u0664.\u0663.\u0662.\u0661"),
]


def texts(least: int, most: int) -> "st.SearchStrategy[str]":
    """Give texts as the protocol admits them: so many bytes of UTF-8."""
    return st.text(min_size=least, max_size=most).filter(lambda text: least <= len(text.encode()) <= most)


times = st.integers(0, TIME_MAX)
products = st.integers(0, 0xFFFF)
numbers = st.integers(0, COMPUTERS_MAX)
macs = st.binary(min_size=6, max_size=6)
codes = st.text("abcdefghijklmnopqrstuvwxyz-09AZ", min_size=1, max_size=32)
byte = st.integers(0, 999).map(str)
addresses = st.one_of(
    texts(0, ADDRESS_BYTES_MAX), st.lists(byte, min_size=4, max_size=4).map(".".join), st.ip_addresses().map(str)
)
machine_ids = st.one_of(
    st.none(), texts(0, MACHINE_ID_BYTES_MAX), st.text("0123456789abcdefABF \n", min_size=32, max_size=32)
)
computers = st.builds(
    Computer,
    st.lists(macs, min_size=1, max_size=MACS_MAX),
    texts(1, HOST_BYTES_MAX),
    addresses,
    machine_ids,
    st.sampled_from([None, "server", "workstation"]),
    times,
)
leases = st.builds(
    Lease,
    times,
    times,
    st.just(NOW),
    times,
    times,
    times,
    st.sampled_from(LeaseState),
    st.dictionaries(
        codes, st.builds(Holder, st.binary(min_size=8, max_size=8), st.one_of(times, st.just(NOW))), max_size=4
    ),
    texts(0, 64),
)
events = st.builds(
    Event,
    times,
    st.sampled_from(EVENT_KINDS),
    products,
    st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    st.one_of(st.none(), macs),
    st.one_of(st.none(), texts(0, HOST_BYTES_MAX)),
    st.one_of(st.none(), texts(0, 32)),
    st.one_of(st.none(), texts(0, 64)),
    st.integers(0, TIME_MAX),
    st.one_of(st.none(), st.dictionaries(st.text(max_size=9), st.one_of(st.text(max_size=300), times), max_size=3)),
)


@given(computers)
@settings(max_examples=500)
def test_every_computer_comes_back(computer: Computer) -> None:
    """A computer comes back as it was, whatever its texts."""
    assert Computer.unpack(computer.pack()) == computer


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("machine_id", [None, "", HEX, HEX.upper(), "z" * 32, HEX[:-1], HEX[:-1] + "\n", HEX + "0"])
@pytest.mark.parametrize("left_at", [0, 1, TIME_MAX])
def test_unusual_texts_of_a_computer_come_back(address: str, machine_id: str | None, left_at: int) -> None:
    """What looks like an IPv4 address or hexadecimal digits, and is not written the usual way, keeps its own text."""
    for kind in (None, "server", "workstation"):
        for host in ("pc", "büro", "h" * 255):
            computer = Computer([MAC, b"\xff" * 6], host, address, machine_id, kind, left_at)
            assert Computer.unpack(computer.pack()) == computer


@given(leases)
@settings(max_examples=500)
def test_every_lease_comes_back(lease: Lease) -> None:
    """A lease comes back as it was, with its components in their order, and is never taken for a marked row."""
    raw = lease.pack()
    again = Lease.unpack(raw)
    assert again == lease
    assert list(again.components) == list(lease.components)
    assert raw[0] != 0xFF


@given(events, st.booleans())
@settings(max_examples=500)
def test_every_event_comes_back(event: Event, is_back: bool) -> None:
    """An event comes back as it was, under a number of its second or of a later one."""
    number = event_number(event.time + 3_600 * is_back, 3)
    assert Event.unpack(number, event.pack(number)) == event


@pytest.mark.parametrize("field", ["host", "component", "actor"])
def test_empty_and_absent_stay_apart(field: str) -> None:
    """An empty text of an event is another than none."""
    for text in ("", None):
        values: dict[str, Any] = {field: text}
        event = Event(NOW, "denied", **values)
        number = event_number(NOW, 0)
        assert getattr(Event.unpack(number, event.pack(number)), field) == text


@pytest.mark.parametrize("serial_id", [None, 2**64 - 1])
@pytest.mark.parametrize("passed_s", [0, 1, 86_400])
def test_a_form_of_an_event_is_filled_in_as_it_would_be_written(serial_id: int | None, passed_s: int) -> None:
    """Also under a number that says a later time, as after a clock was set back."""
    event = Event(NOW, "granted", 7, serial_id, b"", "", "agent")
    form, number = EventForm(event), event_number(NOW + passed_s, 3) + (5 << 10)
    for mac, host in ((MAC, "pc"), (MAC[::-1], "b\u00fccherei")):
        filled = event._replace(mac=mac, host=host)
        assert form.fill(number, mac, host) == filled.pack(number)
        assert Event.unpack(number, form.fill(number, mac, host)) == filled


def test_the_number_of_an_event_tells_its_time() -> None:
    """All numbers of a second tell that second; only an event of another time writes its own."""
    first = event_number(NOW, 1_023)
    last = event_number(NOW + 1, 0) - 1
    assert event_time(first) == event_time(last) == NOW != event_time(last + 1)
    event = Event(NOW, "started")
    assert len(event.pack(last + 1)) == len(event.pack(last)) + 4


@given(products, times, numbers)
def test_keys_come_back(product: int, due_at: int, computer: int) -> None:
    """Keys have the lengths they should, and give back what they were made of."""
    assert split_lease_key(lease_key(product, computer)) == (product, computer)
    assert split_due_key(due_key(product, due_at, computer)) == (product, due_at, computer)
    assert split_owner(pack_owner(computer, due_at)) == (computer, due_at)
    assert computer_key(computer) == lease_key(product, computer)[2:] == due_key(product, due_at, computer)[6:]
    assert computer_key(computer) == pack_owner(computer, due_at)[:6]
    assert (len(lease_key(product, computer)), len(due_key(product, due_at, computer))) == (8, 12)


@given(st.lists(st.tuples(products, times, numbers), min_size=2))
def test_keys_are_ordered(values: list[tuple[int, int, int]]) -> None:
    """Keys are in the order of product, second, computer."""
    values.sort()
    for (product, due_at, computer), later in pairwise(values):
        assert due_key(product, due_at, computer) <= due_key(*later)
        assert (lease_key(product, computer) <= lease_key(later[0], later[2])) == (
            (product, computer) <= (later[0], later[2])
        )


def test_the_usual_rows_are_short() -> None:
    """The rows of a usual lease have the bytes that the store's size is reckoned with."""
    lease = Lease(1, NOW, NOW, 2_592_000, NOW + 2_592_000, 0, components={"agent": Holder(bytes(8), NOW)})
    computer = Computer([MAC], "workstation-00000001", "10.0.0.1", HEX, "workstation")
    event = Event(NOW, "granted", 2, 2**63, MAC, "workstation-00000001", "agent")
    sizes = [len(lease.pack()), len(computer.pack()), len(event.pack(event_number(NOW, 0))), len(pack_owner(1, 1))]
    assert sizes == [34, 48, 44, 10]
