"""EPO: an entropy bonus with a band for each turn, K = c * (1 + s*beta*[H < lo*h] - s*beta*[H > hi*h]).

That is, adds -c * (H - s*beta*hinge) to the loss, averaged over tokens, where hinge = relu(lo*h - H) + relu(H - hi*h).

Symbols: H the entropy of a token, nats; h the history of its turn, the mean over all steps so far, this one included,
of the turn's mean entropy at the start of the step; lo, hi the band; c the strength (lambda), s the weight of the band
("coef" in the paper), beta its schedule, which the controller `schedule` (form epo) moves from 1 to .04.

The band holds only for episodes with at least half of the maximal turns: `epo_max_turns`, or those of the longest
episode of the environment so far. Histories and longest episodes are kept for each environment. In one-turn
environments the band holds for every episode, around the history of the whole answer.

Entropy: raises, as a bonus of c; below the band twice as much, above it (at s * beta = 1) not at all. K is never
negative unless s * beta > 1, so the band slows a rise and does not turn it; and as beta fades, so does the brake.
Give it a controller on `epo_strength`, or watch it.

Where ours differs: in the released code the penalty is a constant of the step (.1 for a token outside of the band), so
only the bonus acts. Ours is the distance to the band, whose gradient is that penalty's intent. The history there is
measured while playing.

Empty cases: the first step of a turn is its own history; a strength of 0 that no controller moves leaves the part out;
s = 0 or beta = 0 is an entropy bonus. At the exact bounds of the band the token is inside.

Source: EPO, Entropy-regularized Policy Optimization for LLM Agents, arXiv 2509.22576; checked against WujiangXu/EPO
`verl/workers/actor/dp_actor.py` and `verl/trainer/ppo/ray_trainer.py`; the hinge is ours.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, PartState, Tensor, Term, given
from policies.objectives.statistics import environments, start_entropy

SOURCE = "arXiv 2509.22576"
INFO = PartInfo(knob="epo_strength", pushes_entropy=True, memory_of=("temperature",))


class Config(PartOptions):
    epo_strength: float = Field(1e-3, ge=0)
    """The coefficient c of the entropy: the fixed value, or the controller's start; 0: off."""
    epo_band_weight: float = Field(1.0, ge=0)
    """The weight s of the band against the entropy."""
    epo_beta: float = Field(1.0, ge=0)
    """The band's schedule: the fixed value, or where the controller starts."""
    epo_low: float = Field(0.8, ge=0)
    """Lower end of the band, as a fraction of the turn's history."""
    epo_high: float = Field(1.2, ge=0)
    """Upper end of the band, as a fraction of the turn's history; some scripts have 0 to 2."""
    epo_max_turns: int | None = Field(None, ge=1)
    """Turns that an episode may have; null: as many as the longest one of the environment so far."""

    @model_validator(mode="after")
    def _band_has_a_width(self) -> Config:
        if self.epo_low > self.epo_high:
            raise ValueError(f"epo_low {self.epo_low:g} is above epo_high {self.epo_high:g}: the band is empty")
        return self


def create(config: Config) -> Term | None:
    if config.is_off("epo_strength"):
        return None

    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        return look(rows, totals, memory.kept, config.epo_max_turns)

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        entropy_BT = given(rows.entropy_BT, "EPO reads the entropy of every token")
        history_BT = rows.noted["epo.history"]
        band_weight_BT = config.epo_band_weight * config.epo_beta * rows.noted["epo.is_long"]
        below_BT = (config.epo_low * history_BT - entropy_BT).clamp(min=0)
        above_BT = (entropy_BT - config.epo_high * history_BT).clamp(min=0)
        side_BT = (below_BT > 0).to(entropy_BT.dtype) - (above_BT > 0).to(entropy_BT.dtype)
        hinge_BT = below_BT + above_BT
        return Added(
            -config.epo_strength * (entropy_BT - band_weight_BT * hinge_BT),
            k_BT=config.epo_strength * (1 + band_weight_BT * side_BT),
            means={"epo_outside_frac": (hinge_BT > 0).to(entropy_BT.dtype)},
        )

    return Part(apply, frozenset({"entropy", "entropy_grad", "old_entropy"}), survey=survey)


def look(rows: ShapedRows, totals: Totals, kept: dict[str, Any], max_turns: int | None) -> SurveyResult:
    """Add a step to the histories that are kept; note of each token its history and whether the band holds."""
    entropy_BT = start_entropy(rows, "epo")
    turn_BT = rows.mask_BT.long() - 1 if rows.turn_BT is None else rows.turn_BT.masked_fill(~rows.mask_BT, -1)
    num_turns_B = turn_BT.amax(-1) + 1
    history_BT, is_long_B = entropy_BT.new_zeros(entropy_BT.shape), num_turns_B < 0
    for name, is_its_B in environments(rows, totals).items():
        # turns of its longest episode; of each turn the sum of its means, and in how many steps it was played
        its = kept.setdefault(name, {"longest": 0, "turns": []})
        its["longest"] = max(its["longest"], int(num_turns_B[is_its_B].max()))
        history = _extended(its["turns"], entropy_BT[is_its_B], turn_BT[is_its_B])
        history_BT[is_its_B] = history_BT.new_tensor([*history, 0.0])[turn_BT[is_its_B]]  # -1: off the mask
        is_long_B = is_long_B | (is_its_B & (2 * num_turns_B >= (max_turns or its["longest"])))
    is_long_BT = is_long_B[:, None].expand_as(rows.mask_BT)
    return SurveyResult(
        tokens={"epo.history": history_BT, "epo.is_long": is_long_BT.to(entropy_BT.dtype)},
        log={"epo_long_frac": int(is_long_B.sum()) / max(totals.num_sequences, 1)},
    )


def _extended(turns: list[list[float]], entropy_BT: Tensor, turn_BT: Tensor) -> list[float]:
    """Add the mean of each turn of this step to its (sum, count), and return all histories by turn."""
    is_written_BT = turn_BT >= 0
    sums = turn_BT[is_written_BT].bincount(weights=entropy_BT[is_written_BT].double()).tolist()
    counts = turn_BT[is_written_BT].bincount().tolist()
    turns += [[0.0, 0] for _ in range(len(counts) - len(turns))]
    for turn, (total, count) in enumerate(zip(sums, counts, strict=True)):
        if count:
            turns[turn] = [turns[turn][0] + total / count, turns[turn][1] + 1]
    return [total / steps if steps else 0.0 for total, steps in turns]
