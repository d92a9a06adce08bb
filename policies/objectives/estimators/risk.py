"""RiskPO: A_i = V(S) / std * (r_i - mean_i) / sum (r - mean): the worth of a bundle's score, split over its members.

A bundle is `risk_bundle` tasks with one response of each, and S is the sum of their rewards. V weighs the tails of S:

    rvar = (relu(S - q_dn) - relu(S - q_up)) / (a_up - a_dn)     the range between the two quantiles
    cvar = -relu(q_dn - S) / a_dn                                what falls below the lower one
    V = (w * cvar + rvar) / (w + 1)                              w = `risk_mix`; 0: rvar alone

Symbols: a_dn, a_up the levels `risk_low` and `risk_high`; q_dn, q_up quantile trackers of S, which move once a step
by q <- q + rate * (level - share of S below q). With `risk_natural_baseline`, rvar has (q_dn - q_up) / (a_up -
a_dn) added, so that it is never above 0. std is that of S over the bundles made of the same tasks, n - 1 form;
mean_i that of the group of member i. Where the members' differences sum to 0, all get the same share of V.

Bundles here: an arm's tasks in the order of their group numbers, `risk_bundle` at a time; the k-th bundle of such a set
takes the k-th response of every task, in the order of rows. No bundle mixes arms, and every arm has its own trackers,
which start as the quantiles of its first batch, as in the released code (which has one pair for all). The last tasks of
an arm make smaller bundles, whose S is scaled up to a whole one's. Responses that have no partner, because another task
of the set lost some, get 0.

Entropy: the upper tail alone collapses it quickly; weight on the lower tail keeps it. Hazard: where V and the
difference from the mean disagree about a bundle (above its mean, and still in a tail that V counts as bad), its correct
answers are punished. A small sum of differences magnifies its members.

Empty cases: bundles of equal scores (std up to 1e-6) and a single bundle get 0. (The released code divides the
first by 1e-6, which makes their advantages enormous, and the second by 1.)

Source: Risk-based Policy Optimization (RiskPO), arXiv 2510.00911; checked against RTkenny/RiskPO `core_algos.py`
(`compute_grpo_bundle_rvar_outcome_advantage_quantile_tracking`, modes `track` and `sum-mean`, `std`, `uniform`).
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Literal

from pydantic import Field, model_validator

from policies.objectives.parts import Estimator, Outcomes, Part, PartInfo, PartOptions, PartState, Tensor
from policies.objectives.statistics import group_size, group_sum

SOURCE = "arXiv 2510.00911"
INFO = PartInfo(compares_groups=False, memory_of=("reward", "reward_maps", "risk_bundle", "risk_low", "risk_high"))
EPS = 1e-6


class Config(PartOptions):
    risk_bundle: int = Field(5, ge=1)
    """Tasks in a bundle, all of one arm."""
    risk_low: float = Field(0.2, gt=0, lt=1)
    """Level of the lower quantile of a bundle's score."""
    risk_high: float = Field(0.8, gt=0, lt=1)
    """Level of the upper quantile; .9 in another script of the authors."""
    risk_mix: float = Field(1.5, ge=0)
    """Weight of the lower tail against the range between the quantiles, which has 1."""
    risk_natural_baseline: bool = False
    """Shift the range between the quantiles so that it ends at 0; on in the authors' script for easier tasks."""
    risk_credit: Literal["proportional", "std", "uniform"] = "proportional"
    """Who of a bundle earns its value: by the difference from the own group's mean, all divided by the std of the own
    group's rewards, or all alike."""
    risk_rate: float = Field(0.1, gt=0, le=1)
    """How far a tracker moves a step, in the unit of the score."""

    @model_validator(mode="after")
    def _levels_are_ordered(self) -> Config:
        if self.risk_low >= self.risk_high:
            raise ValueError(f"risk_low {self.risk_low:g} must be below risk_high {self.risk_high:g}")
        return self


def create(config: Config) -> Estimator:
    return Part(lambda outcomes, memory: estimate(outcomes, memory, config))


def estimate(outcomes: Outcomes, memory: PartState, config: Config) -> Tensor:
    advantage_B = outcomes.reward_B.new_zeros(len(outcomes.reward_B))
    lows, highs = list[float](), list[float]()
    for place, arm in enumerate(outcomes.arms):
        sets = list(bundles(outcomes, place, config.risk_bundle))
        if not sets:
            continue
        scores = [score(outcomes.reward_B, rows_KN, config.risk_bundle) for rows_KN in sets]
        low, high = _tracked(memory, arm, scores, config)
        lows.append(low)
        highs.append(high)
        for rows_KN, score_K in zip(sets, scores, strict=True):
            std = float(score_K.std()) if len(score_K) > 1 else 0.0
            if std > EPS:
                worth_K = value(score_K, low, high, config) / (std + EPS)
                advantage_B[rows_KN] = _credit(worth_K, rows_KN, outcomes, config.risk_credit)
    if lows:
        memory.log.update({"risk_quantile_low": fmean(lows), "risk_quantile_high": fmean(highs)})
    return advantage_B


def bundles(outcomes: Outcomes, place: int, size: int) -> Iterator[Tensor]:
    """The rows of an arm as sets of bundles [K, N]: N tasks each, the k-th response of each in the k-th bundle."""
    groups = outcomes.group_B[outcomes.arm_B == place].unique().tolist()  # type: ignore[no-untyped-call]
    for first in range(0, len(groups), size):
        members = [(outcomes.group_B == g).nonzero()[:, 0].tolist() for g in groups[first : first + size]]
        yield outcomes.group_B.new_tensor(list(zip(*members, strict=False)))


def score(reward_B: Tensor, rows_KN: Tensor, size: int) -> Tensor:
    """The score S of each bundle [K], scaled up to a whole one where tasks are missing."""
    return reward_B[rows_KN].sum(-1) * (size / rows_KN.shape[1])


def value(score_K: Tensor, low: float, high: float, config: Config) -> Tensor:
    """What each score is worth, [K], for trackers q_dn = `low` and q_up = `high`."""
    width = config.risk_high - config.risk_low
    shift = low - high if config.risk_natural_baseline else 0.0
    rvar_K = ((score_K - low).clamp(min=0) - (score_K - high).clamp(min=0) + shift) / width
    cvar_K = -(low - score_K).clamp(min=0) / config.risk_low
    return (config.risk_mix * cvar_K + rvar_K) / (config.risk_mix + 1)


def track(quantile: float, level: float, score_K: Tensor, rate: float) -> float:
    return quantile + rate * (level - float((score_K < quantile).double().mean()))


def _tracked(memory: PartState, arm: str, scores: list[Tensor], config: Config) -> tuple[float, float]:
    """The quantiles that hold in this step; they move for the next."""
    score_K = scores[0].new_tensor([one for some in scores for one in some.tolist()])
    levels = (config.risk_low, config.risk_high)
    if arm in memory.kept:
        low, high = memory.kept[arm]
        pairs = zip((low, high), levels, strict=True)
        memory.kept[arm] = [track(quantile, level, score_K, config.risk_rate) for quantile, level in pairs]
    else:
        low, high = memory.kept[arm] = [float(score_K.quantile(level)) for level in levels]
    return low, high


def _credit(worth_K: Tensor, rows_KN: Tensor, outcomes: Outcomes, form: str) -> Tensor:
    """Split each bundle's worth over its members, [K, N]."""
    worth_KN = worth_K[:, None].expand(rows_KN.shape)
    if form == "uniform":
        return worth_KN
    size_B = group_size(outcomes.group_B)
    centred_B = outcomes.reward_B - group_sum(outcomes.reward_B, outcomes.group_B) / size_B
    if form == "std":
        std_B = (group_sum(centred_B**2, outcomes.group_B) / (size_B - 1).clamp(min=1)).sqrt()
        return worth_KN / (std_B.masked_fill(std_B <= 1e-3, 1.0)[rows_KN] + EPS)
    difference_KN = centred_B[rows_KN]
    sum_KN = difference_KN.sum(-1, keepdim=True).expand(rows_KN.shape)
    is_even_KN = sum_KN.abs() <= EPS
    share_KN = difference_KN / sum_KN.masked_fill(is_even_KN, 1.0)
    return worth_KN * share_KN.masked_fill(is_even_KN, 1 / rows_KN.shape[1])
