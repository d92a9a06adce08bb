"""ETTRL's entropy-based advantage: A' = A * (1 + (Hbar - H_i) / Hbar), more for the surer responses of a group.

Symbols: H_i the mean entropy over the tokens of response i at the start of the step, Hbar the mean of H_i over its
group, every response weighing the same. The weights of a group have mean 1.

Entropy: it rewards confidence, so it lowers it. It is made for training on pseudo-labels, where a sure answer is
likelier right. The weight of a response with more than twice the entropy of its group is negative, which turns its
advantage round. Another form clips to [-2, 2]; we take it to mean the weight (`entropy_advantage_clip: 2`), which
cannot exceed 2 anyway.

Empty cases: a group without entropy, and one of a single response, have the weight 1; a response without tokens does
not count in Hbar.

Source: ETTRL, arXiv 2508.11356, from secondary descriptions; without its tree rollouts.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import PartInfo, PartOptions, PartState, Shaper, Tensor
from policies.objectives.shapers import surveyed
from policies.objectives.statistics import group_sum, start_entropy

SOURCE = "arXiv 2508.11356"
INFO = PartInfo(missing="no code read; what its other form clips to [-2, 2] is our reading")


class Config(PartOptions):
    entropy_advantage_clip: float | None = Field(None, gt=0)
    """Largest magnitude of a response's weight; 2 in another form of the method; null: as it comes."""


def create(config: Config) -> Shaper:
    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        assert rows.group_B is not None, "the learner gives it"
        weight_B = weigh(start_entropy(rows, "entropy_advantage"), rows.mask_BT, rows.group_B)
        if config.entropy_advantage_clip is not None:
            weight_B = weight_B.clamp(-config.entropy_advantage_clip, config.entropy_advantage_clip)
        return SurveyResult(
            tokens={"entropy_advantage.weight": weight_B[:, None] * rows.mask_BT},
            log={"entropy_advantage_negative_frac": float((weight_B < 0).double().mean())},
        )

    return surveyed(survey, "entropy_advantage.weight", "old_entropy")


def weigh(entropy_BT: Tensor, mask_BT: Tensor, group_B: Tensor) -> Tensor:
    """The weight of each response, [B], from token entropies of whole groups."""
    num_B = mask_BT.sum(-1)
    mean_B = entropy_BT.masked_fill(~mask_BT, 0.0).sum(-1) / num_B.clamp(min=1)
    num_responses_B = group_sum((num_B > 0).to(mean_B.dtype), group_B).clamp(min=1)
    whole_B = group_sum(mean_B, group_B) / num_responses_B
    relative_B = (whole_B - mean_B) / whole_B.where(whole_B > 0, 1.0)
    return 1 + relative_B.masked_fill(whole_B <= 0, 0.0)
