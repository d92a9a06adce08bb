"""Runs whose environments have objectives of their own, each with its plans, controllers and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.errors import SpecError
from orchestrator.runs.catalog import opened
from orchestrator.spec.load import load_spec
from policies.objectives.errors import ObjectiveError
from tests.integration.runs import component, ending, series, told
from tests.orchestrator.specs import FAKE, small

BY = {"easy": {"preset": "dapo", "max_length": 3}, "hard": {"preset": "repo_r"}}


def spec(name: str, **sections: Any) -> dict[str, Any]:
    fake = {"type": FAKE, "in_process": True, "categories": ["easy", "hard"], "character": "judged_by_several"}
    return small(
        name,
        warm_start=None,
        environments={"easy": fake, "hard": fake, "other": fake},
        curriculum={"mode": "flat", "stages": 2, "stage": {"steps": 3}},
        step={"groups": 6, "group_size": 4},
        evaluate={"items": 1, "samples": 4},
        learner={"lr": 0.003, "warmup": 0},
        **{"objective": {"preset": "clip_cov", "by": BY}, **sections},
    )


def numbers(home: Path, name: str, metric: str) -> dict[str | None, float | None]:
    """The last value of a metric by environment."""
    with opened(home, name) as (_, ledger):
        rows = ledger.reading.numbers(name)
    return {row.environment: row.value for row in rows if row.metric == metric and row.category is None}


def test_a_run_stops_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    assert orchestrator.run(spec("whole"), home=tmp_path).status == "finished"
    assert orchestrator.run(spec("cut"), home=tmp_path, until_step=4).status == "stopped"
    assert orchestrator.resume("cut", home=tmp_path).status == "finished"
    assert ending(tmp_path, "cut") == ending(tmp_path, "whole")
    state = component(tmp_path, "whole", "objective")["objective"]["by"]
    assert {name: len(one["controllers"]) for name, one in state.items()} == {"easy": 0, "hard": 1, "other": 0}
    assert state["easy"]["rng"] != state["other"]["rng"]
    story = told(tmp_path, "whole")
    assert story["objective"] == "clip_cov, easy: dapo, hard: repo_r"
    assert set(numbers(tmp_path, "whole", "clip_frac")) == {None, "easy", "hard", "other"}
    assert set(numbers(tmp_path, "whole", "coefficient")) == {"hard"}
    assert set(numbers(tmp_path, "whole", "force_repo_r")) == {"hard"}
    assert set(numbers(tmp_path, "whole", "groups_generated")) >= {"easy"}


def test_only_the_environment_whose_objective_says_so_is_played_again(tmp_path: Path) -> None:
    orchestrator.run(spec("again"), home=tmp_path)
    kept, generated = numbers(tmp_path, "again", "groups_kept"), numbers(tmp_path, "again", "groups_generated")
    assert generated["hard"] == kept["hard"]
    assert generated["other"] == kept["other"]


def test_a_fork_may_give_environments_objectives_and_those_begin(tmp_path: Path) -> None:
    orchestrator.run(spec("parent", objective="clip_cov"), home=tmp_path)
    done = orchestrator.fork("parent", 1, home=tmp_path, spec=spec("child"))
    assert done.status == "finished"
    assert set(component(tmp_path, "child", "objective")["objective"]["by"]) == {"easy", "hard", "other"}
    begun = [event["text"] for event in told(tmp_path, "child")["events"] if event["kind"] == "begins anew"]
    assert begun == ["begins anew after the fork: the objective's controllers"]


def test_scores_without_the_components_that_an_objective_weighs_are_told_before_the_first_step(tmp_path: Path) -> None:
    """Of an environment at the start, and of one that joins at a fork."""
    judged = spec("parent")["environments"]["easy"]
    plain = {**judged, "character": "noisy"}
    weighed = {**spec("parent", objective="weighted"), "environments": {"judged": judged, "plain": plain}}
    with pytest.raises(ObjectiveError, match=r"no score of plain has any: .* `objective: \{by: \{plain: rloo\}\}`"):
        orchestrator.run({**weighed, "name": "refused"}, home=tmp_path)
    assert not series(tmp_path, "refused", "reward")
    unknown = {"preset": "weighted", "by": {"plain": "rloo"}, "weighted_components": {"tone": 1.0}}
    with pytest.raises(ObjectiveError, match="no score of judged has a component `tone`"):
        orchestrator.run({**weighed, "name": "unknown", "objective": unknown}, home=tmp_path)
    parent = {**weighed, "environments": {"judged": judged}}
    assert orchestrator.run(parent, home=tmp_path, until_step=4).status == "stopped"
    with pytest.raises(ObjectiveError, match="no score of plain has any"):
        orchestrator.fork("parent", 1, home=tmp_path, spec={**weighed, "name": "joined"})
    mended = {**weighed, "name": "mended", "objective": {"preset": "weighted", "by": {"plain": "rloo"}}}
    assert orchestrator.fork("parent", 1, home=tmp_path, spec=mended).status == "finished"


def test_an_environment_that_joins_with_an_objective_leaves_the_entropy_at_the_start_of_others(tmp_path: Path) -> None:
    orchestrator.run(spec("parent", objective="repo_r"), home=tmp_path, until_step=4)
    fake = spec("child")["environments"]["easy"]
    overrides = [
        "name=child",
        f"environments.more={json.dumps(fake)}",
        "objective={preset: repo_r, by: {more: repo_r}}",
    ]
    orchestrator.fork("parent", 1, home=tmp_path, overrides=overrides, until_step=4)
    before, after = (component(tmp_path, name, "objective")["entropy"]["baseline"] for name in ("parent", "child"))
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ({"by": {"eazy": "dapo"}}, "'eazy' is no environment of this spec"),
        ({"by": {"easy": "siren"}}, "shares of the vocabulary"),
        ({"by": {"easy": {"preset": "gvm", "gvm_pilot": 4}}}, "objective.by.easy.plans: gvm plays a pilot"),
        ({"by": {"easy": {"preset": "rloo", "mismatch": "none"}}}, None),
    ],
)
def test_what_cannot_be_is_refused_when_the_spec_is_read(objective: Any, said: str | None) -> None:
    if said is None:
        assert load_spec(spec("fine", objective=objective)).objective.by
        with pytest.raises(SpecError, match=r"objective\.by\.easy"):
            load_spec(spec("ahead", objective=objective) | {"sampler": {"max_tokens": 3, "ahead": 1}})
        return
    with pytest.raises(SpecError, match=said):
        load_spec(spec("refused", objective=objective))


def test_a_section_that_no_environment_has_refuses_nothing() -> None:
    every = dict.fromkeys(("easy", "hard", "other"), "siren")
    made = load_spec(spec("nuclei", objective={"preset": "repo_adaptive", "by": every}))
    assert list(made.objectives) == ["objective.by.easy", "objective.by.hard", "objective.by.other"]
