"""The fleet that loses its server: run for a moment, and how its requests are counted."""

from pathlib import Path

from als_bench.comeback import Comeback, doubts, faults, most_within_a_second, per_second, run, view


def test_a_small_fleet_has_its_licenses_again(tmp_path: Path) -> None:
    """Every agent whose server was killed holds the very license that it had, soon after the server is back."""
    comeback = Comeback(agents=30, heartbeat_s=1, away_s=2.0, kill=True, seed=1)
    results = run(comeback, tmp_path)
    assert results["all_back"] and results["back_s"] <= comeback.back_s_max
    assert (results["holding"], results["lost"], results["leases_kept"]) == (30, 0, 30)
    assert results["late"] == 30
    assert sum(results["requests_per_second"]) >= 30
    assert not [fault for fault in faults(results) if "lost" in fault or "hold" in fault]
    assert "30 of 30 licenses are the ones from before, 0 were lost" in "\n".join(view(results))
    assert not list(tmp_path.iterdir())


def test_the_fullest_second_may_begin_anywhere() -> None:
    """Requests are counted in every stretch of a second, not only from one full second to the next."""
    times = [0.0, 0.9, 1.1, 1.2, 1.8, 5.0]
    assert most_within_a_second(times) == 4
    assert most_within_a_second([]) == 0
    assert per_second(times, 0.0) == [2, 3, 0, 0, 0, 1]


def test_every_failure_is_said() -> None:
    """An agent without its license, a license that is another one, and a rush are each a warning."""
    good = {
        **{"agents": 100, "all_back": True, "holding": 100, "lost": 0, "leases_kept": 100},
        **{"requests_in_one_second_max": 25, "requests_in_one_second_limit": 25},
    }
    assert faults(good) == []
    for bad in ({"all_back": False}, {"holding": 99}, {"lost": 1}, {"leases_kept": 99}):
        assert len(faults(good | bad)) == 1
    assert len(faults(good | {"requests_in_one_second_max": 26})) == 1


def test_a_process_that_ran_late_is_said() -> None:
    """On a machine that does too much else, the requests of a second may be those of several."""
    assert doubts({"behind_s_max": 0.5}) == []
    assert doubts({"behind_s_max": 2.34}) == [
        "the process that plays all agents was up to 2.3 s behind their timers",
    ]
