"""Group-relative advantages: A_i = (r_i - mean) / (std + eps), mean and std of the group's rewards.

Libraries differ in the details: verl and SkyRL take the n-1 form with eps 1e-6, TRL the n-1 form with eps 1e-4,
HAPO's code the population form. Dividing by a small std magnifies nearly solved and nearly hopeless groups.

Empty cases: a group of one, and a group of equal rewards, give 0 (verl gives a lone sample A = r; a lone sample
carries no comparison). Missing members are left out, not counted as 0.

Source: DeepSeekMath, arXiv 2402.03300, section 4.1.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from policies.objectives.parts import Estimator, Outcomes, Part, PartOptions, Tensor
from policies.objectives.statistics import centred, group_size, group_sum

SOURCE = "arXiv 2402.03300"


class Config(PartOptions):
    std: Literal["sample", "population"] = "sample"
    """Divide squares by n - 1, or by n."""
    eps: float = Field(1e-6, gt=0)
    """Added to the standard deviation."""


def create(config: Config) -> Estimator:
    return Part(lambda outcomes, memory: estimate(outcomes, config.std, config.eps))


def estimate(outcomes: Outcomes, std: Literal["sample", "population"], eps: float) -> Tensor:
    centred_B = centred(outcomes.reward_B, outcomes.group_B)
    size_B = group_size(outcomes.group_B)
    freedom_B = (size_B - 1).clamp(min=1) if std == "sample" else size_B
    std_B = (group_sum(centred_B**2, outcomes.group_B) / freedom_B).sqrt()
    return centred_B / (std_B + eps)
