"""KL-Cov: on the tokens with the largest covariance adds c * |lp - lp_old|, so the extra W is -c * sign(lp - lp_old).

Symbols: cov = (A - mean A) * (lp - mean lp) of a token over the step (`token_covariance`); c the coefficient. Of N
tokens the max(1, floor(fraction * N)) with the largest cov are selected, and stay selected for all updates of the step.
It goes with `ratio: ratio`: those few tokens are held near the start of the step, and no token is clipped.

Entropy: slows its fall. A few tokens carry nearly all of the covariance that lowers entropy, and those can no longer
run away; nothing raises entropy, and there is no target. At rho = 1 the penalty has no gradient: with one update a
step it does nothing.

Hazards: the fraction is a plain one. The papers' scripts give it in percent (.2 and .02 for our .002 and .0002), and
another library's default of .2 means 20 %; above .05 we warn. The penalty's size does not depend on the distance, so
selected tokens jitter about lp_old. The authors' advice when it is unstable: fewer updates a step, more tokens in it.

Where ours differs: the released code selects in every micro-batch, at the current log-probs, perhaps a token whose
advantage is 0; ours never does, so groups without a signal need not be run.

Ties: tokens that are equal to the last selected one are selected too, so the order of rows does not matter.

Empty cases: only tokens with cov > 0 and A != 0 are selected, so a step without a signal has none; a coefficient
that no controller moves, or a fraction, of 0 leaves the part out.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617; checked
against PRIME-RL/Entropy-Mechanism-of-RL and verl `core_algos.py` (`compute_policy_loss_kl_cov`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, PartState, Tensor, Term
from policies.objectives.statistics import token_covariance

SOURCE = "arXiv 2505.22617"
MAX_USUAL_FRACTION = 0.05


def warning(options: Mapping[str, Any]) -> str | None:
    """What to say of a fraction that is probably meant in percent, or means something else elsewhere."""
    fraction = options["kl_cov_fraction"]
    if fraction <= MAX_USUAL_FRACTION:
        return None
    return (
        f"`kl_cov_fraction: {fraction:g}` holds {fraction:.0%} of all tokens: it is a plain fraction here, where the "
        f"papers' scripts give percent. Usual are .002 (their .2) and .0002 (their .02)."
    )


INFO = PartInfo(
    warn=warning,
    differs="tokens are selected once a step, at its start; the released code: in every micro-batch, by the current lp",
    holds=True,
    knob="kl_cov_coefficient",
    idle_at_one_update=True,
)


class Config(PartOptions):
    kl_cov_coefficient: float = Field(1.0, ge=0)
    """The coefficient c, per nat: the fixed value, or the controller's start; 0: off."""
    kl_cov_fraction: float = Field(2e-3, ge=0, le=1)
    """Share of the step's tokens that are held, at least one token; .002 for 7B, .0002 for 32B; 0: off."""


def create(config: Config) -> Term | None:
    if config.is_off("kl_cov_coefficient") or config.kl_cov_fraction == 0:
        return None

    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        is_held_BT = select(token_covariance(rows), rows, config.kl_cov_fraction)
        return SurveyResult(
            tokens={"kl_cov.held": is_held_BT.to(rows.advantage_BT.dtype)},
            log={"kl_cov_frac": int(is_held_BT.sum()) / max(totals.num_tokens, 1)},
        )

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        held_BT = config.kl_cov_coefficient * rows.noted["kl_cov.held"]
        log_ratio_BT = rows.lp_BT - rows.lp_old_BT
        return Added(log_ratio_BT.abs() * held_BT, w_BT=-log_ratio_BT.sign() * held_BT)

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True, survey=survey)


def select(covariance_BT: Tensor, rows: ShapedRows, fraction: float) -> Tensor:
    may_be_BT = rows.mask_BT & (rows.advantage_BT != 0) & (covariance_BT > 0)
    candidates = covariance_BT[may_be_BT]
    if not len(candidates):
        return may_be_BT
    num = min(max(1, int(fraction * int(rows.mask_BT.sum()))), len(candidates))
    return may_be_BT & (covariance_BT >= candidates.topk(num).values[-1])
