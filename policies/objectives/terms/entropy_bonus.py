"""Entropy bonus: adds -coefficient * mean entropy to the loss, so K = coefficient on the policy's tokens.

Symbols: H the entropy of the full next-token distribution, nats; the mean is over tokens whatever the aggregation of
the policy loss. It is the one dear term: the learner differentiates through the whole distribution. REPO estimates the
same gradient without that.

Entropy: raises, also where no group has a signal; a coefficient below 0 lowers it. Hazards: a constant coefficient is
fragile (.001 already made entropy explode for verl users): use it with a controller. Skywork-OR1 moves it by
`sign_step` between 0 and .005, and lets it act only below its target.

Empty cases: a coefficient of 0 leaves the part out, in every step where a controller has it there: nothing is read
of it, and it is dear.

Source: Williams and Peng 1991; A3C, arXiv 1602.01783, section 4; with an adaptive coefficient: Skywork Open Reasoner 1,
arXiv 2505.22312.
"""

from __future__ import annotations

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, Tensor, Term, given

SOURCE = "arXiv 1602.01783"
INFO = PartInfo(knob="entropy_bonus", pushes_entropy=True)


class Config(PartOptions):
    entropy_bonus: float = 0.0
    """The fixed coefficient, or the controller's start; 0: off."""


def create(config: Config) -> Term | None:
    if config.entropy_bonus == 0:
        return None

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        entropy_BT = given(rows.entropy_BT, "the entropy bonus reads the entropy of every token")
        return reward(entropy_BT, config.entropy_bonus)

    return Part(apply, frozenset({"entropy", "entropy_grad"}))


def reward(entropy_BT: Tensor, coefficient: float) -> Added:
    """Value and K of each token from its entropy [B, T]."""
    return Added(-coefficient * entropy_BT, k_BT=entropy_BT.new_full(entropy_BT.shape, coefficient))
