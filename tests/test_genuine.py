"""Programs with a vendor's key built in, against fake servers that show genuine, borrowed and invented serials."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from als import clock, serial
from als.serial import DAY_S, DAY_ZERO_S, Serial
from als_agents import InvalidLicense, LicensedComponent
from als_agents.testing import FakeComponent, FakeServer
from serial_samples import ISSUER, VENDOR_KEY, VENDOR_PUBLIC, make_text, mistype

WAIT_S = 20.0
TODAY = (clock.wall_s() - DAY_ZERO_S) // DAY_S

Open = Callable[..., LicensedComponent]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server of ATIES; each test gives it a serial to show."""
    with FakeServer({"ATIES": 10}, heartbeat_s=1) as fake:
        yield fake


@pytest.fixture
def open_with(server: FakeServer, tmp_path: Path) -> Iterator[Open]:
    """Shows a serial to a program that has the vendor's key built in, and opens its license."""
    opened: list[LicensedComponent] = []

    def show(text: str, **options: Any) -> LicensedComponent:
        server.serials["ATIES"] = text
        settings: dict[str, Any] = {"server": server.address, "client_dir": tmp_path, "vendor_key": VENDOR_PUBLIC}
        opened.append(LicensedComponent("ATIES", "agent", **(settings | options)))
        return opened[-1].open()

    yield show
    for one in opened:
        one.close()


def signed(**fields: Any) -> str:
    """Give a serial for ATIES without an end, signed by the vendor."""
    return make_text(0, **({"last_day": 0} | fields))


def test_a_genuine_serial_is_believed(server: FakeServer, open_with: Open) -> None:
    """The vendor's serial for this product counts: without a lock, locked to this server, good until today."""
    assert open_with(signed()).is_held
    assert open_with(signed(lock=serial.lock_of(server.key)), requires_lock=True).is_held
    assert open_with(signed(last_day=TODAY)).is_held


def test_a_vendor_key_may_be_given_as_text(open_with: Open) -> None:
    """The line of the vendor's NAME.pub serves as well as 32 bytes; anything else is the programmer's mistake."""
    import base64

    assert open_with(signed(), vendor_key=base64.b64encode(VENDOR_PUBLIC).decode() + "\n").is_held
    for wrong in ("no key", b"short", base64.b64encode(b"short").decode()):
        with pytest.raises(ValueError, match="vendor key"):
            LicensedComponent("ATIES", "agent", vendor_key=wrong)


def test_the_number_of_a_product_that_is_not_built_in_must_be_told() -> None:
    """Codes are only names; the number in the serial is what the vendor signs."""
    with pytest.raises(ValueError, match="product_number"):
        LicensedComponent("STUDIO", "agent", vendor_key=VENDOR_PUBLIC)
    LicensedComponent("STUDIO", "agent", vendor_key=VENDOR_PUBLIC, product_number=77)


def another_vendors() -> str:
    """Give a serial that claims the vendor as its issuer and is signed by somebody else."""
    content = Serial(1, 100, 7, issuer=ISSUER)
    return serial.write(serial.sign(content, Ed25519PrivateKey.from_private_bytes(bytes(32))))


SIGNED_ELSEWHERE = serial.lock_of(bytes(32))

FAKES = {
    "is no serial": "a fake server's serial",
    "no serial": mistype(signed()),
    "not signed by the vendor": another_vendors(),
    "for another product": signed(product_number=2),
    "has ended": signed(last_day=TODAY - 1),
    "locked to another server": signed(lock=SIGNED_ELSEWHERE),
}


@pytest.mark.parametrize("reason", FAKES)
def test_a_fake_server_is_refused(reason: str, open_with: Open) -> None:
    """A server that cannot show a serial of the vendor's for itself grants nothing."""
    with pytest.raises(InvalidLicense, match=reason) as error:
        open_with(FAKES[reason])
    assert error.value.code == "not_genuine"


def test_a_seat_that_was_taken_for_a_serial_that_is_none_goes_back(server: FakeServer, open_with: Open) -> None:
    """When the program hears of the refusal, the seat that the attempt has taken is free again."""
    with pytest.raises(InvalidLicense):
        open_with(FAKES["not signed by the vendor"])
    assert server.used("ATIES") == 0
    assert len(server.requests_for("release")) == 1


def test_a_seat_that_was_held_before_stays(server: FakeServer, open_with: Open, tmp_path: Path) -> None:
    """Another program of the computer may live on it; a program that doubts its serial takes nothing away."""
    with LicensedComponent("ATIES", "agent", server=server.address, client_dir=tmp_path):
        with pytest.raises(InvalidLicense):
            open_with(FAKES["not signed by the vendor"])
        assert server.used("ATIES") == 1
    assert server.requests_for("release") == []


def test_a_server_that_takes_no_seat_back_is_refused_all_the_same(
    server: FakeServer, open_with: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is the serial's, and what became of the seat is in the log."""
    server.refuse("not_holder", "Another key holds it.", operation="release")
    with pytest.raises(InvalidLicense) as error:
        open_with(FAKES["not signed by the vendor"])
    assert error.value.code == "not_genuine"
    assert "was not given back: Another key holds it." in caplog.text


def test_a_serial_without_a_lock_can_be_refused(open_with: Open) -> None:
    """requires_lock refuses the serial that any server could show."""
    with pytest.raises(InvalidLicense, match="not locked to this server"):
        open_with(signed(), requires_lock=True)


def test_a_server_that_says_not_counted_shows_no_serial(server: FakeServer, open_with: Open) -> None:
    """A fake server cannot get round the serial by calling the component free."""
    server.components["agent"] = FakeComponent(licensed=False)
    with pytest.raises(InvalidLicense, match="shows no serial"):
        open_with(signed())


def test_a_lease_of_another_product_is_refused(server: FakeServer, tmp_path: Path) -> None:
    """A serial of one product is none for another, even if the server calls the product by the other's name."""
    server.seats["ATIW"] = 10
    server.serials["ATIW"] = signed()
    component = LicensedComponent("ATIW", "agent", server=server.address, client_dir=tmp_path, vendor_key=VENDOR_PUBLIC)
    with pytest.raises(InvalidLicense, match="for another product"):
        component.open()


def test_every_heartbeat_is_checked(server: FakeServer, open_with: Open) -> None:
    """A server that shows a genuine serial first and another one later takes the license away by that."""
    lost: SimpleQueue[InvalidLicense] = SimpleQueue()
    component = open_with(signed(), on_lost=lost.put)
    assert component.is_held
    server.serials["ATIES"] = FAKES["not signed by the vendor"]
    assert lost.get(timeout=WAIT_S).code == "not_genuine"
    assert not component.is_held


def test_the_lock_is_held_against_the_connection(server: FakeServer, open_with: Open) -> None:
    """A serial that is locked to the server is worth nothing on another that copied it."""
    text = signed(lock=serial.lock_of(server.key))
    assert open_with(text).is_held
    with FakeServer({"ATIES": 10}, serials={"ATIES": text}) as copycat, pytest.raises(InvalidLicense) as error:
        open_with(text, server=copycat.address)
    assert error.value.code == "not_genuine"


def test_vendor_key_and_private_key_belong_together() -> None:
    """The sample's public key is the one that verifies the sample's serials."""
    assert VENDOR_KEY.public_key().public_bytes_raw() == VENDOR_PUBLIC
