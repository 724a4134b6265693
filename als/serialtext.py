"""Serial numbers in any text: one a line, in a CSV cell, wrapped, quoted and surrounded by prose in a mail.

A serial is known by its CRC, so no bad neighbor can hide a good one; only what is left over is judged by
its looks, to name what was probably meant to be a serial. Knows nothing of what a serial grants, and reads
no file itself. Its time grows with the length of the text and with nothing else, whatever is in it.
"""

import codecs
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from als import crockford, serial

TOKEN_SYMBOLS_MIN = 20  # the protocol's: what is shorter may be anything
WHOLE_SYMBOLS_MIN = 150  # so much in one go is a serial of its own, not the rest of the one before
WHOLE_SYMBOLS_MAX = 170  # and more than so much is something else
HASH_SYMBOLS = 32  # the shortest hash or UUID in hexadecimal
HEAD_DIGITS_MIN = 4  # of the first 20 symbols: a serial has at least 7 there, a file name seldom more than 2
WHOLE_DIGITS_MIN = 20  # of 160 symbols: a serial has 50 on average, prose hardly any
RUN_WORDS_MIN = 2_000  # from here on a run is cut when it can be, so that memory does not grow with the list
TOKEN_CHARS_MAX = 512  # enough to say what is wrong with it

_COMMENT = re.compile(r"^[ \t]*+#[^\n]*+", re.MULTILINE)
_WORD = re.compile(r"(?<==)3[Dd]|[0-9A-Za-z]++")  # =3D is an equals sign in a mail's quoted-printable text
_is_wrong_character = re.compile(r"[- ]?[^\s,;|\"'=-][- ]?").fullmatch  # and not the end of a table's cell
_WRONG_CHARS_MAX = 3  # the longest text that it matches
_is_separator = re.compile(serial.SEPARATOR).fullmatch
_are_symbols = re.compile(f"[{crockford.LENIENT}]*+").fullmatch
_NO_DIGITS = str.maketrans("", "", "0123456789")
_begins_like_serial = re.compile("[0Oo]4").match  # format 1 and none of the two highest flags

# How a word is joined to the one before it.
_START, _HYPHEN, _SPACE, _BREAK, _GLUED_BREAK = range(5)
_GLUE = (_HYPHEN, _GLUED_BREAK)  # words joined so are one chunk


class Found(NamedTuple):
    """A serial in a text, or what was meant to be one.

    `line` counts from 1 and is where it begins. `text` is the serial as a vendor writes it, None when it is
    mistyped. `token` is what stands in the text; of a mistyped one, serial.read(token) tells what is wrong.
    """

    line: int
    text: str | None
    token: str


def decode_file(data: bytes) -> str:
    """Read a file's bytes as text: UTF-8 or UTF-16 with their marks, UTF-8, else Latin-1. Never fails."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def find(text: str) -> Iterator[Found]:
    """Find every serial in `text` and every token that was probably meant to be one, in their order.

    Blank lines and lines that begin with # are skipped. Two serials need at least a space between them.
    """
    text = text.translate(serial.TYPOGRAPHY).replace("\r\n", "\n").replace("\r", "\n")
    text = _COMMENT.sub("#", text)
    line, counted, mistyped_end = 1, 0, -1
    for run in _runs(text):
        is_tail = _is_tail(text, mistyped_end, run)
        for first, last, raw in _tokens(run, is_tail):
            start, end = run.starts[first], run.ends[last - 1]
            if raw is None:
                mistyped_end = end
                if is_tail and first == 0:
                    continue
            line += text.count("\n", counted, start)
            counted = start
            canonical = None if raw is None else serial.write(raw)
            yield Found(line, canonical, text[start : min(end, start + TOKEN_CHARS_MAX)])


class _Run:
    """Words that could be parts of one serial, since nothing but separators lies between them.

    `symbols` are the words put together; word i begins at offsets[i] in them and at starts[i] in the text.
    """

    def __init__(self) -> None:
        self.starts = array("Q")
        self.ends = array("Q")
        self.joints = bytearray()
        self.offsets = array("Q", [0])
        self.symbols = ""

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int, joint: int) -> None:
        """Append the word at text[start:end]."""
        self.starts.append(start)
        self.ends.append(end)
        self.joints.append(joint)
        self.offsets.append(self.offsets[-1] + end - start)

    def word_at(self, offset: int) -> int | None:
        """Give the word that begins at `offset` in the symbols, len(self) at their end, None in mid-word."""
        index = bisect_left(self.offsets, offset)
        return index if index < len(self.offsets) and self.offsets[index] == offset else None

    def count(self, first: int, stop: int) -> int:
        """Count the symbols of the words first to stop - 1."""
        return self.offsets[stop] - self.offsets[first]

    def piece(self, first: int, symbols: int) -> str:
        """Give so many symbols, or all there are, from the word `first` on."""
        return self.symbols[self.offsets[first] : self.offsets[first] + symbols]

    def chunk(self, first: int, stop: int, symbols: int) -> str:
        """Give so many symbols, or all there are, from the word `first` on with what is glued to it."""
        last = first + 1
        while last < stop and self.joints[last] in _GLUE and self.count(first, last) < symbols:
            last += 1
        return self.piece(first, min(symbols, self.count(first, last)))


def _runs(text: str) -> Iterator[_Run]:
    """Cut `text` wherever something stands that is in no serial, and long lists now and then after a serial."""
    run = _Run()
    words: list[str] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        joint = _joint(text[run.ends[-1] : start]) if words else _START
        if joint is None or (joint == _BREAK and len(run) >= RUN_WORDS_MIN and _ends_with_serial(run, words)):
            run.symbols = "".join(words)
            yield run
            run, words, joint = _Run(), [], _START
        run.add(start, end, joint)
        words.append(match[0])
    if words:
        run.symbols = "".join(words)
        yield run


def _ends_with_serial(run: _Run, words: list[str]) -> bool:
    first = run.word_at(run.offsets[-1] - serial.SYMBOLS)
    return first is not None and serial.read_symbols("".join(words[first:])) is not None


def _joint(gap: str) -> int | None:
    """Say how `gap` joins two words, None when it parts them."""
    if gap == "-":
        return _HYPHEN
    if gap == " ":
        return _SPACE
    if not _is_separator(gap):
        return None
    return _GLUED_BREAK if "-" in gap or "=" in gap else _BREAK


_Token = tuple[int, int, bytes | None]
"""A token's first word, the word after its last, and its 100 bytes when it is a serial."""


def _tokens(run: _Run, is_tail: bool) -> Iterator[_Token]:
    """Give the serials of `run` and, between them, the mistyped tokens; a tail's first word is in one."""
    at = left_over = 0
    while at < len(run):
        last = run.word_at(run.offsets[at] + serial.SYMBOLS)
        raw = None if last is None else serial.read_symbols(run.piece(at, serial.SYMBOLS))
        if last is None or raw is None or _has_another_group(run, at, last):
            at += 1
            continue
        yield from _mistyped(run, left_over, at, is_tail)
        yield at, last, raw
        at = left_over = last
    yield from _mistyped(run, left_over, len(run), is_tail)


def _has_another_group(run: _Run, at: int, last: int) -> bool:
    """Say whether hyphens join a serial to more groups, so that it is none; a prefix ("SN-") is fine."""
    if last < len(run) and run.joints[last] == _HYPHEN:
        return True
    return run.joints[at] == _HYPHEN and run.count(at - 1, at) == serial.GROUP_SYMBOLS


# From here on: what looks like a serial and is none.


def _mistyped(run: _Run, first: int, stop: int, is_tail: bool) -> Iterator[_Token]:
    """Find what was meant to be a serial in the words first to stop - 1, none of which is in one."""
    at = first
    while at < stop:
        last = _end_of_whole(run, at, stop)
        if last is None and (_begins_token(run, at, stop) or (is_tail and at == 0)):
            last = _end_of_token(run, at, stop)
        elif last is None and _is_trio(run, at, stop):
            at = _first_group(run, first, at)
            last = _end_of_token(run, at, stop)
        if last is None:
            at += 1
            continue
        yield at, last, None
        at = first = last


def _end_of_whole(run: _Run, at: int, stop: int) -> int | None:
    """Give the end of exactly 160 symbols that fill whole lines and have a serial's digits, else None."""
    last = run.word_at(run.offsets[at] + serial.SYMBOLS)
    if last is None or last > stop or run.joints[at] not in (_START, _BREAK):
        return None
    if last < len(run) and run.joints[last] != _BREAK:
        return None
    symbols = run.piece(at, serial.SYMBOLS)
    if not _are_symbols(symbols) or _count_digits(symbols) < WHOLE_DIGITS_MIN:
        return None
    lines = (word for word in range(at + 1, last) if run.joints[word] == _BREAK)
    return None if any(_begins_token(run, word, stop) for word in lines) else last


def _begins_token(run: _Run, at: int, stop: int) -> bool:
    """Say whether a chunk of at least 20 symbols begins like a serial and is no hash, base64 or file name.

    A word of about a serial's length may begin in any way: its beginning may be what is wrong.
    """
    word_symbols = run.count(at, at + 1)
    if not _begins_like_serial(run.piece(at, 2)) and not WHOLE_SYMBOLS_MIN <= word_symbols <= WHOLE_SYMBOLS_MAX:
        return False
    head = run.chunk(at, stop, HASH_SYMBOLS)
    if len(head) < TOKEN_SYMBOLS_MIN or _is_hexadecimal(head):
        return False
    if word_symbols >= TOKEN_SYMBOLS_MIN:
        return head == head.upper() or head == head.lower()
    return _count_digits(head[:TOKEN_SYMBOLS_MIN]) >= HEAD_DIGITS_MIN


def _count_digits(symbols: str) -> int:
    return len(symbols) - len(symbols.translate(_NO_DIGITS))


def _is_hexadecimal(head: str) -> bool:
    """Say whether `head` is of a hash or UUID: hexadecimal alone, most of the six letters among it."""
    seen = set(head.lower())
    return len(head) == HASH_SYMBOLS and seen <= set("0123456789abcdef") and len(seen & set("abcdef")) >= 4


def _is_trio(run: _Run, at: int, stop: int) -> bool:
    """Say whether three groups of 8 stand here as a vendor writes them, each with letters and digits.

    This finds serials whose first symbols are wrong or lost. Dates, English and hex dumps are no such trio.
    """
    if at + 3 > stop or run.joints[at + 1] != run.joints[at + 2]:
        return False
    if run.joints[at + 1] not in (_HYPHEN, _SPACE):
        return False
    size = serial.GROUP_SYMBOLS
    if any(run.count(word, word + 1) != size for word in range(at, at + 3)):
        return False
    trio = run.piece(at, 3 * size)
    groups = [trio[:size], trio[size : 2 * size], trio[2 * size :]]
    mixed = all(not group.isdigit() and not group.isalpha() for group in groups)
    return mixed and sum(symbol.isalpha() for symbol in trio.lower() if symbol > "f") >= 2


def _first_group(run: _Run, first: int, at: int) -> int:
    """Go back from the group `at` to the first one of its serial, but not beyond the word `first`."""
    joint = run.joints[at + 1]
    size = serial.GROUP_SYMBOLS
    earliest = max(first, at - serial.SYMBOLS // size)
    while at > earliest and run.joints[at] == joint and abs(run.count(at - 1, at) - size) <= 1:
        at -= 1
    return at


def _end_of_token(run: _Run, first: int, stop: int) -> int:
    """Give the word after the last of the mistyped token that begins at `first`."""
    for at in range(first + 1, stop):
        if run.joints[at] in _GLUE:
            continue
        enough = WHOLE_SYMBOLS_MIN if run.joints[at] == _BREAK else serial.SYMBOLS
        if run.count(first, at) >= enough or _begins_token(run, at, stop) or not _continues_token(run, at, stop):
            return at
    return stop


def _continues_token(run: _Run, at: int, stop: int) -> bool:
    """Say whether what follows a space or line break can be the rest of a serial, no new one or prose."""
    if run.joints[at] == _BREAK and len(run.chunk(at, stop, WHOLE_SYMBOLS_MIN)) == WHOLE_SYMBOLS_MIN:
        return False
    is_group = abs(run.count(at, at + 1) - serial.GROUP_SYMBOLS) <= (run.joints[at] == _SPACE)
    return is_group or any(symbol.isdigit() for symbol in run.chunk(at, stop, 3 * serial.GROUP_SYMBOLS))


def _is_tail(text: str, mistyped_end: int, run: _Run) -> bool:
    """Say whether `run` goes on with the mistyped token before it: only a wrong character parts them."""
    start = run.starts[0]
    if mistyped_end < 0 or start - mistyped_end > _WRONG_CHARS_MAX:
        return False
    return bool(_is_wrong_character(text[mistyped_end:start])) and not _begins_like_serial(run.piece(0, 2))
