"""The grid behind the default bandit and the default scheduler, on tuning seeds only. One command:

    python -m benchmarks.bandit_tuning [--seeds 6] [--scheduler-seeds 40] [--workers 2]

Every row is a setting in two simulated worlds: bandits in A (no traps) and B (noise, an impossible category), and again
where learning and forgetting are ten times slower and a run five times longer; schedulers among equal environments and
unlike ones (curricula reference, section 8), with their margin: the lower end of the 95 % interval of the paired
difference of AUC to that published row with which it is lowest. Seeds begin at 1000; what is reported in
docs/results/bandits.md is measured on seeds 0 to 29, by `bandit_tables` and `bandit_defaults`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from numpy.random import default_rng

from benchmarks.bandit_defaults import INNER, auc, rivals
from benchmarks.bandit_tables import read_tables
from orchestrator.simulation.candidates import make_named
from orchestrator.simulation.skill_worlds import follow_one_bandit
from orchestrator.simulation.skills import Skills
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting
from orchestrator.simulation.worlds import find_world
from store.intervals import t_interval

FIRST_SEED = 1000
SETTING = TrialSetting(num_steps=300)
SLOW_STEPS = 1500

Run = Callable[[Candidate, int, TrialSetting], Trial]


def gates() -> list[dict[str, Any]]:
    """Settings of `gated_sec`."""
    horizons = ([50.0], [300.0], [30.0, 120.0], [60.0, 240.0], [50.0, 300.0], [30.0, 120.0, 480.0])
    grid = product(horizons, (1.5, 2.0, 3.0), (50.0, 100.0))
    return [{"type": "gated_sec", "horizons": h, "sure": sure, "grace": grace} for h, sure, grace in grid]


def schedulers() -> list[dict[str, Any]]:
    """Settings of `discounted_ucb` over environments."""
    grid = product(("advantage", "gain", "total_gain"), (0.7, 0.8, 0.9), (0.15, 0.2, 0.3, 0.5, 0.8))
    return [{"type": "discounted_ucb", "reward": reward, "discount": g, "width": width} for reward, g, width in grid]


def slowly() -> list[dict[str, Any]]:
    """What is looked at where learning is slow: the gate's horizons, and what has no gate."""
    gated = [raw for raw in gates() if raw["sure"] == 2.0 and raw["grace"] == 100.0]
    none = dict.fromkeys(("horizons", "sure", "grace"), "none")
    return [*gated, {"type": "sec", **none}, {"type": "uniform", **none}]


def run_slow_skills(one: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """World A, ten times slower."""
    return _slow(one, seed, has_traps=False)


def run_slow_traps(one: Candidate, seed: int, setting: TrialSetting) -> Trial:
    """World B, ten times slower."""
    return _slow(one, seed, has_traps=True)


def _slow(one: Candidate, seed: int, has_traps: bool) -> Trial:
    world = Skills(default_rng(seed), forgetting=0.0005, rate=0.05)
    rates, _ = follow_one_bandit(world, one, seed, SLOW_STEPS, has_traps)
    means = rates.mean(axis=1)
    return Trial({"auc": float(means.mean()), "final": float(means[-1])}, means, rates)


def trial(job: tuple[Run, Mapping[str, Any], int]) -> tuple[float, float]:
    """Run one setting of a bandit in one world with one seed: AUC and final."""
    run, raw, seed = job
    bandit = make_named({key: value for key, value in raw.items() if value != "none"}, "bandit", "grid").config
    assert bandit is not None
    numbers = run(Candidate("", bandit, None), seed, SETTING).numbers
    return numbers["auc"], numbers["final"]


def table(
    pool: ProcessPoolExecutor,
    worlds: Mapping[str, Run],
    grid: Sequence[Mapping[str, Any]],
    num_seeds: int,
) -> None:
    """Print a grid of bandits as a table in Markdown, a row a setting."""
    names = [key for key in grid[0] if key != "type" or len({raw["type"] for raw in grid}) > 1]
    print(f"\n| {' | '.join(names)} | {' | '.join(f'AUC {w} | final {w}' for w in worlds)} |")
    print("|---" * (len(names) + 2 * len(worlds)) + "|")
    seeds = range(FIRST_SEED, FIRST_SEED + num_seeds)
    jobs = [(run, raw, seed) for raw in grid for run in worlds.values() for seed in seeds]
    found = pool.map(trial, jobs, chunksize=num_seeds)
    for raw in grid:
        cells = []
        for _ in worlds:
            auc, final = np.mean([next(found) for _ in seeds], axis=0)
            cells += [f"{auc:.3f}", f"{final:.3f}"]
        print(f"| {' | '.join(str(raw[name]) for name in names)} | {' | '.join(cells)} |", flush=True)


def scheduler_table(num_seeds: int, workers: int) -> None:
    """Print the grid of schedulers as a table in Markdown, a row a setting."""
    seeds = range(FIRST_SEED, FIRST_SEED + num_seeds)
    tables = {table["world"]: table for table in read_tables()}
    against = {
        world: [auc(world, row, seeds, workers) for row in rivals(tables[world])]
        for world in ("stages", "heterogeneous")
    }
    print("\n| reward | discount | width | AUC equal | margin | AUC unlike | margin |")
    print("|---" * 7 + "|")
    for raw in schedulers():
        cells = [str(raw[key]) for key in ("reward", "discount", "width")]
        for world, others in against.items():
            row = {"policy": "grid", "bandit": INNER, "scheduler": raw}
            own = auc(world, row, seeds, workers)
            margin = min(t_interval(own - other).low for other in others)
            cells += [f"{own.mean():.4f}", f"{margin:+.4f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--scheduler-seeds", type=int, default=40, help="theirs differ by less")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        table(pool, {letter: find_world(letter).run for letter in "AB"}, gates(), options.seeds)
        slow = {"A, slow": run_slow_skills, "B, slow": run_slow_traps}
        table(pool, slow, slowly(), options.seeds)
    scheduler_table(options.scheduler_seeds, options.workers)


if __name__ == "__main__":
    main()
