"""The grid behind the default bandit and the default scheduler, on tuning seeds only. One command:

    python -m benchmarks.bandit_tuning [--seeds 6] [--workers 2]

Every row is a setting in two simulated worlds: bandits in A (no traps) and B (noise, an impossible category), and again
where learning and forgetting are ten times slower and a run five times longer; schedulers among equal environments and
unlike ones (curricula reference, section 8). Seeds begin at 1000; what is reported in
docs/results/bandits.md is measured on seeds 0 to 29, by `python -m benchmarks.bandit_tables`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from orchestrator.simulation.entrants import Entrant, make_named
from orchestrator.simulation.one_level import follow_one_bandit, run_skills, run_traps
from orchestrator.simulation.skills import Skills, generator
from orchestrator.simulation.stages import run_stages, run_unlike_stages
from orchestrator.simulation.trials import Setting, Trial

FIRST_SEED = 1000
SETTING = Setting(num_steps=300)
SLOW_STEPS = 1500
INNER = {"type": "sec", "signal": "standardised", "temperature": 0.2, "floor": 0.0}  # of section 8.5

Run = Callable[[Entrant, int, Setting], Trial]


def gates() -> list[dict[str, Any]]:
    """Settings of `gated_sec`."""
    horizons = ([50.0], [300.0], [30.0, 120.0], [60.0, 240.0], [50.0, 300.0], [30.0, 120.0, 480.0])
    grid = product(horizons, (1.5, 2.0, 3.0), (50.0, 100.0))
    return [{"type": "gated_sec", "horizons": h, "sure": sure, "grace": grace} for h, sure, grace in grid]


def schedulers() -> list[dict[str, Any]]:
    """Settings of `discounted_ucb` over environments."""
    grid = product(("advantage", "gain", "total_gain"), (0.7, 0.8, 0.9), (0.3, 0.5, 0.8), (0.0, 0.05))
    return [
        {"type": "discounted_ucb", "reward": reward, "discount": g, "width": width, "min_share": share}
        for reward, g, width, share in grid
    ]


def slowly() -> list[dict[str, Any]]:
    """What is looked at where learning is slow: the gate's horizons, and what has no gate."""
    gated = [raw for raw in gates() if raw["sure"] == 2.0 and raw["grace"] == 100.0]
    none = dict.fromkeys(("horizons", "sure", "grace"), "none")
    return [*gated, {"type": "sec", **none}, {"type": "uniform", **none}]


def run_slow_skills(one: Entrant, seed: int, setting: Setting) -> Trial:
    """World A, ten times slower."""
    return _slow(one, seed, has_traps=False)


def run_slow_traps(one: Entrant, seed: int, setting: Setting) -> Trial:
    """World B, ten times slower."""
    return _slow(one, seed, has_traps=True)


def _slow(one: Entrant, seed: int, has_traps: bool) -> Trial:
    world = Skills(generator(seed), forgetting=0.0005, rate=0.05)
    rates, _ = follow_one_bandit(world, one, seed, SLOW_STEPS, has_traps)
    means = rates.mean(axis=1)
    return Trial({"auc": float(means.mean()), "final": float(means[-1])}, means, rates)


def entrant(raw: Mapping[str, Any], is_scheduler: bool) -> Entrant:
    """Make a competitor of a setting."""
    raw = {key: value for key, value in raw.items() if value != "none"}
    bandit = make_named(INNER if is_scheduler else raw, "bandit", "grid").config
    assert bandit is not None
    return Entrant("", bandit, make_named(raw, "scheduler", "grid").config if is_scheduler else None)


def trial(job: tuple[Run, Mapping[str, Any], bool, int]) -> tuple[float, float]:
    """Run one setting in one world with one seed: AUC and final."""
    run, raw, is_scheduler, seed = job
    numbers = run(entrant(raw, is_scheduler), seed, SETTING).numbers
    return numbers["auc"], numbers["final"]


def table(
    pool: ProcessPoolExecutor,
    worlds: Mapping[str, Run],
    grid: Sequence[Mapping[str, Any]],
    is_scheduler: bool,
    num_seeds: int,
) -> None:
    """Print a grid as a table in Markdown, a row a setting."""
    names = [key for key in grid[0] if key != "type" or len({raw["type"] for raw in grid}) > 1]
    print(f"\n| {' | '.join(names)} | {' | '.join(f'AUC {w} | final {w}' for w in worlds)} |")
    print("|---" * (len(names) + 2 * len(worlds)) + "|")
    seeds = range(FIRST_SEED, FIRST_SEED + num_seeds)
    jobs = [(run, raw, is_scheduler, seed) for raw in grid for run in worlds.values() for seed in seeds]
    found = pool.map(trial, jobs, chunksize=num_seeds)
    for raw in grid:
        cells = []
        for _ in worlds:
            auc, final = np.mean([next(found) for _ in seeds], axis=0)
            cells += [f"{auc:.3f}", f"{final:.3f}"]
        print(f"| {' | '.join(str(raw[name]) for name in names)} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        table(pool, {"A": run_skills, "B": run_traps}, gates(), False, options.seeds)
        slow = {"A, slow": run_slow_skills, "B, slow": run_slow_traps}
        table(pool, slow, slowly(), False, options.seeds)
        table(pool, {"equal": run_stages, "unlike": run_unlike_stages}, schedulers(), True, options.seeds)


if __name__ == "__main__":
    main()
