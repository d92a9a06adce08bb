"""ARES: r' = r + bonus(d, difficulty, correct), length by difficulty, counted in high-entropy tokens.

Symbols: a token is of high entropy above a threshold, a running mean (.99) of the step's median of the answers' own
95th percentiles; d = the answer's number of them minus the target. Difficulty of a prompt is from its group's accuracy:
at least 2/3 easy, at least 1/3 medium, else hard. mar = max(1, f * target); hub(x) = x^2 / (2k) up to k, then x - k/2;
sg(x) = 1 / (1 + exp(-x / t)); cap = alpha * (1, 1, 1.2); f (.15, .25, .35), k (2, 3, 4), t (2, 2.5, 3).

    easy correct          -min(cap, cap * hub(relu(d - mar)) / (mar + k))
    medium correct        -min(cap, cap * hub(relu(|d| - mar)) / (mar + k))
    easy, medium wrong    cap * (.6, .8) * sg(relu(d - mar))
    hard correct          d >= -mar: cap * sg(d + mar), else -min(cap, .5 * cap * hub(-d - mar) / (mar + k))
    hard wrong            cap * sg(relu(d - mar))

The target of a difficulty is the mean count over its prompts in this step, rounded; its alpha moves by rate * (mean
- target), reversed for hard, within [0, 2]. As the target is that mean, alpha hardly moves: so it is in the
released code. We keep threshold and alphas for each arm, whose entropies and lengths are its own. The entropies are
those that the sampler reported, counted above the threshold that already holds this step.

The released code also moves a multiplier (in [0, 10], by .01 of a cost that its sampler measures) and does not use
it: the branch is commented out. Nor do we.

Entropy: indirect; it rewards exploring on hard prompts. Hazard: sg(0) = .5, so that a wrong answer of usual length
earns half of its cap, and groups without spread get one from their lengths. Complex, and tuned to one family of models.

Empty cases: an answer without a token counts 0 and has no percentile; a step without tokens leaves the threshold as
it is.

Source: ARES, arXiv 2510.08457 (its trainer is called AEPO there); checked against shawn0728/ARES
`examples/reward_function/aepo.py` and `verl/trainer/ray_trainer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from policies.objectives.parts import Outcomes, Part, PartInfo, PartOptions, PartState, RewardMap, Tensor
from policies.objectives.statistics import group_size, group_sum

SOURCE = "arXiv 2510.08457"
INFO = PartInfo(reads_tokens=True, memory_of=("temperature", "ares_alpha"))
PERCENTILE, MEMORY, MOST = 0.95, 0.99, 2.0  # of an answer's entropies; of the threshold; of alpha


@dataclass(frozen=True)
class Difficulty:
    """What a prompt of one difficulty is given."""

    least_accuracy: float
    margin: float  # f, as a share of the target
    bend: float  # k, tokens
    softness: float  # t, tokens
    cap: float  # in alphas
    wrong: float  # share of the cap that a wrong answer can earn


DIFFICULTIES = {
    "easy": Difficulty(2 / 3, 0.15, 2.0, 2.0, 1.0, 0.6),
    "medium": Difficulty(1 / 3, 0.25, 3.0, 2.5, 1.0, 0.8),
    "hard": Difficulty(0.0, 0.35, 4.0, 3.0, 1.2, 1.0),
}


class Config(PartOptions):
    ares_alpha: float = Field(0.5, ge=0, le=MOST)
    """Where the largest bonus of each difficulty starts, in the unit of the reward."""
    ares_rate: float = Field(0.05, ge=0)
    """How far alpha moves a step for each token between mean and target."""


def create(config: Config) -> RewardMap:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        bonus_B = outcomes.reward_B.new_zeros(len(outcomes.reward_B))
        correct_B = outcomes.correct_B.to(bonus_B)
        accuracy_B = group_sum(correct_B, outcomes.group_B) / group_size(outcomes.group_B)
        for place, arm in enumerate(outcomes.arms):
            is_here_B = outcomes.arm_B == place
            here = _rows(outcomes, is_here_B)
            kept = memory.kept.setdefault(arm, {"threshold": None, "alpha": {}})
            before, now = kept["threshold"], threshold_of(here)
            if before is None or now is None:
                kept["threshold"] = before if now is None else now
            else:
                kept["threshold"] = MEMORY * before + (1 - MEMORY) * now
            if kept["threshold"] is not None:
                bonus_B[is_here_B] = _arm(here, accuracy_B[is_here_B], kept, config)
        memory.log["ares_bonus"] = float(bonus_B.mean())
        return outcomes.reward_B + bonus_B

    return Part(apply)


def bonus(delta_B: Tensor, correct_B: Tensor, target: float, alpha: float, difficulty: str) -> Tensor:
    """What answers of one difficulty earn for d high-entropy tokens more than the target, [B]."""
    how = DIFFICULTIES[difficulty]
    cap, margin = alpha * how.cap, max(1.0, how.margin * max(target, 1.0))
    over_B = (delta_B - margin).clamp(min=0)
    wrong_B = cap * how.wrong * (over_B / how.softness).sigmoid()
    if difficulty == "hard":
        lack_B = (-delta_B - margin).clamp(min=0)
        reward_B = cap * ((delta_B + margin) / how.softness).sigmoid()
        right_B = reward_B.where(delta_B >= -margin, -_penalty(lack_B, 0.5 * cap, cap, margin, how.bend))
    else:
        deviation_B = over_B if difficulty == "easy" else (delta_B.abs() - margin).clamp(min=0)
        right_B = -_penalty(deviation_B, cap, cap, margin, how.bend)
    return right_B.where(correct_B, wrong_B)


def hub(x_B: Tensor, bend: float) -> Tensor:
    """Quadratic up to the bend, linear behind it, [B]."""
    square_B: Tensor = x_B**2 / (2 * bend)
    return square_B.where(x_B <= bend, x_B - bend / 2)


def threshold_of(outcomes: Outcomes) -> float | None:
    """The median of the answers' 95th percentiles of entropy, nats; None without a token."""
    pairs = zip(outcomes.entropy_BT, outcomes.mask_BT, strict=True)
    tails = [float(row[mask].quantile(PERCENTILE)) for row, mask in pairs if bool(mask.any())]
    return float(outcomes.entropy_BT.new_tensor(tails).quantile(0.5)) if tails else None


def _penalty(x_B: Tensor, weight: float, cap: float, margin: float, bend: float) -> Tensor:
    return (weight * hub(x_B, bend) / (margin + bend)).clamp(max=cap)


def _arm(here: Outcomes, accuracy_B: Tensor, kept: dict[str, Any], config: Config) -> Tensor:
    """The bonuses of one arm's answers, [B]; alphas move."""
    count_B: Tensor = ((here.entropy_BT > kept["threshold"]) & here.mask_BT).sum(-1).to(accuracy_B)
    bonus_B = count_B.new_zeros(len(count_B))
    most = float("inf")
    for name, how in DIFFICULTIES.items():
        is_so_B = (accuracy_B >= how.least_accuracy) & (accuracy_B < most)
        most = how.least_accuracy
        if not bool(is_so_B.any()):
            continue
        weight_B = 1 / group_size(here.group_B[is_so_B]).to(count_B)  # every prompt counts once
        mean = float((count_B[is_so_B] * weight_B).sum() / weight_B.sum())
        target = float(round(mean))
        alpha = kept["alpha"].get(name, config.ares_alpha)
        alpha += config.ares_rate * (target - mean if name == "hard" else mean - target)
        kept["alpha"][name] = alpha = min(MOST, max(0.0, alpha))
        bonus_B[is_so_B] = bonus(count_B[is_so_B] - target, here.correct_B[is_so_B], target, alpha, name)
    return bonus_B


def _rows(outcomes: Outcomes, is_here_B: Tensor) -> Outcomes:
    """Some rows of a step, as far as this part reads them."""
    read = ("mask_BT", "entropy_BT", "group_B", "correct_B")
    return replace(outcomes, **{name: getattr(outcomes, name)[is_here_B] for name in read})
