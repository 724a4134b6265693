"""The usual requests are a short cut: they answer, and leave byte by byte, what the rules would."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from two_ways import LONG, MACS, PERIOD_S, PRODUCT, Server, Step

SENDERS = [b"a" * 32, b"b" * 32]

computers = st.fixed_dictionaries(
    {
        "macs": st.lists(st.sampled_from(MACS), min_size=1, max_size=2),
        "host": st.sampled_from(["pc", "pc", "b\u00fccherei", "x" * 255, "\u00fc" * 200]),
        "address": st.sampled_from(["", "10.0.0.1", "fe80::1"]),
    },
    optional={
        "machine_id": st.sampled_from(["", "M1", None]),
        "kind": st.sampled_from(["server", "workstation", None]),
    },
)
wishes = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["acquire", "acquire", "renew", "release"]),
        "product": st.just(PRODUCT.code),
        "component": st.sampled_from(["agent", "agent", "local-console", "storage-server", "none", LONG]),
        "computer": computers,
    },
    optional={"version": st.sampled_from(["1", "2", None])},
)
CHECK = {"op": "check", "product": PRODUCT.code}
steps = st.lists(
    st.tuples(
        st.sampled_from(SENDERS),
        st.sampled_from(["127.0.0.1", "192.0.2.7"]),
        st.one_of(wishes, wishes, st.just(CHECK)),
        st.sampled_from([0, 0, 1, 4_000, PERIOD_S]),
    ),
    max_size=12,
)
PC: dict[str, Any] = {"macs": MACS[:1], "host": "pc", "address": ""}
RUN: dict[str, Any] = {"op": "acquire", "product": PRODUCT.code, "component": "agent", "computer": PC}
NEWCOMERS: list[Step] = [  # the first works off what is due, so the others are usual
    (SENDERS[0], "127.0.0.1", CHECK, 0),
    (SENDERS[0], "192.0.2.7", RUN, 0),
    (SENDERS[0], "127.0.0.1", {**RUN, "computer": {**PC, "macs": [MACS[1], MACS[2], MACS[1]]}, "version": "1"}, 0),
    (SENDERS[1], "192.0.2.7", {**RUN, "computer": {**PC, "macs": MACS[3:], "machine_id": ""}}, 0),
]
ONE_BY_ONE: list[Step] = [
    (SENDERS[0], "127.0.0.1", {**RUN, "computer": {**PC, "macs": [mac]}, "component": component}, 0)
    for mac, component in zip(MACS, ("agent", "local-console") * 2, strict=True)
]


@given(st.lists(steps, min_size=1, max_size=4))
@example([NEWCOMERS])
@example([NEWCOMERS, NEWCOMERS])
@example([[NEWCOMERS[0], *ONE_BY_ONE]])
@example([[step for newcomer in ONE_BY_ONE for step in (NEWCOMERS[0], newcomer)]])
@example([[NEWCOMERS[0], (SENDERS[0], "127.0.0.1", {**RUN, "component": LONG, "version": "1"}, 0)]])
@example([[NEWCOMERS[0], (SENDERS[0], "127.0.0.1", {**RUN, "computer": {**PC, "host": "\u00fc" * 200}}, 0)]])
@example([NEWCOMERS[:2], [NEWCOMERS[0], (SENDERS[0], "", {**RUN, "computer": {**PC, "macs": [MACS[1], MACS[0]]}}, 0)]])
def test_the_short_cut_leads_where_the_rules_lead(turns: list[list[Step]]) -> None:
    """Replies and every row are the same when each request holds a key more, with which none is usual."""
    usual, unusual = Server(), Server(more="than usual")
    passed_s = 0
    for turn in turns:
        passed_s += sum(step[3] for step in turn)
        assert usual.turn(turn, passed_s) == unusual.turn(turn, passed_s)
    assert usual.rows() == unusual.rows()


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    """A known address does not pass for a new one behind a first that nobody owns."""
    twice = {**RUN, "computer": {**PC, "macs": MACS[1:2], "MACS": MACS[:1]}}
    outcomes = []
    for server in (Server(), Server(more="than usual")):
        server.turn(NEWCOMERS[:2], 0)
        replies = server.turn([NEWCOMERS[0], (SENDERS[0], "127.0.0.1", twice, 0)], 1)
        outcomes.append((replies, server.rows()))
    assert outcomes[0] == outcomes[1]
