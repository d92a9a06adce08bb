"""REPO-R, relative REPO: A' = A * max(0, 1 - zeta * sign(A) * max(x, -20)), that is REPO with beta = zeta * |A|.

Symbols: x the log-prob of the sampled token under the policy being updated (uncentred as published), zeta the
`strength`, of either sign. As x is negative, zeta > 0 gives rare tokens more when they were good and less
punishment when they were bad: entropy up. zeta < 0 is the reverse.

Where there is no signal nothing happens, and no sign flips; so once every group is solved nothing brings entropy
back. At zeta .05 a token at log-prob -.1 moves by .5 %, at -3 by 15 %, at the clamp of -20 by 100 %.

Empty cases: A = 0 stays 0.

Source: Entropy-Preserving Reinforcement Learning, arXiv 2603.11682; checked against the SkyRL implementation
(NovaSky-AI/SkyRL pull request 1896), whose start of zeta we take: the paper's is not known.
"""

from __future__ import annotations

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor
from policies.objectives.statistics import Centre, centred_lp, centring_needs

SOURCE = "arXiv 2603.11682"
INFO = PartInfo(knob="strength")
MIN_LP = -20.0  # nats


class Config(PartOptions):
    strength: float = 1e-3
    """The coefficient zeta: the fixed value, or where the controller starts."""
    centre: Centre = "none"
    """Which mean log-prob is subtracted; none as published."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        return Shaped(shape(advantage_BT, centred_lp(rows, totals, config.centre), config.strength))

    return Part(apply, centring_needs(config.centre), zero_stays_zero=True)


def shape(advantage_BT: Tensor, lp_BT: Tensor, zeta: float | Tensor) -> Tensor:
    return advantage_BT * (1 - zeta * advantage_BT.sign() * lp_BT.clamp(min=MIN_LP)).clamp(min=0)
