"""Being stopped in the midst of something: a started process is known, whenever the signal comes."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from als_tools import demo_site
from als_tools.interrupts import held_back

WAIT_S_MAX = 30.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="has no such signals")


@pytest.fixture(autouse=True)
def _interrupted() -> Iterator[None]:
    """Have SIGTERM do what ctrl-C does, as in `als demo`."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    """The block is done as a whole, then the signal has its effect, once; later ones have theirs at once."""
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(number)
        signal.raise_signal(number)
        done.append("all of it")
    assert done == ["all of it"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_error_in_the_block_is_what_is_told() -> None:
    """An error within is not hidden by a signal that came too, and signals have their effect again."""
    with pytest.raises(ValueError, match="broken"), held_back():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("broken")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_server_is_known_when_the_signal_comes_at_its_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes once the process exists, before anybody was told, leaves no server behind."""
    monkeypatch.setattr(demo_site.tempfile, "tempdir", str(tmp_path))
    us, main = psutil.Process(), threading.main_thread().ident
    assert main is not None
    before = {child.pid for child in us.children()}

    def wait_for_birth() -> None:
        while not over.is_set():
            if {child.pid for child in us.children()} - before:
                signal.pthread_kill(main, signal.SIGTERM)
                return

    over = threading.Event()
    with demo_site.Site() as site:
        midwife = threading.Thread(target=wait_for_birth)
        midwife.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                site.start_server()
        finally:
            over.set()
            midwife.join()
    left = [child for child in us.children() if child.pid not in before]
    for child in left:
        child.kill()
        child.wait(WAIT_S_MAX)
    assert left == []
