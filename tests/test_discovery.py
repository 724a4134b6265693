"""Discovery over real UDP on loopback, with pretended answerers."""

import socket
import threading

import pytest

from als import beacon
from als_agents.discovery import FoundServer, ask, broadcast_addresses, discover
from echo_server import Beacon, saying

SHORT_S = 0.3
LONG_S = 5.0
KEY = bytes(range(32))
OTHER_KEY = bytes(32)


def answer(port: int = 9876, *, server_id: str = "id-1", name: str = "main", key: bytes = KEY) -> beacon.Answer:
    return beacon.Answer(server_id, name, "1.0", port, key)


def test_server_that_answers_is_found() -> None:
    """A search gives what the server says, with the address that the answer came from."""
    with Beacon(saying(answer(7_000))) as server:
        found = discover(SHORT_S, server.port, ["127.0.0.1"])
    assert found == [FoundServer("id-1", "main", "1.0", KEY, (("127.0.0.1", 7_000),))]


def test_nobody_is_an_empty_list() -> None:
    """A search without answers ends in time and finds nothing."""
    with Beacon(lambda nonce: []) as silent:
        assert discover(SHORT_S, silent.port, ["127.0.0.1"]) == []


def test_server_seen_at_two_addresses_is_one_row() -> None:
    """One server id and key is one row with every address that it answered from."""
    with (
        Beacon(saying(answer(7_000))) as first,
        Beacon(saying(answer(7_000)), host="127.0.0.2", port=first.port),
    ):
        (found,) = discover(SHORT_S, first.port, ["127.0.0.1", "127.0.0.2"])
    assert sorted(found.addresses) == [("127.0.0.1", 7_000), ("127.0.0.2", 7_000)]


def test_two_servers_are_two_rows_by_name() -> None:
    """Rows are sorted by name, whoever answered first."""
    said = saying(answer(1, name="zeta", server_id="a"), answer(2, name="Alpha", server_id="b"))
    with Beacon(said) as server:
        found = discover(SHORT_S, server.port, ["127.0.0.1"])
    assert [row.name for row in found] == ["Alpha", "zeta"]


def test_one_server_id_with_two_keys_is_two_rows() -> None:
    """An impostor that copies a server's id cannot hide behind its row."""
    with Beacon(saying(answer(1), answer(1, key=OTHER_KEY))) as server:
        assert len(discover(SHORT_S, server.port, ["127.0.0.1"])) == 2


def test_answers_that_do_not_fit_are_ignored() -> None:
    """Another nonce, another version and plain garbage find nothing, and stop nothing."""

    def answers(nonce: bytes) -> list[bytes]:
        good = beacon.encode_answer(nonce, answer(5))
        other_nonce = beacon.encode_answer(bytes(16), answer(6))
        return [b"", b"ALSA", good[:30], good + b"x", b"ALSA\x02" + good[5:], other_nonce, good]

    with Beacon(answers) as server:
        (found,) = discover(SHORT_S, server.port, ["127.0.0.1"])
    assert found.addresses == (("127.0.0.1", 5),)


def test_answer_from_a_port_that_was_not_asked_is_ignored() -> None:
    """Who overheard the nonce still has to answer from the discovery port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query_port:
        query_port.bind(("127.0.0.1", 0))
        query_port.settimeout(LONG_S)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:

            def answer_from_elsewhere() -> None:
                datagram, source = query_port.recvfrom(1_024)
                nonce = beacon.decode_query(datagram)
                assert nonce is not None
                elsewhere.sendto(beacon.encode_answer(nonce, answer()), source)

            thread = threading.Thread(target=answer_from_elsewhere)
            thread.start()
            assert discover(SHORT_S, query_port.getsockname()[1], ["127.0.0.1"]) == []
            thread.join()


def test_what_a_server_says_cannot_play_with_a_terminal() -> None:
    """Escape sequences and line breaks in an answer's words are made harmless."""
    with Beacon(saying(answer(name="a\x1b[2J\nb", server_id="id\r"))) as server:
        (found,) = discover(SHORT_S, server.port, ["127.0.0.1"])
    assert (found.name, found.server_id) == ("a?[2J?b", "id?")


def test_destinations_that_cannot_be_reached_are_passed_over() -> None:
    """One destination without a route does not keep the query from the others."""
    with Beacon(saying(answer())) as server:
        assert len(discover(SHORT_S, server.port, ["no-such-host.invalid", "240.0.0.1", "127.0.0.1"])) == 1


def test_lost_query_is_sent_again() -> None:
    """A server that the first datagram did not reach is found by the second."""
    lost: list[bytes] = []

    def answers(nonce: bytes) -> list[bytes]:
        lost.append(nonce)
        return [] if len(lost) == 1 else [beacon.encode_answer(nonce, answer())]

    with Beacon(answers) as server:
        assert len(discover(SHORT_S, server.port, ["127.0.0.1"])) == 1
        assert len(set(lost)) == 1


def test_broadcast_on_loopback_is_heard_by_a_socket_bound_to_everything() -> None:
    """Without any network, 127.255.255.255 still finds the server on this machine."""
    with Beacon(saying(answer()), host="0.0.0.0") as server:
        try:
            found = discover(SHORT_S, server.port)
        except OSError as error:
            pytest.skip(f"no broadcast here: {error}")
        assert [row.server_id for row in found] == ["id-1"]
        assert ("127.0.0.1", 9876) in found[0].addresses


def test_broadcast_goes_to_everybody_to_each_network_and_to_loopback() -> None:
    """The list begins with 255.255.255.255, ends with 127.255.255.255 and names nothing twice."""
    destinations = broadcast_addresses()
    assert (destinations[0], destinations[-1]) == ("255.255.255.255", "127.255.255.255")
    assert len(set(destinations)) == len(destinations)


def test_ask_takes_the_answer_with_the_port_that_was_asked_for() -> None:
    """Of two servers on one host the one at the given TCP port is meant."""
    with Beacon(saying(answer(7_001, server_id="other"), answer(7_000))) as server:
        found = ask("127.0.0.1", 7_000, LONG_S, server.port)
        assert found == FoundServer("id-1", "main", "1.0", KEY, (("127.0.0.1", 7_000),))
        assert ask("127.0.0.1", 7_002, SHORT_S, server.port) is None


def test_ask_reaches_a_server_that_hears_on_its_own_port_alone() -> None:
    """HOST:PORT is asked at UDP PORT too, where another server has the discovery port."""
    said: list[beacon.Answer] = []
    with (
        Beacon(lambda nonce: []) as somebody,
        Beacon(lambda nonce: [beacon.encode_answer(nonce, one) for one in said]) as server,
    ):
        said.append(answer(server.port))
        found = ask("127.0.0.1", server.port, LONG_S, somebody.port)
        assert found is not None and found.addresses == (("127.0.0.1", server.port),)


def test_ask_without_a_port_takes_the_port_that_is_answered() -> None:
    """HOST alone finds the server wherever it listens on that host, and keeps the name as given."""
    with Beacon(saying(answer(7_123))) as server:
        found = ask("localhost", None, LONG_S, server.port)
    assert found is not None and found.addresses == (("localhost", 7_123),)


def test_ask_with_discovery_off_and_no_port_asks_nobody() -> None:
    """With no port at all there is nothing to ask, and no waiting."""
    assert ask("127.0.0.1", None, 60.0, 0) is None


def test_ask_of_an_unknown_host_is_none() -> None:
    """A name that cannot be resolved is a host that does not answer."""
    assert ask("no-such-host.invalid", 9876, 60.0) is None
    assert ask("x" * 300, 9876, 60.0) is None
