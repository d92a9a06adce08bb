"""STEER: A' = A * w(omega), less for tokens whose update would change entropy most, in either direction.

Symbols: omega = |(A / p_old) * p * (1 - p) * (lp + H)| estimates the entropy change that one token causes; p =
exp(lp) its probability, H the entropy of the full distribution. At the start of the step p = p_old, so

    omega = |A * (1 - p) * (lp + H)|

    linear        w falls from `most` (1.2) at the smallest omega of the step to `least` (.8) at the largest
    exponential   w = exp(-k * omega), k = -ln(least) / max(largest omega, .02), held in [least, 1]

Entropy: slows its changes both ways; it has no target. The authors use PPO's clip at .2/.28 with a dual clip of 10
and a learning rate of 1e-6.

The released code takes the smallest and the largest of the micro-batch under the present policy; we take them over
the step at its start, A being the estimator's. One outlier flattens the linear map for all others: `steer_quantile:
0.999` takes the 99.9th percentile for the largest, and gives `least` to everything above (ours).

Empty cases: equal omegas give the middle of the linear map, which is 1; A = 0 has omega 0 and stays 0.

Source: arXiv 2510.10150; checked against zz-haooo/STEER `core_algos.py` (`compute_token_weights`).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import PartInfo, PartOptions, PartState, Shaper, Tensor
from policies.objectives.shapers import surveyed
from policies.objectives.statistics import quantile, start_entropy

SOURCE = "arXiv 2510.10150"
INFO = PartInfo(
    differs="the smallest and the largest change are those of the whole step at its start; the released code: of the "
    "micro-batch, under the present policy"
)
MIN_LARGEST = 0.02  # of omega, in the exponential form


class Config(PartOptions):
    steer_form: Literal["linear", "exponential"] = "linear"
    """How the weight falls with the entropy change."""
    steer_least: float = Field(0.8, gt=0, le=1)
    """Weight of the tokens that change entropy most."""
    steer_most: float = Field(1.2, ge=1)
    """Weight of the tokens that change it least; of the linear form, the exponential one has 1."""
    steer_quantile: float = Field(1.0, gt=0, le=1)
    """Which quantile of the entropy changes counts as the largest; 0.999 where one outlier rules."""


def create(config: Config) -> Shaper:
    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        omega_BT = change(rows.advantage_BT, rows.lp_old_BT, start_entropy(rows, "steer"))
        weight_BT = weigh(omega_BT, rows.mask_BT, config)
        mean = float(weight_BT.masked_fill(~rows.mask_BT, 0.0).sum()) / max(totals.num_tokens, 1)
        return SurveyResult(tokens={"steer.weight": weight_BT}, log={"steer_weight_mean": mean})

    return surveyed(survey, "steer.weight", "lp_old", "old_entropy")


def change(advantage_BT: Tensor, lp_BT: Tensor, entropy_BT: Tensor) -> Tensor:
    """The entropy change |omega| that each token causes, [B, T], at p = p_old."""
    return (advantage_BT * -lp_BT.expm1() * (lp_BT + entropy_BT)).abs()


def weigh(omega_BT: Tensor, mask_BT: Tensor, config: Config) -> Tensor:
    valid = omega_BT[mask_BT]
    if len(valid) == 0:
        return omega_BT.new_ones(omega_BT.shape)
    smallest, largest = float(valid.min()), quantile(valid, config.steer_quantile)
    if config.steer_form == "linear":
        return linear(omega_BT, smallest, largest, config.steer_least, config.steer_most)
    return exponential(omega_BT, largest, config.steer_least)


def linear(omega_BT: Tensor, smallest: float, largest: float, least: float, most: float) -> Tensor:
    """From `most` at the smallest to `least` at the largest."""
    if largest <= smallest:
        return omega_BT.new_full(omega_BT.shape, (least + most) / 2)
    return (most - (most - least) * (omega_BT - smallest) / (largest - smallest)).clamp(least, most)


def exponential(omega_BT: Tensor, largest: float, least: float) -> Tensor:
    """From 1 at no change to `least` at the largest."""
    k = -math.log(least) / max(largest, MIN_LARGEST)
    return (-k * omega_BT).exp().clamp(least, 1)
