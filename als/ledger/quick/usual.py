"""The usual requests, acquires and renewals, read and checked by msgspec at once: a fifth of what protocol.py takes.

It is a gate, not a second contract: what it does not take, for whatever reason, protocol.decode reads and judges.
Lengths of text are looser here than there, where they count bytes. The ledger takes a renewal from here only when its
computer, version and component are those that it has stored, which protocol.decode once let in, and a new computer only
when its text is plain.
"""

import struct
from typing import Annotated, Any, Literal

import msgspec

from als import protocol

_IS_RENEWAL = b"\xa2op\xa5renew"  # msgpack of "op": "renew"
_MACS = b"\xa4macs"  # the first key of a computer, after its head of one byte; then a list's, of up to 15 addresses
_BIN_OF_6 = b"\xc4\x06"
_unpack_front = struct.Struct(f"x{len(_MACS)}sx2s6s").unpack_from
_Code = Annotated[str, msgspec.Meta(max_length=protocol.CODE_CHARS_MAX)]
_Mac = Annotated[bytes, msgspec.Meta(min_length=protocol.MAC_BYTES, max_length=protocol.MAC_BYTES)]
_Uint = Annotated[int, msgspec.Meta(ge=0)]


class Computer(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The computer of a request."""

    macs: Annotated[list[_Mac], msgspec.Meta(min_length=1, max_length=protocol.MACS_MAX)]
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=protocol.HOST_BYTES_MAX)]
    address: Annotated[str, msgspec.Meta(max_length=protocol.ADDRESS_BYTES_MAX)]
    machine_id: Annotated[str, msgspec.Meta(max_length=protocol.MACHINE_ID_BYTES_MAX)] | None = None
    kind: Literal["server", "workstation"] | None = None


class Usual(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A request whose `op` is acquire or renew and whose `v` is ours."""

    v: Literal[1]
    id: _Uint
    op: Literal["acquire", "renew"]
    product: _Code
    component: _Code
    computer: msgspec.Raw  # read only where it is needed: a renewal's is known by its bytes
    version: Annotated[str, msgspec.Meta(max_length=protocol.VERSION_BYTES_MAX)] | None = None
    want_lease: bool | None = None
    patience_ms: _Uint | None = None


_decode = msgspec.msgpack.Decoder(Usual).decode
_decode_computer = msgspec.msgpack.Decoder(Computer).decode
encode_id = protocol.encode  # the one thing in which the replies of a turn's usual renewals differ


def patience_s(patience_ms: int | None) -> float:
    """Give the seconds after which a sender with this patience has given its request up."""
    return (protocol.PATIENCE_MS_DEFAULT if patience_ms is None else patience_ms) / 1000


def looks_like_renewal(frame: bytes) -> bool:
    """Say whether a frame may hold a renewal, without reading it."""
    return _IS_RENEWAL in frame


def read(frame: bytes) -> Usual | None:
    """Give the acquire or renewal that a frame holds; None for everything else."""
    if len(frame) > protocol.REQUEST_BYTES_MAX:
        return None
    try:
        return _decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_renewal(frame: bytes) -> Usual | None:
    """Give the renewal that a frame holds; None for everything else."""
    usual = read(frame)
    return usual if usual is not None and usual.op == "renew" else None


def of(request: dict[str, Any]) -> Usual | None:
    """Give a request that is already decoded as an acquire or a renewal; None for everything else."""
    return read(protocol.encode(request))


def front_mac(computer: msgspec.Raw) -> bytes | None:
    """Give the first address in a computer's bytes; None when they are not as msgpack usually writes them."""
    try:
        key, form, mac = _unpack_front(computer)
    except struct.error:
        return None  # too short
    return mac if key == _MACS and form == _BIN_OF_6 else None


def computer_of(usual: Usual) -> Computer | None:
    """Read a request's computer; None when it is not as it should be."""
    try:
        return _decode_computer(usual.computer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def is_plain(computer: Computer, version: str | None) -> bool:
    """Say whether all text is ASCII, so that its lengths in characters are those in bytes."""
    if not (computer.host.isascii() and computer.address.isascii()):
        return False
    machine_id = computer.machine_id
    return (machine_id is None or machine_id.isascii()) and (version is None or version.isascii())
