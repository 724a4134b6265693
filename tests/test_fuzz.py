"""What reads foreign bytes keeps its word: on the kept corpus, and on inputs made up anew in each run.

`make fuzz` looks for longer, guided by coverage; what it finds goes into the corpus.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fuzz_targets
from als import protocol
from fuzz_targets import CORPUS, TARGETS
from serial_samples import KNOWN_TEXT, make_text, mistype

KEPT = [path for name in TARGETS for path in sorted((CORPUS / name).iterdir())]

short = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_kept_inputs(path: Path) -> None:
    """Each input of the corpus, among them all that ever broke something, breaks nothing."""
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus() -> None:
    """No folder of the corpus is without its target, and no target without inputs to begin with."""
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    assert {path.parent.name for path in KEPT} == TARGETS.keys()


def spoilt(good: list[bytes]) -> st.SearchStrategy[bytes]:
    """Give good inputs with some bytes changed, cut out or put in."""

    def spoil(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for place, length, new in changes:
            at = place % (len(data) + 1)
            data = data[:at] + new + data[at + length :]
        return data

    change = st.tuples(st.integers(0, 2**16), st.integers(0, 4), st.binary(max_size=4))
    return st.builds(spoil, st.sampled_from(good), st.lists(change, min_size=1, max_size=4))


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "requests"])
@short
@given(data=st.data())
def test_spoilt_inputs(name: str, data: Any) -> None:
    """Good inputs with bytes changed, and any bytes at all, break nothing."""
    good = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    TARGETS[name](data.draw(st.one_of(spoilt(good), st.binary(max_size=600))))


# Requests that are nearly right: what a fuzzer of bytes seldom gets through the door.

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
macs = st.integers(1, 6).map(lambda number: bytes([2, 0, 0, 0, 0, number]))
ids = st.sampled_from(["ATIES-0000000000001", "ASD-0000000000003", "ATIES-", "-0", "é" * 9])
times = st.sampled_from([0, 1, 3_599, fuzz_targets.WALL_S, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
cursors = st.one_of(
    st.sampled_from(["00000001", "00" * 8, "ff" * 8, "00" * 10, "ff" * 32, "0 0", "zz"]), st.text(max_size=9)
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "product": st.sampled_from(["ATIES", "ASD", "APEC", "NONE", "aties"]),
    "component": st.sampled_from(["agent", "local-console", "deployment", "management-console", "none"]),
    "version": st.sampled_from(["1", "", "ü" * 32]),
    "computer": st.fixed_dictionaries(
        {
            "macs": st.lists(macs, min_size=1, max_size=4),
            "host": st.text(min_size=1, max_size=9),
            "address": st.just(""),
        },
        optional={"machine_id": st.sampled_from(["", "M"]), "kind": st.sampled_from(["server", "workstation"])},
    ),
    "want_lease": st.booleans(),
    "host": st.sampled_from(["*", "[", "[!", "pc[z-a]", "*" * 99, "\\", "pc?"]),
    "serial_id": ids,
    "state": st.sampled_from(["active", "lapsed", "expired"]),
    "serials": st.lists(st.sampled_from([KNOWN_TEXT, mistype(KNOWN_TEXT), "x", "\0"]), min_size=1, max_size=3),
    "mac": macs,
    "force": st.booleans(),
    "kind": st.sampled_from(["granted", "none"]),
    "since": times,
    "until": times,
    "key": st.sampled_from([fuzz_targets.ADMIN_KEY, b"b" * 32, b"c" * 32]),
    "name": st.text(min_size=1, max_size=9),
    "role": st.sampled_from(["admin", "operator", "viewer", "deployer", "agent"]),
    "after": cursors,
    "limit": st.integers(1, 1_000),
    "patience_ms": times,
}


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Make a request with the keys of its operation, one of them sometimes absent or of any kind."""
    operation = draw(st.sampled_from(sorted(protocol.OPERATIONS)))
    row = protocol.OPERATIONS[operation]
    names = [field.name for field in row.fields] + (["computer"] if row.computer else [])
    required = {field.name for field in row.fields if field.required} | ({"computer"} if row.computer else set())
    fields = {name: draw(FIELDS[name]) for name in names if name in required or draw(st.booleans())}
    if draw(st.integers(0, 5)) == 0:
        fields[draw(st.sampled_from([*names, "unknown", "patience_ms"]))] = draw(values)
    return msgpack.packb({"v": 1, "id": draw(st.integers(0, 9)), "op": operation, **fields})  # type: ignore[no-any-return]


@short
@given(st.lists(requests(), min_size=1, max_size=fuzz_targets.FRAMES_MAX).map(b"".join))
@example(b"")
def test_requests_of_all_kinds(data: bytes) -> None:
    """Any mix of requests by an administrator and an agent is answered, and leaves books that agree."""
    fuzz_targets.requests(data)


@short
@given(st.lists(st.one_of(st.integers(0, 3).map(make_text), st.text(max_size=30), st.just(mistype(KNOWN_TEXT)))))
def test_files_with_serials_and_anything(pieces: list[str]) -> None:
    """Any mix of serials and other text is read to its end."""
    fuzz_targets.files("\n".join(pieces).encode("utf-8", "surrogatepass"))


def test_fuzzer_names_its_targets() -> None:
    """`make fuzz` knows the targets, whether or not atheris is installed."""
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    for name in TARGETS:
        assert name in done.stdout
