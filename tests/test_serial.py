"""Serial numbers: their bytes as the protocol's table has them, their text, their signature, their end."""

import subprocess
import sys
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from als import crockford, serial
from als.serial import Serial, SerialError
from serial_samples import ISSUER, KNOWN, KNOWN_TEXT, VENDOR_KEY, VENDOR_PUBLIC

KNOWN_RAW = serial.sign(KNOWN, VENDOR_KEY)

SERIALS = st.builds(
    Serial,
    product_number=st.integers(0, 0xFFFF),
    seats=st.integers(1, 1_000_000),
    serial_id=st.integers(0, 2**64 - 1),
    last_day=st.integers(0, 0xFFFF),
    trial_days=st.integers(0, 0xFFFF),
    issuer=st.just(ISSUER),
    lock=st.binary(min_size=10, max_size=10),
    trial=st.booleans(),
)


def with_crc(body: bytes) -> bytes:
    """Put the right CRC behind 96 bytes."""
    return body + zlib.crc32(body).to_bytes(4, "big")


def changed(at: int, value: bytes) -> bytes:
    """Give the known serial with other bytes at `at`, its CRC made right again."""
    return with_crc(KNOWN_RAW[:at] + value + KNOWN_RAW[at + len(value) : 96])


def with_field(field: str, value: Any) -> Serial:
    """Give the known serial's fields with another value in one of them."""
    changes = {field: value}
    return replace(KNOWN, **changes)


def result_of(text: str) -> str:
    """Read and decode a text and give the result of its SerialError."""
    with pytest.raises(SerialError) as caught:
        serial.decode(serial.read(text))
    return caught.value.result


# The text.


def test_known_serial_is_written_as_ever() -> None:
    """The same key and fields give the same 179 characters, today and in ten years."""
    assert serial.write(KNOWN_RAW) == KNOWN_TEXT


def test_known_text_is_read_as_ever() -> None:
    """A serial that was sold once stays readable, with every field."""
    raw = serial.read(KNOWN_TEXT)
    assert serial.decode(raw) == KNOWN
    assert serial.verify(raw, VENDOR_PUBLIC)


def test_text_is_20_groups_of_8() -> None:
    """160 symbols in groups of 8 with hyphens between them."""
    groups = KNOWN_TEXT.split("-")
    assert [len(group) for group in groups] == [8] * 20


@given(st.binary(min_size=100, max_size=100))
def test_100_bytes_come_back_from_their_text(data: bytes) -> None:
    """Whatever the bytes are, writing and reading gives them back when the CRC is right."""
    raw = with_crc(data[:96])
    assert serial.read(serial.write(raw)) == raw


@pytest.mark.parametrize(
    "text",
    [
        KNOWN_TEXT.lower(),
        KNOWN_TEXT.replace("-", ""),
        KNOWN_TEXT.replace("-", " "),
        KNOWN_TEXT.replace("-", "\n"),
        KNOWN_TEXT.replace("-", "\r\n"),
        KNOWN_TEXT.replace("-", "=\n> "),
        KNOWN_TEXT.replace("-", "-\n"),
        KNOWN_TEXT.replace("-", "\n-"),
        KNOWN_TEXT.replace("-", "\u2011"),
        KNOWN_TEXT.replace("-", "\u00a0"),
        KNOWN_TEXT.replace("0", "O"),
        KNOWN_TEXT.replace("0", "o").replace("1", "l"),
        KNOWN_TEXT.replace("1", "I"),
        KNOWN_TEXT.replace("1", "L").replace("1", "i"),
        f"\n  {KNOWN_TEXT}\t\n",
    ],
)
def test_reading_is_lenient(text: str) -> None:
    """Case, O for 0, I and L for 1, and single hyphens, spaces or line breaks make no difference."""
    assert serial.read(text) == KNOWN_RAW


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 letters and digits"),
        (KNOWN_TEXT[:-1], "has 159 letters and digits"),
        (KNOWN_TEXT + "0", "has 161 letters and digits"),
        (KNOWN_TEXT.replace("-", "--", 1), "holds '-'"),
        (KNOWN_TEXT.replace("-", "  ", 1), "holds ' '"),
        (KNOWN_TEXT.replace("-", "\n\n", 1), "holds '\\n'"),
        (KNOWN_TEXT.replace("8", "U", 1), "holds 'U'"),
        (KNOWN_TEXT.replace("8", "_", 1), "holds '_'"),
        (KNOWN_TEXT.replace("1", "\u0131", 1), "holds '\u0131'"),  # upper() would make it an I
        (KNOWN_TEXT.replace("0", "\u0660", 1), "holds '\u0660'"),  # int() would read it as a 0
        (KNOWN_TEXT.replace("8", "9", 1), "wrong letter or digit"),
    ],
)
def test_mistyped_text_says_why(text: str, reason: str) -> None:
    """A text that is no serial is mistyped, and the sentence says what is wrong with it."""
    with pytest.raises(SerialError, match="The serial") as caught:
        serial.read(text)
    assert caught.value.result == "mistyped"
    assert reason in str(caught.value)


@given(st.integers(0, 159), st.sampled_from(crockford.SYMBOLS))
def test_every_single_wrong_symbol_is_seen(at: int, symbol: str) -> None:
    """No exchange of one symbol by another goes unnoticed."""
    symbols = KNOWN_TEXT.replace("-", "")
    text = symbols[:at] + symbol + symbols[at + 1 :]
    if text == symbols:
        assert serial.read(text) == KNOWN_RAW
    else:
        assert result_of(text) == "mistyped"


@given(st.integers(0, 158))
def test_every_swap_of_neighbors_is_seen(at: int) -> None:
    """Two symbols typed in the wrong order are noticed."""
    symbols = KNOWN_TEXT.replace("-", "")
    text = symbols[:at] + symbols[at + 1] + symbols[at] + symbols[at + 2 :]
    if text != symbols:
        assert result_of(text) == "mistyped"


@given(st.text(max_size=400))
def test_reading_any_text_gives_bytes_or_a_serial_error(text: str) -> None:
    """Nothing that somebody types makes reading fail in another way."""
    with pytest.raises(SerialError):
        serial.read(text)


# The bytes.


def test_bytes_lie_as_the_protocol_has_them() -> None:
    """Each field stands at its place in the protocol's table, big-endian."""
    content = Serial(0x1234, 0x000A0B0C, 0x1122334455667788, 0x9ABC, 0xDEF0, b"IS", b"LOCKLOCKLO", True)
    raw = serial.sign(content, VENDOR_KEY)
    assert raw[:32].hex(" ") == (
        "01 01 12 34 00 0a 0b 0c 11 22 33 44 55 66 77 88 9a bc de f0 49 53 4c 4f 43 4b 4c 4f 43 4b 4c 4f"
    )
    VENDOR_KEY.public_key().verify(raw[32:96], b"ALS-SERIAL-1" + raw[:32])
    assert raw[96:] == zlib.crc32(raw[:96]).to_bytes(4, "big")
    assert len(raw) == 100


@given(SERIALS)
def test_fields_come_back_from_the_text(content: Serial) -> None:
    """Whatever a vendor puts into a serial, it is read again, and the signature holds."""
    raw = serial.read(serial.write(serial.sign(content, VENDOR_KEY)))
    assert serial.decode(raw) == content
    assert serial.verify(raw, VENDOR_PUBLIC)


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("product_number", 0, 65_535),
        ("seats", 1, 1_000_000),
        ("serial_id", 0, 2**64 - 1),
        ("last_day", 0, 65_535),
        ("trial_days", 0, 65_535),
    ],
)
def test_bounds_of_numbers(field: str, least: int, most: int) -> None:
    """The least and the greatest value of each field can be sold; one beyond is a ValueError that names it."""
    for value in (least, most):
        content = with_field(field, value)
        assert serial.decode(serial.sign(content, VENDOR_KEY)) == content
    for value in (least - 1, most + 1):
        with pytest.raises(ValueError, match=field):
            serial.sign(with_field(field, value), VENDOR_KEY)


@pytest.mark.parametrize(("field", "size"), [("issuer", 2), ("lock", 10)])
def test_bounds_of_bytes(field: str, size: int) -> None:
    """An issuer has 2 bytes and a lock 10, else signing is a ValueError that names it."""
    for wrong in (b"", bytes(size - 1), bytes(size + 1)):
        with pytest.raises(ValueError, match=field):
            serial.sign(with_field(field, wrong), VENDOR_KEY)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"\x00"),
        (0, b"\x02"),
        (0, b"\xff"),
        *((1, bytes([1 << bit])) for bit in range(1, 8)),
        (1, b"\x03"),
        (4, bytes(4)),
        (4, (1_000_001).to_bytes(4, "big")),
        (4, b"\xff\xff\xff\xff"),
    ],
)
def test_other_formats_flags_and_seats_are_unsupported(at: int, value: bytes) -> None:
    """Format 1, the trial flag, and 1 to 1,000,000 seats are supported, and nothing else."""
    assert result_of(serial.write(changed(at, value))) == "unsupported"


def test_symbols_and_crc_come_before_format() -> None:
    """A serial of an unknown format with a wrong symbol is mistyped, not unsupported."""
    text = serial.write(changed(0, b"\x07"))
    assert result_of(text) == "unsupported"
    assert result_of(text[:-1] + ("0" if text[-1] != "0" else "1")) == "mistyped"


# Signature and keys.


@given(st.integers(0, 95), st.integers(1, 255))
def test_every_changed_byte_breaks_the_signature(at: int, difference: int) -> None:
    """Whoever changes fields or signature and makes the CRC right again has forged nothing."""
    raw = changed(at, bytes([KNOWN_RAW[at] ^ difference]))
    assert not serial.verify(raw, VENDOR_PUBLIC)


def test_another_vendors_key_does_not_fit() -> None:
    """A serial counts for the key that signed it alone."""
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    assert not serial.verify(KNOWN_RAW, other)


def test_signature_without_its_context_does_not_count() -> None:
    """Bytes that a vendor signed for another purpose are no serial."""
    body = KNOWN_RAW[:32] + VENDOR_KEY.sign(KNOWN_RAW[:32])
    assert not serial.verify(with_crc(body), VENDOR_PUBLIC)


def test_issuer_and_lock_are_the_beginnings_of_hashes() -> None:
    """Issuer: 2 bytes of SHA-256 of the vendor's key; lock: 10 bytes of that of the server's."""
    assert serial.issuer_of(VENDOR_PUBLIC) == sha256(VENDOR_PUBLIC).digest()[:2]
    assert serial.lock_of(bytes(32)) == sha256(bytes(32)).digest()[:10]
    assert bytes(10) == serial.NO_LOCK


def test_reading_serials_does_not_load_cryptography() -> None:
    """An agent's machine reads serials and short ids without the package `cryptography`."""
    program = (
        "import sys, als.serial as s;"
        f"s.decode(s.read('{KNOWN_TEXT}')); s.parse_short_id('ATIES-0000000000001');"
        "assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# The end of a serial.


def seconds(year: int, month: int, day: int, hour: int = 0) -> int:
    """Give a time in UTC as seconds since 1970."""
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("last_day", "end"),
    [
        (0, None),
        (1, seconds(2000, 1, 3)),
        (366, seconds(2001, 1, 2)),  # 2000 was a leap year
        (9862, seconds(2027, 1, 2)),
        (65_535, seconds(2179, 6, 7)),
    ],
)
def test_last_day_is_good_to_its_end(last_day: int, end: int | None) -> None:
    """A serial ends with the first second of the day after its last day, in UTC."""
    assert serial.end_of_last_day(last_day) == end


@pytest.mark.parametrize(
    ("last_day", "trial_days", "end"),
    [
        (0, 0, None),
        (9862, 0, seconds(2027, 1, 2)),
        (0, 30, seconds(2026, 12, 31, 12)),
        (9862, 30, seconds(2026, 12, 31, 12)),
        (9862, 45, seconds(2027, 1, 2)),
    ],
)
def test_earlier_end_counts(last_day: int, trial_days: int, end: int | None) -> None:
    """A trial ends so many days after its first import to the second, or with its last day when that is earlier."""
    content = replace(KNOWN, last_day=last_day, trial_days=trial_days)
    assert serial.expires_at(content, seconds(2026, 12, 1, 12)) == end


# Short ids.


@pytest.mark.parametrize(
    ("serial_id", "text"),
    [
        (0, "ATIES-0000000000000"),
        (31, "ATIES-000000000000Z"),
        (32, "ATIES-0000000000010"),
        (2**64 - 1, "ATIES-FZZZZZZZZZZZZ"),
    ],
)
def test_short_id_has_13_symbols(serial_id: int, text: str) -> None:
    """A short id is the id as an integer of 65 bits, the first of them zero."""
    assert serial.short_id("ATIES", serial_id) == text
    assert serial.parse_short_id(text) == ("ATIES", serial_id)


@given(st.from_regex(r"[A-Za-z0-9-]{1,32}", fullmatch=True), st.integers(0, 2**64 - 1))
def test_short_ids_come_back(code: str, serial_id: int) -> None:
    """Codes with hyphens, and any id, are read again as they were, in any case of the symbols."""
    text = serial.short_id(code, serial_id)
    assert serial.parse_short_id(text) == (code, serial_id)
    assert serial.parse_short_id(f" {text[:-13]}{text[-13:].lower()} ") == (code, serial_id)


def test_short_id_is_read_leniently() -> None:
    """O stands for 0, I and L for 1, in any case; the product code is given back as it stands."""
    assert serial.parse_short_id("aTIES-oOiIlL0000001") == ("aTIES", serial.parse_short_id("X-0011110000001")[1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ATIES",
        "ATIES-",
        "0000000000001",
        "-0000000000001",
        "ATIES-000000000001",
        "ATIES-00000000000001-",
        "ATIES-G000000000000",
        "ATIES-000000000000U",
        "ATIES 0000000000001",
        "AT_IES-0000000000001",
        "A" * 33 + "-0000000000001",
        "ATIES-\u0660000000000001",
    ],
)
def test_wrong_short_ids_are_value_errors(text: str) -> None:
    """Anything else than a code, a hyphen and an id of 64 bits is a ValueError."""
    with pytest.raises(ValueError, match="serial id"):
        serial.parse_short_id(text)


# Crockford's symbols.


@given(st.binary(min_size=1, max_size=120))
def test_symbols_come_back_as_bytes(data: bytes) -> None:
    """Any number of bytes is read again from its symbols, which are as few as can be."""
    text = crockford.encode(data)
    assert len(text) == -(-len(data) * 8 // 5)
    assert crockford.decode(text) == data
    assert crockford.decode(text.lower()) == data


@pytest.mark.parametrize("text", ["", "0", "000", "Z0", "U0", "0 0", "0_0", "-0"])
def test_other_texts_are_no_symbols(text: str) -> None:
    """What the encoder never writes is a ValueError: other characters, lengths, or bits in front."""
    with pytest.raises(ValueError):
        crockford.decode(text)
