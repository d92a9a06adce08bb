"""What a study of plasticity shows, from its ledger: which settings can still learn, and whether anything foretold it.

    evergreen study examples/study_plasticity.yaml --home HOME
    python -m benchmarks.plasticity_study plasticity --home HOME

Of each run:

    trainability  gain ratio of the RL probe after the last stage (1: as trainable as before training)
    halfway       the same at the probe before
    next          mean over the stages after the first of what they train, right after them
    at the end    mean accuracy, after the last stage, over all that was trained
    lost          share of the solved held-out tasks that the next look found lost
    carried       entropy that earlier stages left on the environment about to be trained, against the start (geometric)
    starts, ends  accuracy of the probe's copies at their first and last look, after the last stage; base: untrained

A third table asks of every proxy whether it orders the runs as the probe does: Spearman's rank correlation with
trainability over all runs after the last stage, and inside settings (both less their setting's mean), so that a proxy
that only tells one setting from another is known. Intervals are percentiles of 10,000 draws of whole seeds with
replacement: the runs of a seed share their start. `later` is that of the proxy at the probe before with trainability
after the last stage: whether it foretells rather than accompanies.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks import study_tables
from benchmarks.objectives_study import matrix
from store import carryover
from store.ledger.queries import Reading
from store.plasticity import WHOLE_MODEL, lost_share
from store.probes import probes_of

MEASURES = ("trainability", "next", "at the end", "lost")
TOLD = ("halfway", "carried", "starts", "ends", "base starts", "base ends")
LATER = "halfway: "  # before a proxy's name: what it was at the probe before
DRAWS, LEVEL = 10_000, 0.95
PROBED = "unseen"  # the environment that the probe trains on

Floats = NDArray[np.float64]


def of_run(reading: Reading, run: str) -> dict[str, float]:
    """Every measure of one run, and every proxy after its last two probes."""
    trained = [stage.environment or "" for stage in reading.stages(run)]
    accuracy = matrix(reading, run, "pass_1")
    probes = probes_of(reading, run)
    base, *after = sorted(probes.results, key=lambda one: one.after_stage)
    ratios = [found.value for one in after if (found := probes.trainability(one.after_stage))]
    if len(ratios) < 2:
        raise SystemExit(f"{run} has no two probes after its start, or a base that learnt nothing: see `measure.share`")
    (halfway, last), (middle, end) = ratios[-2:], after[-2:]
    earlier = proxies(reading, run, middle.after_stage)
    return {
        "trainability": last,
        "halfway": halfway,
        "next": fmean(accuracy[stage, name] for stage, name in enumerate(trained, start=1) if stage > 1),
        "at the end": fmean(accuracy[len(trained), name] for name in dict.fromkeys(trained)),
        "lost": lost_share(reading.turnover(run)) or 0.0,
        "carried": carryover.of_run(reading.carry_over(run))["entropy_carried"] or 0.0,
        "starts": end.curve.start,
        "ends": end.curve.end,
        "base starts": base.curve.start,
        "base ends": base.curve.end,
        **proxies(reading, run, end.after_stage),
        **{f"{LATER}{name}": value for name, value in earlier.items()},
    }


def proxies(reading: Reading, run: str, stage: int) -> dict[str, float]:
    """What might stand for the probe, after a stage."""
    found: dict[str, float] = {}
    for name, metric in (("entropy", "entropy_token"), ("entropy on frozen answers", "entropy_fixed")):
        cells = {place: value for place, value in matrix(reading, run, metric).items() if place[0] == stage}
        found[f"{name}, geometric mean"] = carryover.geometric_mean(cells.values()) or 0.0
        found[f"{name}, {PROBED}"] = cells[stage, PROBED]
    for name, metric in (("KL to the base", "kl_base"), ("accuracy", "pass_1")):
        found[f"{name}, {PROBED}"] = matrix(reading, run, metric)[stage, PROBED]
    rows = [row for row in reading.network(run) if row.after_stage == stage]
    network = {(row.metric, row.layer): row.value for row in rows if row.value is not None}
    for name in ("dormant_0.1", "log_activation_q05", "weight_norm", "weight_dist_base"):
        found[name] = network[name, WHOLE_MODEL]
    for name in ("erank", "erank_centred", "stable_rank_centred"):
        found[f"{name}, last layer"] = network[name, max(layer for metric, layer in network if metric == name)]
    return found


def correlations(scores: study_tables.Scores) -> list[str]:
    """Write a row a proxy, in Markdown."""

    def table(name: str) -> Floats:
        return np.array([[one[name] for one in own.values()] for own in scores.values()])

    outcome = table("trainability")
    any_run = next(iter(next(iter(scores.values())).values()))
    lines = [
        f"rank correlation with trainability over {outcome.size} runs\n",
        "| proxy | all runs | inside settings | later, all runs |",
        "|---|---|---|---|",
    ]
    for name in [name for name in any_run if LATER + name in any_run]:
        own = table(name)
        cells = (
            _correlation(own, outcome),
            _correlation(own - own.mean(1, keepdims=True), outcome - outcome.mean(1, keepdims=True)),
            _correlation(table(LATER + name), outcome),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _correlation(proxy: Floats, outcome: Floats) -> str:
    """Spearman's rho of two tables, setting by seed, with an interval over seeds; "-": the proxy never differs."""
    if np.ptp(proxy) == 0:
        return "- (constant)"
    num_seeds = proxy.shape[1]
    drawn = np.random.default_rng(0).integers(num_seeds, size=(DRAWS, num_seeds))
    low, high = np.nanquantile(_rho(proxy[:, drawn], outcome[:, drawn]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    (rho,) = _rho(proxy[:, None], outcome[:, None])
    return f"{rho:+.2f} ({low:+.2f} to {high:+.2f})"


def _rho(proxy: Floats, outcome: Floats) -> Floats:
    """Spearman's rho of every draw [D] of two tables [setting, D, seed]; nan where a draw has one value alone."""
    ranks = [rankdata(table.swapaxes(0, 1).reshape(table.shape[1], -1), axis=1) for table in (proxy, outcome)]
    x, y = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1)))


if __name__ == "__main__":
    found = study_tables.main(__doc__, of_run, MEASURES, TOLD, against="rloo")
    print("\n" + "\n".join(correlations(found)))
