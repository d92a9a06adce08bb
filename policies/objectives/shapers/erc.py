"""Entropy Ratio Clipping: A' = A where low < (H + 1e-8) / (H_old + 1e-8) < high, else 0.

Symbols: H the entropy of the full next-token distribution under the policy being updated, H_old at the start of the
step. A token whose distribution has sharpened or flattened too much within the step stops counting, whatever happened
to the probability of the sampled token; it stays in the denominator of the loss. It bounds how far entropy moves a
step and has no target. With one update a step H is H_old and nothing is clipped. The authors put it on top of DAPO. The
range is that of their script; the defaults of their code are .8 and 1.2.

Empty cases: H = H_old = 0 is a ratio of 1.

Source: Entropy Ratio Clipping, arXiv 2512.05591; checked against Kwai-Klear/ERC `core_algos.py`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor, given
from policies.objectives.statistics import start_entropy

SOURCE = "arXiv 2512.05591"
INFO = PartInfo(idle_at_one_update=True)
EPS = 1e-8  # nats


class Config(PartOptions):
    erc_low: float = Field(0.95, ge=0, lt=1)
    """Below this ratio of new to old entropy a token stops counting."""
    erc_high: float = Field(1.05, gt=1)
    """And above this."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        now_BT = given(rows.entropy_BT, "`erc` reads the entropy of every token")
        ratio_BT = (now_BT + EPS) / (start_entropy(rows, "erc") + EPS)
        keep_BT = ((ratio_BT > config.erc_low) & (ratio_BT < config.erc_high)).to(advantage_BT.dtype)
        return Shaped(advantage_BT * keep_BT, {"erc_clip_frac": 1 - keep_BT})

    return Part(apply, frozenset({"entropy", "old_entropy"}), zero_stays_zero=True)
