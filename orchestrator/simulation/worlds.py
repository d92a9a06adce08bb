"""The worlds, by name and letter (curricula reference, section 8)."""

from __future__ import annotations

from orchestrator.errors import UserError
from orchestrator.registry import nearest
from orchestrator.simulation import skill_worlds, switching_world, two_level_world
from orchestrator.simulation.trials import TrialMetric, World

_LEARNT = (TrialMetric("auc", "AUC"), TrialMetric("final", "final"), TrialMetric("worst", "worst"))
_STEPS = TrialMetric("steps", "to .8", 0, False)
_STAGED = (*_LEARNT, TrialMetric("forgetting", "forgetting", 3, False))

WORLDS = (
    World(
        name="skills",
        letter="a",
        about="twelve related skills, 3 types of 4 levels; all can be learnt",
        metrics=(*_LEARNT, _STEPS),
        arm_groups=skill_worlds.GROUPS[:4],
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=False,
        run=skill_worlds.run_skills,
    ),
    World(
        name="traps",
        letter="b",
        about="the same beside an arm of pure noise and an impossible one",
        metrics=(*_LEARNT, _STEPS, TrialMetric("traps", "on traps", 3, False)),
        arm_groups=skill_worlds.GROUPS,
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=False,
        run=skill_worlds.run_traps,
    ),
    World(
        name="switching",
        letter="c",
        about="ten Bernoulli arms whose means change four times; one pull a round",
        metrics=(TrialMetric("regret", "regret", 0, False), TrialMetric("best", "on the best arm")),
        arm_groups=switching_world.GROUPS,
        curve="regret so far",
        num_steps=10_000,
        step="round",
        has_stages=False,
        run=switching_world.run_switching,
    ),
    World(
        name="stages",
        letter="d",
        about="the skills' types as three environments that forget; a scheduler picks one a stage",
        metrics=_STAGED,
        arm_groups=two_level_world.GROUPS,
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=True,
        run=two_level_world.run_stages,
    ),
    World(
        name="heterogeneous",
        letter="h",
        about="world d with one environment mastered at first and one impossible",
        metrics=_STAGED,
        arm_groups=two_level_world.GROUPS,
        curve="mean pass rate",
        num_steps=300,
        step="step",
        has_stages=True,
        run=two_level_world.run_unlike_stages,
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
