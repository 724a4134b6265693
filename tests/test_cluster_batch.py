"""What a turn of a clustered server had no time for is not read again, and is still refused when it is too late."""

from als import protocol
from als.server.cluster.batch import Reader
from als.server.letters import Letter

NOW = 1_790_000_000


def letter(number: int, patience_ms: int = 1_000) -> Letter:
    """A request that came at second 10."""
    computer = {"macs": [bytes(6)], "host": "pc", "address": ""}
    fields = {"product": "ATIES", "component": "agent", "computer": computer, "patience_ms": patience_ms}
    return Letter((), protocol.encode_request(number, "renew", fields), bytes(32), {}, 10.0)


def test_what_was_not_served_is_known() -> None:
    """The rest of a turn is there in the next, beside what came meanwhile; what was served is not kept."""
    reader, letters = Reader(), [letter(number) for number in range(4)]
    first = reader.understand(letters, NOW, 10.0)
    reader.keep(first[2:])
    second = reader.understand([*letters[2:], letter(9)], NOW, 10.2)
    assert second[0] is first[2] and second[1] is first[3]
    assert [item.usual.id for item in second if item.usual is not None] == [2, 3, 9]
    reader.keep([])
    assert reader.understand(letters[2:], NOW, 10.2)[0] is not first[2]


def test_patience_runs_out_while_a_request_waits() -> None:
    """A request that was read in time, and waited too long after, is refused as busy."""
    reader, late = Reader(), letter(1, patience_ms=100)
    reader.keep(reader.understand([late], NOW, 10.0))
    reader.keep(reader.understand([late], NOW, 10.09))
    [item] = reader.understand([late], NOW, 10.2)
    assert item.usual is None
    assert protocol.decode_reply(item.refusal)["code"] == "unavailable"
