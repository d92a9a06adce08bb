"""Named components of a score, for parts that treat them apart: which are meant, and that every sample has them.

B sequences of a step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Outcomes

if TYPE_CHECKING:
    from torch import Tensor


def chosen(outcomes: Outcomes, names: Collection[str], option: str) -> Mapping[str, Tensor]:
    """The components of these names, [B] each; all there are without names. `option` is where the user named them.

    `ObjectiveError` when a sample lacks one: a missing component is not a 0.
    """
    known = outcomes.components
    if not known:
        raise ObjectiveError(
            f"`{option}` weighs components of the score, and no score of this step has any: take an environment whose "
            "scores do, or an estimator that reads the reward"
        )
    wanted = list(names) or list(known)
    for name in wanted:
        if name not in known or bool(known[name].isnan().any()):
            raise ObjectiveError(_missing(name, outcomes, option))
    return {name: known[name] for name in wanted}


def _missing(name: str, outcomes: Outcomes, option: str) -> str:
    """Say who lacks a component, and which every sample has."""
    known = outcomes.components
    complete = [other for other, value_B in known.items() if not bool(value_B.isnan().any())]
    have = f"components that every score has: {', '.join(complete) or 'none'}; all: {', '.join(known)}"
    if name not in known:
        return f"no score has a component `{name}` ({have}): change `{option}`"
    places = outcomes.arm_B[known[name].isnan()].unique().tolist()  # type: ignore[no-untyped-call]
    arms = ", ".join(outcomes.arms[place] for place in places)
    return (
        f"scores of {arms} have no component `{name}` ({have}): name in `{option}` those that all arms have"
    )
