"""What programs do with the SDK that no example shows: wrong arguments, silence, processes, callbacks."""

import os
import pickle
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from als.protocol import parse_mac
from als_agents import DeploymentServer, InvalidLicense, LicensedComponent, identity
from als_agents.deployment import Target
from als_agents.errors import ClientError, NoAnswer, Refused
from als_agents.testing import FakeComponent, FakeServer
from test_component import WAIT_S, Make, make, refused, server, wait_until

__all__ = ["make", "server"]  # fixtures
PUBLIC = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": Path("9.1")},
        {"identity": "a key"},
        {"wait_s": "5"},
        {"product_number": "1", "vendor_key": PUBLIC},
        {"computer": "this one"},
        {"server": [7]},
        {"client_dir": 7},
    ],
)
def test_arguments_of_a_wrong_type_are_refused_at_once(make: Make, wrong: dict[str, Any]) -> None:
    """Not in a thread, where nobody would hear of it, and not at the first lease. The message names the argument."""
    with pytest.raises(TypeError, match=next(iter(wrong))):
        make(**wrong)


@pytest.mark.parametrize("wait_s", [float("nan"), float("inf"), -1, -0.5])
def test_a_time_to_wait_that_is_none_is_refused_at_once(make: Make, wait_s: float) -> None:
    """By the constructor and by release, before anything is asked; no number is taken for silence, or for ever."""
    with pytest.raises(ValueError, match="wait_s"):
        make(wait_s=wait_s)
    component = make()
    with pytest.raises(ValueError, match="wait_s"):
        component.release(wait_s=wait_s)
    with component, pytest.raises(ValueError, match="wait_s"):
        component.release(wait_s=wait_s)


def test_a_time_to_wait_may_be_longer_than_the_system_can_wait(server: FakeServer, make: Make) -> None:
    """It is as good as for ever, and no error."""
    assert make(wait_s=1e12).open().is_held
    make().release(wait_s=1e12)
    make().open().release(wait_s=1e12)
    assert server.used("ATIES") == 0


def test_a_folder_may_be_given_as_text(make: Make, tmp_path: Path) -> None:
    """As everywhere in Python."""
    with make(client_dir=str(tmp_path)) as component:
        assert component.is_held


def test_a_server_key_of_wrong_length_is_a_bad_setting(make: Make) -> None:
    """It is not taken for a key that has changed."""
    assert refused(make(server_key=b"abc")).code == "bad_settings"


def test_a_lock_is_not_required_without_a_key_to_check_it_by(make: Make) -> None:
    """A vendor who forgot the key is told, for nothing would be checked."""
    with pytest.raises(ValueError, match="vendor_key"):
        make(requires_lock=True)


def test_what_cannot_be_sent_is_told_and_is_no_silence(make: Make) -> None:
    """Where the license's own thread fails, nobody waits for it, and no component passes for offline."""
    broken = {"macs": [b"\x02\x00\x00\x00\x00\x01"], "host": object(), "address": ""}
    assert refused(make(computer=broken, works_offline=True)).code == "bad_settings"


def test_a_release_that_nobody_confirmed_is_withdrawn(server: FakeServer, make: Make) -> None:
    """The program goes on with its license: it is not given back behind its back when the server is there again."""
    component = make().open()
    server.fall_silent()
    with pytest.raises(NoAnswer):
        component.release(wait_s=0.3)
    server.accept()
    server.await_requests("renew", len(server.requests_for("renew")) + 2, WAIT_S)
    assert component.is_held and component.lost is None
    assert server.used("ATIES") == 1


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_ends_its_thread_does_not(server: FakeServer, make: Make, raised: type[BaseException]) -> None:
    """Whatever a callback raises, the license is asked for again and regained."""
    back: SimpleQueue[bool] = SimpleQueue()

    def fail(error: InvalidLicense) -> None:
        raise raised(3)

    component = make(on_lost=fail, on_regained=lambda: back.put(True)).open()
    server.refuse("license_expired", "All serials have ended.")
    server.await_requests("renew", len(server.requests_for("renew")) + 1, WAIT_S)
    wait_until_lost(component)
    server.accept()
    assert component.open().is_held


def wait_until_lost(component: LicensedComponent) -> None:
    """Wait for the license's thread to say so."""
    wait_until(lambda: component.lost is not None)


@pytest.mark.parametrize("closes", [False, True])
def test_open_in_a_callback_says_that_there_is_no_license(server: FakeServer, make: Make, closes: bool) -> None:
    """The thread that would ask for it is the one that calls: open raises the loss, and the heartbeats go on."""
    told: SimpleQueue[InvalidLicense | bool] = SimpleQueue()

    def reopen(error: InvalidLicense) -> None:
        if closes:
            component.close()  # ends the thread, so open begins anew
            server.accept()
        try:
            told.put(component.open().is_held)
        except InvalidLicense as why:
            told.put(why)

    component = make(on_lost=reopen).open()
    server.refuse("license_expired", "All serials have ended.")
    outcome = told.get(timeout=WAIT_S)
    if closes:
        assert outcome is True
    else:
        assert isinstance(outcome, InvalidLicense)
        assert (outcome.code, outcome.reason) == ("license_expired", "All serials have ended.")
        server.accept()
        assert component.open().is_held


def test_open_in_a_callback_of_the_return_is_open(server: FakeServer, make: Make) -> None:
    """In on_regained the license is held, and open has nothing to do."""
    server.period_s = 2
    opened: SimpleQueue[bool] = SimpleQueue()
    component = make(on_regained=lambda: opened.put(component.open().is_held)).open()
    server.stop()
    wait_until_lost(component)
    server.start()
    assert opened.get(timeout=WAIT_S)


def test_open_waits_for_the_outcome_where_the_license_is_over_and_nobody_has_noticed(
    server: FakeServer, make: Make
) -> None:
    """A thread that was held up past renew_by, as by a computer's sleep, asks first; until then nothing is open."""
    server.period_s = 2
    blocked, go_on = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        go_on.wait(WAIT_S)

    component = make(on_regained=block).open()
    server.stop()
    wait_until_lost(component)
    server.start()
    assert blocked.wait(WAIT_S)
    wait_until(lambda: not component.is_held)
    assert component.lost is None
    server.fall_silent()
    before = len(server.requests_for("renew"))
    go_on.set()
    server.await_requests("renew", before + 1)
    assert refused(component).code == "no_server"
    server.accept()
    assert component.open().is_held


def test_open_after_a_loss_asks_anew(server: FakeServer, make: Make) -> None:
    """It raises what the server says now, and holds the license once the server grants it again."""
    component = make().open()
    server.refuse("license_expired", "All serials have ended.")
    wait_until_lost(component)
    assert refused(component).code == "license_expired"
    server.accept()
    assert component.open().is_held
    assert component.lost is None


def test_open_after_a_loss_tells_the_return_itself(server: FakeServer, make: Make) -> None:
    """on_regained is for what comes behind the program's back, not for the answer to its own question."""
    regained: SimpleQueue[bool] = SimpleQueue()
    component = make(on_regained=lambda: regained.put(True)).open()
    server.refuse("license_expired", "All serials have ended.")
    wait_until_lost(component)
    server.accept()
    assert component.open().is_held
    server.await_requests("renew", len(server.requests_for("renew")) + 1)
    assert regained.empty()


def test_the_inner_with_closes_for_the_outer(make: Make) -> None:
    """One component has one owner; who enters it a second time closes it for the first."""
    with make() as component:
        with component:
            assert component.is_held
        assert not component.is_held


def test_a_program_can_say_itself_which_computer_this_is(
    server: FakeServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Described without the environment, several computers cannot pass for one by ALS_MACS and ALS_HOST."""
    monkeypatch.setenv("ALS_MACS", "02:00:00:00:00:17")
    monkeypatch.setenv("ALS_HOST", "one for all")
    with make() as component:
        assert component.lease is not None
        assert (component.lease["mac"], component.lease["host"]) == (parse_mac("02:00:00:00:00:17"), "one for all")
    server.forget_leases()
    with make(computer=identity.computer(environment={})) as component:
        assert component.lease is not None
        assert component.lease["mac"] == identity.macs({})[0] != parse_mac("02:00:00:00:00:17")
        assert component.lease["host"] == socket.gethostname()


def test_what_is_closed_says_so(server: FakeServer, make: Make) -> None:
    """Neither the state of the end nor an old loss is told of a license that is not open."""
    component = make().open()
    server.refuse("license_expired", "All serials have ended.")
    wait_until_lost(component)
    component.close()
    with pytest.raises(InvalidLicense) as error:
        component.check()
    assert error.value.code == "closed"
    assert repr(component) == "<LicensedComponent ATIES/agent closed>"


def test_errors_survive_the_way_between_processes() -> None:
    """Process pools pickle them."""
    lost = pickle.loads(pickle.dumps(InvalidLicense("lapsed", "It is over.")))
    assert (lost.code, lost.reason, str(lost)) == ("lapsed", "It is over.", "invalid license: It is over.")
    no = pickle.loads(pickle.dumps(Refused("too_many", "Wait.", {"retry_after_s": 5})))
    assert (no.code, no.message, no.detail) == ("too_many", "Wait.", {"retry_after_s": 5})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("ending", [LicensedComponent.close, LicensedComponent.release])
def test_a_forks_child_can_end_what_it_knows(
    make: Make, capfd: pytest.CaptureFixture[str], ending: Callable[[LicensedComponent], None]
) -> None:
    """After close or release in the child, the child holds nothing; the parent goes on."""
    component = make().open()
    child = os.fork()
    if child == 0:
        try:
            ending(component)
            held = component.is_held
            try:
                component.check()
                code = "none"
            except InvalidLicense as error:
                code = error.code
            os._exit(0 if (held, code) == (False, "closed") else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert component.is_held


def test_a_deployment_server_takes_a_list_of_servers(server: FakeServer, tmp_path: Path) -> None:
    """As LicensedComponent does."""
    with DeploymentServer("ATIES", "agent", server=[server.address, "127.0.0.1:1"], client_dir=tmp_path) as deployer:
        assert deployer.check().free == 1


def test_a_deployment_goes_on_after_an_address_that_is_none(server: FakeServer, tmp_path: Path) -> None:
    """It is the result of that target, as a refusal is."""
    targets = [Target("nonsense", "pc-1"), Target("00:00:5e:00:53:01", "pc-2")]
    with DeploymentServer("ATIES", "agent", server=server.address, client_dir=tmp_path) as deployer:
        wrong, right = deployer.deploy(targets)
    assert (wrong.result, wrong.is_licensed) == ("bad_request", False) and "hexadecimal" in wrong.message
    assert (right.result, right.is_licensed) == ("granted", True)


def test_what_is_not_counted_may_be_deployed(server: FakeServer, tmp_path: Path) -> None:
    """A component that takes no license needs none: no lease, and no reason against it."""
    server.components["admin"] = FakeComponent(licensed=False)
    with DeploymentServer("ATIES", "admin", server=server.address, client_dir=tmp_path) as deployer:
        deployment = deployer.acquire(Target("00:00:5e:00:53:01", "pc-1"))
    assert (deployment.result, deployment.lease, deployment.is_licensed) == ("not_counted", None, True)


def test_a_deployment_server_names_only_a_server_that_answered(server: FakeServer, tmp_path: Path) -> None:
    """Before the first answer it asks for one, and after a search in vain it says that there is none."""
    servers = ["127.0.0.1:1", server.address]
    keys = {"server_key": server.key, "client_dir": tmp_path}
    with DeploymentServer("ATIES", "agent", server=servers, **keys) as deployer:
        assert deployer.server.port == server.port
        server.stop()
        with pytest.raises(ClientError):
            deployer.check()
        with pytest.raises(ClientError):
            assert deployer.server
        server.start()
        assert deployer.check().free == 1
        assert deployer.server.port == server.port


def test_a_deployment_server_may_be_used_from_several_threads(server: FakeServer, tmp_path: Path) -> None:
    """Requests go one after the other."""
    server.seats["ATIES"] = 100
    results: SimpleQueue[str] = SimpleQueue()
    with DeploymentServer("ATIES", "agent", server=server.address, client_dir=tmp_path) as deployer:

        def deploy(first: int) -> None:
            for number in range(first, first + 10):
                results.put(deployer.acquire(Target(f"00:00:5e:00:53:{number:02x}", f"pc-{number}")).result)

        threads = [threading.Thread(target=deploy, args=(10 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert [results.get(timeout=1) for _ in range(40)] == ["granted"] * 40
