"""The metrics page: what `status` says, as Prometheus reads it."""

import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from als.clock import monotonic_s
from als.server.metrics import Metrics, MetricsError, Page
from server_process import ServerProcess, run_to_end

WAIT_S = 30.0
STATUS = {
    "server": {
        "server_id": "ab" * 16,
        "name": 'an "office"',
        "version": "1.2",
        "engine": "lmdb",
        "started_at": 1_700_000_000,
        "clock": {"state": "clock_set_back", "behind_s": 400},
        "replies_dropped": 3,
    },
    "rates": {"requests_per_s": 2.5, "renewals_per_s": 1.5},
    "counts": {"serials": 1, "leases": 2, "computers": 3, "events": 4},
    "pools": [
        {"product": "ATIW", "total": 10, "used": 4, "free": 6, "lapsed": 1},
        {"product": "ASD", "total": 5, "used": 5, "free": 0, "lapsed": 0},
    ],
}


@pytest.fixture
def metrics() -> Metrics:
    """What is shown."""
    return Metrics()


@pytest.fixture
def page(metrics: Metrics) -> Iterator[Page]:
    """The page on a free port of loopback."""
    served = Page(metrics, "127.0.0.1", 0)
    yield served
    served.close()


def read(port: int) -> dict[str, float]:
    """Read the page as Prometheus does: value by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name + "".join(f" {label}" for label in sample.labels.values()): sample.value for sample in samples}


def test_page_is_empty_before_the_first_status(page: Page) -> None:
    """A page that is asked too early answers, with nothing on it."""
    assert read(page.port) == {}


def test_page_shows_the_latest_status(page: Page, metrics: Metrics) -> None:
    """Pools are told apart by their product, counters are counters, and a wrong clock is seen."""
    metrics.status = STATUS
    found = read(page.port)
    assert found["als_pool_used ATIW"] == 4 and found["als_pool_free ASD"] == 0
    assert found["als_leases"] == 2 and found["als_renewals_per_second"] == 1.5
    assert found["als_replies_dropped_total"] == 3
    assert found["als_clock_trusted"] == 0 and found["als_clock_behind_seconds"] == 400
    metrics.status = {**STATUS, "pools": []}
    assert "als_pool_used ATIW" not in read(page.port)


def test_port_in_use_is_one_line(metrics: Metrics) -> None:
    """A port that is taken is named with its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MetricsError, match=f"cannot serve metrics on 127.0.0.1:{port}: Address already in use"):
            Page(metrics, "127.0.0.1", port)


def test_real_server_serves_its_figures(tmp_path: Path) -> None:
    """A server that is asked to has the page, on this machine alone, with what its status says a second later."""
    with ServerProcess(tmp_path / "data", "--metrics", "0") as server:
        found = re.search(r"metrics on http://127\.0\.0\.1:(\d+)/metrics", server.stderr())
        assert found is not None
        end_s = monotonic_s() + WAIT_S
        while "als_replies_dropped_total" not in (figures := read(int(found[1]))):
            assert monotonic_s() < end_s, "the page stays empty"
        assert figures["als_clock_trusted"] == 1 and figures["als_leases"] == 0
        assert figures["als_events"] >= 2  # the local administrator, and the start
    done = run_to_end("run", "--data-dir", str(tmp_path / "other"), "--port", "0", "--metrics", "nowhere:at:all")
    assert done.returncode == 5 and "metrics: 'nowhere:at:all' is no PORT or HOST:PORT" in done.stderr
