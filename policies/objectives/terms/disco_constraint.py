"""DisCO's constraint: adds relu(b * (KL - delta)) * KL to the loss, the first factor without gradient.

Symbols: KL = the mean of lp_old - lp over the tokens of the update, an unbiased estimate of KL(start of the step |
now); delta how far the policy may go; b the strength. While KL <= delta nothing happens; beyond, every token is made
likelier with the weight b * (KL - delta), weighed as the policy loss is (under `token_mean` as in the released code;
under DisCO's own `seq_mean_token_mean` by sequences). It takes the place of clips.

The factor belongs to the whole update, so that no cut into micro-batches changes it: `Totals.drift`, a pass without
gradient over the rows of the update. (The released code takes it over whatever micro-batch is on the devices.) With
one update a step, and in the first of several, KL is 0 and the term is silent.

Entropy: keeps what the sampler wrote likely, so it slows every change, on tokens of silent groups too.

Empty cases: an update without tokens adds nothing; a strength of 0 that no controller moves leaves the part out.
lp_old - lp is clamped to +-20 for the log.

Source: Discriminative Constrained Optimization (DisCO), arXiv 2505.12366; checked against Optimization-AI/DisCO
`core_algos.py` (`kl_type: kl`).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, Term, clamped, given

SOURCE = "arXiv 2505.12366"
INFO = PartInfo(
    differs="the constraint's KL is the mean of lp_old - lp over the whole update; the released function's default is "
    "k3, over the micro-batches on the devices",
    idle_at_one_update=True,
    holds=True,
)


class Config(PartOptions):
    disco_beta: float = Field(1e3, ge=0)
    """Strength b of the penalty, per nat beyond delta; 0: off."""
    disco_delta: float = Field(1e-4, ge=0)
    """How far the policy may go from the start of the step, mean KL a token, nats."""


def create(config: Config) -> Term | None:
    if config.is_off("disco_beta"):
        return None

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        drift = given(totals.drift, "DisCO's constraint reads how far the update has gone, `Totals.drift`")
        kl_BT = clamped(rows.lp_old_BT - rows.lp_BT)
        weight = factor(drift, config)
        return Added(weight * kl_BT, w_BT=kl_BT.new_full(kl_BT.shape, weight), means={"disco_kl": kl_BT})

    return Part(apply, frozenset({"lp_old", "drift"}))


def factor(kl: float, config: Config) -> float:
    return max(0.0, config.disco_beta * (kl - config.disco_delta))
