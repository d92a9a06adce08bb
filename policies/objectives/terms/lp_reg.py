"""Lp-Reg: pulls rare but plausible tokens up to a filtered policy, extra W = -c * (1 - exp(lp_proxy - lp)) > 0.

Symbols: lp_proxy the log-prob of the sampled token under the proxy, which is the policy at the start of the step
without its noise: tokens with p >= kappa * p_max are kept and renormalised; a token that is filtered out has about
-1e4. c the coefficient. The value is c * k3 = c * (exp(-d) - 1 + d) with d = lp - lp_proxy; k3 is held at 10 at most,
and pulls no more where it is.

Selected, once a step: tokens with A < 0 whose lp is among the lowest `share` of those, and below lp_proxy. On them no
ratio rule clips (`ratio: ppo` reads it), and they are pulled while lp < lp_proxy. Other tokens go with ppo at clip_low
1, clip_high 9. The released code selects in every micro-batch by the current lp, and not at all where that would be a
single token.

Entropy: holds the useful tail. Bad samples also contain good rare tokens, which are driven to nothing one by one; noise
is not protected. There is no target. Hazards: nearly inert with one update a step, where the pull is the mass that was
filtered out, some thousandths. The pull ends where a token fell below 1/13.6 of its proxy (k3 above 10). kappa and
share are made for large vocabularies and large models (share .005 for 32B).

Ties: tokens as rare as the last selected one are selected too, so the order of rows does not matter.

Empty cases: no token with A < 0 selects none, otherwise at least one is looked at; a coefficient that no
controller moves, or a share, of 0 leaves the part out. d is clamped to +-20.

Source: Low-probability Tokens Sustain Exploration, arXiv 2510.03222; checked against CarlanLark/Lp-Reg-dev
`core_algos.py` (`compute_policy_loss_lp_reg`; the share is of tokens with A < 0) and its scripts.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import Need, ShapedRows, SurveyResult, Totals
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, PartState, Tensor, Term, clamped
from policies.objectives.ratio_rules.ppo import FREE
from policies.objectives.terms.kl import k3

SOURCE = "arXiv 2510.03222"
INFO = PartInfo(
    differs="tokens are selected once a step, at its start; the released code: in every micro-batch, by the current lp",
    knob="lp_reg_coefficient",
    frees_tokens=True,
)


class Config(PartOptions):
    lp_reg_coefficient: float = Field(1.0, ge=0)
    """The coefficient c: the fixed value, or the controller's start; 0: off."""
    lp_reg_share: float = Field(0.01, ge=0, le=1)
    """Share of the step's tokens with a negative advantage that may be pulled, at least one token; 0: off."""
    lp_reg_kappa: float = Field(0.02, gt=0, lt=1)
    """Tokens below this share of the likeliest one's probability are noise, and filtered out."""


def create(config: Config) -> Term | None:
    if config.is_off("lp_reg_coefficient") or config.lp_reg_share == 0:
        return None

    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        is_selected_BT = select(rows, _proxy(rows), config.lp_reg_share)
        selected_BT = is_selected_BT.to(rows.advantage_BT.dtype)
        return SurveyResult(
            tokens={"lp_reg.selected": selected_BT, FREE: selected_BT},
            log={"lp_reg_frac": int(is_selected_BT.sum()) / max(totals.num_tokens, 1)},
        )

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        return pull(rows.lp_BT - _proxy(rows), rows.noted["lp_reg.selected"], config.lp_reg_coefficient)

    needs: frozenset[Need] = frozenset({"lp_old", "old_filter"})
    return Part(apply, needs, zero_stays_zero=True, survey=survey, kappa=config.lp_reg_kappa)


def select(rows: ShapedRows, lp_proxy_BT: Tensor, share: float) -> Tensor:
    is_bad_BT = rows.mask_BT & (rows.advantage_BT < 0)
    lp_bad = rows.lp_old_BT[is_bad_BT]
    if not len(lp_bad):
        return is_bad_BT
    num = max(1, int(share * len(lp_bad)))
    is_rare_BT = rows.lp_old_BT <= lp_bad.topk(num, largest=False).values[-1]
    return is_bad_BT & is_rare_BT & (rows.lp_old_BT < lp_proxy_BT)


def pull(d_BT: Tensor, selected_BT: Tensor, coefficient: float) -> Added:
    """Value and extra W of each token from d = lp - lp_proxy [B, T], and 1 where a token is selected."""
    strength_BT = coefficient * selected_BT * (d_BT < 0).to(d_BT.dtype)
    value_BT, slope_BT = k3(clamped(d_BT))
    return Added(strength_BT * value_BT, w_BT=-strength_BT * slope_BT)


def _proxy(rows: ShapedRows) -> Tensor:
    if rows.lp_proxy_BT is None:
        raise ObjectiveError("Lp-Reg reads log-probs after its filter, and the rows carry none")
    return rows.lp_proxy_BT
