"""KL to a reference: a penalty on moving away from the weights that the run, or the stage, began with.

    k2   d^2 / 2              extra W = -b d               on-policy the true gradient of the KL
    k3   exp(-d) - 1 + d      extra W = -b (1 - exp(-d))   never negative; the KL gradient only near d = 0

Symbols: d = lp - lp_ref of the sampled token, clamped to +-20; b the coefficient. k1 (the value d) in the loss is
refused: the mean of its gradient is 0. In the reward, charged token by token, it equals k2.

With several updates a step the samples are those of its start, so value and W are multiplied by rho = exp(lp - lp_old),
gradient stopped: the mean over samples is then that of the policy being updated. The loss of GRPO as published has no
such factor: `kl_off_policy: false`. Only k2 is unbiased in its gradient: with rho it is that of the KL whatever policy
the samples are from. k3's is not: for p = (.5, .3, .2) and a reference of (.2, .3, .5) it is off by .26 of the KL
gradient's length. k3 is the default because published runs have it; for the KL say `k2`.

Entropy: holds it near that of the reference, and old skills with it; so it limits how far a curriculum can go. The
reference is the run's start or the stage's (`reference`). It costs a pass of it, and its memory. Hazards: k3 is held at
10 at most and pulls no more where it is, so a token that fell below 1/13.6 of its reference is let go; k2 never lets
go. rho is not clipped here.

Empty cases: a coefficient of 0 leaves the part out, and the reference is not asked; one that a controller moves stays,
so that `kl_ref` is read at 0 too. lp - lp_old is clamped to +-20.

Source: k1, k2, k3 of Schulman, "Approximating KL Divergence" (2020); in the loss of GRPO, arXiv 2402.03300, eq. 4.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from policies.objectives.contracts import Need, ShapedRows, Totals
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, Tensor, Term, clamped, exp_clamped

SOURCE = "arXiv 2402.03300"
INFO = PartInfo(knob="kl")
MAX_K3 = 10.0


class Config(PartOptions):
    kl: float = Field(0.0, ge=0)
    """The coefficient b: the fixed value, or the controller's start; 0: off."""
    kl_form: Literal["k2", "k3"] = "k3"
    """Which estimate of the KL is penalised: `k2` has the KL's gradient, `k3` is what GRPO publishes."""
    kl_off_policy: bool = True
    """Whether later updates of a step weigh it by the ratio to the step's start; false as GRPO published it."""

    @field_validator("kl_form", mode="before")
    @classmethod
    def _pulls(cls, form: Any) -> Any:
        if form == "k1":
            raise ValueError("k1 in the loss does nothing: the mean of its gradient is 0; take k2 or k3")
        return form


def create(config: Config) -> Term | None:
    if config.is_off("kl"):
        return None
    penalty = {"k2": k2, "k3": k3}[config.kl_form]

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        if rows.lp_ref_BT is None:
            raise ObjectiveError("a KL reads the reference's log-probs, and the rows carry none")
        value_BT, slope_BT = penalty(clamped(rows.lp_BT - rows.lp_ref_BT))
        weight = config.kl * exp_clamped(rows.lp_BT - rows.lp_old_BT) if config.kl_off_policy else config.kl
        return Added(weight * value_BT, w_BT=-weight * slope_BT, means={"kl_ref": value_BT})

    needs: frozenset[Need] = frozenset({"lp_ref", "lp_old"} if config.kl_off_policy else {"lp_ref"})
    return Part(apply, needs)


def k2(d_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Value and slope with respect to lp, [B, T] each."""
    return d_BT**2 / 2, d_BT


def k3(d_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Value and slope with respect to lp, [B, T] each."""
    value_BT = (-d_BT).expm1() + d_BT
    return value_BT.clamp(max=MAX_K3), (-(-d_BT).expm1()).masked_fill(value_BT > MAX_K3, 0.0)
