"""What is fuzzed: each target takes any bytes, and fails only when the code under it breaks its word.

`TARGETS` is the whole list; tests/corpus/NAME/ keeps what each target is fed first. Knows no fuzzer.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack

from als import beacon, catalog, protocol, serial, serialtext
from als.catalog import Catalog, CatalogError
from als.clock import Reading
from als.ledger import Ledger
from als.ledger.audit import Audit
from als.protocol import MalformedError, Role
from als.server.core import Core
from als.server.letters import Letter
from als.store.memory import MemoryStore
from press import OTHER_SERVER_KEY, SERVER_KEY, VENDORS, print_serial

CORPUS = Path(__file__).parent / "corpus"
WALL_S = 1_790_000_000
ADMIN_KEY = b"a" * 32
FRAMES_MAX = 32  # requests in one input of the `core` target


def request_frames(data: bytes) -> None:
    """Any frame is a request whose keys are checked, or a refusal that can be sent."""
    try:
        request = protocol.decode(data)
    except MalformedError as error:
        assert error.refusal.code in protocol.CODES
        assert protocol.decode_reply(protocol.encode_refusal(error.request_id, WALL_S, error.refusal))["ok"] is False
        return
    assert request["op"] in protocol.OPERATIONS
    assert 0 <= request["id"] <= protocol.UINT64_MAX


def replies(data: bytes) -> None:
    """Any frame is a reply with the keys that every reply has, or a ValueError."""
    try:
        reply = protocol.decode_reply(data)
    except ValueError:
        return
    assert type(reply["id"]) is int and type(reply["ok"]) is bool


def queries(data: bytes) -> None:
    """Any datagram is a query, answered by no more bytes than it has, or nothing."""
    nonce = beacon.decode_query(data)
    if nonce is None:
        return
    answer = beacon.Answer("s" * 64, "ü" * 32, "1" * 32, 65_535, SERVER_KEY)
    datagram = beacon.encode_answer(nonce, answer)
    assert len(datagram) <= len(data)
    assert beacon.decode_answer(datagram) == (nonce, answer)


def answers(data: bytes) -> None:
    """Any datagram is an answer within the limits, or nothing."""
    found = beacon.decode_answer(data)
    if found is None:
        return
    nonce, answer = found
    assert len(nonce) == beacon.NONCE_BYTES and len(answer.key) == beacon.KEY_BYTES
    assert 0 < answer.port < 65_536


def serial_texts(data: bytes) -> None:
    """Any text is a serial that can be written again, or a SerialError with a sentence."""
    try:
        raw = serial.read(data.decode("utf-8", "replace"))
        content = serial.decode(raw)
    except serial.SerialError as error:
        assert error.result in ("mistyped", "unsupported") and str(error)
        return
    assert serial.read(serial.write(raw)) == raw
    assert 1 <= content.seats <= serial.SEATS_MAX


def serial_bytes(data: bytes) -> None:
    """Any 100 bytes have fields or are unsupported, and a signature by nobody."""
    raw = data[: serial.SERIAL_BYTES].ljust(serial.SERIAL_BYTES, b"\0")
    assert not serial.verify(raw, OTHER_SERVER_KEY)
    try:
        content = serial.decode(raw)
    except serial.SerialError as error:
        assert error.result == "unsupported"
        return
    end = serial.expires_at(content, WALL_S)
    assert end is None or end > 0


def files(data: bytes) -> None:
    """Any file is a text, and what is found in it is a serial or a token that can be explained."""
    line = 1
    for found in serialtext.find(serialtext.decode_file(data)):
        assert found.line >= line
        line = found.line
        if found.text is not None:
            assert serial.write(serial.read(found.text)) == found.text


def catalogs(data: bytes) -> None:
    """Any text is a catalog whose products have unique numbers, or a CatalogError that names the file."""
    try:
        products = catalog.parse(data.decode("utf-8", "replace"), "file.toml")
    except CatalogError as error:
        assert str(error).startswith("file.toml") and "\n" not in str(error)
        return
    assert len({product.number for product in products}) == len(products) > 0


def requests(data: bytes) -> None:
    """Any requests by an administrator and an agent are answered within the rules, and the books agree after."""
    core = _core()
    frames = list(_frames(data))
    senders = (ADMIN_KEY, ADMIN_KEY, b"b" * 32)
    letters = [letter(frame, senders[place % 3], 60.0 - place % 2 * 0.01) for place, frame in enumerate(frames)]
    sent = core.turn(letters, Reading(WALL_S + 60, 60.0))
    assert len(sent) == len(frames)
    for reply in map(protocol.decode_reply, sent):
        assert reply["ok"] or reply["code"] in protocol.CODES
    assert all(len(reply) <= protocol.REPLY_BYTES_MAX for reply in sent)
    core.turn([], Reading(WALL_S + 40 * 86_400, 40 * 86_400.0))
    tx = core.store.begin()
    assert Audit(tx).run() == []
    tx.abort()


def _frames(data: bytes) -> Iterator[bytes]:
    """Cut an input into frames at the ends of msgpack objects; what cannot be read is one frame more."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    start = 0
    for _ in range(FRAMES_MAX):
        try:
            unpacker.skip()
        except Exception:  # any of msgpack's, for bytes that are no msgpack
            if start < len(data):
                yield data[start:]
            return
        yield data[start : unpacker.tell()]
        start = unpacker.tell()


def _core() -> Core:
    """A server's turns over memory: the built-in catalog, two serials, an administrator."""
    products = Catalog(catalog.builtin().products)
    ledger = Ledger(products, server_id="0" * 32, server_key=SERVER_KEY, vendors=VENDORS)
    store = MemoryStore()
    tx = store.begin()
    ledger.add_admin(tx, ADMIN_KEY, "admin", Role.ADMIN, WALL_S)
    store.submit(tx)
    core = Core(store, ledger, Reading(WALL_S, 0.0), lambda: None)
    texts = [print_serial(products.by_number[number], number, 2)[0] for number in (1, 3)]
    frame = protocol.encode_request(1, "import", {"serials": texts})
    core.turn([letter(frame, ADMIN_KEY, 0.0)], Reading(WALL_S, 0.0))
    return core


def letter(body: bytes, sender: bytes, arrived_s: float) -> Letter:
    """A request as the loop hands it to the core, from an address that is not this machine's."""
    return Letter((), body, sender, {b"Peer-Address": "192.0.2.1"}, arrived_s)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request_frames": request_frames,
    "replies": replies,
    "queries": queries,
    "answers": answers,
    "serial_texts": serial_texts,
    "serial_bytes": serial_bytes,
    "files": files,
    "catalogs": catalogs,
    "requests": requests,
}
