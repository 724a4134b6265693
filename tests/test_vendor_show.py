"""als-vendor show: what a serial says, for people and programs, however it was pasted."""

import json
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from als import serial, vendorkeys
from serial_samples import ISSUER, KNOWN, KNOWN_TEXT, VENDOR_PUBLIC, mistype
from vendor_run import CATALOG, Run, issue, refused, runner


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run als-vendor, its keys in tmp_path/keys."""
    return runner(tmp_path, monkeypatch, capsys)


def test_show_for_people(run: Run) -> None:
    """Every field has its line, in words."""
    run("init")
    (text,) = issue(run, "--trial-days", 30, "--until", "2027-12-31")
    result = run("show", text)
    assert result.code == 0
    for words in (
        "Acronis True Image Enterprise Server (ATIES, number 1)",
        serial.short_id("ATIES", serial.decode(serial.read(text)).serial_id),
        "licenses    5\n",
        "2027-12-31",
        "yes, 30 days from the first import",
        "no server",
        "valid, of the vendor vendor",
        text,
    ):
        assert words in result.out


def test_show_reads_what_people_paste(run: Run, tmp_path: Path) -> None:
    """In lower case, with blanks, as one argument or many, the serial is the same."""
    wanted = run("show", KNOWN_TEXT).out
    assert KNOWN_TEXT in wanted
    assert run("show", KNOWN_TEXT.lower()).out == wanted
    assert run("show", *KNOWN_TEXT.split("-")).out == wanted
    assert run("show", KNOWN_TEXT.replace("-", "\n")).out == wanted


def test_show_for_programs(run: Run, tmp_path: Path) -> None:
    """--json has one key a field, the signature's among them; --plain one line a field."""
    pub = tmp_path / "acme.pub"
    vendorkeys.write(pub, VENDOR_PUBLIC)
    document = json.loads(run("show", KNOWN_TEXT, "--json", "--pub", pub).out)
    assert document == {
        "serial_id": serial.short_id("ATIES", KNOWN.serial_id),
        "product": "ATIES",
        "product_name": "Acronis True Image Enterprise Server",
        "product_number": 1,
        "seats": 100,
        "last_day": None,
        "expires_at": None,
        "trial": False,
        "trial_days": None,
        "lock": None,
        "issuer": ISSUER.hex(),
        "serial": KNOWN_TEXT,
        "signature": "valid",
        "vendor": "acme",
    }
    lines = dict(line.split("\t") for line in run("show", KNOWN_TEXT, "--plain", "--pub", pub).out.splitlines())
    assert list(lines) == list(document)
    assert (lines["last_day"], lines["trial"], lines["signature"]) == ("", "false", "valid")


def test_show_tells_whose_signature_it_is(run: Run, tmp_path: Path) -> None:
    """valid, forged (exit code 1), of an unknown vendor, or not checked when there is no key to check with."""
    assert json.loads(run("show", KNOWN_TEXT, "--json").out)["signature"] == "not_checked"
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    vendorkeys.write(tmp_path / "other.pub", other)
    vendorkeys.write(tmp_path / "acme.pub", VENDOR_PUBLIC)
    shown = run("show", KNOWN_TEXT, "--json", "--pub", tmp_path / "other.pub")
    assert (shown.code, json.loads(shown.out)["signature"]) == (1, "unknown_vendor")
    assert shown.err.startswith("als-vendor: unknown_vendor: ")
    shown = run("show", KNOWN_TEXT, "--json", "--pub", tmp_path / "other.pub", "--vendor-key", tmp_path / "acme.pub")
    assert json.loads(shown.out)["vendor"] == "acme"
    raw = bytearray(serial.read(KNOWN_TEXT))
    raw[7] += 1  # one more seat
    forged = serial.write(bytes(raw[:96]) + zlib.crc32(raw[:96]).to_bytes(4, "big"))
    shown = run("show", forged, "--json", "--pub", tmp_path / "acme.pub")
    assert (shown.code, json.loads(shown.out)["signature"]) == (1, "forged")
    assert shown.err.startswith("als-vendor: forged: ")


def test_show_of_what_is_no_serial(run: Run) -> None:
    """Mistyped and unsupported ones are refused with the word that an import would give, and the reason."""
    refused(run("show", mistype(KNOWN_TEXT)), 1, "mistyped: The serial has a wrong letter or digit")
    refused(run("show", KNOWN_TEXT[:-1]), 1, "mistyped: The serial has 159")
    raw = b"\x02" + serial.read(KNOWN_TEXT)[1:96]
    refused(run("show", serial.write(raw + zlib.crc32(raw).to_bytes(4, "big"))), 1, "unsupported: ")
    refused(run("show", "\x1b[2J"), 1, "mistyped: ")


def test_show_of_a_product_in_no_catalog(run: Run, tmp_path: Path) -> None:
    """The number is shown, and with the right catalog the name."""
    run("init")
    file = tmp_path / "acme.toml"
    file.write_text(CATALOG)
    text = run("issue", "--product", "PAINT", "--seats", 2, "--catalog", file).out.strip()
    assert "number 700, in no catalog here" in run("show", text).out
    assert "Paint (PAINT, number 700)" in run("show", text, "--catalog", file).out
