"""The SDK as a vendor's program sees it, against fake servers with real sockets."""

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil
import pytest

from als import keyfile
from als_agents import InvalidLicense, LicensedComponent
from als_agents.errors import NoAnswer, Refused
from als_agents.testing import FakeComponent, FakeServer

WAIT_S = 20.0  # for what takes a second or two on an idle machine
OTHER = {"macs": [b"\x02\x00\x00\x00\x00\x99"], "host": "other", "address": ""}

Make = Callable[..., LicensedComponent]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server with one seat of ATIES, a heartbeat of a second and leases of a month."""
    with FakeServer({"ATIES": 1}, heartbeat_s=1) as fake:
        yield fake


@pytest.fixture
def make(server: FakeServer, tmp_path: Path) -> Iterator[Make]:
    """Makes components of the agent of ATIES for the server; closes them at the end."""
    made: list[LicensedComponent] = []

    def component(name: str = "agent", **options: Any) -> LicensedComponent:
        settings: dict[str, Any] = {"server": server.address, "client_dir": tmp_path} | options
        made.append(LicensedComponent("ATIES", name, **settings))
        return made[-1]

    yield component
    for one in made:
        one.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to bring something about."""
    pause = threading.Event()
    for _ in range(int(WAIT_S * 100)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come about")


def refused(component: LicensedComponent) -> InvalidLicense:
    """Open a component that must not open, and give the reason."""
    with pytest.raises(InvalidLicense) as error:
        component.open()
    assert not component.is_held
    return error.value


def test_a_licensed_program_in_five_lines(server: FakeServer, make: Make) -> None:
    """Inside `with` the license is held, and afterwards the seat stays the computer's."""
    with make(version="9.1") as lease:
        assert lease.is_held
        assert not lease.is_offline
        assert lease.lost is None
        lease.check()
        assert lease.serial_id == "ATIES-0000000000000"
        assert lease.lease is not None
        assert lease.lease["version"] == "9.1"
        assert lease.renew_by == lease.lease["renew_by"]
    assert not lease.is_held
    assert server.used("ATIES") == 1
    with pytest.raises(InvalidLicense, match="not open"):
        lease.check()


def test_open_and_close_without_with(server: FakeServer, make: Make) -> None:
    """open and close may be called twice, and opened again after."""
    component = make()
    assert component.open() is component.open()
    component.close()
    component.close()
    with component:
        assert component.is_held
    assert len(server.requests_for("renew")) >= 2


def test_a_refusal_says_why(server: FakeServer, make: Make) -> None:
    """No free seat is an InvalidLicense with the server's code and reason, as the manual words it."""
    with make(computer=OTHER):
        error = refused(make())
    assert error.code == "no_free_license"
    assert str(error) == "invalid license: All 1 licenses of ATIES are in use."
    assert error.reason == "All 1 licenses of ATIES are in use."


def test_heartbeats_go_on_while_it_is_open(server: FakeServer, make: Make) -> None:
    """The license is renewed again and again by the interval that the server named, and no longer once closed."""
    with make():
        server.await_requests("renew", 3)
    count = len(server.requests)
    with pytest.raises(TimeoutError):
        server.await_requests("renew", count + 1, wait_s=1.5)


def test_no_server_is_an_invalid_license(server: FakeServer, make: Make) -> None:
    """Where no server answers, the program must not run."""
    server.stop()
    error = refused(make())
    assert error.code == "no_server"
    assert server.address in error.reason


def test_a_component_that_works_offline_opens_without_a_server(server: FakeServer, make: Make) -> None:
    """It runs at once without a server, and gets its license when there is one."""
    server.stop()
    component = make("local-console", works_offline=True).open()
    assert component.is_held
    assert component.is_offline
    assert component.lease is None
    server.start()
    server.await_requests("renew", wait_s=WAIT_S)
    assert server.used("ATIES") == 1


def test_a_component_that_works_offline_stops_at_a_refusal(server: FakeServer, make: Make) -> None:
    """A server that answers no is a no, at the start and later."""
    lost: SimpleQueue[InvalidLicense] = SimpleQueue()
    server.stop()
    component = make("local-console", works_offline=True, on_lost=lost.put).open()
    server.refuse("license_expired", "All serials have ended.")
    server.start()
    assert lost.get(timeout=WAIT_S).code == "license_expired"
    assert not component.is_held
    assert refused(make("local-console", works_offline=True)).code == "license_expired"


def test_what_works_offline_is_remembered_from_the_server(make: Make, tmp_path: Path) -> None:
    """Without the argument the catalog decides, as the server told it when it was last seen."""
    components = {"local-console": FakeComponent(works_offline=True), "agent": FakeComponent()}
    with FakeServer({"ATIES": 2}, heartbeat_s=1, components=components) as server:
        for name in components:
            with make(name, server=server.address):
                server.await_requests("hello", wait_s=WAIT_S)
                server.await_requests("renew", len(server.requests_for("renew")) + 1)
            server.requests.clear()
    with make("local-console", server=server.address) as component:
        assert component.is_offline
    assert refused(make("agent", server=server.address)).code == "no_server"
    assert refused(make("local-console", server=server.address, works_offline=False)).code == "no_server"


@pytest.mark.parametrize("said", [None, False])
def test_a_first_run_learns_that_it_works_offline(said: bool | None, make: Make) -> None:
    """What the catalog says counts from the first grant on, where the program does not say it itself."""
    catalog = {"local-console": FakeComponent(works_offline=True)}
    lost: SimpleQueue[InvalidLicense] = SimpleQueue()
    with FakeServer({"ATIES": 2}, heartbeat_s=1, period_s=2, components=catalog) as server:
        component = make("local-console", server=server.address, works_offline=said, on_lost=lost.put).open()
        if said is None:
            server.await_requests("hello", wait_s=WAIT_S)
        server.await_requests("renew", 2, WAIT_S)
    if said is None:
        wait_until(lambda: component.is_offline)
        assert component.is_held and lost.empty()
    else:
        assert lost.get(timeout=WAIT_S).code == "lapsed"


def test_a_loss_is_told_once_by_callback_and_flag(server: FakeServer, make: Make) -> None:
    """A refusal at a heartbeat calls on_lost in the license's thread, sets `lost` and makes check raise."""
    lost: SimpleQueue[tuple[InvalidLicense, str]] = SimpleQueue()
    component = make(on_lost=lambda why: lost.put((why, threading.current_thread().name)))
    component.open()
    server.refuse("license_expired", "All serials of ATIES have ended.")
    error, thread = lost.get(timeout=WAIT_S)
    assert (error.code, thread) == ("license_expired", "als ATIES/agent")
    assert not component.is_held
    assert component.lost is error
    with pytest.raises(InvalidLicense, match=r"invalid license: All serials of ATIES have ended\."):
        component.check()
    assert lost.empty()


def test_silence_beyond_renew_by_is_a_loss_that_heals(server: FakeServer, make: Make) -> None:
    """A license that nobody renews is lost when its time is over, and regained when a server answers again."""
    server.period_s = 2
    told: SimpleQueue[str] = SimpleQueue()
    component = make(on_lost=lambda why: told.put(why.code), on_regained=lambda: told.put("regained"))
    with component:
        server.stop()
        assert told.get(timeout=WAIT_S) == "lapsed"
        assert not component.is_held
        server.start()
        assert told.get(timeout=WAIT_S) == "regained"
        assert component.is_held
        assert component.lost is None


def test_a_loss_names_the_key_that_changed(server: FakeServer, make: Make) -> None:
    """A license that runs out because the server shows another key is a lapse, and both fingerprints are named."""
    server.period_s = 3
    lost: SimpleQueue[InvalidLicense] = SimpleQueue()
    with make(on_lost=lost.put):
        old = keyfile.fingerprint(server.key)
        server.change_key()
        error = lost.get(timeout=WAIT_S)
    assert error.code == "lapsed"
    assert old in error.reason and keyfile.fingerprint(server.key) in error.reason


def test_a_failing_callback_does_not_end_the_heartbeats(
    server: FakeServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged, and the license is kept on."""
    server.period_s = 2
    failed, regained = threading.Event(), threading.Event()

    def fail(why: InvalidLicense) -> None:
        failed.set()
        raise LookupError("the vendor's mistake")

    with make(on_lost=fail, on_regained=regained.set):
        server.stop()
        assert failed.wait(WAIT_S)
        server.start()
        assert regained.wait(WAIT_S)
    assert "the vendor's mistake" in caplog.text


def test_a_callback_may_close(server: FakeServer, make: Make) -> None:
    """close within on_lost ends the license's thread without waiting for itself."""
    closed = threading.Event()
    component = make()

    def close(why: InvalidLicense) -> None:
        component.close()
        closed.set()

    component._on_lost = close
    component.open()
    server.refuse("license_expired")
    assert closed.wait(WAIT_S)
    server.accept()
    with component:
        assert component.is_held


def test_release_gives_the_seat_back(server: FakeServer, make: Make) -> None:
    """release frees the seat and closes; it also works for a component that is not open."""
    component = make().open()
    component.release()
    assert not component.is_held
    assert server.used("ATIES") == 0
    with make(computer=OTHER):
        pass
    make(computer=OTHER).release()
    assert server.used("ATIES") == 0


def test_a_release_that_is_refused_leaves_the_license(server: FakeServer, make: Make) -> None:
    """Not the holder: Refused, and the license stays open."""
    with make() as component:
        server.refuse("not_holder", "Another key holds it.", operation="release")
        with pytest.raises(Refused) as error:
            component.release()
        assert error.value.code == "not_holder"
        assert component.is_held


def test_a_release_without_an_answer_says_so(server: FakeServer, make: Make) -> None:
    """Nobody answers a release: NoAnswer, not silence."""
    with make() as component:
        server.stop()
        with pytest.raises(NoAnswer):
            component.release()


def test_release_on_close_frees_the_seat_of_each_run(server: FakeServer, make: Make) -> None:
    """With release_on_close the end of `with` is the end of the lease."""
    with make(release_on_close=True):
        assert server.used("ATIES") == 1
    assert server.used("ATIES") == 0


def test_the_next_server_is_asked_when_one_is_silent(server: FakeServer, make: Make, tmp_path: Path) -> None:
    """A preferred server that is silent costs less than 3 s, one that is unavailable or gone costs nothing."""
    with FakeServer({"ATIES": 1}, name="second") as second:
        both = [server.address, second.address]
        with make(server=both):
            assert (server.used("ATIES"), second.used("ATIES")) == (1, 0)
        server.fall_silent()
        with make(server=both):
            assert second.used("ATIES") == 1
        second.forget_leases()
        server.accept()
        server.refuse("unavailable", detail={"retry_after_s": 600})
        with make(server=both):
            assert second.used("ATIES") == 1
        second.forget_leases()
        server.stop()
        with make(server=both):
            assert second.used("ATIES") == 1


def test_a_refusal_is_not_asked_again_elsewhere(server: FakeServer, make: Make) -> None:
    """Who is told no does not go from server to server until one says yes."""
    server.seats["ATIES"] = 0
    with FakeServer({"ATIES": 1}) as second:
        assert refused(make(server=[server.address, second.address])).code == "no_free_license"
        assert second.requests == []


def test_an_unavailable_server_gets_patience(server: FakeServer, make: Make) -> None:
    """open waits while the only server asks for patience, and says so when it takes too long."""
    server.refuse("unavailable", "Too busy.", detail={"retry_after_s": 0})
    error = refused(make(wait_s=1.0))
    assert (error.code, error.reason) == ("unavailable", "Too busy.")
    opened: SimpleQueue[bool] = SimpleQueue()
    component = make()
    server.requests.clear()
    thread = threading.Thread(target=lambda: opened.put(component.open().is_held))
    thread.start()
    server.await_requests("renew", 2)
    server.accept()
    assert opened.get(timeout=WAIT_S)
    thread.join()


def test_a_changed_server_key_is_refused(server: FakeServer, make: Make) -> None:
    """Another key at a known address is no license, and both fingerprints are named."""
    with make():
        old = keyfile.fingerprint(server.key)
    server.change_key()
    error = refused(make())
    assert error.code == "key_changed"
    assert old in error.reason
    assert keyfile.fingerprint(server.key) in error.reason
    assert server.requests_for("renew")[1:] == []


def test_a_given_key_needs_no_search_and_pins_nothing(server: FakeServer, make: Make, tmp_path: Path) -> None:
    """server_key, as bytes or as 40 characters, is believed; a wrong one gets silence."""
    for key in (server.key, keyfile.to_z85(server.key)):
        with make(server_key=key) as component:
            assert component.is_held
    assert not (tmp_path / "known_servers.json").exists()
    assert refused(make(server_key=keyfile.generate().public)).code == "key_changed"


def test_settings_that_cannot_work_are_an_invalid_license(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that can't be used, a server that can't be one, a wrong ALS_MACS: a reason, not a crash."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert refused(make(client_dir=blocked)).code == "bad_settings"
    assert refused(make(server="host:99999")).code == "bad_settings"
    assert refused(make(server_key="short")).code == "bad_settings"
    monkeypatch.setenv("ALS_MACS", "nonsense")
    assert refused(make()).code == "bad_settings"


def test_threads_may_share_a_component(server: FakeServer, make: Make) -> None:
    """Eight threads open, look at and close one component at once, and it works on afterwards."""
    component = make()
    errors: SimpleQueue[BaseException] = SimpleQueue()

    def use() -> None:
        try:
            for _ in range(10):
                component.open()
                assert component.is_held in (True, False)
                assert component.serial_id in (None, "ATIES-0000000000000")
                component.close()
        except BaseException as error:
            errors.put(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors.empty(), errors.get()
    with component:
        assert component.is_held


def test_nothing_is_left_behind(server: FakeServer, make: Make) -> None:
    """After close, after a refusal and after silence there is no thread and no descriptor more than before."""
    with make():
        pass
    process, threads = psutil.Process(), threading.active_count()
    files = process.num_fds()
    for _ in range(5):
        with make():
            pass
    server.refuse("license_expired")
    for _ in range(5):
        refused(make())
    server.stop()
    stopped = process.num_fds()
    refused(make())
    server.start()
    assert threading.active_count() == threads
    assert process.num_fds() <= files
    assert stopped <= files


def test_a_forgotten_component_is_closed(server: FakeServer, tmp_path: Path) -> None:
    """A component that nobody refers to any more ends its thread."""
    before = threading.active_count()
    component = LicensedComponent("ATIES", "agent", server=server.address, client_dir=tmp_path).open()
    assert threading.active_count() == before + 1
    del component
    gc.collect()
    assert threading.active_count() == before
