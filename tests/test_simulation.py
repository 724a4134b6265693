"""Two hundred seeds of the simulation: server, agents, network and disk in one thread on a fake clock."""

import logging

import pytest

from simulation import Simulation

SEEDS = 200
SEEDS_PER_TEST = 25


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_no_seed_breaks_an_invariant(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is lost, repeated, delayed or killed: no seat twice, nothing acknowledged lost, no promise broken."""
    monkeypatch.setattr(logging.getLogger("als"), "disabled", True)
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            Simulation(seed).run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: python tests/simulation.py --first {seed} --seeds 1") from error
