"""The worlds, by name and letter (curricula reference, section 8)."""

from __future__ import annotations

from orchestrator.errors import UserError
from orchestrator.methods import nearest
from orchestrator.simulation import one_level, stages, switching
from orchestrator.simulation.trials import Metric, World

_LEARNT = (Metric("auc", "AUC"), Metric("final", "final"), Metric("worst", "worst"))
_STEPS = Metric("steps", "to .8", 0, False)
_STAGED = (*_LEARNT, Metric("forgetting", "forgetting", 3, False))

WORLDS = (
    World(
        name="skills",
        letter="a",
        about="twelve related skills, 3 types of 4 levels; all can be learnt",
        metrics=(*_LEARNT, _STEPS),
        arm_groups=one_level.GROUPS[:4],
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=False,
        run=one_level.run_skills,
    ),
    World(
        name="traps",
        letter="b",
        about="the same beside an arm of pure noise and an impossible one",
        metrics=(*_LEARNT, _STEPS, Metric("traps", "on traps", 3, False)),
        arm_groups=one_level.GROUPS,
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=False,
        run=one_level.run_traps,
    ),
    World(
        name="switching",
        letter="c",
        about="ten Bernoulli arms whose means change four times; one pull a round",
        metrics=(Metric("regret", "regret", 0, False), Metric("best", "on the best arm")),
        arm_groups=switching.GROUPS,
        curve="regret so far",
        num_steps=10_000,
        step="round",
        has_stages=False,
        run=switching.run_switching,
    ),
    World(
        name="stages",
        letter="d",
        about="the skills' types as three environments that forget; a scheduler picks one a stage",
        metrics=_STAGED,
        arm_groups=stages.GROUPS,
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=True,
        run=stages.run_stages,
    ),
    World(
        name="heterogeneous",
        letter="h",
        about="world d with one environment mastered at first and one impossible",
        metrics=_STAGED,
        arm_groups=stages.GROUPS,
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=True,
        run=stages.run_unlike_stages,
    ),
)


def find_world(word: str) -> World:
    """Find a world by its name or letter. Raises UserError."""
    known = {key: world for world in WORLDS for key in (world.name, world.letter)}
    if word.lower() not in known:
        names = [world.name for world in WORLDS]
        listed = ", ".join(f"{world.letter} or {world.name}" for world in WORLDS)
        raise UserError(f"{word!r} is not one of the worlds: {listed}{nearest(word.lower(), names)}")
    return known[word.lower()]
