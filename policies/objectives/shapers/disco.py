"""DisCO's weights over wrong answers: A' = A * n- * softmax(s / tau) on wrong answers, A' = A on correct ones.

Symbols: s an answer's score, its mean log-prob over tokens; n- the wrong answers of the question, over which the
softmax runs; tau the `disco_tau`. The gradient of -tau * log mean exp(s / tau) weighs wrong answers by that
softmax: the likelier a wrong answer is, the harder it is pushed down. At a large tau all weigh alike: DisCO-b,
which is the estimator without this.

The scores are those at the start of the step. The paper takes the present ones, which needs whole questions in one
micro-batch; with one update a step they are the same. A wrong answer is one whose advantage is negative.

Empty cases: A = 0 stays 0; a question with one wrong answer keeps its weight of 1.

Source: Discriminative Constrained Optimization (DisCO), arXiv 2505.12366; checked against Optimization-AI/DisCO
`core_algos.py` (`compute_policy_loss_disco_logL`).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import PartInfo, PartOptions, PartState, Shaper, Tensor, given
from policies.objectives.shapers import surveyed
from policies.objectives.statistics import group_max, group_sum

SOURCE = "arXiv 2505.12366"
INFO = PartInfo(
    differs="the softmax over wrong answers is that at the start of the step; the released code takes the present one",
    weighs_by_mean_lp=True,
)


class Config(PartOptions):
    disco_tau: float = Field(10.0, gt=0)
    """Temperature of the softmax over wrong answers, in nats a token."""


def create(config: Config) -> Shaper:
    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        group_B = given(rows.group_B, "`shaper: disco` reads which answers are of one question")
        score_B = rows.lp_old_BT.sum(-1) / rows.mask_BT.sum(-1).clamp(min=1)
        is_wrong_B = (rows.advantage_BT < 0).any(-1)
        weight_B = weigh(score_B, is_wrong_B, group_B, config.disco_tau)
        return SurveyResult(tokens={"disco.weight": weight_B[:, None] * rows.mask_BT})

    return surveyed(survey, "disco.weight", "lp_old")


def weigh(score_B: Tensor, is_wrong_B: Tensor, group_B: Tensor, tau: float) -> Tensor:
    """n- * softmax(s / tau) over the wrong answers of each question, 1 on all others, [B]."""
    logit_B = (score_B / tau).masked_fill(~is_wrong_B, -float("inf"))
    largest_B = group_max(logit_B, group_B).masked_fill(~is_wrong_B, 0.0)
    term_B = (logit_B - largest_B).exp()  # 0 where nothing is wrong
    mean_B = group_sum(term_B, group_B) / group_sum(is_wrong_B.to(term_B), group_B).clamp(min=1)
    return (term_B / mean_B).where(is_wrong_B, score_B.new_ones(()))
