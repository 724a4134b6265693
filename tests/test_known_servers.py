"""The pinned keys: what contradicts what, and what becomes of the file under several writers and under damage."""

import json
import logging
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from als import keyfile
from als_agents.errors import FolderUnusable, KeyChanged
from als_agents.known_servers import KnownServers, Pin

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
PIN = Pin("alpha:9876", "id-1", KEY, "Main Office", "alpha", 9876)


def known(tmp_path: Path) -> KnownServers:
    return KnownServers(tmp_path / "client" / "known_servers.json")


def test_nothing_is_known_before_the_first_pin(tmp_path: Path) -> None:
    """Without a file nothing is known, and reading makes none."""
    servers = known(tmp_path)
    assert servers.pins() == [] and servers.holds(PIN) is False
    assert not servers.path.exists()


def test_pin_is_remembered(tmp_path: Path) -> None:
    """What was pinned is found by address and by name, by another reader too."""
    known(tmp_path).remember(PIN)
    servers = known(tmp_path)
    assert servers.holds(PIN)
    assert servers.by_address("alpha:9876") == PIN and servers.by_address("beta:9876") is None
    assert servers.by_name("main office") == [PIN] and servers.by_name("other") == []


def test_file_is_the_users_alone(tmp_path: Path) -> None:
    """The file has mode 0600 and its folder 0700."""
    servers = known(tmp_path)
    servers.remember(PIN)
    assert stat.S_IMODE(servers.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(servers.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(replace(PIN, key=OTHER_KEY, server_id="id-2"), id="same address"),
        pytest.param(replace(PIN, key=OTHER_KEY, address="beta:9876"), id="same server id"),
        pytest.param(replace(PIN, key=OTHER_KEY, server_id=""), id="same address, id unknown"),
    ],
)
def test_another_key_is_refused_and_both_fingerprints_are_named(tmp_path: Path, seen: Pin) -> None:
    """The same address or the same server id with another key is KeyChanged, on looking and on pinning."""
    servers = known(tmp_path)
    servers.remember(PIN)
    for act in (servers.holds, servers.remember):
        with pytest.raises(KeyChanged) as caught:
            act(seen)
        assert keyfile.fingerprint(KEY) in str(caught.value)
        assert keyfile.fingerprint(OTHER_KEY) in str(caught.value)
        assert "als trust" in str(caught.value) and caught.value.exit_code == 4
    assert servers.pins() == [PIN]


def test_known_key_at_a_new_address_is_known(tmp_path: Path) -> None:
    """A server that is reached under another name is the same as long as it has its key."""
    servers = known(tmp_path)
    servers.remember(PIN)
    moved = replace(PIN, address="10.0.0.7:9876", host="10.0.0.7")
    assert servers.holds(moved)
    servers.remember(moved)
    assert servers.pins() == [PIN, moved]


def test_servers_found_by_search_contradict_each_other_by_id_alone(tmp_path: Path) -> None:
    """Two servers that were found without an address are two, and pinning one again replaces its row."""
    servers = known(tmp_path)
    first = replace(PIN, address="")
    second = replace(first, server_id="id-2", key=OTHER_KEY)
    newer = replace(first, host="10.0.0.8")
    for pin in (first, second, newer):
        servers.remember(pin)
    assert servers.pins() == [second, newer]
    with pytest.raises(KeyChanged):
        servers.holds(replace(first, key=OTHER_KEY))


def test_trust_drops_what_contradicts_and_nothing_else(tmp_path: Path) -> None:
    """A key that a person confirmed replaces the old one under every address of that server."""
    servers = known(tmp_path)
    other = Pin("gamma:9876", "id-9", KEY[::-1], "Gamma", "gamma", 9876)
    for pin in (PIN, replace(PIN, address="10.0.0.7:9876"), other):
        servers.remember(pin)
    renewed = replace(PIN, key=OTHER_KEY)
    servers.trust(renewed)
    assert servers.pins() == [other, renewed] and servers.holds(renewed)


def test_pinning_again_writes_nothing(tmp_path: Path) -> None:
    """A pin that stands there already leaves the file alone."""
    servers = known(tmp_path)
    servers.remember(PIN)
    before = servers.path.stat().st_ino
    servers.remember(PIN)
    assert servers.path.stat().st_ino == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": 2, "servers": []}',
        b'{"format": 1, "servers": [{"address": "a"}]}',
        b'{"format": 1, "servers": "x"}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        json.dumps(
            {
                "format": 1,
                "servers": [
                    {"address": "a:1", "server_id": "", "key": "x" * 40, "name": "", "host": "a", "port": "1"},
                ],
            }
        ).encode(),
        b" " * 4_194_305,
    ],
)
def test_damaged_file_is_set_aside_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that makes no sense is kept under another name, said to be damaged, and pinning begins anew."""
    servers = known(tmp_path)
    servers.path.parent.mkdir()
    servers.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert servers.pins() == []
    (aside,) = servers.path.parent.glob("known_servers.json.damaged-*")
    assert aside.read_bytes() == content and aside.name in caplog.text
    servers.remember(PIN)
    assert servers.pins() == [PIN]


def test_damaged_file_is_set_aside_by_a_writer_too(tmp_path: Path) -> None:
    """Trusting a server over a damaged file keeps the old content as well."""
    servers = known(tmp_path)
    servers.path.parent.mkdir()
    servers.path.write_bytes(b"nonsense")
    servers.trust(PIN)
    assert servers.pins() == [PIN]
    assert len(list(servers.path.parent.glob("*.damaged-*"))) == 1


def test_two_damaged_files_are_both_kept(tmp_path: Path) -> None:
    """Setting aside never overwrites what was set aside before, within the same second either."""
    servers = known(tmp_path)
    servers.path.parent.mkdir()
    for content in (b"first", b"second", b"third"):
        servers.path.write_bytes(content)
        assert servers.pins() == []
    kept = {path.read_bytes() for path in servers.path.parent.glob("*.damaged-*")}
    assert kept == {b"first", b"second", b"third"}


def test_several_processes_pin_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """Four processes that pin ten servers each leave forty pins."""
    children = []
    for process in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for number in range(10):
                    name = f"{process}-{number}"
                    known(tmp_path).remember(replace(PIN, address=f"{name}:1", server_id=name))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(known(tmp_path).pins()) == 40


def test_of_two_keys_pinned_at_once_one_wins(tmp_path: Path) -> None:
    """A process that looked before another one pinned is refused when it comes to pin another key."""
    slow, fast = known(tmp_path), known(tmp_path)
    assert not slow.holds(replace(PIN, key=OTHER_KEY))
    fast.remember(PIN)
    with pytest.raises(KeyChanged):
        slow.remember(replace(PIN, key=OTHER_KEY))


def test_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A path that is no file, or under one, is an error of one line that names it."""
    (tmp_path / "file").write_text("")
    under_a_file = KnownServers(tmp_path / "file" / "known_servers.json")
    with pytest.raises(FolderUnusable, match="ALS_CLIENT_DIR"):
        under_a_file.trust(PIN)
    with pytest.raises(FolderUnusable, match=str(tmp_path)):
        KnownServers(tmp_path).pins()
