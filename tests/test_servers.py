"""Which server is meant and whether its key may be believed, on a pretended network."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from als import keyfile
from als_agents import server_address
from als_agents.errors import (
    BadServerArgument,
    ClientError,
    KeyChanged,
    NoAnswer,
    NotTrusted,
    ServerNotFound,
    SeveralServers,
)
from als_agents.known_servers import KnownServers
from als_agents.network import Network
from als_agents.parameters import ParametersFile, StoredServer
from als_agents.server_address import ServerAddress
from als_agents.servers import Finder, Server, read_server_key
from pretended_network import (
    BRANCH,
    KEY,
    MAIN,
    OTHER_KEY,
    THIRD_KEY,
    Make,
    PretendedNetwork,
    data_dir_with,
    found,
    make,
)

__all__ = ["make"]  # a fixture


@pytest.mark.parametrize(
    ("argument", "address", "text"),
    [
        ("alpha", ServerAddress("alpha", None), "alpha:9876"),
        (" Alpha.Example ", ServerAddress("alpha.example", None), "alpha.example:9876"),
        ("alpha:7000", ServerAddress("alpha", 7000), "alpha:7000"),
        ("10.0.0.1", ServerAddress("10.0.0.1", None), "10.0.0.1:9876"),
        ("[::1]:7000", ServerAddress("::1", 7000), "[::1]:7000"),
        ("[FE80::1]", ServerAddress("fe80::1", None), "[fe80::1]:9876"),
        ("fe80::1%Eth0", ServerAddress("fe80::1%Eth0", None), "[fe80::1%Eth0]:9876"),
        ("::1", ServerAddress("::1", None), "[::1]:9876"),
        ("Main Office", ServerAddress("main office", None), "main office:9876"),
        ("lab: main", ServerAddress("lab: main", None), "lab: main:9876"),
        ("[x]:1", ServerAddress("[x]:1", None), "[x]:1:9876"),
    ],
)
def test_server_arguments(argument: str, address: ServerAddress, text: str) -> None:
    """HOST, HOST:PORT, [V6]:PORT and names are told apart, and each has one way to be remembered."""
    parsed = server_address.parse(argument)
    assert parsed == address and parsed.text == text


@pytest.mark.parametrize("argument", ["", "  ", "alpha:0", "alpha:65536", "[::1]:99999", "a:" + "9" * 500, "x" * 600])
def test_impossible_server_arguments_are_wrong_usage(argument: str) -> None:
    """An empty argument and an impossible port end with exit code 2."""
    with pytest.raises(BadServerArgument) as caught:
        server_address.parse(argument)
    assert caught.value.exit_code == 2


def test_address_is_asked_and_pinned_at_first_use(make: Make) -> None:
    """A server at an address tells its key once; from then on the pin is used and nobody is asked."""
    finder = make(MAIN)
    server = finder.find_one("10.0.0.1")
    assert server == Server("10.0.0.1", 9876, KEY, "id of main", "main", "10.0.0.1:9876", "found")
    net = PretendedNetwork()
    again = make(net=net).find_one("10.0.0.1", trust="refuse")
    assert again == replace(server, origin="known") and net.asked == net.searches == 0


def test_host_alone_finds_another_port(make: Make) -> None:
    """HOST without a port is the server that answers there, and stays so when it is pinned."""
    assert make(BRANCH).find_one("10.0.0.2").port == 7000
    assert make().find_one("10.0.0.2").port == 7000


def test_host_with_a_port_means_this_port(make: Make) -> None:
    """HOST:PORT does not fall for a server at another port of the host."""
    with pytest.raises(ServerNotFound, match=r"10\.0\.0\.2:9876") as caught:
        make(BRANCH).find_one("10.0.0.2:9876")
    assert caught.value.exit_code == 3


def test_dns_name_stays_the_host(make: Make) -> None:
    """A server that was given by its DNS name is connected to by that name, so that it may move."""
    server = make(MAIN, names={"licenses": "10.0.0.1"}).find_one("Licenses")
    assert (server.host, server.address) == ("licenses", "licenses:9876")


def test_discovered_name(make: Make) -> None:
    """A name that DNS does not know is searched for, in any case, by name or by server id."""
    for argument in ("MAIN", "id of main"):
        server = make(MAIN, BRANCH).find_one(argument)
        assert (server.host, server.port, server.key) == ("10.0.0.1", 9876, KEY)


def test_name_that_two_servers_have(make: Make) -> None:
    """Two servers of one name are an error that lists both."""
    twin = found("main", OTHER_KEY, ("10.0.0.9", 9876), server_id="twin")
    with pytest.raises(SeveralServers, match=r"main \(10\.0\.0\.1:9876\), main \(10\.0\.0\.9:9876\)") as caught:
        make(MAIN, twin).find_one("main")
    assert caught.value.exit_code == 2


def test_name_that_nobody_has(make: Make) -> None:
    """A name that neither DNS nor a search knows is not found."""
    with pytest.raises(ServerNotFound, match="nowhere"):
        make(MAIN).find_one("nowhere")


def test_known_name_comes_before_dns(make: Make) -> None:
    """Who is pinned under a name is meant by it, whatever DNS says."""
    make(MAIN).find_one("main")
    assert make(MAIN, BRANCH, names={"main": "10.0.0.2"}).find_one("main").key == KEY


def test_known_name_follows_its_server_to_a_new_address(make: Make) -> None:
    """A pinned server that moved is found by its key; another server at its old address does not get its place."""
    make(MAIN).find_one("main")
    moved = MAIN._replace(addresses=(("10.0.0.77", 9876),))
    squatter = found("main", OTHER_KEY, ("10.0.0.1", 9876), server_id="squatter")
    server = make(squatter, moved).find_one("main", trust="refuse")
    assert (server.host, server.key) == ("10.0.0.77", KEY)


def test_known_name_where_nobody_answers_is_its_last_address(make: Make) -> None:
    """Where discovery is blocked the pin still says where to connect."""
    make(MAIN).find_one("main")
    assert make().find_one("main").host == "10.0.0.1"


def test_left_out_is_the_one_server_there_is(make: Make) -> None:
    """Without an argument the one discovered server is meant."""
    assert make(MAIN).find_one().key == KEY


def test_left_out_and_several_is_an_error(make: Make) -> None:
    """Several discovered servers are listed; none is chosen silently."""
    with pytest.raises(SeveralServers, match="branch") as caught:
        make(MAIN, BRANCH).find_one()
    assert "main" in str(caught.value) and "10.0.0.2:7000" in str(caught.value)


def test_left_out_and_none(make: Make) -> None:
    """No server at all is not found, and the message says how to give one."""
    with pytest.raises(ServerNotFound, match="HOST:PORT"):
        make().find_one()


def test_impostor_beside_a_known_server_is_passed_over(make: Make) -> None:
    """Who copies a known server's id makes no second server; alone it is KeyChanged."""
    make(MAIN).find_one()
    impostor = MAIN._replace(key=OTHER_KEY, addresses=(("10.6.6.6", 9876),))
    assert make(impostor, MAIN).find_one().key == KEY
    with pytest.raises(KeyChanged):
        make(impostor).find_one()


def test_variable_comes_before_stored_and_stored_before_search(make: Make) -> None:
    """ALS_SERVER, then the stored parameters, then a search; an argument before all."""
    stored = StoredServer("10.0.0.3", 9876, THIRD_KEY, "id-3", "third")
    make().parameters.choose_servers([stored])
    assert make(MAIN, BRANCH).find_one().key == THIRD_KEY
    assert make(MAIN, BRANCH).find_one().origin == "stored"
    assert make(MAIN, BRANCH, variable="10.0.0.2").find_one().key == OTHER_KEY
    assert make(MAIN, BRANCH, variable="10.0.0.2").find_one("10.0.0.1").key == KEY
    assert make(MAIN, BRANCH, variable=" , ").find_one().key == THIRD_KEY


def test_of_several_in_a_list_the_first_that_answers_is_taken(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A list in ALS_SERVER is tried in order; what cannot be found is said and passed over."""
    with caplog.at_level(logging.WARNING):
        finder = make(MAIN, BRANCH, variable="10.9.9.9,10.0.0.2,10.0.0.1")
        assert finder.find_one().key == OTHER_KEY
    assert "10.9.9.9" in caplog.text
    assert make(MAIN, variable="10.0.0.2,10.0.0.1").find_one().key == KEY  # both pinned, one is silent


def test_every_server_of_a_list_in_order(make: Make) -> None:
    """Agents get all servers of a list, in its order."""
    servers = make(MAIN, BRANCH).find_all("10.0.0.2,10.0.0.1")
    assert [server.key for server in servers] == [OTHER_KEY, KEY]


def test_list_of_which_nothing_can_be_used(make: Make) -> None:
    """When no entry can be used the gravest reason is raised."""
    make(MAIN).find_one("10.0.0.1")
    make(MAIN).known.trust(Server("10.0.0.2", 7000, THIRD_KEY, "id of branch", "branch", "x:1").as_pin())
    with pytest.raises(KeyChanged):
        make(BRANCH).find_all("10.9.9.9,10.0.0.2:7000")


def test_agents_take_every_server_that_is_found_known_ones_first(make: Make) -> None:
    """A search gives agents all servers, those with a pinned key first, and each address of one."""
    make(BRANCH).find_one()
    main = MAIN._replace(addresses=(("10.0.1.2", 9876), ("10.0.1.1", 9876)))
    servers = make(main, BRANCH).find_all()
    assert [server.host for server in servers] == ["10.0.0.2", "10.0.1.1", "10.0.1.2"]


def test_stored_servers_are_all_given(make: Make) -> None:
    """Stored parameters name every server of an agent, and no other is added."""
    make().parameters.choose_servers([StoredServer("a", 1, KEY), StoredServer("b", 2, OTHER_KEY)])
    assert [server.host for server in make(MAIN).find_all()] == ["a", "b"]


def test_explicit_key_needs_no_search(make: Make) -> None:
    """A key that was given is believed: nobody is asked, nothing is pinned."""
    net = PretendedNetwork()
    finder = make(net=net)
    server = finder.find_one("alpha:7000", server_key=OTHER_KEY, trust="refuse")
    assert (server.host, server.port, server.key, server.origin) == ("alpha", 7000, OTHER_KEY, "given")
    assert net.asked == net.searches == 0 and finder.known.pins() == []


def test_commands_that_change_something_refuse_a_new_key(make: Make) -> None:
    """An unpinned remote server is NotTrusted, with its fingerprint and the way to trust it; nothing is pinned."""
    finder = make(MAIN)
    with pytest.raises(NotTrusted, match=r"als trust 10\.0\.0\.1:9876") as caught:
        finder.find_one("10.0.0.1", trust="refuse")
    assert keyfile.fingerprint(KEY) in str(caught.value) and caught.value.exit_code == 4
    assert finder.known.pins() == []


def test_key_that_was_pinned_by_reading_may_change_something(make: Make) -> None:
    """A server that is known, under another address too, needs no question."""
    make(MAIN).find_one("10.0.0.1")
    server = make(MAIN, names={"licenses": "10.0.0.1"}).find_one("licenses", trust="refuse")
    assert server.key == KEY


@pytest.mark.parametrize("says_yes", [True, False])
def test_person_is_asked(make: Make, says_yes: bool) -> None:
    """With trust "ask" a person sees the server and decides; yes pins it, no is NotTrusted."""
    shown: list[Server] = []

    def confirm(server: Server) -> bool:
        shown.append(server)
        return says_yes

    finder = make(MAIN)
    if says_yes:
        finder.find_one("10.0.0.1", trust="ask", confirm=confirm)
        make(MAIN).find_one("10.0.0.1", trust="ask")
    else:
        with pytest.raises(NotTrusted):
            finder.find_one("10.0.0.1", trust="ask", confirm=confirm)
    assert [server.fingerprint for server in shown] == [keyfile.fingerprint(KEY)]
    assert len(finder.known.pins()) == int(says_yes)


def test_own_machines_key_is_read_from_its_folder(make: Make, tmp_path: Path) -> None:
    """On the server's machine the folder's key is believed, with discovery switched off too, and not pinned."""
    folder = data_dir_with(tmp_path, KEY)
    finder = make(names={"localhost": "127.0.0.1"}, data_dir=folder)
    server = finder.find_one("localhost:7000", trust="refuse")
    assert (server.port, server.key, server.origin) == (7000, KEY, "local")
    assert finder.known.pins() == []


def test_another_server_on_this_machine_is_not_the_folders(make: Make, tmp_path: Path) -> None:
    """Where another key answers at the port, the folder's does not count and the usual rules do."""
    folder = data_dir_with(tmp_path, KEY)
    other = found("other", OTHER_KEY, ("127.0.0.1", 7000))
    finder = make(other, data_dir=folder)
    with pytest.raises(NotTrusted):
        finder.find_one("127.0.0.1:7000", trust="refuse")
    server = finder.find_one("127.0.0.1:7000")
    assert (server.key, server.origin) == (OTHER_KEY, "found")


def test_folders_key_does_not_count_for_other_machines(make: Make, tmp_path: Path) -> None:
    """A remote server is not believed because there is a data folder here."""
    folder = data_dir_with(tmp_path, OTHER_KEY)
    with pytest.raises(NotTrusted):
        make(MAIN, data_dir=folder).find_one("10.0.0.1", trust="refuse")


def test_named_data_folder_chooses_its_server_among_several(make: Make, tmp_path: Path) -> None:
    """Who names a data folder and no server means that folder's server, wherever it answers."""
    folder = data_dir_with(tmp_path, OTHER_KEY)
    server = make(MAIN, BRANCH, data_dir=folder).find_one(trust="refuse")
    assert (server.host, server.key, server.origin) == ("10.0.0.2", OTHER_KEY, "local")


def test_named_data_folder_comes_before_the_stored_parameters(make: Make, tmp_path: Path) -> None:
    """What an agent on this machine has stored does not matter to who names a data folder."""
    folder = data_dir_with(tmp_path, OTHER_KEY)
    finder = make(MAIN, BRANCH, data_dir=folder)
    finder.parameters.choose_servers([StoredServer("10.0.0.1", 9876, KEY)])
    assert finder.find_one().key == OTHER_KEY
    assert make(MAIN, BRANCH, data_dir=tmp_path / "empty").find_one().key == KEY


def test_own_machines_server_is_there_without_a_search(make: Make, tmp_path: Path) -> None:
    """With discovery switched off and no argument, the server of this machine is meant."""
    folder = data_dir_with(tmp_path, KEY)
    server = make(data_dir=folder).find_one()
    assert (server.host, server.port, server.key) == ("127.0.0.1", 9876, KEY)


def test_silence_of_a_server_with_another_key_is_key_changed(make: Make) -> None:
    """A time-out is followed by one question; another key in the answer names both fingerprints."""
    finder = make(MAIN)
    server = finder.find_one("10.0.0.1")
    renewed = make(MAIN._replace(key=OTHER_KEY))
    with pytest.raises(KeyChanged, match=r"als trust 10\.0\.0\.1:9876") as caught, renewed.explained(server):
        raise NoAnswer("silence")
    assert keyfile.fingerprint(KEY) in str(caught.value) and keyfile.fingerprint(OTHER_KEY) in str(caught.value)


def test_silence_of_a_stored_server_names_its_own_remedy(make: Make) -> None:
    """Where the stored parameters hold the old key, trusting a pin would not help."""
    server = Server.from_stored(StoredServer("10.0.0.1", 9876, OTHER_KEY))
    error = make(MAIN).explain_silence(server)
    assert isinstance(error, KeyChanged) and "als-agent configure --server 10.0.0.1:9876" in str(error)


def test_silence_of_nobody_is_not_found(make: Make) -> None:
    """No answer to the question is exit code 3; so is a server that hears UDP alone, with another hint."""
    finder = make(MAIN)
    server = finder.find_one("10.0.0.1")
    silent: list[ClientError] = [make().explain_silence(server), make(MAIN).explain_silence(server)]
    assert [type(error) for error in silent] == [ServerNotFound, ServerNotFound]
    assert "no license server answers" in str(silent[0]) and "firewall" in str(silent[1])


def test_replies_pass_through_unexplained(make: Make) -> None:
    """What is no silence is none of its business."""
    server = Server("10.0.0.1", 9876, KEY)
    with pytest.raises(ZeroDivisionError), make().explained(server):
        raise ZeroDivisionError


def test_look_shows_what_is_there_whatever_is_pinned(make: Make) -> None:
    """Before a person trusts a new key, the server at the address shows it, though another is pinned."""
    make(MAIN).find_one("10.0.0.1")
    finder = make(MAIN._replace(key=OTHER_KEY))
    server = finder.look("10.0.0.1")
    assert server.key == OTHER_KEY
    finder.known.trust(server.as_pin())
    assert make().find_one("10.0.0.1", trust="refuse").key == OTHER_KEY


def test_silent_server_is_found_elsewhere_by_its_key(make: Make) -> None:
    """A stored server that has a new address is recognized by its key alone."""
    server = Server.from_stored(StoredServer("10.0.0.77", 9876, KEY))
    (moved,) = make(MAIN, BRANCH).find_elsewhere([server])
    assert (moved.host, moved.port, moved.key) == ("10.0.0.1", 9876, KEY)
    assert make(BRANCH).find_elsewhere([server]) == []
    assert make(MAIN).find_elsewhere([replace(server, host="10.0.0.1")]) == []


def test_the_likely_host_is_known_without_a_question(make: Make) -> None:
    """What a computer would show a server depends on the way there: the first that is named, else stored, else none."""
    net = PretendedNetwork(MAIN, BRANCH)
    assert make(net=net).likely_host() is None
    make(net=net).parameters.choose_servers([StoredServer("stored", 1, KEY), StoredServer("other", 1, KEY)])
    assert make(net=net).likely_host() == "stored"
    assert make(net=net, variable=" , First:7000,second").likely_host() == "first"
    assert make(net=net, variable="first").likely_host("[fd00::1]:7000") == "fd00::1"
    assert net.asked == net.searches == 0


def test_pin_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An agent without a folder of its own still reaches its server, and says what is missing."""
    (tmp_path / "file").write_text("")
    finder = Finder(
        known=KnownServers(tmp_path / "file" / "known_servers.json"),
        parameters=ParametersFile(tmp_path / "parameters.json"),
        net=PretendedNetwork(MAIN),
        environment={},
    )
    assert finder.find_one("10.0.0.1").key == KEY
    assert "not remembered" in caplog.text


def test_empty_argument_is_wrong_usage(make: Make) -> None:
    """An empty argument is no search: a variable that was meant and not set should not choose a server."""
    with pytest.raises(BadServerArgument):
        make(MAIN).find_one("")


def test_server_key_as_text_and_as_file(tmp_path: Path) -> None:
    """A key is given by its 40 characters or by the path of server.key."""
    folder = data_dir_with(tmp_path, KEY)
    assert read_server_key(keyfile.to_z85(KEY)) == KEY
    assert read_server_key(str(folder / "server.key")) == KEY
    with pytest.raises(BadServerArgument):
        read_server_key("nonsense")


@pytest.mark.parametrize(("text", "port"), [("", 9876), ("7000", 7000), ("0", 0)])
def test_discovery_port_from_the_environment(text: str, port: int) -> None:
    """ALS_DISCOVERY_PORT says where servers are asked; 0 switches the search off."""
    assert Network(environment={"ALS_DISCOVERY_PORT": text}).discovery_port == port


@pytest.mark.parametrize("text", ["x", "-1", "65536", "²"])
def test_impossible_discovery_port_is_wrong_usage(text: str) -> None:
    """A discovery port that is none is said to be so."""
    with pytest.raises(BadServerArgument, match="ALS_DISCOVERY_PORT"):
        Network(environment={"ALS_DISCOVERY_PORT": text})


def test_search_that_is_switched_off_finds_nobody_at_once() -> None:
    """With discovery port 0 nothing is sent."""
    assert Network(0).search() == []


def test_this_machine_is_known_by_its_addresses() -> None:
    """Loopback names and addresses are here; an address of a documentation network and an unknown name are not."""
    net = Network(0)
    assert all(net.is_here(host) for host in ("127.0.0.1", "127.1.2.3", "localhost"))
    assert not net.is_here("203.0.113.99") and not net.is_here("no-such-host.invalid")
