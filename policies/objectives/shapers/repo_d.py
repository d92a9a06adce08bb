"""REPO-D: A' = A - zeta * D * L, a push against the entropy change that the step is about to cause.

Symbols: L the centred log-prob of the sampled token (`centred_lp`) under the policy being updated, zeta the
`strength`, D = mean of A * L over all tokens of the step, with A the estimator's and L at the start of the step. To
first order a natural-gradient step changes entropy by -eta * D, so D > 0 announces a fall and D < 0 a rise.

D brings its own sign, so zeta > 0 damps the change whichever way it goes, and zeta < 0 magnifies it. zeta = 1 /
Var(L) removes the covariance of A and L completely: then mean(A' * L) = 0. Once nothing has a signal D is 0 and
nothing pushes. As `repo` it comes before any shaper that multiplies, it acts on groups without a signal as soon as
another group has one, and it can flip the sign of A.

The source says that beta is zeta times the entropy change that the step would cause, without its exact definition; D is
our reading. It moves |zeta| in [1e-3, 10] by the rule of REPO-R (`geometric_signed`), which lowers a level of entropy
by a negative zeta. With our D that also magnifies falls, so the preset moves a positive zeta (`geometric`).

Empty cases: no valid token gives D = 0, and A' = A. L of padding is never read.

Source: Entropy-Preserving Reinforcement Learning, arXiv 2603.11682; no official code.
"""

from __future__ import annotations

from policies.objectives.contracts import Need, ShapedRows, SurveyResult, Totals
from policies.objectives.parts import Part, PartInfo, PartOptions, PartState, Shaped, Shaper, Tensor
from policies.objectives.statistics import Centre, centred_lp, centring_needs

SOURCE = "arXiv 2603.11682"
INFO = PartInfo(
    knob="strength",
    pushes_entropy=True,
    subtracts=True,
    missing="the paper's exact definition of the entropy change; ours is the mean of A * L over the step",
)


class Config(PartOptions):
    strength: float = 1e-3
    """The coefficient zeta: the fixed value, or where the controller starts."""
    centre: Centre = "exact"
    """Which mean log-prob is subtracted."""


def create(config: Config) -> Shaper:
    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        change = expected_change(rows, centred_lp(rows, totals, config.centre))
        return SurveyResult(numbers={"repo_d.change": change}, log={"repo_d_change": change})

    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        beta = config.strength * totals.noted["repo_d.change"]
        return Shaped(advantage_BT - beta * centred_lp(rows, totals, config.centre))

    at_start: frozenset[Need] = frozenset({"old_entropy"} if config.centre == "exact" else ())
    return Part(apply, centring_needs(config.centre) | at_start, survey=survey)


def expected_change(rows: ShapedRows, centred_BT: Tensor) -> float:
    """D: the mean over valid tokens of A * L [B, T]; minus the entropy change of a natural-gradient step of size 1."""
    product_BT = (rows.advantage_BT * centred_BT).masked_fill(~rows.mask_BT, 0.0)
    return float(product_BT.double().sum() / rows.mask_BT.sum().clamp(min=1))
