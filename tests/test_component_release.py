"""Giving a license back: what an uninstaller hears, with the license open and without."""

from pathlib import Path
from typing import Any

import pytest

from als import clock
from als_agents import DeploymentServer, InvalidLicense
from als_agents.errors import ClientError, KeyChanged, NoAnswer, Refused
from als_agents.testing import FakeServer
from test_component import WAIT_S, Make, make, server, wait_until

__all__ = ["make", "server"]  # fixtures


def test_a_release_waits_no_longer_than_it_was_told(server: FakeServer, make: Make) -> None:
    """A server that hangs is waited for as long as `wait_s` says, also where the license is not open."""
    with make():
        pass
    server.fall_silent()
    started = clock.monotonic_s()
    with pytest.raises(NoAnswer):
        make().release(wait_s=0.3)
    assert clock.monotonic_s() - started < 3.0  # by itself it would be over 5 s
    server.accept()
    make().release(wait_s=0.3)
    assert server.used("ATIES") == 0


@pytest.mark.parametrize("is_open", [False, True])
def test_a_release_that_nobody_hears_says_where(server: FakeServer, make: Make, is_open: bool) -> None:
    """NoAnswer in both cases, and the message names the server that should have answered."""
    component = make().open()
    if not is_open:
        component.close()
    server.stop()
    with pytest.raises(NoAnswer, match=server.address):
        component.release()
    assert component.is_held == is_open


@pytest.mark.parametrize("is_open", [False, True])
def test_a_release_that_is_refused_says_why(server: FakeServer, make: Make, is_open: bool) -> None:
    """Refused with the server's code, in both cases."""
    component = make().open()
    if not is_open:
        component.close()
    server.refuse("not_holder", "Another key holds it.", operation="release")
    with pytest.raises(Refused) as error:
        component.release()
    assert (error.value.code, component.is_held) == ("not_holder", is_open)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_release_to_a_server_with_another_key_says_so(server: FakeServer, make: Make, is_open: bool) -> None:
    """KeyChanged, which is no server's word: what is open stays so, and is not given back later."""
    component = make().open()
    if not is_open:
        component.close()
    server.change_key()
    with pytest.raises(KeyChanged):
        component.release()
    assert component.is_held == is_open
    if is_open:
        wait_until(lambda: component.is_late)
    assert server.requests_for("release") == []


def test_a_damaged_key_is_an_error_of_the_client(make: Make, server: FakeServer, tmp_path: Path) -> None:
    """What a program catches for everything that can go wrong catches a damaged key file, too."""
    with make():
        pass
    (tmp_path / "agent.key_secret").write_text("damaged")
    with pytest.raises(ClientError, match=r"agent\.key_secret"):
        make().release()
    with pytest.raises(ClientError, match=r"agent\.key_secret"):
        DeploymentServer("ATIES", "agent", server=server.address, client_dir=tmp_path)
    with pytest.raises(InvalidLicense) as error:
        make().open()
    assert error.value.code == "bad_settings"


@pytest.mark.parametrize("settings", [{"server": "host:99999"}, {"server_key": "short"}])
def test_settings_that_cannot_work_are_an_error_of_the_client(make: Make, settings: dict[str, Any]) -> None:
    """Nobody is asked."""
    with pytest.raises(ClientError):
        make(**settings).release()


def test_a_release_that_failed_may_be_tried_again(server: FakeServer, make: Make) -> None:
    """The next one asks anew."""
    component = make().open()
    server.refuse("unavailable", "Too busy.", operation="release")
    with pytest.raises(Refused):
        component.release()
    server.accept()
    server.await_requests("renew", len(server.requests_for("renew")) + 1, WAIT_S)
    assert (component.is_held, server.used("ATIES")) == (True, 1)
    component.release()
    assert (component.is_held, server.used("ATIES")) == (False, 0)
