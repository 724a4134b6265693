"""Pictures of a server's status as text: what an administrator sees, in a wide, a normal and a narrow window."""

import io
from dataclasses import dataclass
from typing import Any

import pytest
from rich.console import Console, RenderableType

from als_tools import demo_stage, formats, snapshot, views
from als_tools.formats import Zone
from als_tools.snapshot import Snapshot

NOW = 1_767_621_839  # 2026-01-05 14:03:59 UTC
HOUR_S, DAY_S = 3_600, 86_400
UTC = Zone(utc=True)
FINGERPRINT = "SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE"


def pool(product: str, name: str, total: int, used: int, **changes: Any) -> dict[str, Any]:
    """Make a pool as on the wire."""
    counts = {"total": total, "free": total - used, "used": used, "lapsed": 0, "on_expired": 0}
    soon = {"denied_24h": 0, "expiring_30d": 0, "next_expiry": None}
    return {"product": product, "product_name": name, **counts, **soon, **changes}


def seen(*pools: dict[str, Any], **changes: Any) -> Snapshot:
    """Make a snapshot of a server that is well, but for the changes."""
    server = {
        **{"server_id": "9f2c41d0a7", "name": "cellar", "version": "0.1.0", "engine": "lmdb"},
        **{"started_at": NOW - 3 * DAY_S - 4 * HOUR_S, "clock": {"state": "ok", "behind_s": 0}},
        **{"outages": [], "replies_dropped": 0, "cluster": None},
        **changes,
    }
    counts = {"serials": 23, "leases": 1361, "computers": 1350, "events": 20411}
    rates = {"requests_per_s": 12.04, "renewals_per_s": 11.5}
    reply = {"time": NOW, "server": server, "pools": list(pools), "counts": counts, "rates": rates}
    return snapshot.take(reply, "192.0.2.7:9876", FINGERPRINT)


def drawn(picture: RenderableType, width: int, encoding: str = "utf-8") -> str:
    """Draw as on a screen of this width, without the blanks at the lines' ends."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=screen, width=width, highlight=False, force_terminal=True, color_system=None)
    console.print(picture)
    screen.flush()
    buffer = screen.buffer
    assert isinstance(buffer, io.BytesIO)
    lines = buffer.getvalue().decode(encoding).splitlines()
    assert max(map(len, lines)) <= width
    return "\n".join(line.rstrip() for line in lines)


FLEET = (
    pool("ATIES", "Acronis True Image Enterprise Server", 12, 12, denied_24h=3, lapsed=1),
    pool(
        "ATIW", "Acronis True Image Workstation", 2000, 1240, lapsed=15, expiring_30d=500, next_expiry=NOW + 5 * DAY_S
    ),
    pool("ASD", "Acronis Snap Deploy", 100, 93),
    pool("APEC", "Acronis Privacy Expert Corporate", 0, 0),
)
TROUBLED = seen(
    *FLEET,
    clock={"state": "set_back", "behind_s": 720},
    outages=[{"from": NOW - 90_000, "to": NOW - 89_000}],
)

TROUBLED_80 = """\
!! The server's clock was set back by 12 min; it goes on by its own time until
   that is right again. Set the clock, or tell the server that it is right: als-
   server accept-clock
!! ATIES has no free seat (12 of 12 used, 3 refused in 24 h). Import serials, or
   revoke a seat that nobody needs.
!  ATIW: 500 seats end within 30 days, the first in 5 days (2026-01-10 14:03).

cellar at 192.0.2.7:9876, up 3 d 4 h
version 0.1.0, store lmdb, server id 9f2c41d0a7
key SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE
2026-01-05 14:03:59 UTC, clock SET BACK; 1 outage, the last from 2026-01-04
13:03 for 16 min 40 s

Product                               Used  Free  Total  Lapsed  Refused  Ending
                                                                    24 h    30 d
ATIES    ████████████████████  FULL     12     0     12       1        3       0
ATIW     ████████████░░░░░░░░   62%  1,240   760  2,000      15        0     500
ASD      ██████████████████░░   93%     93     7    100       0        0       0
No serials: APEC.

23 serials, 1,361 leases, 1,350 computers, 20,411 events; 12.0 requests/s, 11.5
renewals/s"""

TROUBLED_60 = """\
!! The server's clock was set back by 12 min; it goes on by
   its own time until that is right again. Set the clock, or
   tell the server that it is right: als-server accept-clock
!! ATIES has no free seat (12 of 12 used, 3 refused in 24
   h). Import serials, or revoke a seat that nobody needs.
!  ATIW: 500 seats end within 30 days, the first in 5 days
   (2026-01-10 14:03).

cellar at 192.0.2.7:9876, up 3 d 4 h
version 0.1.0, store lmdb, server id 9f2c41d0a7
key SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE
2026-01-05 14:03:59 UTC, clock SET BACK; 1 outage, the last
from 2026-01-04 13:03 for 16 min 40 s

Product                   Used  Free  Total  Refused  Ending
                                                24 h    30 d
ATIES    ████████  FULL     12     0     12        3       0
ATIW     ████░░░░   62%  1,240   760  2,000        0     500
ASD      ███████░   93%     93     7    100        0       0
No serials: APEC.

23 serials, 1,361 leases, 1,350 computers, 20,411 events;
12.0 requests/s, 11.5 renewals/s"""

WELL_120 = """\
cellar at 192.0.2.7:9876, up 3 d 4 h
version 0.1.0, store lmdb, server id 9f2c41d0a7
key SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE
2026-01-05 14:03:59 UTC, clock ok; no outages

Product  Name                                                       Used  Free  Total  Lapsed  Refused 24 h  Ending 30 d
ASD      Acronis Snap Deploy  ███████████████████████████░░░   93%    93     7    100       0             0            0

23 serials, 1,361 leases, 1,350 computers, 20,411 events; 12.0 requests/s, 11.5 renewals/s"""


@pytest.mark.parametrize(("width", "expected"), [(80, TROUBLED_80), (60, TROUBLED_60)])
def test_troubled_server(width: int, expected: str) -> None:
    """What is wrong stands first, in words, and nothing is cut off in a narrow window."""
    assert drawn(views.status_view(TROUBLED, UTC), width) == expected


def test_well_server_in_a_wide_window() -> None:
    """A server that is well has no warnings, and a wide window shows the products' names."""
    well = seen(FLEET[2])
    assert views.warnings(well, UTC) == ()
    assert drawn(views.status_view(well, UTC), 120) == WELL_120


def test_new_server_says_what_to_do() -> None:
    """A server without serials says how to import some."""
    assert "No serials yet. Import some: als import-file SERVER FILE" in drawn(views.status_view(seen(), UTC), 80)


def test_ascii_screen() -> None:
    """Where the screen knows only ASCII, bars are drawn with it."""
    picture = drawn(views.pools_view(TROUBLED.pools), 80, encoding="ascii")
    assert "ATIW     ############........   62%" in picture


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"total": 5, "free": 0, "used": 5}, "P has no free seat (5 of 5 used). Import serials"),
        ({"on_expired": 2}, "P has no valid serial. Import one"),
        ({"denied_24h": 4}, "P has no valid serial, 4 refused in 24 h. Import one"),
        ({"total": 5, "free": 5, "on_expired": 1}, "P: 1 computer on ended serials; each needs a free seat"),
        ({"total": 5, "free": 5, "expiring_30d": 1, "next_expiry": NOW + 60}, "the first today (2026-01-05 14:04)"),
    ],
)
def test_pool_warnings(changes: dict[str, Any], sentence: str) -> None:
    """A pool that needs somebody says so, and what to do."""
    found = views.warnings(seen(pool("P", "Product", 0, 0) | changes), UTC)
    assert any(sentence in warning.text for warning in found), found


def test_worst_first() -> None:
    """What stops people's work comes before what may do so later."""
    levels = [warning.level for warning in views.warnings(seen(FLEET[1], FLEET[0]), UTC)]
    assert levels == [views.Level.BAD, views.Level.SOON]


def test_what_ends_first_is_told_first() -> None:
    """Of pools with seats that soon end, the one whose seats end first comes first."""
    soon = {"expiring_30d": 2}
    later, sooner = (
        pool(name, name, 9, 1, next_expiry=NOW + days * DAY_S, **soon) for name, days in (("A", 9), ("B", 3))
    )
    assert [warning.text[0] for warning in views.warnings(seen(later, sooner), UTC)] == ["B", "A"]


def cluster_server(number: int, **changes: Any) -> dict[str, Any]:
    """A server of a cluster, as status tells of it."""
    row = {"number": number, "name": f"pc-{number}", "address": f"pc-{number}:9876", "version": "1.2"}
    row |= {"state": "running", "started_at": NOW - 60, "last_tick": NOW - 2, "clock_ahead_ms": 0, "same_catalog": True}
    return row | changes


def cluster_member(name: str, **changes: Any) -> dict[str, Any]:
    """A member of etcd, as status tells of it."""
    row = {"endpoint": f"{name}:2379", "name": name, "version": "3.5.16", "is_leader": False, "file_bytes": 2**20}
    return row | {"used_bytes": 2**19, "trouble": None} | changes


def test_cluster_line_by_line() -> None:
    """Each server and each etcd member of a cluster has a line, and each trouble is told first."""
    cluster = {
        **{"number": 1, "state": "ok", "leader": "a", "store_bytes": 2**20, "troubles": ["the sky falls"]},
        "servers": [
            cluster_server(0, clock_ahead_ms=-1_500),
            cluster_server(1),
            cluster_server(2, state="stopped", last_tick=NOW - 7_200),
        ],
        "members": [cluster_member("a", is_leader=True), cluster_member("", version="", endpoint="b:2379")],
    }
    picture = drawn(views.status_view(seen(cluster=cluster), UTC), 100)
    for line in (
        "!! In the cluster: the sky falls.",
        "cluster of 2 servers on 2 etcd members, leader a, 1.0 MiB stored",
        "server 0 pc-0 at pc-0:9876, version 1.2, clock -1.5 s",
        "server 1 pc-1 at pc-1:9876, version 1.2, this one",
        "server 2 pc-2 at pc-2:9876, version 1.2, stopped for 2 h",
        "etcd a at a:2379, version 3.5.16, leader, 1.0 MiB",
        "etcd at b:2379, no answer",
    ):
        assert line in picture


def test_jumped_clock_and_cluster_without_leader() -> None:
    """A clock that jumped and a cluster without a leader are told, with what to do."""
    cluster = {
        **{"number": 0, "state": "ok", "troubles": [], "leader": None, "store_bytes": 5 * 2**20},
        "servers": [cluster_server(0), cluster_server(1)],
        "members": [cluster_member("a"), cluster_member("b"), cluster_member("c")],
    }
    troubled = seen(clock={"state": "jumped", "behind_s": 0}, cluster=cluster)
    picture = drawn(views.status_view(troubled, UTC), 80)
    assert "!! The server's clock jumped forward" in picture
    assert "!! The cluster has no leader" in picture
    assert "cluster of 2 servers on 3 etcd members, no leader, 5.0 MiB stored" in picture


@pytest.mark.parametrize(
    ("used", "total", "expected"),
    [
        (0, 10, "░░░░░░░░"),
        (1, 1_000_000, "█░░░░░░░"),
        (999_999, 1_000_000, "███████░"),
        (10, 10, "████████"),
        (5, 10, "████░░░░"),
        (0, 0, "········"),
    ],
)
def test_bar(used: int, total: int, expected: str) -> None:
    """A bar is full only when every seat is used, and empty only when none is."""
    assert views.bar(used, total, 8) == expected


def test_hostile_names() -> None:
    """A name with control characters cannot steer the terminal."""
    picture = drawn(views.status_view(seen(pool("P", "\x1b[2Jgone\u202e", 3, 1), name="a\x1b]0;b\x07"), UTC), 120)
    assert "\x1b" not in picture
    assert "\u202e" not in picture


def test_plain_status() -> None:
    """As tab-separated lines a status has one fact a line, its kind first."""
    lines = views.status_plain(TROUBLED, UTC)
    assert [line.split("\t")[0] for line in lines] == [
        *(["warning"] * 3),
        *("server", "key", "started", "clock", "outage"),
        *(["pool"] * 4),
        *("counts", "rates"),
    ]
    assert "clock\tset_back\t720" in lines
    assert "pool\tATIW\t2000\t760\t1240\t15\t0\t0\t500\t2026-01-10T14:03:59Z" in lines
    assert "counts\t23\t1361\t1350\t20411" in lines


@dataclass
class Computer:
    """A computer as the demo's picture needs it."""

    host: str
    mac: bytes
    says: str
    heartbeats: int


COMPUTERS = [
    Computer("anna", bytes.fromhex("00005e005301"), "runs STUDIO, VIEWER", 12),
    Computer("bruno", bytes.fromhex("00005e005302"), "no power", 9),
    Computer("david", bytes.fromhex("00005e005304"), "refused STUDIO", 0),
]
LEASES: list[dict[str, Any]] = [
    {"product": "VIEWER", "mac": COMPUTERS[0].mac, "renew_by": NOW + 4, "state": "active"},
    {"product": "STUDIO", "mac": COMPUTERS[0].mac, "renew_by": NOW + 5, "state": "active"},
    {"product": "STUDIO", "mac": COMPUTERS[1].mac, "renew_by": NOW - 1, "state": "lapsed"},
]

DEMO_80 = """\
live status of cellar at 192.0.2.7:9876 ────────────────────────────────────────
Product                               Used  Free  Total  Lapsed  Refused  Ending
                                                                    24 h    30 d
STUDIO   ██████████████░░░░░░░   66%     2     1      3       1        1       0

Computer  MAC address        It says             Heartbeats  The server says
anna      00:00:5e:00:53:01  runs STUDIO,                12  STUDIO 5 s left,
                             VIEWER                          VIEWER 4 s left
bruno     00:00:5e:00:53:02  no power                     9  STUDIO lapsed
david     00:00:5e:00:53:04  refused STUDIO               0  no license

23 serials, 1,361 leases, 1,350 computers, 20,411 events; 12.0 requests/s, 11.5
renewals/s"""


def test_demo_picture() -> None:
    """The demo shows the pools, what each computer says of itself, and what the server holds for it."""
    status = seen(pool("STUDIO", "Example Studio", 3, 2, lapsed=1, denied_24h=1))
    assert drawn(demo_stage.picture(status, LEASES, COMPUTERS), 80) == DEMO_80


def test_demo_picture_stays_as_it_was_made() -> None:
    """What happens to a computer after a picture was made is not in it: the demo's last one shows its last moment."""
    computer = Computer("anna", COMPUTERS[0].mac, "runs STUDIO", 12)
    picture = demo_stage.picture(seen(pool("STUDIO", "Example Studio", 3, 2)), LEASES, [computer])
    computer.says = "no power"
    assert "runs STUDIO" in drawn(picture, 80)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h"), (86_401, "1 d"), (-5, "0 s")],
)
def test_durations(seconds: int, expected: str) -> None:
    """A length of time is told with its two greatest units."""
    assert formats.duration(seconds) == expected
