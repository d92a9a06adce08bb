"""MLflow's names for what the ledger knows: metric first, environment last, so that its UI makes a section a metric.

`TABLE` lists them all; docs/mlflow.md shows it, and a test compares what is sent with it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from store.metrics import METRICS
from store.outcomes import OUTCOMES, SWITCHES


@dataclass(frozen=True)
class Name:
    """A family of names."""

    pattern: str  # <env> and <category> stand for a run's own, <metric> for a line of store/metrics.py
    goes_to: str  # "both": the stage every step, the curriculum every 10th and at a stage's end; "curriculum"
    meaning: str


# A series an environment, and a series a category: enough to see what happens; the ledger has all of them.
PER_ENVIRONMENT = {
    "reward": "train_reward",
    "accuracy": "train_accuracy",
    "signal": "train_signal",
    "zero_var_groups": "train_zero_var_groups",
    "entropy_token": "entropy_token",
    "truncated_frac": "train_truncated_frac",
    "num_turns": "train_num_turns",
    "tokens_per_s_play": "tokens_per_s_play",
}
PER_CATEGORY = ("reward", "accuracy", "signal", "entropy_token")
MATRICES = ("value", "pass_1", "pass_4", "greedy_accuracy", "entropy_token")

TABLE = (
    Name("train/<metric>", "both", "a training metric of the whole batch"),
    *(
        Name(f"{name}/<env>", "both", f"an environment's own: {METRICS[metric].meaning}")
        for metric, name in PER_ENVIRONMENT.items()
    ),
    *(Name(f"{m}_by_category/<env>.<category>", "both", "the same of one category") for m in PER_CATEGORY),
    Name("bandit_prob_by_category/<env>.<category>", "both", "probability that a bandit gives a category"),
    Name("progress/stage_step", "both", "steps done in the stage"),
    Name("progress/stage_idx", "both", "the stage, from 1"),
    Name("progress/tokens", "both", "tokens the policy has written in training, since the run began"),
    Name("progress/wall_h", "both", "hours spent in steps and boundaries so far, pauses left out"),
    Name("time/<metric>", "both", "seconds by part of a step, and tokens a second"),
    *(Name(f"R_{m}/<env>", "curriculum", f"at a boundary: {METRICS[m].meaning}") for m in MATRICES),
    *(Name(one.name, "curriculum", one.meaning) for one in SWITCHES),
    *(
        Name(one.mlflow, "curriculum", f"{one.title.lower()} of the run so far: {one.meaning}")
        for one in OUTCOMES
    ),
    Name("bandit_prob/<env>", "curriculum", "probabilities that the scheduler's pick was drawn from"),
    Name("bandit_index/<env>", "curriculum", "the scheduler's estimate of what a stage of it earns"),
    Name("bandit_pulls/<env>", "curriculum", "its picks so far"),
    Name("bandit/reward", "curriculum", "the scheduler's reward for the stage"),
)

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_UNSAFE_OR_DOT = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST = 100  # characters of a part; MLflow takes 250 in all


def slug(text: str, unsafe: re.Pattern[str] = _UNSAFE) -> str:
    """Make a text part of a name: as it is where MLflow allows, else mended, and told apart by a hash."""
    if text[:1].isalnum() and len(text) <= _LONGEST and not unsafe.search(text):
        return text
    told_apart = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{unsafe.sub('_', text)[:_LONGEST]}-{told_apart}"


def of_environment(metric: str, environment: str) -> str:
    """Name a series of an environment."""
    return f"{metric}/{slug(environment)}"


def of_category(metric: str, environment: str, category: str) -> str:
    """Name a series of a category. Its part holds no dot, so that the last dot separates the two."""
    return f"{metric}_by_category/{slug(environment)}.{slug(category, _UNSAFE_OR_DOT)}"
