"""SIREN: adds c * (Hbar - H0)^2 to the loss, entropy held at its start where it means something.

So K = -2 c (Hbar - H0) * share, with the share of a token in Hbar: 1 / (kept tokens of its sequence * sequences).

Symbols: the entropy of a token is that of its nucleus, the smallest set of likeliest tokens with mass .8, renormalised
(nats). A token is kept if its entropy is strictly above the 80th percentile (linear) of its sequence. Hbar is the mean
over the kept tokens of each sequence, then over sequences; H0 the same in the first step, before any update, then
fixed; c the coefficient.

K multiplies the entropy of the nucleus: the long tail of the vocabulary, which makes a plain bonus explode, gets
nothing. Which tokens are kept, and Hbar, are those at the start of the step, over all of it; they hold for its updates.

H0 is kept for each environment, else the entropy of the first one would be everybody's target. With several the term
is the mean over sequences of the square of their environment's distance, so the share of a token stays as it is. The
mean over sequences is the term's own: it does not follow the aggregation of the policy loss.

Entropy: to its anchor, from both sides. A fixed c is no hazard: the force is the distance, and 0 in the first step.
Hazards: the anchor is measured on one batch; where training begins with an entropy that is too low, it is held too low.
Everything that reads entropies beside it (`entropy_bonus`) then sees those of the nucleus.

Not implemented: the released code leaves the token out that crosses the mass, so where one token has p >= .8 the set is
empty and the entropy 0 ("released" in the reference: {.5, .25} instead of {.5, .25, .15}). It also takes Hbar over the
micro-batch on the device, and its gradient for that.

Empty cases: a sequence in which no token is above the percentile (one token, equal entropies) keeps none and counts
with a mean of 0; an environment's first step is its anchor and gives 0; a coefficient of 0 leaves the part out, but for
one that a controller moves: its anchor is that of the first step too.

Source: Rethinking Entropy Regularization in Large Reasoning Models, arXiv 2509.25133; checked against Linn3a/siren
`verl/verl/workers/actor/dp_actor.py` (`mask_by_quantile`, c = .005).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, PartState, Tensor, Term
from policies.objectives.statistics import environments, start_entropy

SOURCE = "arXiv 2509.25133"
INFO = PartInfo(
    differs="the nucleus holds the token that crosses its mass, which the released code leaves out; the mean entropy "
    "is that of the whole step at its start, with an anchor for each environment",
    knob="siren_coefficient",
    memory_of=("temperature", "siren_mass", "siren_percentile"),
)


class Config(PartOptions):
    siren_coefficient: float = Field(5e-3, ge=0)
    """The coefficient c, per squared nat: the fixed value, or the controller's start; 0: off."""
    siren_mass: float = Field(0.8, gt=0, le=1)
    """Mass of the nucleus that the entropy is taken over."""
    siren_percentile: float = Field(0.8, ge=0, lt=1)
    """Tokens above this quantile of their sequence are kept."""


def create(config: Config) -> Term | None:
    if config.is_off("siren_coefficient"):
        return None

    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        entropy_BT = start_entropy(rows, "siren")
        share_BT = shares(entropy_BT, rows.mask_BT, config.siren_percentile)
        mean_B = (share_BT * entropy_BT).double().sum(-1)
        gap_B = entropy_BT.new_zeros(len(entropy_BT))
        for name, is_its_B in environments(rows, totals).items():
            mean = float(mean_B[is_its_B].mean())
            gap_B[is_its_B] = mean - memory.kept.setdefault(name, mean)
        num = max(totals.num_sequences, 1)
        return SurveyResult(
            tokens={"siren.share": share_BT, "siren.gap": gap_B[:, None].expand_as(share_BT)},
            log={"siren_entropy": float(mean_B.sum()) / num, "siren_gap": float(gap_B.sum()) / num},
        )

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        # both are multiplied by one over the tokens of the update afterwards, so here with tokens over sequences
        scale, coefficient = totals.num_tokens / max(totals.num_sequences, 1), config.siren_coefficient
        share_BT, gap_BT = rows.noted["siren.share"], rows.noted["siren.gap"]
        evenly_BT = rows.mask_BT / rows.mask_BT.sum(-1, keepdim=True).clamp(min=1)
        value_BT = coefficient * gap_BT**2 * evenly_BT * scale
        return Added(value_BT, k_BT=-2 * coefficient * gap_BT * share_BT * scale)

    return Part(apply, frozenset({"entropy", "entropy_grad", "old_entropy"}), survey=survey, nucleus=config.siren_mass)


def shares(entropy_BT: Tensor, mask_BT: Tensor, percentile: float) -> Tensor:
    """Share of each token in the mean over the kept tokens of its sequence, [B, T]; 0 where it is not kept."""
    seen_BT = entropy_BT.masked_fill(~mask_BT, float("nan"))
    is_kept_BT = seen_BT > seen_BT.nanquantile(percentile, dim=-1, keepdim=True)  # false beside NaN
    return is_kept_BT / is_kept_BT.sum(-1, keepdim=True).clamp(min=1).to(entropy_BT.dtype)
