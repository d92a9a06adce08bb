"""Aggregations: D, what each token weighs in the sum that is the loss (objectives.md 5).

    token_mean            1 / N                every token alike; long answers dominate (DAPO; our default)
    seq_mean_token_mean   1 / (B * n_b)        every sequence alike (GRPO, arXiv 2402.03300)
    seq_mean_token_sum    1 / B                plain policy gradient
    constant              1 / (B * max_length) neither length nor padding matters (Dr. GRPO, arXiv 2503.20783)
    prompt_mean           1 / (P * n_g)        every group alike: no arm dominates by its length

N tokens and B sequences of the whole update, over all its micro-batches and ranks; n_b tokens of sequence b; P groups
with n_g tokens each.
As the totals are known beforehand, micro-batches are summed, never averaged, and how a batch was cut does not
matter. D is 0 off the mask; an update without tokens gives 0 everywhere.
"""

from __future__ import annotations

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Aggregation, PartInfo, PartModule, PartOptions, Tensor


def token_mean(mask_BT: Tensor, rows: ShapedRows, totals: Totals, max_length: int | None) -> Tensor:
    """1 / N."""
    return mask_BT / max(totals.num_tokens, 1)


def seq_mean_token_mean(mask_BT: Tensor, rows: ShapedRows, totals: Totals, max_length: int | None) -> Tensor:
    """1 / (B * n_b); a sequence is never split between micro-batches, so n_b is known here."""
    return mask_BT / mask_BT.sum(-1, keepdim=True).clamp(min=1) / max(totals.num_sequences, 1)


def seq_mean_token_sum(mask_BT: Tensor, rows: ShapedRows, totals: Totals, max_length: int | None) -> Tensor:
    """1 / B."""
    return mask_BT / max(totals.num_sequences, 1)


def constant(mask_BT: Tensor, rows: ShapedRows, totals: Totals, max_length: int | None) -> Tensor:
    """1 / (B * max_length), a configured constant and never the padded width."""
    assert max_length is not None, "the configuration asks for it"
    return mask_BT / max(totals.num_sequences, 1) / max_length


def prompt_mean(mask_BT: Tensor, rows: ShapedRows, totals: Totals, max_length: int | None) -> Tensor:
    """1 / (P * n_g)."""
    assert rows.group_B is not None, "the learner gives it"
    group_tokens = [totals.group_tokens.get(group, 1) for group in rows.group_B.tolist()]
    return mask_BT / mask_BT.new_tensor(group_tokens)[:, None] / max(len(totals.group_tokens), 1)


def _module(weigh: Aggregation, info: PartInfo | None = None) -> PartModule:
    return PartModule("aggregations", weigh.__name__, "", PartOptions, lambda _: weigh, info or PartInfo())


AGGREGATIONS = {
    one.name: one
    for one in (
        _module(token_mean),
        _module(seq_mean_token_mean, PartInfo(weighs_sequences_alike=True)),
        _module(seq_mean_token_sum),
        _module(constant, PartInfo(needs_max_length=True)),
        _module(prompt_mean),
    )
}
