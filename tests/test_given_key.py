"""A key that was given holds whatever is found to it, and leaves what is pinned alone."""

from pathlib import Path

import pytest

from als import keyfile
from als_agents import configure, flags, main
from als_agents.errors import ServerNotFound
from als_agents.servers import Finder
from pretended_network import BRANCH, KEY, MAIN, OTHER_KEY, THIRD_KEY, Make, data_dir_with, make
from server_process import ServerProcess, free_udp_port

__all__ = ["make"]  # a fixture


def test_a_search_takes_only_the_server_with_this_key(make: Make) -> None:
    """Others that answer are passed over, however many there are; nothing is asked of anybody and nothing pinned."""
    finder: Finder = make(MAIN, BRANCH)
    for server in (finder.find_one(server_key=OTHER_KEY, trust="refuse"), *finder.find_all(server_key=OTHER_KEY)):
        assert (server.key, server.place, server.name) == (OTHER_KEY, ("10.0.0.2", 7000), "branch")
    assert finder.known.by_name("branch") == []


@pytest.mark.parametrize("find", ["find_one", "find_all"])
def test_a_search_in_which_nobody_has_this_key_finds_nobody(make: Make, find: str) -> None:
    """A server that has another key is no server; the message names the key that was wanted."""
    finder: Finder = make(MAIN, BRANCH)
    with pytest.raises(ServerNotFound) as error:
        getattr(finder, find)(server_key=THIRD_KEY)
    assert keyfile.fingerprint(THIRD_KEY) in str(error.value)
    assert finder.known.by_name("main") == []


def test_this_machines_server_must_have_it_too(make: Make, tmp_path: Path) -> None:
    """The server of the data folder that was named is not taken where its key is another."""
    finder: Finder = make(MAIN, BRANCH, data_dir=data_dir_with(tmp_path, KEY))
    with pytest.raises(ServerNotFound):
        finder.find_all(server_key=OTHER_KEY)
    assert finder.find_one(server_key=KEY).key == KEY


def test_configure_with_a_key_searches_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that a search finds is stored only if it has the key; what was pinned stays."""
    discovery_port = str(free_udp_port())
    monkeypatch.setenv("ALS_DISCOVERY_PORT", discovery_port)
    with ServerProcess(tmp_path / "server", "--discovery-port", discovery_port) as server:
        words = ["configure", "--search", "--client-dir", str(tmp_path), "--server-key"]
        right = flags.resolve(main.parser().parse_args([*words, server.server_key.decode()]), {})
        wrong = flags.resolve(main.parser().parse_args([*words, keyfile.to_z85(THIRD_KEY)]), {})
        assert configure.configure(right, is_terminal=False) == 0
        pinned = (tmp_path / "known_servers.json").read_text()
        with pytest.raises(ServerNotFound):
            configure.configure(wrong, is_terminal=False)
        assert (tmp_path / "known_servers.json").read_text() == pinned
