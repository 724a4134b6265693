"""Requests and replies as bytes: what a well-formed message is, and nothing about what it means.

`decode` turns one frame into one checked request, `encode_reply` and `encode_refusal` turn answers into frames.
The tables OPERATIONS and CODES are the contract; adding an operation is a row here and a function in the server.
"""

import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack

VERSION = 1
PORT = 9876  # one number for TCP and UDP: one firewall rule

# Limits. Each says what it protects.
REQUEST_BYTES_MAX = 65_536  # what an import of 20 serials needs, many times over
REFUSED_BYTES_MAX = 131_072  # up to here an over-long request still gets an answer; beyond, ZeroMQ hangs up
CURVE_OVERHEAD_BYTES = 33  # ZMQ_MAXMSGSIZE counts them on an encrypted connection
REPLY_BYTES_MAX = 4_194_304  # a page of 1,000 rows of the longest names
NESTING_MAX = 8  # no message of ours needs more than 4
PIPELINE_REQUESTS_MAX = 1_000  # ZeroMQ's default high-water mark: replies beyond it may be lost
PATIENCE_MS_DEFAULT = 30_000
MACS_MAX = 32
MAC_BYTES = 6
KEY_BYTES = 32
HOST_BYTES_MAX = 255
ADDRESS_BYTES_MAX = 64
MACHINE_ID_BYTES_MAX = 64
VERSION_BYTES_MAX = 64
CODE_CHARS_MAX = 32
NAME_BYTES_MAX = 64
SERIALS_PER_IMPORT_MAX = 20  # verifying a signature takes about 0.1 ms: no request holds the loop for long
SERIAL_TEXT_BYTES_MAX = 2_048
ROWS_PER_PAGE_MAX = 1_000
CURSOR_BYTES_MAX = 256
UINT64_MAX = 2**64 - 1

_CODE = lru_cache(4_096)(re.compile(r"[A-Za-z0-9-]{1,32}\Z").match)  # the same few codes come in every request

Request = dict[str, Any]
"""A checked request: the keys of its operation have the right types, unknown keys may still be there."""


class Role(IntEnum):
    """What a sender may do; each role may do what the ones before it may."""

    AGENT = 0
    DEPLOYER = 1
    VIEWER = 2
    OPERATOR = 3
    ADMIN = 4

    @property
    def text(self) -> str:
        """The role's name on the wire and on screens."""
        return self.name.lower()

    @classmethod
    def from_text(cls, text: str) -> "Role":
        """Find a role by its name. Raises KeyError."""
        return _ROLES[text]


_ROLES = {role.text: role for role in Role}


class Refusal(NamedTuple):
    """A "no" as a value: `code` is one of CODES, `message` one sentence for a person, `detail` for programs."""

    code: str
    message: str
    detail: Mapping[str, Any] = {}


CODES = frozenset(
    {
        "bad_request",
        "unsupported_version",
        "unknown_operation",
        "too_large",
        "unknown_product",
        "unknown_component",
        "no_free_license",
        "license_expired",
        "too_many",
        "not_holder",
        "not_reusable",
        "unknown_serial",
        "unknown_lease",
        "serial_in_use",
        "last_admin",
        "not_authorized",
        "unavailable",
    }
)


class MalformedError(Exception):
    """A frame that is no valid request: carries the refusal and the id to answer with (0 when it had none)."""

    def __init__(self, request_id: int, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.request_id = request_id
        self.refusal = refusal


# What a key must look like. Each check takes a value and says whether it will do.


def _is_uint(value: object) -> bool:
    return type(value) is int and 0 <= value <= UINT64_MAX


def _is_bool(value: object) -> bool:
    return type(value) is bool


def is_code(value: object) -> bool:
    """Say whether a value has the form of a product's or component's code."""
    # The length comes first: what is asked is kept, and must not be what a stranger likes to have kept.
    return type(value) is str and len(value) <= CODE_CHARS_MAX and _CODE(value) is not None


def _is_mac(value: object) -> bool:
    return type(value) is bytes and len(value) == MAC_BYTES


def _is_key(value: object) -> bool:
    return type(value) is bytes and len(value) == KEY_BYTES


def _is_limit(value: object) -> bool:
    return type(value) is int and 1 <= value <= ROWS_PER_PAGE_MAX


def _is_role(value: object) -> bool:
    return type(value) is str and value in _ROLES


def _text_check(least: int, most: int) -> Callable[[object], bool]:
    """Make a check for text of `least` to `most` bytes of UTF-8."""

    def check(value: object) -> bool:
        if type(value) is not str:
            return False
        if value.isascii():
            return least <= len(value) <= most
        return least <= len(value.encode("utf-8", "surrogatepass")) <= most

    return check


_is_host = _text_check(1, HOST_BYTES_MAX)
_is_address = _text_check(0, ADDRESS_BYTES_MAX)
_is_machine_id = _text_check(0, MACHINE_ID_BYTES_MAX)
_is_serial_text = _text_check(1, SERIAL_TEXT_BYTES_MAX)


def _are_serials(value: object) -> bool:
    return (
        type(value) is list
        and 1 <= len(value) <= SERIALS_PER_IMPORT_MAX
        and all(_is_serial_text(item) for item in value)
    )


def _wrong_computer_key(computer: object) -> str | None:
    """Name the first key that makes `computer` unusable, or None when it is well-formed."""
    if type(computer) is not dict:
        return "computer"
    get = computer.get
    macs = get("macs")
    if type(macs) is not list or not 1 <= len(macs) <= MACS_MAX:
        return "computer.macs"
    for mac in macs:
        if type(mac) is not bytes or len(mac) != MAC_BYTES:
            return "computer.macs"
    if not _is_host(get("host")):
        return "computer.host"
    if not _is_address(get("address")):
        return "computer.address"
    machine_id = get("machine_id")
    if machine_id is not None and not _is_machine_id(machine_id):
        return "computer.machine_id"
    kind = get("kind")
    if kind is not None and kind != "server" and kind != "workstation":
        return "computer.kind"
    return None


class Field(NamedTuple):
    """One key of a request: its `check`, and whether it must be there (null counts as absent)."""

    name: str
    check: Callable[[object], bool]
    required: bool


class Operation(NamedTuple):
    """One row of the contract: the `role` a sender needs, and the keys beside v, id, op and patience_ms.

    `computer` says whether the request names a computer: "" (no), "optional" or "required".
    """

    role: Role
    fields: tuple[Field, ...] = ()
    computer: str = ""


def _need(name: str, check: Callable[[object], bool]) -> Field:
    return Field(name, check, True)


def _may(name: str, check: Callable[[object], bool]) -> Field:
    return Field(name, check, False)


_PRODUCT = _need("product", is_code)
_COMPONENT = _need("component", is_code)
_VERSION = _may("version", _text_check(0, VERSION_BYTES_MAX))
_ANY_PRODUCT = _may("product", is_code)
_PAGE = (_may("after", _text_check(1, CURSOR_BYTES_MAX)), _may("limit", _is_limit))
_SERIAL_ID = _text_check(1, 64)

OPERATIONS: Mapping[str, Operation] = {
    "hello": Operation(Role.AGENT),
    "acquire": Operation(Role.AGENT, (_PRODUCT, _COMPONENT, _VERSION), "required"),
    "renew": Operation(Role.AGENT, (_PRODUCT, _COMPONENT, _VERSION, _may("want_lease", _is_bool)), "required"),
    "release": Operation(Role.AGENT, (_PRODUCT, _COMPONENT), "required"),
    "check": Operation(Role.AGENT, (_PRODUCT,), "optional"),
    "status": Operation(Role.VIEWER),
    "licenses": Operation(Role.VIEWER, (_ANY_PRODUCT, *_PAGE)),
    "leases": Operation(
        Role.VIEWER,
        (
            _ANY_PRODUCT,
            _may("host", _text_check(1, HOST_BYTES_MAX)),
            _may("serial_id", _SERIAL_ID),
            _may("state", lambda value: value in ("active", "lapsed", "expired")),
            *_PAGE,
        ),
    ),
    "import": Operation(Role.OPERATOR, (_need("serials", _are_serials),)),
    "revoke": Operation(Role.OPERATOR, (_PRODUCT, _need("mac", _is_mac))),
    "remove": Operation(Role.ADMIN, (_need("serial_id", _SERIAL_ID), _may("force", _is_bool))),
    "events": Operation(Role.VIEWER, (_may("kind", _text_check(1, 32)), _ANY_PRODUCT, *_PAGE)),
    "usage": Operation(Role.VIEWER, (_PRODUCT, _need("since", _is_uint), _need("until", _is_uint), *_PAGE)),
    "admins": Operation(Role.ADMIN, _PAGE),
    "admin_add": Operation(
        Role.ADMIN,
        (_need("key", _is_key), _need("name", _text_check(1, NAME_BYTES_MAX)), _need("role", _is_role)),
    ),
    "admin_remove": Operation(Role.ADMIN, (_need("key", _is_key),)),
}

_KEYS_OF_ALL = frozenset({"v", "id", "op", "patience_ms"})
_KEYS_OF_COMPUTER = frozenset({"macs", "host", "address", "machine_id", "kind"})
_KEYS_OF = {
    name: _KEYS_OF_ALL | {field.name for field in operation.fields} | ({"computer"} if operation.computer else set())
    for name, operation in OPERATIONS.items()
}


def _refuse_extension(code: int, data: bytes) -> None:
    raise ValueError("an extension type")


def decode(frame: bytes) -> Request:
    """Read one request. Raises MalformedError, with the refusal to send back, on anything else."""
    if len(frame) > REQUEST_BYTES_MAX:
        raise MalformedError(0, Refusal("too_large", f"A request has at most {REQUEST_BYTES_MAX} bytes."))
    try:
        request = msgpack.unpackb(frame, ext_hook=_refuse_extension)
    except Exception:  # whatever a decoder of foreign bytes may raise, the answer is the same
        raise MalformedError(0, Refusal("bad_request", "The message is not valid msgpack.")) from None
    if type(request) is not dict:
        raise MalformedError(0, Refusal("bad_request", "The message is not a msgpack map."))
    request_id = request.get("id")
    if type(request_id) is not int or not 0 <= request_id <= UINT64_MAX:
        raise MalformedError(0, _bad_key("id"))
    version = request.get("v")
    if type(version) is not int:
        raise MalformedError(request_id, _bad_key("v"))
    if version != VERSION:
        raise MalformedError(request_id, Refusal("unsupported_version", f"This server speaks version {VERSION}."))
    name = request.get("op")
    if type(name) is not str:
        raise MalformedError(request_id, _bad_key("op"))
    operation = OPERATIONS.get(name)
    if operation is None:
        raise MalformedError(request_id, Refusal("unknown_operation", "The server knows no such operation."))
    wrong = _wrong_key(operation, request)
    if wrong is not None:
        raise MalformedError(request_id, _bad_key(wrong))
    if _has_unknown_keys(name, request) and _is_nested_too_deep(request):
        raise MalformedError(request_id, Refusal("bad_request", "The message is nested too deep, or has extensions."))
    return request


def _bad_key(name: str) -> Refusal:
    return Refusal("bad_request", f"The key {name} is missing or has the wrong type.", {"key": name})


def _wrong_key(operation: Operation, request: Request) -> str | None:
    """Name the first key that is missing or ill-typed."""
    for name, check, required in operation.fields:
        value = request.get(name)
        if value is None:
            if required:
                return name
        elif not check(value):
            return name
    if operation.computer:
        computer = request.get("computer")
        if computer is not None or operation.computer == "required":
            wrong = _wrong_computer_key(computer)
            if wrong is not None:
                return wrong
    patience_ms = request.get("patience_ms")
    if patience_ms is not None and not _is_uint(patience_ms):
        return "patience_ms"
    return None


def _has_unknown_keys(operation: str, request: Request) -> bool:
    """Say whether there is anything beside the checked keys, which are all shallow."""
    if not request.keys() <= _KEYS_OF[operation]:
        return True
    computer = request.get("computer")
    return computer is not None and not computer.keys() <= _KEYS_OF_COMPUTER


_PLAIN = (str, bytes, int, float, bool, type(None))


def _is_nested_too_deep(request: Request) -> bool:
    """Say whether a value is nested deeper than NESTING_MAX or is no plain value (a msgpack Timestamp)."""
    level: list[object] = [value for value in request.values() if type(value) not in _PLAIN]
    depth = 1
    while level:
        depth += 1
        if depth > NESTING_MAX:
            return True
        inner: list[object] = []
        for value in level:
            if type(value) is dict:
                inner.extend(item for item in value.values() if type(item) not in _PLAIN)
            elif type(value) is list:
                inner.extend(item for item in value if type(item) not in _PLAIN)
            else:
                return True
        level = inner
    return False


encode: Callable[[Any], bytes]
try:  # it takes half of what msgpack takes, for the same bytes; a client need not have it
    from msgspec.msgpack import Encoder
except ImportError:
    encode = msgpack.packb
else:
    encode = Encoder().encode
_pack = encode


def encode_reply(request_id: int, now: int, fields: Mapping[str, Any]) -> bytes:
    """Write a reply that grants what was asked; `fields` are the operation's own keys."""
    return encode_start(fields) + _pack(request_id) + encode_tail(now, fields)


def encode_start(fields: Mapping[str, Any]) -> bytes:
    """Write what stands before a reply's id: how many keys there are, and the key of the id, which comes first."""
    start: bytes = _MAP_OF[len(fields) + 4]
    return start


def encode_tail(now: int, fields: Mapping[str, Any]) -> bytes:
    """Write everything of a reply but its id; renewals of one product and turn differ in nothing else."""
    return _pack({"v": VERSION, "ok": True, "time": now, **fields})[1:]  # its own head is one byte, up to 15 keys


HOLE = bytes(16)  # stands for a value in a reply that is written once for many: no text and no other value is like it


def encode_around_holes(now: int, fields: Mapping[str, Any]) -> list[bytes]:
    """Write what `encode_tail` does, cut where a HOLE stands: what `encode` gives of the values fits in between."""
    return encode_tail(now, fields).split(_pack(HOLE))


def encode_refusal(request_id: int, now: int, refusal: Refusal) -> bytes:
    """Write a refusal."""
    return _pack(
        {
            "v": VERSION,
            "id": request_id,
            "ok": False,
            "time": now,
            "code": refusal.code,
            "message": refusal.message,
            "detail": dict(refusal.detail),
        }
    )


def encode_request(request_id: int, operation: str, fields: Mapping[str, Any]) -> bytes:
    """Write a request; keys whose value is None are left out."""
    present = {key: value for key, value in fields.items() if value is not None}
    return _pack({"v": VERSION, "id": request_id, "op": operation, **present})


def decode_reply(frame: bytes) -> dict[str, Any]:
    """Read a reply or refusal. Raises ValueError when `frame` is neither."""
    try:
        reply = msgpack.unpackb(frame)
    except Exception:  # whatever a decoder of foreign bytes may raise, the answer is the same
        raise ValueError("not a msgpack reply") from None
    if type(reply) is not dict or type(reply.get("id")) is not int or type(reply.get("ok")) is not bool:
        raise ValueError("not a reply of this protocol")
    if not reply["ok"] and not (type(reply.get("code")) is str and type(reply.get("message")) is str):
        raise ValueError("a refusal without code or message")
    return reply


_MAP_OF = [bytes([0x80 | keys]) + msgpack.packb("id") for keys in range(16)]  # msgpack's "fixmap" goes up to 15 keys


def mac_text(mac: bytes) -> str:
    """Write a MAC address as people do: "00:11:22:33:44:55"."""
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """Read a MAC address with colons, hyphens, dots or none of them. Raises ValueError."""
    digits = re.sub(r"[:.\-\s]", "", text)
    if not re.fullmatch(r"[0-9A-Fa-f]{12}", digits):
        raise ValueError("a MAC address has 12 hexadecimal digits, like 00:11:22:33:44:55")
    return bytes.fromhex(digits)
