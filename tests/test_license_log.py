"""What a program can see and log between a license that is renewed and one that is lost."""

import logging
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import pytest

from als_agents import InvalidLicense
from als_agents.testing import FakeServer
from test_component import WAIT_S, Make, make, server, wait_until

__all__ = ["make", "server"]  # fixtures


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Give level and text of what was logged of licenses."""
    return [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name.startswith("als_agents")
    ]


def test_a_license_that_is_not_renewed_is_late(
    server: FakeServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """is_late is true from the first heartbeat in vain to the next that is answered; each is logged once."""
    caplog.set_level(logging.INFO, "als_agents")
    with make() as component:
        server.await_requests("renew", 3)
        assert (component.is_late, lines(caplog)) == (False, [])
        server.stop()
        wait_until(lambda: component.is_late)
        assert component.is_held and not component.is_offline
        server.start()
        wait_until(lambda: not component.is_late)
        assert component.is_held
        server.await_requests("renew", len(server.requests) + 2)
    assert not component.is_late
    (warning, late), back = lines(caplog)
    assert warning == "WARNING"
    assert late.startswith("the license of ATIES/agent holds until 20") and " UTC, but is not renewed: no lic" in late
    assert back == ("INFO", "the license of ATIES/agent is renewed again")


def test_a_license_without_an_end_holds_for_good(
    server: FakeServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing lapses, no time is named."""
    server.period_s = None
    with make() as component:
        server.stop()
        wait_until(lambda: component.is_late)
    ((_, late),) = lines(caplog)
    assert late.startswith("the license of ATIES/agent holds for good, but is not renewed: ")


def test_a_loss_is_logged_with_its_reason(server: FakeServer, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the program has no on_lost."""
    with make() as component:
        server.refuse("license_expired", "All serials have ended.")
        wait_until(lambda: component.lost is not None)
    assert lines(caplog) == [("WARNING", "the license of ATIES/agent is lost: All serials have ended.")]


def test_going_offline_is_logged_and_a_no_after_it_is_a_loss(
    server: FakeServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A component that works offline is late, then offline, then refused by the server that is back."""
    server.period_s = 2
    lost: SimpleQueue[InvalidLicense] = SimpleQueue()
    with make(works_offline=True, on_lost=lost.put) as component:
        server.stop()
        wait_until(lambda: component.is_offline)
        server.refuse("license_expired", "All serials have ended.")
        server.start()
        lost.get(timeout=WAIT_S)
    late, offline, loss = (text for _, text in lines(caplog))
    assert "but is not renewed" in late
    assert offline.startswith("ATIES/agent goes on without a license: The license was not renewed in time: ")
    assert loss == "the license of ATIES/agent is lost: All serials have ended."


def test_what_is_refused_at_the_start_is_the_programs_to_tell(
    server: FakeServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """open raises it; there is no license yet of which anything could be logged."""
    caplog.set_level(logging.INFO, "als_agents")
    server.refuse("license_expired", "All serials have ended.")
    with pytest.raises(InvalidLicense):
        make().open()
    assert lines(caplog) == []


def test_a_program_without_a_log_keeps_its_stderr(server: FakeServer, tmp_path: Path) -> None:
    """Python's last resort prints warnings of libraries; what a program's user sees is the program's affair."""
    program = """
import sys
from als_agents import LicensedComponent
with LicensedComponent("ATIES", "agent", server=sys.argv[1], client_dir=sys.argv[2]) as license:
    print("open", flush=True)
    while license.lost is None:
        pass
    print(license.lost.code)
"""
    command = [sys.executable, "-c", program, server.address, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        server.refuse("license_expired", "All serials have ended.")
        out, err = process.communicate(timeout=WAIT_S)
    assert (out, err) == ("license_expired\n", "")
