"""`repo_adaptive` with one strength for all, beside fixed strengths on books and plain RLOO on words. One command:

    python -m benchmarks.repo_adaptive [books] [words] [--seeds 0-7] [--tuning 100-107] [--answers 4 16 64]
    python -m benchmarks.repo_adaptive books --objective "{preset: repo_adaptive, controller: {type: signal_share,
        share: .5}}"

books: mean training accuracy of the last 20 steps of stages 2 to 4, with 4, 16 and 64 answers at two learning rates.
The best of five fixed strengths is chosen on the tuning seeds. Goal: within .03 of it. Beside it plain RLOO, which is
a strength of 0. A quarter of an hour on a fast core, three quarters
on a slow one.

words: spelling backward, lengths 3 to 7, from one warm start. Goals: the entropy, a fraction of the start, stays
between half and twice the target in every step; the held-out accuracy (100 words a length, 4 samples, temperature 1) is
no worse than that of `rloo`: the 95 % t-interval of the paired differences reaches 0. Two minutes a seed.

Exits 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.many_books import ONE_STRENGTH, Run, Shelf, learn
from benchmarks.paired import seed_range, with_interval
from benchmarks.spelling import spell, warm_weights
from policies.objectives.config import ObjectiveConfig
from store.intervals import t_interval

ANSWERS, RATES = (4, 16, 64), (1e-3, 3e-4)
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.4)
TOLERANCE, LAST = 0.03, 20
Floats = NDArray[np.float64]


def fixed(strength: float) -> Mapping[str, Any]:
    """REPO with a strength that nothing moves."""
    return {"preset": "repo", "strength": strength, "controller": "none"}


def later_books(num_answers: int, lr: float, objectives: Sequence[Any], seeds: Sequence[int]) -> Floats:
    """Mean accuracy at the end of stages 2 to 4, [objectives, seeds]."""
    sections = [ObjectiveConfig.model_validate(one) for one in objectives]
    ends = []
    for section in sections:  # one after the other: eight runs fit into a core's cache, forty do not
        accuracy, _ = learn(num_answers, [Run(seed, lr, section) for seed in seeds])
        ends.append(accuracy[:, 1:, -LAST:].mean((1, 2)).double().numpy())
    return np.stack(ends)


def books(objective: Any, answers: Sequence[int], seeds: Sequence[int], tuning: Sequence[int]) -> int:
    """Print the table of books; gives how many cells miss the goal."""
    print(
        f"logits as the policy's to {Shelf(16).differs():.0e}; tuning seeds: mean of {', '.join(map(str, STRENGTHS))}"
    )
    missed = 0
    for num_answers in answers:
        for lr in RATES:
            grid = later_books(num_answers, lr, [fixed(one) for one in STRENGTHS], tuning).mean(1)
            best = STRENGTHS[int(grid.argmax())]
            ours, theirs, plain = later_books(num_answers, lr, [objective, fixed(best), fixed(0.0)], seeds)
            missed += bool((ours - theirs).mean() < -TOLERANCE)
            print(
                f"{num_answers:2} answers, lr {lr:g}: grid {_row(grid)}; best {best:g}: {theirs.mean():.3f}, "
                f"ours {ours.mean():.3f}, "
                f"{with_interval(ours - theirs)}; "
                f"plain {plain.mean():.3f}, {with_interval(ours - plain)}\n"
                f"    seeds: {_row(ours)} beside {_row(theirs)}",
                flush=True,
            )
    return missed


def words(objective: Any, seeds: Sequence[int], steps: int) -> int:
    """Print the table of words; gives how many goals are missed."""
    start = warm_weights()
    target = ObjectiveConfig.model_validate(objective).create_controllers()[0].target or 1.0
    differences, strayed = [], 0
    for seed in seeds:
        ours, theirs = (spell(seed, one, start, steps) for one in (objective, "rloo"))
        differences.append(ours.accuracy - theirs.accuracy)
        low, high = min(ours.readings), max(ours.readings)
        strayed += not target / 2 <= low <= high <= 2 * target
        print(
            f"seed {seed}: ours {ours.accuracy:.3f}, entropy {low:.2f} to {high:.2f} of the start; rloo "
            f"{theirs.accuracy:.3f}, {min(theirs.readings):.2f} to {max(theirs.readings):.2f}",
            flush=True,
        )
    print(
        f"ours minus rloo {with_interval(differences)}; "
        f"entropy left [{target / 2:g}, {2 * target:g}] of the start in {strayed} of {len(seeds)} runs"
    )
    return int(t_interval(differences).high < 0) + int(strayed > 0)


def _row(values: Floats) -> str:
    return " ".join(f"{value:.3f}".replace("0.", ".") for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="books | words", help="default: both")
    parser.add_argument("--objective", help="another, as a spec writes it, in YAML")
    parser.add_argument("--seeds", type=seed_range, default="0-7")
    parser.add_argument("--tuning", type=seed_range, default="100-107")
    parser.add_argument("--answers", type=int, nargs="+", default=ANSWERS, help="of books: which cells")
    parser.add_argument("--steps", type=int, default=400, help="of words")
    options = parser.parse_args()
    objective = yaml.safe_load(options.objective) if options.objective else ONE_STRENGTH
    parts = options.parts or ["books", "words"]
    torch.set_num_threads(1)
    missed = books(objective, options.answers, options.seeds, options.tuning) if "books" in parts else 0
    missed += words(objective, options.seeds, options.steps) if "words" in parts else 0
    print("every goal is reached" if not missed else f"{missed} goals are missed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
