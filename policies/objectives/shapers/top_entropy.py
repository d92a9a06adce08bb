"""Top-entropy tokens ("80/20"): A' = A where H >= threshold, else 0; the threshold keeps the top `share` of tokens.

Symbols: H the entropy of the full next-token distribution at the start of the step, nats; the threshold is the
quantile 1 - share of H over all tokens of the step, linearly interpolated. Tokens that are left out stay in the
denominator of the loss, as in TRL, so the gradient is smaller too.

Entropy: most tokens continue what is decided already; learning only from the few that decide holds it up somewhat,
without any target, and throws four fifths of the signal away. The released codes take the quantile over the micro-batch
on the device; we take it over the step, at its start, at the price of the pass that measures the entropies.

Ties: all tokens at the threshold are kept, so whatever the order of rows the same are; where more than 1 - share of
the tokens have entropy 0 the threshold is 0, and all are kept.

Empty cases: no valid token gives a threshold of 0; `top_entropy_share: 1` leaves the part out.

Source: Beyond the 80/20 Rule, arXiv 2506.01939; checked against TRL (`top_entropy_quantile`).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import PartOptions, PartState, Shaper, Tensor
from policies.objectives.shapers import surveyed
from policies.objectives.statistics import quantile, start_entropy

SOURCE = "arXiv 2506.01939"


class Config(PartOptions):
    top_entropy_share: float = Field(0.2, gt=0, le=1)
    """Share of the step's tokens whose advantage counts; 1: off."""


def create(config: Config) -> Shaper | None:
    if config.top_entropy_share == 1:
        return None

    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        entropy_BT = start_entropy(rows, "top_entropy")
        limit = threshold(entropy_BT, rows.mask_BT, config.top_entropy_share)
        keep_BT = (entropy_BT >= limit) & rows.mask_BT
        return SurveyResult(
            tokens={"top_entropy.keep": keep_BT.to(rows.advantage_BT.dtype)},
            log={
                "top_entropy_threshold": limit,
                "top_entropy_frac": int(keep_BT.sum()) / max(totals.num_tokens, 1),
            },
        )

    return surveyed(survey, "top_entropy.keep", "old_entropy")


def threshold(entropy_BT: Tensor, mask_BT: Tensor, share: float) -> float:
    """The smallest entropy that is kept, nats."""
    return quantile(entropy_BT[mask_BT], 1 - share) if bool(mask_BT.any()) else 0.0
