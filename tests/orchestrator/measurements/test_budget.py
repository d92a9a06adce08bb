"""What looking may cost: shares of the training's compute, planned before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.measurements.budget import (
    EvaluationPlan,
    LookingPlan,
    of_stage,
    plan_looking,
    plan_looks,
    sample_lengths,
)
from orchestrator.spec import Spec, load_spec

NAMES = tuple("abcdefgh")


def spec(stages: int = 8, scheduler: Any = "uniform", **sections: Any) -> Spec:
    """Eight environments; a stage's training is 10 steps of 16 samples at 4 passes: 640."""
    made: dict[str, Any] = {
        "environments": {name: {"type": "codebook", "categories": {"2": 2}} for name in NAMES},
        "curriculum": {"stages": stages, "scheduler": scheduler, "stage": {"steps": 10}},
        "step": {"groups": 4, "group_size": 4},
        "evaluate": {"items": 5, "samples": 4},
    }
    return load_spec(made | sections)


def plan(of: Spec, tasks: int = 5, **more: Any) -> LookingPlan:
    return plan_looking(of, dict.fromkeys(NAMES, tasks), dict.fromkeys(NAMES, 1.0), NAMES, **more)


def test_a_sample_played_and_trained_on_is_four_passes_and_one_evaluated_is_one() -> None:
    found = plan(spec())
    assert of_stage(spec(), dict.fromkeys(NAMES, 1.0), NAMES) == 10 * 16 * 4
    assert found.training == 8 * 640
    (evaluation,) = found.parts
    assert evaluation.passes == 9 * 8 * 5 * 4
    assert (found.a_boundary, found.inside_a_stage) == (8 * 5 * 4, 0)
    every = plan(spec(evaluate={"items": 5, "samples": 4, "every": 3}))
    assert every.a_boundary == found.a_boundary
    assert every.inside_a_stage == 3 * 5 * 4, "after steps 3, 6 and 9, of one environment"
    assert evaluation.share == found.share == pytest.approx(9 * 160 / (8 * 640))


def test_a_sample_counts_by_the_room_that_it_has_beside_those_that_are_trained_on() -> None:
    rooms = {"a": 1, "b": 3, "long": 40, "spec's": None}
    environments: Any = {name: SimpleNamespace(name=name, max_tokens=room) for name, room in rooms.items()}
    made = spec(sampler={"max_tokens": 16})
    assert sample_lengths(made, environments, ["a", "b"]) == {"a": 0.5, "b": 1.5, "long": 20, "spec's": 8}
    ordered = spec(scheduler={"type": "sequence", "order": ["a", "a", "a", "b"]})
    assert sample_lengths(ordered, environments, ["a", "b"])["b"] == 2, "three stages of 1, one of 3"
    lengths = dict.fromkeys(NAMES, 1.0) | {"h": 5.0}
    (evaluation,) = plan_looking(spec(), dict.fromkeys(NAMES, 5), lengths, NAMES).parts
    assert evaluation.passes == 9 * (7 + 5) * 5 * 4


def test_where_groups_are_of_several_sizes_a_stage_is_that_of_the_mean_environment() -> None:
    made = load_spec(spec(), ["environments.a.episodes.group_size=12", "environments.b.episodes.max_tokens=48"])
    long = dict.fromkeys(NAMES, 1.0) | {"a": 3.0}
    sizes = (12 * 3 + 7 * 4) / 8
    assert of_stage(made, long, NAMES) == 10 * 4 * sizes * 4
    assert plan(made).training == 8 * 10 * 4 * (12 + 7 * 4) / 8 * 4
    ordered = load_spec(made, ["curriculum.scheduler={type: sequence, order: [b]}"])
    assert of_stage(ordered, long, NAMES) == 10 * 4 * 4 * 4, "no stage has the larger groups"


def test_an_environments_own_budget_counts_as_its_room() -> None:
    environments: Any = {name: SimpleNamespace(name=name, max_tokens=None) for name in "ab"}
    made = load_spec(spec(sampler={"max_tokens": 16}), ["environments.b.episodes.max_tokens=48"])
    assert sample_lengths(made, environments, ["a", "b"]) == {"a": 0.5, "b": 1.5}


def test_without_a_share_every_boundary_has_all_environments() -> None:
    evaluation = plan(spec()).evaluation
    assert all(evaluation.at(boundary, []) == [*NAMES] for boundary in range(9))


@pytest.mark.parametrize("within", [2, 3, 4])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.25])
def test_every_environment_is_seen_within_so_many_boundaries(within: int, share: float) -> None:
    made = spec(stages=20, evaluate={"items": 5, "samples": 4, "share": share, "within": within})
    evaluation = plan(made).evaluation
    for first in range(1, 20 - within):
        seen = {name for boundary in range(first, first + within) for name in evaluation.at(boundary, [])}
        assert seen == {*NAMES}
    assert evaluation.at(0, []) == evaluation.at(20, ["a"]) == [*NAMES], "everything is compared with both ends"


def test_what_had_a_stage_is_always_evaluated_and_others_in_turn() -> None:
    evaluation = EvaluationPlan(NAMES, 20, 2)
    assert evaluation.at(1, ["h"]) == ["c", "d", "h"]
    assert evaluation.at(2, ["h", "a"]) == ["a", "e", "f", "h"]
    assert evaluation.at(3, ["g"]) == ["g", "h"]
    assert evaluation.at(4, []) == ["a", "b"], "the list begins again"


def test_a_fixed_order_has_what_comes_next_so_that_its_arrival_is_measured() -> None:
    made = spec(scheduler={"type": "sequence", "order": ["h", "e", "h"]}, evaluate={"share": 0.01})
    evaluation = plan(made).evaluation
    assert "e" in evaluation.at(1, ["h"], ["e"])
    assert "e" not in evaluation.at(1, ["h"])
    assert evaluation.planned(dict.fromkeys(NAMES, 1.0))[1] == 4, "it, what had a stage, and two in turn"
    assert plan(spec(scheduler="round_robin", evaluate={"share": 0.01})).evaluation.order == NAMES


@pytest.mark.parametrize("share", [0.15, 0.2, 0.23, 0.27])
@pytest.mark.parametrize("scheduler", ["uniform", "round_robin"])
def test_the_panel_is_as_large_as_the_share_leaves(share: float, scheduler: str) -> None:
    made = spec(stages=8, scheduler=scheduler, evaluate={"items": 5, "samples": 4, "share": share, "within": 8})
    evaluation = plan(made).evaluation
    cost = dict.fromkeys(NAMES, 20.0)

    def taken(panel: int) -> float:
        return sum(EvaluationPlan(NAMES, 8, panel, evaluation.order).planned(cost)) / (8 * 640)

    assert not evaluation.is_full
    assert taken(evaluation.panel) <= share or evaluation.panel == 1
    assert taken(evaluation.panel + 1) > share
    assert bool(plan(made).warnings) == (taken(evaluation.panel) > share)


def test_the_plan_is_never_less_than_what_a_scheduler_may_make_of_it() -> None:
    costs = {name: float(i + 1) for i, name in enumerate(NAMES)}
    evaluation = EvaluationPlan(NAMES, 8, 2)
    planned = evaluation.planned(costs)
    for visited in (NAMES, NAMES[::-1], tuple("dgbhaecf")):
        real = [sum(costs[name] for name in evaluation.at(i, visited[:i])) for i in range(9)]
        assert all(a <= b for a, b in zip(real, planned, strict=True))


def test_in_flat_mode_no_environment_has_a_stage_and_the_panel_is_as_large_as_that_leaves() -> None:
    """A scheduler's stages would bring more and more environments; here between the ends all take turns."""
    curriculum = {"mode": "flat", "stages": 8, "stage": {"steps": 10}}
    flat = plan(spec(curriculum=curriculum, evaluate={"items": 5, "samples": 4, "share": 0.15, "within": 8}))
    evaluation, cost = flat.evaluation, dict.fromkeys(NAMES, 20.0)
    planned = evaluation.planned(cost)
    assert planned == [sum(cost[name] for name in evaluation.at(i, ())) for i in range(9)], "what is then looked at"
    assert sum(planned) / (8 * 640) <= 0.15 < sum(replace(evaluation, panel=evaluation.panel + 1).planned(cost)) / 5120
    assert (evaluation.panel, flat.warnings) == (3, ())
    assert "in between 3 in turn)" in flat.text


def test_a_share_is_advised_only_where_the_option_takes_it() -> None:
    (said,) = plan(spec(evaluate={"items": 5, "samples": 4, "share": 0.01})).warnings
    assert "or say the share that it takes" in said
    (said,) = plan(spec(evaluate={"items": 50, "samples": 40, "share": 0.01})).warnings
    assert "or say the share that it takes" not in said, "it takes more than all of the training"


def test_too_small_a_share_is_told_with_the_numbers_and_what_to_lower() -> None:
    made = spec(evaluate={"items": 5, "samples": 4, "share": 0.01, "every": 5})
    (said,) = plan(made).warnings
    assert "evaluate.share: 0.01" in said
    assert "in between what had a stage and 2 in turn, of 8" in said
    assert all(word in said for word in ("`evaluate.items` (5)", "`samples` (4)", "`within` (4)", "`evaluate.every`"))


def test_of_a_hundred_environments_it_is_told_what_evaluating_them_all_takes_and_a_share_is_kept() -> None:
    names = [f"env{k:03}" for k in range(100)]

    def planned(steps: int, **evaluate: Any) -> LookingPlan:
        curriculum = {"stages": 20, "scheduler": "uniform", "stage": {"steps": steps}}
        environments = {name: {"type": "codebook", "categories": {"2": 2}} for name in names}
        made = spec(curriculum=curriculum, environments=environments, evaluate={"items": 5, "samples": 4, **evaluate})
        return plan_looking(made, dict.fromkeys(names, 25), dict.fromkeys(names, 1.0), names)

    found = planned(100)
    (said,) = found.warnings
    assert "all 100 environments, and that takes 164% of the training's compute: `evaluate.share: 0.3`" in said
    assert planned(1000).warnings == ()
    kept = planned(400, share=0.3)
    assert kept.warnings == ()
    assert kept.share <= 0.3
    assert 25 <= len(kept.evaluation.at(1, [names[0]])) < 100


def test_what_is_evaluated_inside_stages_is_of_the_same_share() -> None:
    section = {"items": 5, "samples": 4, "share": 0.24, "within": 8}
    without, with_it = (plan(spec(evaluate=section | more)) for more in ({}, {"every": 5}))
    inside = next(part for part in with_it.parts if part.name == "inside stages")
    assert inside.passes == 8 * 20, "one look a stage, of its environment"
    assert with_it.evaluation.panel < without.evaluation.panel


def test_measurements_are_due_everywhere_if_that_fits_the_cheapest_first_and_spaced_evenly_if_not() -> None:
    looks = plan_looks(8, 100.0, {"dear": 15.0, "cheap": 2.0, "free": 0.0})
    assert looks["free"] == looks["cheap"] == tuple(range(9))
    assert looks["dear"] == (0, 2, 4, 6, 8), "100 - 9 x 2 are left: 5 looks of 15"
    assert plan_looks(8, 110.0, {"dear": 15.0, "cheap": 2.0})["dear"] == (0, 2, 3, 5, 6, 8)


def test_the_first_and_the_last_boundary_are_looked_at_whatever_it_takes_and_that_is_told() -> None:
    found = plan(spec(measure={"share": 0.001}), measurements={"probe": 64.0})
    probe = next(part for part in found.parts if part.name == "probe")
    assert probe.boundaries == (0, 8)
    (said,) = found.warnings
    assert "measure.share: 0.001" in said
    assert "probe 2%" in said


def test_more_stages_plan_the_boundaries_to_come_within_the_same_share() -> None:
    for stages in (4, 8, 40):
        found = plan(spec(stages=stages, measure={"share": 0.1}), measurements={"probe": 200.0})
        probe = next(part for part in found.parts if part.name == "probe")
        assert (probe.boundaries[0], probe.boundaries[-1]) == (0, stages)
        assert probe.share <= 0.1 or len(probe.boundaries) == 2


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"scheduler": {"type": "discounted_ucb", "reward": "retention"}}, "reward: retention"),
        ({"boundary": {"controllers": "rescale"}}, "controllers: rescale"),
    ],
)
def test_what_decides_by_all_environments_is_refused_with_a_share(sections: dict[str, Any], said: str) -> None:
    made = {"stages": 8, **sections}
    with pytest.raises(SpecError, match=said):
        spec(curriculum=made, evaluate={"share": 0.1})
    spec(curriculum=made)
