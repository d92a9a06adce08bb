"""DRPO's advantages: as DisCO's, with correct answers weighed by their shortness, w = exp(l / lambda), l = 1 - n / C.

Symbols: n the tokens that the policy wrote, C the longest answer (`drpo_max_length`, which should be the sampler's
budget of tokens; the released code takes the padded width), lambda the `drpo_lambda`: the smaller, the more the
shortest count; w is divided by its mean over the correct answers of the question. So a long correct answer counts less
and never gets a negative advantage, as a length penalty under a group's baseline gives it. Wrong ones are untouched.

Entropy: indirect, by shorter answers; otherwise as DisCO. Hazard: a small lambda leaves one correct answer a question:
the shortest, right for the wrong reasons or not.

Empty cases: as `disco`; one correct answer has the weight 1 at any length. An answer longer than C counts as C.

Source: DRPO, arXiv 2510.04474; checked against Optimization-AI/DRPO `core_algos.py` (`compute_policy_loss_drpo`).
Not the several other methods of that name.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.estimators import disco
from policies.objectives.parts import Estimator, Part, PartOptions, Tensor

SOURCE = "arXiv 2510.04474"


class Config(PartOptions):
    drpo_lambda: float = Field(0.1, ge=0.01)
    """Temperature of the weights: .1, as published, nearly picks the shortest, 1 prefers it mildly."""
    drpo_max_length: int = Field(1024, ge=1)
    """The longest answer C, tokens: usually the sampler's `max_tokens`."""


def create(config: Config) -> Estimator:
    return Part(
        lambda outcomes, memory: disco.estimate(outcomes, preference(outcomes.num_tokens_B, config)),
        factor=disco.answers_per_question,
    )


def preference(num_tokens_B: Tensor, config: Config) -> Tensor:
    """exp(l / lambda) of each answer, [B], up to a factor."""
    shortness_B = 1 - num_tokens_B.double().clamp(max=config.drpo_max_length) / config.drpo_max_length
    return (shortness_B / config.drpo_lambda).exp()
