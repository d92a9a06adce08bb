"""Does anything that is measured at a boundary foretell what the next stage will learn?

    evergreen study examples/claims/predictors.yaml --home HOME
    python -m benchmarks.foretelling claim_predictors --home HOME

The outcome is the training accuracy of the next stage's last 20 steps. For each proxy, read at the boundary before,
Spearman's rank correlation with it: over all boundaries of all runs; inside settings (both less their setting's mean,
so that a proxy that only tells one setting from another is known); and inside settings and boundaries (less the mean
of setting and boundary: which of the seeds will learn more). Intervals are percentiles of 10,000 draws of whole seeds
with replacement.

Proxies: what a probe of an unseen book reaches in its last look and gains; entropy on the environment about to be
trained, on its own answers and on frozen ones; held-out accuracy there; and of the network the share of dormant units,
the norm of the weights, their distance from the start, and the effective rank of the last layer.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.objectives_study import matrix
from store.comparison.scores import LAST
from store.home import Home
from store.ledger.engine import make_engine
from store.ledger.queries import Reading
from store.plasticity import WHOLE_MODEL
from store.probes import probes_of

DRAWS, LEVEL = 10_000, 0.95

Floats = NDArray[np.float64]


def of_run(reading: Reading, run: str) -> dict[str, list[float]]:
    """The outcome and every proxy, one number a stage after the first."""
    trained = [stage.environment or "" for stage in reading.stages(run)]
    outcome = {one.stage: one.value for one in reading.stage_means(run, "accuracy", LAST)}
    probes = {one.after_stage: one for one in probes_of(reading, run).results}
    network: dict[int, dict[tuple[str, int], float]] = {}
    for row in reading.network(run):
        if row.value is not None:
            network.setdefault(row.after_stage, {})[row.metric, row.layer] = row.value
    cells = {name: matrix(reading, run, name) for name in ("entropy_token", "entropy_fixed", "pass_1")}
    found: dict[str, list[float]] = {}
    for stage, environment in list(enumerate(trained, start=1))[1:]:
        before, net = stage - 1, network[stage - 1]
        now = {
            "outcome": outcome[stage],
            "probe, last look": probes[before].curve.end,
            "probe, gain": probes[before].curve.gain,
            "entropy on arrival": cells["entropy_token"][before, environment],
            "entropy on frozen answers": cells["entropy_fixed"][before, environment],
            "accuracy on arrival": cells["pass_1"][before, environment],
            "dormant units, below .1": net["dormant_0.1", WHOLE_MODEL],
            "norm of the weights": net["weight_norm", WHOLE_MODEL],
            "distance from the start": net["weight_dist_base", WHOLE_MODEL],
            "effective rank, last layer": net["erank", max(layer for metric, layer in net if metric == "erank")],
        }
        for name, value in now.items():
            found.setdefault(name, []).append(value)
    return found


def table(numbers: dict[str, Floats]) -> list[str]:
    """Write a row a proxy, in Markdown; numbers are [setting, seed, boundary]."""
    outcome = numbers.pop("outcome")
    lines = [
        f"Rank correlation with what the next stage learns, {outcome.size} boundaries\n",
        "| proxy | all | inside settings | inside settings and boundaries |",
        "|---|---|---|---|",
    ]
    for name, proxy in numbers.items():
        pairs = [(proxy, outcome)]
        for axes in ((1, 2), (1,)):
            pairs.append((proxy - proxy.mean(axes, keepdims=True), outcome - outcome.mean(axes, keepdims=True)))
        lines.append(f"| {name} | {' | '.join(correlation(*pair) for pair in pairs)} |")
    return lines


def correlation(x: Floats, y: Floats) -> str:
    """Spearman's rho of two tables [setting, seed, boundary], with an interval over seeds."""
    drawn = np.random.default_rng(0).integers(x.shape[1], size=(DRAWS, x.shape[1]))
    low, high = np.nanquantile([_rho(x[:, seeds], y[:, seeds]) for seeds in drawn], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return f"{_rho(x, y):+.2f} ({low:+.2f} to {high:+.2f})"


def _rho(x: Floats, y: Floats) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--home", default="runs")
    options = parser.parse_args()
    reading = Reading(make_engine(Home(options.home, create=False).ledger_url))
    members = [member for member in reading.members(options.study) if member.status == "finished"]
    settings = list(dict.fromkeys(member.setting for member in members))
    found = {(member.setting, member.seed): of_run(reading, member.run) for member in members}
    seeds = sorted(set.intersection(*({seed for setting, seed in found if setting == one} for one in settings)))
    if len(seeds) < 2:
        parser.error(f"{options.study} has {len(seeds)} seeds that all settings have finished; an interval needs 2")
    names = next(iter(found.values()))
    numbers = {name: np.array([[found[one, seed][name] for seed in seeds] for one in settings]) for name in names}
    print("\n".join(table(numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
