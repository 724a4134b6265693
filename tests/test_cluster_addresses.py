"""A cluster as its agents see it: one server with several addresses, however they come to know them."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from als import keyfile
from als_agents import configure, flags, main, network
from als_agents.discovery import FoundServer
from als_agents.known_servers import KnownServers, Pin
from als_agents.parameters import ParametersFile, StoredServer
from als_agents.server import Server, pin_of, spread
from als_agents.servers import Finder
from als_agents.testing import FakeServer
from als_agents.workplace import Workplace
from pretended_network import BRANCH, KEY, OTHER_KEY, PretendedNetwork, found

PLACES = (("10.0.1.1", 9876), ("10.0.1.2", 9876), ("10.0.1.3", 9876))
OFFICE = found("office", KEY, *PLACES)


def finder(folder: Path, *servers: FoundServer, variable: str = "", seed: int = 1, **network: object) -> Finder:
    """Make a user's finder on a pretended network, with an order of addresses that `seed` makes."""
    return Finder(
        known=KnownServers(folder / "known_servers.json"),
        parameters=ParametersFile(folder / "parameters.json"),
        net=PretendedNetwork(*servers, **network),  # type: ignore[arg-type]  # the names and broadcasts of the network
        environment={"ALS_SERVER": variable},
        server_dir=folder / "no data folder",
        shuffle=random.Random(seed).shuffle,
    )


def hosts(servers: Sequence[Server]) -> list[str]:
    """Give the hosts of servers in their order."""
    return [server.host for server in servers]


OFFICE_HOSTS = ["10.0.1.1", "10.0.1.2", "10.0.1.3"]


@pytest.mark.parametrize("way", ["search", "variable", "stored", "name", "dns"])
def test_a_fleet_spreads_over_a_cluster(way: str, tmp_path: Path) -> None:
    """Each agent knows all addresses, in an order of its own: of 300 agents each is the first choice of about 100."""
    first: Counter[str] = Counter()
    variable = {"variable": ",".join(OFFICE_HOSTS), "name": "office", "dns": "licenses"}.get(way, "")
    names = {"licenses": " ".join(OFFICE_HOSTS)}
    if way == "stored":
        finder(tmp_path).parameters.choose_servers([StoredServer(host, 9876, KEY) for host in OFFICE_HOSTS])
    for seed in range(300):
        servers = finder(tmp_path, OFFICE, variable=variable, seed=seed, names=names).find_all()
        assert sorted(hosts(servers)) == OFFICE_HOSTS
        assert {server.key for server in servers} == {KEY}
        first[servers[0].host] += 1
    assert sorted(first) == OFFICE_HOSTS
    assert min(first.values()) > 70


def test_servers_of_their_own_keep_their_order(tmp_path: Path) -> None:
    """A cluster is one server among others: its addresses stand together, where the first of them was named."""
    argument = "10.0.1.1,10.0.0.2:7000,10.0.1.2"
    for seed in range(20):
        servers = finder(tmp_path, OFFICE, BRANCH, seed=seed).find_all(argument)
        assert sorted(hosts(servers)[:2]) == ["10.0.1.1", "10.0.1.2"]
        assert servers[2].key == OTHER_KEY


def test_an_address_that_is_named_twice_is_asked_once(tmp_path: Path) -> None:
    """By its number and by the cluster's name it is still one address."""
    servers = finder(tmp_path, OFFICE).find_all("10.0.1.2,office,10.0.1.2")
    assert sorted(hosts(servers)) == OFFICE_HOSTS


def test_an_address_on_this_machine_comes_first() -> None:
    """Who runs on a server's machine needs no network to reach it."""
    places = [("10.0.1.1", 9876), ("127.0.0.1", 9876), ("10.0.1.2", 9876)]
    servers = [Server(host, port, KEY) for host, port in places]
    assert all(spread(servers, random.Random(seed).shuffle)[0].host == "127.0.0.1" for seed in range(20))


def test_a_known_name_brings_every_address(tmp_path: Path) -> None:
    """The name of a cluster is enough at the next start, without a search, and with a server of it gone."""
    finder(tmp_path, OFFICE).find_all("office")
    without = OFFICE._replace(addresses=PLACES[1:])
    again = finder(tmp_path, without, broadcasts=False)
    assert sorted(hosts(again.find_all("office"))) == OFFICE_HOSTS
    assert isinstance(again._net, PretendedNetwork) and again._net.searches == 0


def test_a_cluster_that_moved_is_remembered_where_it_is(tmp_path: Path) -> None:
    """When no known address answers, a search by the key finds the new ones, and they are kept."""
    finder(tmp_path, OFFICE).find_all("office")
    moved = found("office", KEY, ("10.0.2.1", 9876), ("10.0.2.2", 9876))
    assert sorted(hosts(finder(tmp_path, moved).find_all("office"))) == ["10.0.2.1", "10.0.2.2"]
    (pin,) = KnownServers(tmp_path / "known_servers.json").pins()
    assert pin.places == list(moved.addresses)


def test_a_pin_does_not_depend_on_the_order_of_the_answers(tmp_path: Path) -> None:
    """The same cluster is remembered by the same words, whoever answered first: nothing is written again."""
    servers = [Server(host, port, KEY, "id", "office") for host, port in PLACES]
    expected = Pin("", "id", KEY, "office", "10.0.1.1", 9876, PLACES[1:])
    assert pin_of(servers) == pin_of(servers[::-1]) == expected
    known = KnownServers(tmp_path / "known_servers.json")
    known.remember(pin_of(servers))
    assert known.pins() == [expected]


def test_pins_of_a_server_with_one_address_are_read_as_before(tmp_path: Path) -> None:
    """A file from before clusters, without further addresses, holds its keys."""
    row = {"address": "", "server_id": "id", "key": keyfile.to_z85(KEY), "name": "main", "host": "a", "port": 9876}
    (tmp_path / "known_servers.json").write_text(json.dumps({"format": 1, "servers": [row]}))
    (pin,) = KnownServers(tmp_path / "known_servers.json").pins()
    assert pin.places == [("a", 9876)]


def test_a_dns_name_of_several_addresses_is_stored_as_a_name(tmp_path: Path) -> None:
    """What is kept of a cluster that was given by one name is the name, so that its addresses may change."""
    servers = finder(tmp_path, OFFICE, names={"licenses": "10.0.1.1 10.0.1.2"}).find_all("licenses")
    assert sorted(hosts(servers)) == ["10.0.1.1", "10.0.1.2"]
    assert {server.as_stored().host for server in servers} == {"licenses"}
    file = ParametersFile(tmp_path / "parameters.json")
    file.choose_servers(server.as_stored() for server in servers)
    assert [server.host for server in file.read().servers] == ["licenses"]


@pytest.mark.parametrize("origin", ["stored", "named"])
def test_a_silent_server_is_searched_at_its_clusters_other_addresses(origin: str, tmp_path: Path) -> None:
    """Who knew one address only finds the others by the key, at the second try; who gave the key wants no search."""
    workplace = Workplace(folder=tmp_path, server=None if origin == "stored" else "10.0.1.1", pair=keyfile.generate())
    workplace.finder = finder(tmp_path, OFFICE)
    if origin == "stored":
        workplace.parameters.choose_servers([StoredServer("10.0.1.1", 9876, KEY)])
    assert hosts(workplace.find()) == ["10.0.1.1"]
    assert sorted(hosts(workplace.find())) == OFFICE_HOSTS
    workplace.server_key = KEY
    workplace.find()
    assert hosts(workplace.find()) == ["10.0.1.1"]


def test_configure_stores_every_address_of_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster that is searched and chosen is stored and pinned with all its addresses."""
    with FakeServer({"ATIES": 1}, name="office") as first, first.twin() as second:
        places = sorted([(first.host, first.port), (second.host, second.port)])
        office = FoundServer(first.server_id, "office", "0", first.key, (places[0], places[1]))
        monkeypatch.setattr(network, "Network", lambda environment: PretendedNetwork(BRANCH, office))
        arguments = ["configure", "--search", "--client-dir", str(tmp_path)]
        settings = flags.resolve(main.parser().parse_args(arguments), {})
        configure.configure(settings, ask=lambda question: "2", is_terminal=True)
    stored = ParametersFile(tmp_path / "parameters.json").read().servers
    assert sorted((server.host, server.port) for server in stored) == places
    (pin,) = KnownServers(tmp_path / "known_servers.json").pins()
    assert pin.places == places
    where = ", ".join(f"{host}:{port}" for host, port in places)
    assert f"2  office ({where}), key SHA256:" in capsys.readouterr().out
