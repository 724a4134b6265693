"""Serials in texts: every good one is found on its line, every bad one is named, and nothing else is."""

import base64
import cProfile
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from als import clock, serial, serialtext
from als.serialtext import decode_file, find
from serial_samples import KNOWN_TEXT, make_text, mistype

ONE, TWO, THREE = (make_text(number) for number in range(3))
BAD = mistype(make_text(3))
GROUPS = make_text(3).split("-")


def rows(text: str) -> list[tuple[int, str | None]]:
    """Give line and serial of all that is found."""
    return [(found.line, found.text) for found in find(text)]


def wrapped(text: str, width: int, end: str = "\n", start: str = "") -> str:
    """Break a text into lines as mail programs do."""
    return end.join(start + text[at : at + width] for at in range(0, len(text), width))


# Ways in which the same serial is written.

STYLES: dict[str, Callable[[str], str]] = {
    "as a vendor writes it": lambda text: text,
    "lower case": str.lower,
    "blanks": lambda text: text.replace("-", " "),
    "nothing between": lambda text: text.replace("-", ""),
    "O, I and L": lambda text: text.replace("0", "O").replace("1", "l"),
    "wrapped at 76": lambda text: wrapped(text, 76),
    "wrapped at 72 behind hyphens": lambda text: wrapped(text, 72),
    "wrapped with CRLF": lambda text: wrapped(text, 60, "\r\n"),
    "wrapped and quoted": lambda text: wrapped(text, 70, start="> "),
    "wrapped and quoted three times": lambda text: wrapped(text, 70, start=">>> "),
    "wrapped and quoted with blanks": lambda text: wrapped(text, 70, start="> > > "),
    "quoted-printable": lambda text: wrapped(text, 75, "=\n"),
    "quoted-printable with CRLF": lambda text: wrapped(text, 75, "=\r\n"),
    "blank at the end of lines": lambda text: wrapped(text, 63, " \n"),
    "indented": lambda text: wrapped(text, 63, "\n    "),
    "a group on each line": lambda text: text.replace("-", "\n"),
    "a group and hyphen on each line": lambda text: text.replace("-", "-\n"),
    "typographic hyphens": lambda text: text.replace("-", "\u2011"),
    "hard blanks": lambda text: text.replace("-", "\u00a0"),
}


@pytest.mark.parametrize("style", STYLES)
def test_serial_is_found_in_any_style(style: str) -> None:
    """However a mail program or a person writes it, it is the same serial on its first line."""
    text = "Hello,\n\nhere it is:\n\n" + STYLES[style](ONE) + "\n\nKind regards, 20 licenses\n"
    assert rows(text) == [(5, ONE)]


@pytest.mark.parametrize("style", STYLES)
def test_neighbors_are_told_apart_in_any_style(style: str) -> None:
    """Serials on adjacent lines, a mistyped one among them, are four serials: three good, one bad."""
    written = [STYLES[style](text) for text in (ONE, BAD, TWO, THREE)]
    found = rows("\n".join(written))
    assert [text for _, text in found] == [ONE, None, TWO, THREE]
    lines = [1 + sum(text.count("\n") + 1 for text in written[:number]) for number in range(4)]
    assert [line for line, _ in found] == lines


# Whole texts.


def test_one_serial_a_line() -> None:
    """Line by line, with blank lines and comments among them, which are skipped."""
    text = f"# bought in May: {THREE}\n\n{ONE}\n   # and these\n{TWO}\n\t#{THREE}\n#\n"
    assert rows(text) == [(3, ONE), (5, TWO)]


def test_number_sign_within_a_line_is_no_comment() -> None:
    """A serial behind "Serial #" is one, and what stands behind a serial does not matter."""
    assert rows(f"Serial #{ONE}\nNo. # {TWO} # for the lab\n") == [(1, ONE), (2, TWO)]


def test_cells_of_a_table() -> None:
    """CSV with commas, semicolons, quotes or tabs, with a heading and with bad cells among good ones."""
    text = (
        "product,serial,seats\r\n"
        f'ATIES,"{ONE}",10\r\n'
        f"ATIW,{BAD},20\r\n"
        f"4;{TWO};30\r\n"
        f"APEC\t{BAD.lower()}\t40\t{THREE}\r\n"
        f"{ONE},{BAD},{TWO}\r\n"
        f"100,{ONE}\r\n"
    )
    expected = [(2, ONE), (3, None), (4, TWO), (5, None), (5, THREE), (6, ONE), (6, None), (6, TWO), (7, ONE)]
    assert rows(text) == expected


def test_several_on_a_line() -> None:
    """Serials with a space between them are told apart, mistyped ones too."""
    assert rows(f"{ONE} {TWO} {BAD} {THREE}") == [(1, ONE), (1, TWO), (1, None), (1, THREE)]


def test_mail() -> None:
    """A mail as it is saved: headers, quoted-printable, a quoted answer, a signature."""
    soft = wrapped(f"Serial=3D{ONE} (30 seats), thank you for ordering at our shop, see you again", 75, "=\r\n")
    text = (
        "From: sales@example.com\r\nDate: Mon, 04 May 2026 10:00:00 +0200\r\n"
        "Message-ID: <04f7c2a1-1234-4abc-8def-0123456789ab@example.com>\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        f"{soft}\r\n\r\n> On 04 May 2026 at 09:12 you wrote:\r\n> our second serial is\r\n"
        f"{wrapped(TWO, 70, chr(10), '> ')}\r\n> 04 12 34 56 78\r\n> 04 23 45 67 89\r\n-- \r\nSales\r\n"
    )
    assert rows(text) == [(7, ONE), (14, TWO)]


def test_prose_around_a_serial_does_not_matter() -> None:
    """Words and numbers before and after, with nothing but a space or a line break between them."""
    text = f"your serial {ONE} is good for 100 seats\n2027 {TWO} 2028\n{THREE}\n12345678 is our phone"
    assert rows(text) == [(1, ONE), (2, TWO), (3, THREE)]


def test_prefix_with_a_hyphen_does_not_matter() -> None:
    """ "SN-" before a serial is no part of it."""
    assert rows(f"SN-{ONE}\nAPEC-{TWO}") == [(1, ONE), (2, TWO)]


def test_text_without_serials() -> None:
    """Prose, dates, phone numbers, hashes, UUIDs, base64 and file names are not taken for mistyped serials."""
    noise = base64.encodebytes(random.Random(7).randbytes(60_000)).decode()
    text = (
        "04 May 2026 the meeting about software licenses is at ten in the computer laboratory\n"
        "0400 hours is too early for the security software and database training of employees\n"
        "04 12 34 56 78\n04 23 45 67 89\n04012026 04022026 04032026 04042026\n20260401 20260402 20260403\n"
        "04f7c2a1-1234-4abc-8def-0123456789ab 04d41d8cd98f00b204e9800998ecf842\n"
        "04-introduction-to-licensing-for-everybody.pdf\n0400-0500-0600-0700\n"
        "DEADBEEF 00112233 44556677 8899AABB CCDDEEFF\nABCDE-12345-FGHJK-67890-LMNOP\n"
        "WKST0001\nWKST0002\nWKST0003\nWKST0004\n04:00:27:AB:CD:EF\n04-00-27-AB-CD-EF\n"
    )
    assert rows(text + noise) == []
    assert rows("") == rows("\n\n\n") == rows("-" * 1000) == rows("#" * 1000) == []


# Mistyped ones.

MISTYPED = {
    "a wrong symbol": BAD,
    "the first symbol wrong": "D" + make_text(3)[1:],
    "the second symbol wrong": make_text(3)[0] + "5" + make_text(3)[2:],
    "the first symbol lost": make_text(3)[1:],
    "a symbol lost": make_text(3)[:100] + make_text(3)[101:],
    "a symbol too many": make_text(3)[:100] + "7" + make_text(3)[100:],
    "the last symbol lost": make_text(3)[:-1],
    "a symbol more at the end": make_text(3) + "0",
    "a group lost": "-".join(GROUPS[:7] + GROUPS[8:]),
    "the first group lost": "-".join(GROUPS[1:]),
    "the last group lost": "-".join(GROUPS[:-1]),
    "a group twice": "-".join(GROUPS[:8] + GROUPS[7:]),
    "the first group twice": "-".join(GROUPS[:1] + GROUPS),
    "the last group twice": "-".join(GROUPS + GROUPS[-1:]),
    "two groups exchanged": "-".join([*GROUPS[:5], GROUPS[6], GROUPS[5], *GROUPS[7:]]),
    "cut to 20 symbols": make_text(3).replace("-", "")[:20],
    "cut to three groups": "-".join(GROUPS[:3]),
    "cut to 11 groups": "-".join(GROUPS[:11]),
    "a U in it": make_text(3)[:60] + "U" + make_text(3)[61:],
    "a question mark in it": make_text(3)[:60] + "?" + make_text(3)[61:],
    "a question mark in the first group": make_text(3)[:3] + "?" + make_text(3)[4:],
    "solid, the first symbol wrong": "D" + make_text(3).replace("-", "")[1:],
    "solid, a symbol lost": make_text(3).replace("-", "")[1:],
    "blanks, a wrong symbol": BAD.replace("-", " "),
    "blanks, a group lost": " ".join(GROUPS[:7] + GROUPS[8:]),
}


@pytest.mark.parametrize("what", MISTYPED)
def test_mistyped_serial_is_named_once(what: str) -> None:
    """A bad serial between good ones is one row with its line, and hides none of them."""
    assert rows(f"{ONE}\n{MISTYPED[what]}\n{TWO}\n") == [(1, ONE), (2, None), (3, TWO)]


@pytest.mark.parametrize("what", MISTYPED)
def test_mistyped_serials_in_a_row_are_named_one_by_one(what: str) -> None:
    """Of two equal bad lines each is named."""
    assert rows(f"{MISTYPED[what]}\n{MISTYPED[what]}\n") == [(1, None), (2, None)]


@pytest.mark.parametrize("what", MISTYPED)
def test_token_tells_what_is_wrong(what: str) -> None:
    """The token of a mistyped serial is what stands in the text, so that reading it gives the reason."""
    found = list(find(f"{ONE}\n{MISTYPED[what]}\nThank you.\n"))
    assert [item.text for item in found] == [ONE, None]
    with pytest.raises(serial.SerialError):
        serial.read(found[1].token)
    assert found[1].token in MISTYPED[what]


def test_short_tokens_may_be_anything() -> None:
    """What begins like a serial and has fewer than 20 symbols is passed over."""
    symbols = make_text(3).replace("-", "")
    assert rows(symbols[:19]) == []
    assert rows(symbols[:20]) == [(1, None)]


def test_mistyped_serial_in_a_mail_is_named_at_its_first_line() -> None:
    """Wrapped and quoted over three lines, a bad serial is still one, on the first of them."""
    text = f"Hello,\n{wrapped(BAD, 70, chr(10), '> ')}\n> {ONE}\n"
    assert rows(text) == [(2, None), (5, ONE)]


def test_serials_of_other_formats_are_found() -> None:
    """A serial of a later format with a right CRC is no typing error; what it is worth the server says."""
    raw = bytearray(serial.read(ONE))
    raw[0] = 9
    later = serial.write(bytes(raw[:96]) + zlib.crc32(raw[:96]).to_bytes(4, "big"))
    assert rows(later) == [(1, later)]


def test_the_same_serial_twice_is_found_twice() -> None:
    """Whether it is already there is for the server to say, line by line."""
    assert rows(f"{ONE}\n{ONE.lower()}\n") == [(1, ONE), (2, ONE)]


# Random texts.

PIECES = st.one_of(
    st.sampled_from([ONE, TWO, BAD, ONE[:50], GROUPS[0], KNOWN_TEXT.lower()]),
    st.text(alphabet="04aOlUZ-= >#\t\r\n,;", max_size=40),
    st.text(max_size=20),
)


@given(st.lists(PIECES, max_size=12))
@settings(max_examples=300)
def test_any_text_is_searched_to_its_end(pieces: list[str]) -> None:
    """No text makes the search fail; lines never go back; what is found as good is good."""
    text = "".join(pieces)
    last = 1
    for found in find(text):
        assert last <= found.line <= text.count("\n") + text.count("\r") + 1
        last = found.line
        assert found.token
        if found.text is not None:
            serial.read(found.text)


NUMBERED = [make_text(number) for number in range(8)]


@given(
    st.lists(st.tuples(st.sampled_from(NUMBERED), st.sampled_from(sorted(STYLES)), st.booleans()), max_size=8),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n# note\n", ",", ";", "\t", "\n--\n"]),
)
@settings(max_examples=200)
def test_good_serials_are_found_whatever_stands_among_them(items: list[tuple[str, str, bool]], separator: str) -> None:
    """In any mixture of styles, with bad serials among them, exactly the good ones are found, in their order."""
    text = separator.join(STYLES[style](mistype(one) if is_bad else one) for one, style, is_bad in items)
    good = [one for one, _, is_bad in items if not is_bad]
    assert [found.text for found in find(text) if found.text] == good


@given(st.binary(max_size=300))
def test_any_file_is_a_text(data: bytes) -> None:
    """Whatever bytes a file holds, they are decoded and searched."""
    assert list(find(decode_file(data))) == []


HOSTILE = {
    "one letter words": "a ",
    "beginnings of serials": "04 ",
    "beginnings with hyphens": "04-",
    "beginnings on lines": "04\n",
    "one digit on a line": "1\n",
    "soft breaks": "0=\n",
    "groups": "0A000000 ",
    "groups on lines": "0A000000\n",
    "dates": "20260101 ",
    "blanks": " ",
    "tabs": "\t",
    "quotes": ">",
    "quoted lines": "\n>",
    "hyphens": "-",
    "comments": "#\n",
    "number signs": "#",
    "zeros": "0",
    "mistyped": BAD + " ",
    "good": ONE + "\n",
}


def calls_of_search(text: str) -> int:
    """Search a text and count the calls of functions that it takes, which no busy machine changes."""
    profile = cProfile.Profile()
    profile.enable()
    try:
        for _ in find(text):
            pass
    finally:
        profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("what", HOSTILE)
def test_work_grows_with_the_length_alone(what: str) -> None:
    """Four times the text takes about four times the work, never sixteen times; ended like a serial or not."""
    for end in ("", "0", " A1G45678-A1G45678-A1G45678", " A1G45678 A1G45678 A1G45678", "\t\n>" + ONE):
        short, long = ((HOSTILE[what] * count)[:count] + end for count in (4_000, 16_000))
        assert calls_of_search(long) < 6 * calls_of_search(short) + 1_000, end


@pytest.mark.parametrize(
    "what", [" ", "\t", ">", "\n>", "-", "#", "0", "\t\n", "=\n", "- ", "\r", "a", "4\t\t\t", ",0"]
)
def test_no_pattern_is_matched_again_and_again(what: str) -> None:
    """300,000 characters of what patterns repeat are searched in seconds; looking twice at each would take hours."""
    started = clock.monotonic_s()
    repeated = what * (300_000 // len(what))
    for text in (repeated, f"0{repeated}0", f"{BAD}{repeated}", f"{repeated}{BAD}"):
        list(find(text))
    assert clock.monotonic_s() - started < 20


def test_long_lists_are_given_out_as_they_are_read() -> None:
    """The first serial of a list comes before the last one is looked at, however long the list is."""
    text = "\n".join([ONE, TWO] * 5_000)
    started = clock.monotonic_s()
    assert next(find(text)).text == ONE
    first_s = clock.monotonic_s() - started
    assert rows(text) == [(line + 1, (ONE, TWO)[line % 2]) for line in range(10_000)]
    assert first_s < (clock.monotonic_s() - started) / 4


# Files.


@pytest.mark.parametrize(
    "data",
    [
        f"{ONE}\r\n{TWO}\r\n".encode(),
        f"{ONE}\r\n{TWO}\r\n".encode("utf-8-sig"),
        f"{ONE}\r\n{TWO}\r\n".encode("utf-16"),
        b"\xff\xfe" + f"{ONE}\r\n{TWO}\r\n".encode("utf-16-le"),
        b"\xfe\xff" + f"{ONE}\r\n{TWO}\r\n".encode("utf-16-be"),
        f"{ONE} f\xfcr M\xfcller\n{TWO}\n".encode("latin-1"),
        f"{ONE} f\xfcr M\xfcller\n{TWO}\n".encode(),
        f"{ONE}\r{TWO}\r".encode(),
    ],
)
def test_files_in_any_encoding(data: bytes) -> None:
    """UTF-8 with and without mark, UTF-16 in both orders, and Latin-1 are read; every line end counts as one."""
    assert rows(decode_file(data)) == [(1, ONE), (2, TWO)]


def test_damaged_utf_16_is_read_as_far_as_it_goes() -> None:
    """A UTF-16 file that is cut in the middle of a character gives what is whole."""
    data = f"{ONE}\n{TWO}".encode("utf-16") + b"\x00"
    assert rows(decode_file(data)) == [(1, ONE), (2, TWO)]


def test_tokens_are_cut() -> None:
    """A mistyped token of a megabyte is shown by its beginning."""
    found = list(find("04" + "0" * 1_000_000))
    assert [(item.line, item.text) for item in found] == [(1, None)]
    assert len(found[0].token) == serialtext.TOKEN_CHARS_MAX
