"""Each benchmark runs for a moment against a real server: that it runs and says what it should, not how fast."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import etcd_nodes

TIMEOUT_S = 120.0  # far above what a moment takes, for machines that do much else
PROGRAM = str(Path(sys.executable).with_name("als-bench"))
SHORT = ("--connections", "4", "--window", "8", "--duration-s", "0.2")
FEW = ("--leases", "200")


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run als-bench with --json on a folder; give its document, and see that it left nothing behind."""
    done = subprocess.run(
        [PROGRAM, *arguments, "--folder", str(folder), "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert {"benchmark", "environment", "settings", "results", "warnings"} == document.keys()
    assert {"als", "pyzmq", "libzmq", "lmdb", "file_system", "fsync_mode", "fsync_ms"} <= document["environment"].keys()
    assert not [path for path in folder.iterdir() if path.name.startswith("als-bench-")]
    return document


def test_headline_gives_two_numbers(tmp_path: Path) -> None:
    """Without a command als-bench tells renewals a second with their ratio to an echo, and p99 at half that rate."""
    plot = tmp_path / "latency.png"
    document = bench(tmp_path, *SHORT, *FEW, "--rounds", "1", "--plot", str(plot))
    results = document["results"]
    assert results["renewals_per_s"] > 0 and results["ratio_to_echo"] > 0 and results["p99_ms"] > 0
    assert document["settings"]["seed"] == 1
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_saturation_measures_pairs(tmp_path: Path) -> None:
    """Saturation measures renewals and acquires in pairs with an echo, none refused, and what a request costs whom."""
    results = bench(tmp_path, "saturation", *SHORT, *FEW, "--rounds", "2")["results"]
    for operation in ("renew", "acquire"):
        rows = results[operation]["rounds"]
        assert [(row["round"], row["target"]) for row in rows] == [(1, "echo"), (1, "als"), (2, "echo"), (2, "als")]
        assert all(row["requests"] > 0 and row["refused"] == 0 for row in rows)
        assert all(row["generator_cpu_us_per_request"] > 0 for row in rows)
        assert len(results[operation]["ratios"]) == 2


def test_latency_answers_every_request(tmp_path: Path) -> None:
    """At a rate that any machine bears, every request of the open loop is answered and counted."""
    results = bench(tmp_path, "latency", *SHORT, *FEW, "--rate", "200")["results"]
    latency = results["latency"]
    assert results["unanswered"] == 0 and results["refused"] == 0 and not results["overloaded"]
    assert latency["count"] == results["requests"] == results["echo_latency"]["count"] > 0
    assert latency["p50_ms"] <= latency["p99_ms"] <= latency["max_ms"]


def test_fleet_connects_all(tmp_path: Path) -> None:
    """Every agent of a fleet connects with its own key and renews; their heartbeats come after."""
    arguments = ("--agents", "20", "--heartbeat-s", "0.5", "--duration-s", "1")
    results = bench(tmp_path, "fleet", *arguments)["results"]
    assert results["connecting"]["requests"] == 20 and results["connecting"]["refused"] == 0
    assert results["steady"]["requests"] > 0 and results["steady"]["unanswered"] == 0
    assert results["steady"]["server_core_percent"] >= 0


def test_a_fleet_has_its_licenses_again(tmp_path: Path) -> None:
    """Agents whose server is away for a moment hold their licenses again, and the document says what was wanted."""
    arguments = ("--agents", "8", "--heartbeat-s", "1", "--away-s", "0.5", "--kill", "--seed", "7")
    document = bench(tmp_path, "comeback", *arguments)
    results = document["results"]
    assert document["settings"] == {"agents": 8, "heartbeat_s": 1, "away_s": 0.5, "kill": True, "seed": 7}
    assert results["all_back"] and results["holding"] == results["leases_kept"] == 8 and results["lost"] == 0


@pytest.mark.parametrize("kind", ["import", "backup"])
def test_storm_passes(tmp_path: Path, kind: str) -> None:
    """A storm breaks into the load and passes, and renewals before, during and after it are told apart."""
    arguments = ("--kind", kind, "--storm-leases", "200", "--storm-serials", "60", "--rate", "200")
    results = bench(tmp_path, "storms", *arguments, "--connections", "4", *FEW)["results"][kind]
    assert results["is_over"] and results["storm_s"] > 0
    answered = sum(results[part]["count"] for part in ("before", "during", "after"))
    assert answered == results["requests"] and results["unanswered"] == 0


def test_lapse_storm_passes(tmp_path: Path) -> None:
    """Leases that were renewed one period ago lapse in one second in the midst of the load."""
    arguments = ("--kind", "lapse", "--storm-leases", "200", "--rate", "200", "--connections", "4")
    results = bench(tmp_path, "storms", *arguments, *FEW)["results"]["lapse"]
    assert results["is_over"] and results["before"]["count"] > 0 and results["after"]["count"] > 0


@pytest.mark.parametrize("what", ["leases", "seats", "serials"])
def test_growth_measures_sizes(tmp_path: Path, what: str) -> None:
    """Growth gives a row for each size, drawn as a picture if wanted."""
    plot = tmp_path / "growth.svg"
    size = {"leases": "500", "seats": "1000", "serials": "1"}[what]
    results = bench(tmp_path, "growth", "--what", what, "--size-max", size, *SHORT, "--plot", str(plot))["results"]
    (row,) = results["rows"]
    assert row[what] == int(size)
    if what == "leases":
        assert row["renew"]["requests"] > 0 and row["acquire"]["refused"] == 0
        assert row["ready_after_kill_s"] > 0 and row["compact_bytes_per_lease"] > 0
    else:
        assert row["acquire_release"]["requests"] > 0 and row["acquire_release"]["refused"] == 0
    assert "<svg" in plot.read_text(encoding="utf-8")


def test_micro_measures_each_stage(tmp_path: Path) -> None:
    """The stages of a request are all there, each with what it takes."""
    results = bench(tmp_path, "micro", "--duration-s", "0.01", "--leases", "1000")["results"]
    stages = " ".join(row["stage"] for row in results["stages"])
    assert all(word in stages for word in ("decode", "ledger", "commit", "encode", "send", "recv", "turn"))
    assert {row["batch"] for row in results["stages"] if "commit" in row["stage"]} >= {1, 10, 100, 1_000}
    assert all(row["us_per_request"] > 0 for row in results["stages"])


def test_peers_are_measured_or_missed(tmp_path: Path) -> None:
    """Each peer is measured where it is installed, and said to be missing otherwise."""
    document = bench(tmp_path, "peers", *SHORT, *FEW, "--rounds", "1")
    results = document["results"]
    assert {"als", "redis", "etcd"} == results["targets"].keys() | results["missing"].keys()
    assert all(target["requests_per_s"] > 0 for target in results["targets"].values())
    assert all(any(name in warning for warning in document["warnings"]) for name in results["missing"])


@pytest.mark.skipif(bool(etcd_nodes.MISSING), reason=etcd_nodes.MISSING or "etcd is there")
def test_cluster_is_measured(tmp_path: Path) -> None:
    """One server and two over an etcd of one member renew, and acquire in one product and in many."""
    results = bench(
        tmp_path, "cluster", *SHORT, *FEW, "--rounds", "1", "--members", "1", "--servers", "2", "--kills", "0"
    )
    rows = results["results"]["rows"]
    assert [row["servers"] for row in rows] == [1, 1, 1, 2, 2, 2]
    assert all(row["requests"] > 0 for row in rows)


def test_simulation_needs_seats_for_all(tmp_path: Path) -> None:
    """A fleet that comes and goes for some weeks is granted seats, and those of computers that are gone lapse."""
    arguments = ("--computers", "60", "--days", "50", "--churn", "1", "--plot", str(tmp_path / "seats.png"))
    results = bench(tmp_path, "simulate", *arguments)["results"]
    assert results["denied"] == 0 and results["lapsed"] > 0
    assert 60 <= results["used_max"] <= results["granted"]
    assert len(results["days"]) == 50 and len(results["hours"]) > 50
    assert (tmp_path / "seats.png").exists()


def test_simulation_denies_without_seats(tmp_path: Path) -> None:
    """With fewer seats than computers the simulation shows the denials, and never more seats used than there are."""
    document = bench(tmp_path, "simulate", "--computers", "60", "--days", "14", "--seats", "40")
    assert document["results"]["used_max"] == 40 and document["results"]["denied"] > 0
    assert any("refused" in warning for warning in document["warnings"])


def test_people_get_lines(tmp_path: Path) -> None:
    """Without --json the results are a few lines, with the versions, the seed and the fsync mode below them."""
    arguments = [PROGRAM, "latency", *SHORT, *FEW, "--rate", "100", "--folder", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert "p99 ms" in done.stdout and "fsync on every commit" in done.stdout and "seed 1" in done.stdout


def test_bad_plot_is_refused(tmp_path: Path) -> None:
    """A plot that is neither PNG nor SVG is refused before anything is measured."""
    arguments = [PROGRAM, "simulate", "--plot", str(tmp_path / "seats.txt")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1 and ".png or .svg" in done.stderr
