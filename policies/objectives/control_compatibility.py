"""Combinations of forces on entropy and controllers without sense: refused, or warned of, when a spec is read.

A rule is as in `sense.py`, which asks them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from policies.objectives import registry
from policies.objectives.control_targets import TargetOptions
from policies.objectives.entropy_reading import ENTROPY
from policies.objectives.parts import PartOptions

if TYPE_CHECKING:
    from policies.objectives.config import ObjectiveConfig

RAISE_ENTROPY = (
    "clip_high",
    "tempered_temperature",
)  # the larger, the more entropy; and every shaper's strength


def two_controllers_on_one_knob(config: ObjectiveConfig) -> str | None:
    """They would undo each other."""
    twice = [knob for knob, count in Counter(config.knobs).items() if count > 1]
    return f"two controllers move `{twice[0]}`: they would undo each other; keep one" if twice else None


def more_controllers_than_are_logged(config: ObjectiveConfig) -> str | None:
    """What moves must be seen."""
    num = len(config.controllers)
    return (
        f"{num} controllers: the ledger has names for the coefficients of two; keep two" if num > 2 else None
    )


def fixed_push(config: ObjectiveConfig) -> str | None:
    """A force on entropy that nothing lowers; a schedule does not look."""
    steered = {
        knob for knob, _, _, controller in _controlled(config) if isinstance(controller, TargetOptions)
    }
    for strength, method in config.strengths().items():
        value = config.options[strength]
        if getattr(method, "PUSHES_ENTROPY", False) and strength not in steered and value != 0:
            return (
                f"`{strength}: {value:g}` is fixed: nothing can lower it. Measured with REPO, a fixed strength "
                "destroyed the policy on tasks of several tokens (entropy at its ceiling, accuracy 0 within 50 steps): "
                "most groups have no spread there, and nothing opposes the push. Give it a controller, such as "
                "`geometric`, unless that is what you study."
            )
    return None


def raw_reading(config: ObjectiveConfig) -> str | None:
    """A reading that moves without any change in the policy."""
    if config.controllers and config.reading == "raw":
        return (
            "`reading: raw` moves with the mix of tasks, so that the controller chases the bandit. It is there to "
            "reproduce papers."
        )
    return None


def reads_chosen_rows(config: ObjectiveConfig) -> str | None:
    """A reading of rows that were kept for their scores."""
    if config.controllers and config.entropy == "surprisal_iw" and "dynamic_sampling" in config.plans:
        return (
            "`entropy: surprisal_iw` is read from the rows of the update, and `dynamic_sampling` chooses them by "
            "score: the reading is not the policy's. Take `entropy: sampler` or `surprisal`, which read all that was "
            "played."
        )
    return None


def reads_tempered_rows(config: ObjectiveConfig) -> str | None:
    """Rows drawn at another temperature are of another distribution (objectives.md 12.1)."""
    if config.controllers and config.entropy == "surprisal_iw" and "tempered" in config.plans:
        return (
            "`entropy: surprisal_iw` is read from the rows of the update, and `tempered` draws some of them at another "
            "temperature: take `entropy: sampler` or `surprisal`, which leave them out"
        )
    return None


def steers_the_wrong_way(config: ObjectiveConfig) -> str | None:
    """A controller that drives entropy away from its target."""
    for knob, kind, method, controller in _controlled(config):
        if not isinstance(controller, TargetOptions) or getattr(controller, "metric", ENTROPY) != ENTROPY:
            continue  # it does not steer entropy
        falls = getattr(controller, "falls_below_target", False)
        lowers = getattr(method, "LOWERS_ENTROPY", False)
        raises = getattr(method, "PUSHES_ENTROPY", False) or knob in RAISE_ENTROPY or kind == "shapers"
        if lowers and not falls:
            return (
                f"`{knob}` lowers entropy, and this controller raises it where entropy is below its target: take "
                "`controller: {type: pi}` with gains above 0, or `dual_ascent` with a rate below 0"
            )
        if raises and falls:
            return (
                f"`{knob}` raises entropy, and this controller raises it where entropy is above its target: turn its "
                "sign, for `pi` gains below 0, such as `kp: -0.1, ki: -0.001`, for `dual_ascent` a rate above 0"
            )
    return None


def goes_beyond_the_option(config: ObjectiveConfig) -> str | None:
    """A controller whose bounds hold values that its option does not take."""
    for knob, _, method, controller in _controlled(config):
        options = config.options_of(method).model_dump()
        for value in getattr(controller, "reach", ()):
            try:
                method.Config.model_validate(options | {knob: value})
            except ValidationError as error:
                return (
                    f"a controller may take `{knob}` to {value:g}, and it cannot be that ({error.errors()[0]['msg']}): "
                    "change the controller's bounds or its type"
                )
    return None


def moves_an_idle_clip(config: ObjectiveConfig, updates: int) -> str | None:
    """With one update a step every ratio to the start of the step is 1, inside of any clip."""
    idle = [knob for knob, kind, _, _ in _controlled(config) if kind == "ratio_rules"]
    if updates > 1 or not idle or config.anchor == "lp_roll":
        return None
    return (
        f"the controller moves `{idle[0]}`, which does nothing with one update a step, where every ratio is 1: say "
        "`updates: 4`, or steer with a shaper (`repo_r`)"
    )


def _controlled(config: ObjectiveConfig) -> Iterator[tuple[str, str, ModuleType, PartOptions]]:
    """Each controller's knob, the kind and module of the part whose option that is, and the controller's options."""
    for controller, knob in zip(config.controllers, config.knobs, strict=True):
        for kind, name in config.parts():
            method = registry.load(kind, name)
            if knob is not None and knob in method.Config.model_fields:
                yield knob, kind, method, controller.options_of(controller.method)
