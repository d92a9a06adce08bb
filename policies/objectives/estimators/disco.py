"""DisCO's advantages: A = +F / n+ on correct answers, -F / n- on wrong ones: the former likelier than the latter.

Symbols: n+, n- how many answers of the question are correct and wrong; F = answers / questions of the update. Per
question

    J = mean over correct s - mean over wrong s          (DisCO-b)
    J = mean over correct s - tau * log mean over wrong exp(s / tau)          (DisCO)

with s the score of an answer, its mean log-prob over tokens; the loss is minus the mean of J over its questions. Under
`seq_mean_token_mean` and with `ratio: reinforce` the gradient of the first is this estimator's; the shaper `disco`
makes it that of the second, and the term `disco_constraint` holds the policy near the start of the step. For the score
`mean rho` say `ratio: ratio, shapers: []`: at the start of the step all scores are equal then, and DisCO is DisCO-b.

Questions that are all correct or all wrong contribute 0 and stay in the divisor. No division by the spread: hard and
easy questions count alike, the point of it. F cancels the divisor of the aggregation, which counts answers.

Entropy: holds it, as wrong answers are pushed no harder than by their share. Hazard: correctness only: rewards between
0 and 1, and reward maps, are not read.

Empty cases: a group of one gives 0. An answer without a token is none: it has no score.

Source: Discriminative Constrained Optimization (DisCO), arXiv 2505.12366; checked against Optimization-AI/DisCO
`core_algos.py` (`compute_policy_loss_disco_logL`).
"""

from __future__ import annotations

from policies.objectives.parts import Estimator, Outcomes, Part, PartOptions, Tensor
from policies.objectives.statistics import group_sum

SOURCE = "arXiv 2505.12366"
TINY = 1e-300  # what a sum of 0 is divided by, before its quotient is dropped


Config = PartOptions


def create(config: Config) -> Estimator:
    return Part(lambda outcomes, memory: estimate(outcomes), factor=answers_per_question)


def answers_per_question(group_B: Tensor, num_tokens_B: Tensor) -> float:
    """F of these rows."""
    num_answers, num_questions = int((num_tokens_B > 0).sum()), len(group_B.unique())  # type: ignore[no-untyped-call]
    return num_answers / num_questions


def estimate(outcomes: Outcomes, weight_B: Tensor | None = None) -> Tensor:
    """Advantages [B]; `weight_B`: how much each correct answer counts among the correct ones of its question."""
    one_B = outcomes.reward_B.new_ones(len(outcomes.reward_B))
    is_answer_B = (outcomes.num_tokens_B > 0).to(one_B)
    good_B = is_answer_B * outcomes.correct_B * (one_B if weight_B is None else weight_B)
    bad_B = is_answer_B * ~outcomes.correct_B
    good_sum_B, bad_sum_B = group_sum(good_B, outcomes.group_B), group_sum(bad_B, outcomes.group_B)
    share_B = good_B / good_sum_B.clamp(min=TINY) - bad_B / bad_sum_B.clamp(min=TINY)
    factor = answers_per_question(outcomes.group_B, outcomes.num_tokens_B)
    return share_B.masked_fill((good_sum_B == 0) | (bad_sum_B == 0), 0.0) * factor
