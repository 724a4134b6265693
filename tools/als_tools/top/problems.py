"""What is wrong, in one short line each, the worst first: what a person must see within a second.

Pure: facts in, problems out. The longer sentences with advice are those of als_tools/views.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from als_tools import formats
from als_tools.formats import DAY_S, Zone
from als_tools.snapshot import Pool, Snapshot
from als_tools.top.facts import Facts, Loss
from als_tools.views import ALMOST_FULL, Level

OUTAGE_SHOWN_S = DAY_S  # an older outage is no news


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong: `text` says what, `advice` what to do about it."""

    level: Level
    text: str
    advice: str


def problems(facts: Facts, here: int, zone: Zone) -> tuple[Problem, ...]:
    """List what is wrong; `here` is this computer's time, for how long the server has been away."""
    found = [
        *([] if facts.loss is None else [_loss(facts.loss, here, zone)]),
        *_clock(facts.status),
        *_cluster(facts.status),
        *(problem for pool in facts.status.pools for problem in _pool(pool, facts, zone)),
        *_endings(facts.status, zone),
        *_outages(facts.status, zone),
        *_dropped(facts.status),
    ]
    return tuple(sorted(found, key=lambda problem: problem.level is not Level.BAD))


def clock_time(time: int, now: int, zone: Zone) -> str:
    """Write a time as short as it can be told: the time of today, else the day, for another year all of it."""
    moment, today = zone.at(time), zone.at(now)
    if moment.date() == today.date():
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%m-%d %H:%M" if moment.year == today.year else "%Y-%m-%d")


def _loss(loss: Loss, here: int, zone: Zone) -> Problem:
    since = clock_time(loss.since, here, zone)
    away = formats.duration(here - loss.since)
    return Problem(Level.BAD, f"{loss.word} since {since} ({away}); what you see is from then", loss.reason)


def _clock(status: Snapshot) -> Iterator[Problem]:
    advice = "Set the server's clock, or tell it that it is right: als-server accept-clock"
    by = formats.duration(abs(status.clock_behind_s))
    if status.clock_state == "set_back":
        yield Problem(Level.BAD, f"CLOCK SET BACK by {by}: the server goes on by its own time", advice)
    elif status.clock_state == "jumped":
        yield Problem(Level.BAD, f"CLOCK JUMPED AHEAD by {by}: nothing lapses or ends by it for 24 h", advice)


def _cluster(status: Snapshot) -> Iterator[Problem]:
    if status.cluster is not None and status.cluster.leader is None:
        yield Problem(Level.BAD, "CLUSTER HAS NO LEADER: nothing can be granted", "Look at its etcd members.")
    for trouble in status.cluster.troubles if status.cluster is not None else ():
        yield Problem(Level.BAD, f"cluster: {formats.clean(trouble)}", "als status shows its servers and members.")


def _pool(pool: Pool, facts: Facts, zone: Zone) -> Iterator[Problem]:
    yield from _seats(pool, facts, zone)
    if pool.on_expired:
        computers = formats.counted(pool.on_expired, "computer")
        advice = "Import serials: each needs a free seat at its next run, or its program will not run."
        yield Problem(Level.BAD, f"{pool.product}: {computers} on ended serials", advice)


def _endings(status: Snapshot, zone: Zone) -> Iterator[Problem]:
    """Tell of the seats that end soon, the first to end first."""
    advice = "Import serials before that; als licenses --sort expires_at shows which end."
    ending = [(pool.next_expiry, pool) for pool in status.pools if pool.expiring_30d and pool.next_expiry is not None]
    for time, pool in sorted(ending, key=lambda pair: pair[0]):
        first, seats = formats.days_until(time, status.now), formats.counted(pool.expiring_30d, "seat")
        text = f"{pool.product}: {seats} end <30 d, first {first} ({zone.at(time):%m-%d})"
        yield Problem(Level.SOON, text, advice)


def _seats(pool: Pool, facts: Facts, zone: Zone) -> Iterator[Problem]:
    """Tell a pool that refuses from one that is full, and both from one that soon will be."""
    refused = facts.refused_of(pool.product)
    lately = ""
    if refused is not None and refused.count:
        lately = f"{formats.count(refused.count)} refused since {zone.at(refused.since).strftime('%H:%M')}"
    used = f"{formats.count(pool.used)}/{formats.count(pool.total)}"
    more = "Import serials, or revoke a seat that nobody needs: als revoke SERVER --product CODE --mac MAC"
    if not pool.total:
        if lately or pool.denied_24h:
            advice = "Import serials: no serial of this product counts any more, or none was imported yet."
            yield Problem(Level.BAD, f"{pool.product}: NO VALID SERIAL, {lately or 'refused in 24 h'}", advice)
    elif not pool.free:
        level, word = (Level.BAD, f", {lately}") if lately else (Level.SOON, ", nobody refused lately")
        yield Problem(level, f"{pool.product}: NO FREE SEAT ({used}){word}", more)
    elif lately:
        advice = "The denials say why (too_many: one address asked too often; not_authorized: its key is not listed)."
        yield Problem(Level.SOON, f"{pool.product}: {lately}, {formats.count(pool.free)} free now", advice)
    elif pool.used >= ALMOST_FULL * pool.total:
        yield Problem(Level.SOON, f"{pool.product}: almost full ({used})", more)


def _outages(status: Snapshot, zone: Zone) -> Iterator[Problem]:
    recent = [outage for outage in status.outages if outage.end > status.now - OUTAGE_SHOWN_S]
    if recent:
        last = recent[-1]
        begin, end = (clock_time(time, status.now, zone) for time in (last.start, last.end))
        count = f", {len(recent)} in 24 h" if len(recent) > 1 else ""
        length = formats.duration(last.end - last.start)
        advice = "No server ran; the time does not count against any license. Its log says why it stopped."
        yield Problem(Level.SOON, f"OUTAGE {begin} to {end} ({length}){count}", advice)


def _dropped(status: Snapshot) -> Iterator[Problem]:
    if status.replies_dropped:
        replies = formats.counted(status.replies_dropped, "reply", "replies")
        advice = "Computers asked and were gone before the answer: look at the network between them and the server."
        yield Problem(Level.SOON, f"{replies} dropped since the server started", advice)
