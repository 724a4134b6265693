"""The client against a real CURVE ROUTER: requests, replies that fit and that do not, silence, forks."""

import os
import socket
import threading
from typing import Any

import psutil
import pytest
import zmq

from als import keyfile, protocol
from als_agents.client import Client, NoAnswer, Refused, granted
from echo_server import EchoServer, say_yes

SHORT_S = 0.3
LONG_S = 10.0
ME = keyfile.generate()


def client_of(server: EchoServer) -> Client:
    return Client(server.host, server.port, server.pair.public, ME)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_request_gives_the_reply_that_belongs_to_it() -> None:
    """A request returns the map of its own reply."""
    with EchoServer() as server, client_of(server) as client:
        reply = client.request("hello", timeout_s=LONG_S)
        assert (reply["operation"], reply["ok"], reply["time"]) == ("hello", True, 1_000)


def test_refusal_is_raised_with_code_message_and_detail() -> None:
    """What the server refuses arrives as Refused, whole."""

    def answers(request: dict[str, Any]) -> list[bytes]:
        refusal = protocol.Refusal("no_free_license", "None is free.", {"total": 5, "free": 0})
        return [protocol.encode_refusal(request["id"], 1, refusal)]

    with EchoServer(answers) as server, client_of(server) as client:
        with pytest.raises(Refused) as caught:
            client.request("hello", timeout_s=LONG_S)
        assert (caught.value.code, str(caught.value)) == ("no_free_license", "None is free.")
        assert (caught.value.detail, caught.value.exit_code) == ({"total": 5, "free": 0}, 1)


def test_patience_is_the_time_out() -> None:
    """The server learns for how long the client waits, unless the caller says otherwise."""
    with EchoServer() as server, client_of(server) as client:
        client.request("hello", timeout_s=2.5)
        client.request("hello", timeout_s=LONG_S, patience_ms=7)
        assert [request["patience_ms"] for request in server.requests] == [2_500, 7]


def test_absent_fields_are_not_sent() -> None:
    """A field that is None does not appear in the request."""
    with EchoServer() as server, client_of(server) as client:
        client.request("licenses", product=None, limit=5, timeout_s=LONG_S)
        assert "product" not in server.requests[0] and server.requests[0]["limit"] == 5


def test_replies_to_nobody_are_passed_over() -> None:
    """Neither a reply with another id nor one that is no reply at all is taken for the answer."""

    def answers(request: dict[str, Any]) -> list[bytes]:
        stale = protocol.encode_reply(request["id"] + 1_000, 1, {"operation": "stale"})
        return [b"", b"\xc1", b"\x80", stale, *say_yes(request)]

    with EchoServer(answers) as server, client_of(server) as client:
        assert client.request("hello", timeout_s=LONG_S)["operation"] == "hello"


def test_refusal_without_id_belongs_to_the_only_request() -> None:
    """A refusal with id 0 ends the one request that is under way."""

    def answers(request: dict[str, Any]) -> list[bytes]:
        return [protocol.encode_refusal(0, 1, protocol.Refusal("bad_request", "No map."))]

    with EchoServer(answers) as server, client_of(server) as client:
        with pytest.raises(Refused, match="No map"):
            client.request("hello", timeout_s=LONG_S)
        first = client.send("hello")
        assert client.receive(LONG_S)[0] == 0
        assert client.under_way == 1
        client.forget(first)
        assert client.under_way == 0


def test_nobody_there_is_no_answer() -> None:
    """A closed port is NoAnswer after the time-out, with exit code 3 and a hint."""
    with Client("127.0.0.1", free_port(), ME.public, ME) as client:
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.3 s") as caught:
            client.request("hello", timeout_s=SHORT_S)
        assert caught.value.exit_code == 3


def test_wrong_server_key_is_no_answer() -> None:
    """A server that cannot prove the expected key never sees the request."""
    with EchoServer() as server:
        with Client(server.host, server.port, ME.public, ME) as client, pytest.raises(NoAnswer):
            client.request("hello", timeout_s=SHORT_S)
        assert server.requests == []


def test_request_that_was_given_up_is_not_delivered_later() -> None:
    """A server that comes back gets the next request alone, not those that nobody waits for any more."""
    port = free_port()
    server = EchoServer(port=port)
    with Client("127.0.0.1", port, server.pair.public, ME) as client:
        with pytest.raises(NoAnswer):
            client.request("acquire", timeout_s=SHORT_S)
        with server:
            client.request("hello", timeout_s=LONG_S)
        assert [request["op"] for request in server.requests] == ["hello"]


def test_unknown_host_name_is_no_answer() -> None:
    """A name that nobody knows is said to be one."""
    with Client("no-such-host.invalid", 9876, ME.public, ME) as client:
        with pytest.raises(NoAnswer, match=r"no-such-host\.invalid"):
            client.request("hello", timeout_s=SHORT_S)
        with pytest.raises(NoAnswer):
            Client("a" * 300, 9876, ME.public, ME).request("hello")


def test_several_requests_under_way_and_answered_in_any_order() -> None:
    """Replies that come in another order are told apart by their ids."""
    kept: list[bytes] = []

    def answers(request: dict[str, Any]) -> list[bytes]:
        kept.extend(say_yes(request))
        return kept[::-1] if len(kept) == 3 else []

    with EchoServer(answers) as server, client_of(server) as client:
        sent = [client.send(operation) for operation in ("hello", "status", "licenses")]
        assert client.under_way == 3
        got = [client.receive(LONG_S) for _ in sent]
        assert [request_id for request_id, _ in got] == sent[::-1]
        assert [granted(reply)["operation"] for _, reply in got] == ["licenses", "status", "hello"]
        with pytest.raises(NoAnswer):
            client.receive(0)


def test_request_keeps_the_replies_to_others() -> None:
    """A request in between takes its own reply and leaves those to earlier ones for receive."""
    with EchoServer() as server, client_of(server) as client:
        first = client.send("status")
        assert client.request("hello", timeout_s=LONG_S)["operation"] == "hello"
        request_id, reply = client.receive(LONG_S)
        assert (request_id, reply["operation"]) == (first, "status")


def test_request_in_vain_leaves_others_under_way() -> None:
    """A time-out drops the connection only where nothing else waits on it."""
    answered: list[dict[str, Any]] = []

    def answers(request: dict[str, Any]) -> list[bytes]:
        answered.append(request)
        return [] if request["op"] == "hello" else [] if len(answered) < 3 else say_yes(answered[0])

    with EchoServer(answers) as server, client_of(server) as client:
        first = client.send("status")
        with pytest.raises(NoAnswer):
            client.request("hello", timeout_s=SHORT_S)
        client.send("licenses")
        assert client.receive(LONG_S)[0] == first


def test_forgotten_request_is_passed_over() -> None:
    """The reply to a request that was forgotten is given to nobody."""
    with EchoServer() as server, client_of(server) as client:
        client.forget(client.send("status"))
        second = client.send("hello")
        assert client.receive(LONG_S)[0] == second


def test_request_beyond_the_size_limit_is_not_sent() -> None:
    """A request that the server would not read is refused here, and the connection stays good."""
    with EchoServer() as server, client_of(server) as client:
        with pytest.raises(Refused) as caught:
            client.request("import", serials=["x" * protocol.REQUEST_BYTES_MAX])
        assert caught.value.code == "too_large"
        assert client.request("hello", timeout_s=LONG_S)["operation"] == "hello"


def test_poller_can_wait_for_the_socket() -> None:
    """A program with a poller of its own waits for client.socket and then receives without waiting."""
    with EchoServer() as server, client_of(server) as client:
        sent = client.send("hello")
        poller = zmq.Poller()
        poller.register(client.socket, zmq.POLLIN)
        assert poller.poll(int(LONG_S * 1_000))
        assert client.receive(0)[0] == sent


def test_client_chooses_no_routing_id() -> None:
    """The ROUTER names the connection: five bytes that begin with 0."""
    with EchoServer() as server, client_of(server) as client:
        client.request("hello", timeout_s=LONG_S)
        assert len(server.routing_ids[0]) == 5 and server.routing_ids[0][0] == 0


def test_ids_of_two_clients_start_apart() -> None:
    """Ids start at random, so that no client takes an answer meant for an earlier one."""
    with EchoServer() as server:
        for _ in range(2):
            with client_of(server) as client:
                client.request("hello", timeout_s=LONG_S)
        first, second = (request["id"] for request in server.requests)
        assert abs(first - second) > 1_000


def test_host_name_is_tried_at_all_its_addresses() -> None:
    """`localhost` reaches a server that listens on 127.0.0.1 alone, whatever address comes first."""
    with EchoServer() as server, Client("localhost", server.port, server.pair.public, ME) as client:
        assert client.request("hello", timeout_s=LONG_S)["ok"]


def test_ipv6_address_without_brackets() -> None:
    """A client takes an IPv6 address as it is."""
    try:
        with EchoServer(host="::1") as server, Client("::1", server.port, server.pair.public, ME) as client:
            assert client.request("hello", timeout_s=LONG_S)["ok"]
    except zmq.ZMQError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_client_may_be_used_again_after_close() -> None:
    """Closing twice does no harm, and a later request connects anew."""
    with EchoServer() as server, client_of(server) as client:
        client.request("hello", timeout_s=LONG_S)
        client.close()
        client.close()
        assert client.request("status", timeout_s=LONG_S)["operation"] == "status"


def test_client_finds_a_server_that_restarted() -> None:
    """A connection that broke is made anew by itself."""
    with EchoServer() as first, client_of(first) as client:
        client.request("hello", timeout_s=LONG_S)
        first.__exit__()
        second = EchoServer(port=first.port)
        second.pair = first.pair
        with second:
            assert client.request("status", timeout_s=LONG_S)["operation"] == "status"
        first.__enter__()


def test_client_that_does_not_reconnect_says_that_its_connection_broke() -> None:
    """With reconnects=False a broken connection is NoAnswer at once; the next request opens another."""
    server = EchoServer()
    with server:
        client = Client(server.host, server.port, server.pair.public, ME, reconnects=False)
        client.request("hello", timeout_s=LONG_S)
    poller = zmq.Poller()
    for pollable in client.pollables:
        poller.register(pollable, zmq.POLLIN)
    assert poller.poll(int(LONG_S * 1_000)) and client.is_broken
    with pytest.raises(NoAnswer, match="ended"):
        client.request("hello", timeout_s=LONG_S)
    with server, client:
        assert client.request("status", timeout_s=LONG_S)["operation"] == "status"


def test_child_of_a_fork_opens_its_own_connection() -> None:
    """After a fork both parent and child go on with the client, and a reply goes to who asked."""
    with EchoServer() as server, client_of(server) as client:
        client.request("hello", timeout_s=LONG_S)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write_end, client.request("status", timeout_s=LONG_S)["operation"].encode())
                client.close()
            finally:
                os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            assert pipe.read() == b"status"
        os.waitpid(child, 0)
        assert client.request("licenses", timeout_s=LONG_S)["operation"] == "licenses"
        assert len(set(server.routing_ids)) == 2


def test_clients_leave_no_descriptors_behind() -> None:
    """Fifty clients that come, ask and go leave as many open files as there were after the first."""
    with EchoServer() as server:
        with client_of(server) as client:
            client.request("hello", timeout_s=LONG_S)
        before = psutil.Process().num_fds()
        for _ in range(50):
            with client_of(server) as client:
                client.request("hello", timeout_s=LONG_S)
        assert psutil.Process().num_fds() <= before + 4  # a connection that the other side still closes


def test_threads_with_a_client_each_share_one_context() -> None:
    """Clients of several threads work side by side."""
    with EchoServer() as server:
        got: list[bool] = []

        def work() -> None:
            with client_of(server) as client:
                got.extend(client.request("hello", timeout_s=LONG_S)["ok"] for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [True] * 80


@pytest.mark.parametrize("sockets", [1, 2, 3])
def test_a_program_with_too_many_sockets_gets_no_answer(sockets: int) -> None:
    """Where no further socket can be opened, for the connection or its end, that is NoAnswer and leaves nothing."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, sockets)
    with EchoServer() as server:
        client = Client(server.host, server.port, server.pair.public, ME, context=context, reconnects=False)
        with client, context.socket(zmq.PAIR):
            for _ in range(5):
                with pytest.raises(NoAnswer, match="can be opened"):
                    client.send("hello")
                assert client.pollables == []
        context.term()
