"""Interventions in runs: done once at every boundary that asks, wherever a run is interrupted, and told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import select

import orchestrator
from orchestrator.errors import SpecError, UserError
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from orchestrator.runs.pruning import prune
from policies.interventions.base_fusion import BaseFusion
from policies.interventions.contracts import Change, Subject
from policies.policy import Policy
from store.ledger import Ledger
from store.ledger.tables import task_group
from tests.integration.runs import Killed, component, ending, told
from tests.orchestrator.specs import alone, written
from tests.shares import share

FUSION = {"type": "base_fusion", "alpha": 0.5, "when": "pass_1 <= 1"}


def treated(name: str, *interventions: Any, stages: int = 3, **sections: Any) -> dict[str, Any]:
    """Two steps a stage; what is done between them."""
    spec = {**alone(name, steps=2, stages=stages, character="noisy"), **sections}
    spec["curriculum"]["boundary"] = {"interventions": list(interventions), **sections.get("boundary", {})}
    spec.pop("boundary", None)
    return spec


def whole(name: str = "whole", **sections: Any) -> dict[str, Any]:
    """Something of everything: old weights, a stream, rows that are played, the optimiser; frozen rows are read."""
    noise = {"type": "shrink_perturb", "noise": 0.01, "when": {"after": [2]}}
    redo = {"type": "redo", "tau": 0.8, "rows": 3}
    measured = {"measure": {"share": 20.0, "of": ["network"]}, **sections}
    return treated(name, FUSION, noise, redo, {"type": "reset_optimizer", "when": "every 2 stages"}, **measured)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not change it."""
    place = tmp_path_factory.mktemp("home")
    assert run(whole(), home=place).status == "finished"
    return place


def copied(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home, tmp_path / "home"))


def rows(home: Path, name: str, question: str, *more: Any) -> list[Any]:
    with opened(home, name) as (_, ledger):
        return list(getattr(ledger.reading, question)(name, *more))


def weights(home: Path, name: str, folder: str) -> dict[str, torch.Tensor]:
    return load_file(home / name / "checkpoints" / folder / "weights" / "model.safetensors")


def test_each_is_an_event_a_row_and_two_checkpoints_and_is_measured_again(home: Path) -> None:
    done = rows(home, "whole", "interventions")
    assert [(one.after_stage, one.number, one.kind) for one in done] == [
        *((1, 0, "base_fusion"), (1, 2, "redo")),
        *((2, 0, "base_fusion"), (2, 1, "shrink_perturb"), (2, 2, "redo"), (2, 3, "reset_optimizer")),
    ]
    first = done[0]
    assert first.params == {"alpha": 0.5}
    assert first.why.startswith("pass_1 is 0")
    assert (first.step, first.checkpoint_before) == (2, "checkpoints/step-000002-boundary-002")
    assert first.checkpoint_after == "checkpoints/step-000002-boundary-002-intervened"
    kept = {record.folder: record.kind for record in rows(home, "whole", "checkpoints")}
    assert kept[first.checkpoint_before] == "boundary"
    assert kept[first.checkpoint_after] == "intervention"
    texts = [event["text"] for event in told(home, "whole")["events"] if event["kind"] == "intervention"]
    assert texts[0].startswith("after stage 1: base_fusion (pass_1 is 0")
    assert texts[0].endswith(", <= 1): 0.5 of the weights, 0.5 of the base")
    again = rows(home, "whole", "matrix", "pass_1", "intervened")
    assert {cell.after_stage for cell in again} == {1, 2}, "never after the last stage"
    assert {cell.split for cell in rows(home, "whole", "matrix", "pass_1")} == {"anchor"}
    looks = rows(home, "whole", "holdout_queries")
    assert [(look.after_stage, look.environment, look.asker) for look in looks] == [
        (1, "one", "intervention"),
        (2, "one", "intervention"),
    ]
    costs = [one.after_stage for one in rows(home, "whole", "measurements") if one.name == "intervention"]
    assert costs == [1, 2]


def test_the_weights_are_what_the_formula_says(tmp_path: Path) -> None:
    run(treated("plain", FUSION, stages=2), home=tmp_path)
    base = weights(tmp_path, "plain", "step-000000-boundary-001")
    before = weights(tmp_path, "plain", "step-000002-boundary-002")
    after = weights(tmp_path, "plain", "step-000002-boundary-002-intervened")
    for name in base:
        assert torch.allclose(after[name], (base[name] + before[name]) / 2, atol=1e-7)
        assert not torch.equal(after[name], before[name])


def test_engines_get_the_new_weights(home: Path) -> None:
    """Every update and every change counts; the groups of a stage name the version they began with."""
    assert component(home, "whole", "policy") == {"version": 3 * 2 + 2 + 3}
    with opened(home, "whole") as (_, ledger), ledger.engine.connect() as connection:
        played = connection.execute(select(task_group.c.step, task_group.c.versions)).all()
    assert {(step, *versions) for step, versions in played} == {
        (1, 0, 0),
        (2, 1, 1),
        (3, 4, 4),
        (4, 5, 5),
        (5, 9, 9),
        (6, 10, 10),
    }


def killed_at(owner: type, method: str, nth: int, is_after: bool) -> Callable[[pytest.MonkeyPatch], None]:
    """Be killed at the n-th call, before it does anything or once it is done."""

    def patch(patched: pytest.MonkeyPatch) -> None:
        real, calls = getattr(owner, method), []

        def once(*args: Any, **options: Any) -> Any:
            calls.append(args)
            if len(calls) == nth and not is_after:
                raise Killed
            result = real(*args, **options)
            if len(calls) == nth:
                raise Killed
            return result

        patched.setattr(owner, method, once)

    return patch


MOMENTS = {
    "once it is told": killed_at(Ledger, "record_intervention", 1, True),
    "before it is done": killed_at(BaseFusion, "apply", 1, False),
    "before it is told": killed_at(Ledger, "record_intervention", 1, False),
    "between its checkpoint and the row": killed_at(Ledger, "record_checkpoint", 3, False),  # after boundaries 0 and 1
    "in its checkpoint": killed_at(Policy, "save", 3, False),
    "after its checkpoint": killed_at(Ledger, "record_checkpoint", 3, True),
    "the second, before it is told": killed_at(Ledger, "record_intervention", 2, False),
    "the second, once it is told": killed_at(Ledger, "record_intervention", 2, True),
}


def test_frozen_rows_are_read_once_more_and_nothing_is_kept_of_that(home: Path) -> None:
    for one in told(home, "whole")["plasticity"]["interventions"]:
        measured = {"pass_1", "entropy_token", "entropy_fixed", "kl_prev"}
        assert set(one["before"]) == set(one["after"]) == measured
        assert one["before"]["entropy_fixed"] != one["after"]["entropy_fixed"]
        assert one["after"]["kl_prev"] > 0
    looks = {(one.name, one.after_stage): one.passes for one in rows(home, "whole", "measurements")}
    assert looks["intervention", 1] == looks["evaluation", 1] + looks["network", 1]
    before, after = (
        {path.name: path.read_bytes() for path in (folder / "measurements" / "network").iterdir()}
        for folder in sorted((home / "whole" / "checkpoints").glob("step-000002-boundary-002*"))
    )
    assert before == after, "the next boundary compares with this one"


@pytest.mark.parametrize("moment", share(MOMENTS, 2))
def test_a_run_killed_around_an_intervention_equals_the_uninterrupted_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with monkeypatch.context() as patched:
        MOMENTS[moment](patched)
        with pytest.raises(Killed):
            run(whole(), home=tmp_path)
    assert resume("whole", home=tmp_path).status == "finished"
    assert ending(tmp_path, "whole") == ending(home, "whole")
    assert rows(tmp_path, "whole", "interventions") == rows(home, "whole", "interventions")


@pytest.mark.slow
def test_stopped_after_every_step_and_with_its_ledger_lost(home: Path, tmp_path: Path) -> None:
    run(whole(), home=tmp_path, until_step=2)
    for step in range(3, 6):
        resume("whole", home=tmp_path, until_step=step)
    assert rows(tmp_path, "whole", "interventions") == rows(home, "whole", "interventions")
    for path in tmp_path.glob("evergreen.db*"):
        path.unlink()
    assert resume("whole", home=tmp_path).status == "finished"
    kinds = [record.kind for record in rows(tmp_path, "whole", "checkpoints")]
    assert kinds.count("intervention") == 2
    assert ending(tmp_path, "whole").weights == ending(home, "whole").weights


@pytest.mark.slow
def test_without_its_checkpoint_it_is_done_again_from_that_of_the_boundary(home: Path, tmp_path: Path) -> None:
    run(whole(), home=tmp_path, until_step=3)
    place = tmp_path / "whole" / "checkpoints"
    for name in ("step-000003-boundary-002", "step-000002-boundary-002-intervened"):
        (place / name / "optimizer" / "optimizer.json").unlink()
    resume("whole", home=tmp_path)
    assert ending(tmp_path, "whole") == ending(home, "whole")


@pytest.mark.slow
def test_more_stages_by_resume_are_treated_as_if_they_had_been_planned(home: Path, tmp_path: Path) -> None:
    run(whole(stages=2), home=tmp_path)
    assert {one.after_stage for one in rows(tmp_path, "whole", "interventions")} == {1}
    resume("whole", home=tmp_path, stages=3)
    assert ending(tmp_path, "whole") == ending(home, "whole")


def test_a_fork_begins_before_the_intervention_and_does_its_own(home: Path, tmp_path: Path) -> None:
    place = copied(home, tmp_path)
    same = fork("whole", 2, home=place, overrides=["name=same"])
    assert ending(place, same.name) == ending(home, "whole")
    none = fork("whole", 1, home=place, overrides=["name=none", "curriculum.boundary.interventions=[]"])
    assert rows(place, none.name, "interventions") == []
    assert rows(place, none.name, "matrix", "pass_1", "intervened") == []
    assert rows(place, none.name, "holdout_queries") == []
    started = fork("none", 2, home=place, overrides=["name=later", "curriculum.boundary.interventions=average"])
    assert [(one.after_stage, one.kind) for one in rows(place, started.name, "interventions")] == [(2, "average")]
    previous = weights(place, "none", "step-000002-boundary-002")  # from the parent's folder
    before = weights(place, "later", "step-000004-boundary-003")
    after = weights(place, "later", "step-000004-boundary-003-intervened")
    assert all(torch.allclose(after[name], (before[name] + previous[name]) / 2, atol=1e-7) for name in after)


@pytest.mark.slow
def test_what_does_not_happen_changes_nothing(tmp_path: Path) -> None:
    never = [{**FUSION, "when": "pass_1 > 1"}, {"type": "redo", "tau": 0.0}, {**FUSION, "alpha": 1.0, "when": "always"}]
    run(treated("never", *never), home=tmp_path)
    run(treated("none"), home=tmp_path)
    assert ending(tmp_path, "never").weights == ending(tmp_path, "none").weights
    assert ending(tmp_path, "never").digest == ending(tmp_path, "none").digest
    assert rows(tmp_path, "never", "interventions") == []
    assert {one.asker for one in rows(tmp_path, "never", "holdout_queries")} == {"intervention"}, "it looked"
    texts = [event["text"] for event in told(tmp_path, "never")["events"] if event["kind"] == "intervention"]
    assert texts[0].startswith("after stage 1: no base_fusion, pass_1 is 0")
    assert texts[0].endswith(", not > 1")


def test_a_value_that_was_not_measured_is_told_once(tmp_path: Path) -> None:
    spec = treated("unknown", {**FUSION, "when": "own_dreams < 1"})
    (tmp_path / "lengths.py").write_text(
        "from orchestrator.measurements.contracts import Findings, Measurement\n"
        "class Nothing(Measurement):\n"
        "    name = 'nothing'\n"
        "    def is_due(self, at): return True\n"
        "    def of(self, environments): return self\n"
        "    def run(self, player, at, watch, tell): return Findings({}, [])\n"
        "def create(environments, held_out):\n    return Nothing()\n"
    )
    spec["measure"] = f"{tmp_path}/lengths.py:create"
    run(spec, home=tmp_path, until_step=5)
    resume("unknown", home=tmp_path)
    texts = [event["text"] for event in told(tmp_path, "unknown")["events"] if event["kind"] == "intervention"]
    assert texts == ["after stage 1: no base_fusion, own_dreams was not measured"]


def test_the_reference_of_a_stage_is_the_policy_that_begins_it(tmp_path: Path) -> None:
    for reference in ("stage", "start"):
        objective = {"preset": "rloo", "kl": 0.3, "reference": reference}
        run(treated(reference, FUSION, stages=2, objective=objective), home=tmp_path)
        place = tmp_path / reference / "checkpoints" / "step-000002-boundary-002-intervened"
        own, of_reference = ((place / part / "model.safetensors").read_bytes() for part in ("weights", "reference"))
        assert (own == of_reference) == (reference == "stage")


def test_without_the_weights_of_the_start_it_does_not_go_on(tmp_path: Path) -> None:
    run(treated("lost", FUSION), home=tmp_path, until_step=1)
    for boundary in (tmp_path / "lost" / "checkpoints").glob("step-000000-*"):
        shutil.rmtree(boundary)
    with pytest.raises(UserError, match=r"interventions.0: base_fusion reads the weights of the start of the run, and"):
        resume("lost", home=tmp_path)


def test_a_fork_that_would_read_weights_that_are_gone_is_not_begun(tmp_path: Path) -> None:
    run(alone("lost", steps=1, stages=2), home=tmp_path)
    prune(tmp_path, ["lost"], boundaries=True)
    more = ["name=child", "curriculum.stages=4", "curriculum.boundary.interventions=base_fusion"]
    with pytest.raises(UserError, match=r"interventions.0: base_fusion reads the weights of the start of the run, and"):
        fork("lost", 2, home=tmp_path, overrides=more)
    assert not (tmp_path / "child").exists()


def test_pruning_keeps_what_interventions_will_read(home: Path, tmp_path: Path) -> None:
    run(whole(), home=tmp_path, until_step=3)
    prune(tmp_path, ["whole"], boundaries=True)
    left = sorted(path.name for path in (tmp_path / "whole" / "checkpoints").iterdir())
    start = ["step-000002-boundary-002", "step-000002-boundary-002-intervened"]  # of the stage under way
    assert left == ["step-000000-boundary-001", *start, "step-000003-boundary-002"]
    resume("whole", home=tmp_path)
    assert ending(tmp_path, "whole") == ending(home, "whole")


def test_a_batch_that_is_played_ahead_is_never_of_older_weights_than_the_stage(tmp_path: Path) -> None:
    spec = treated("ahead", FUSION, stages=2, objective={"preset": "rloo", "mismatch": "tis", "tis_cap": 2.0})
    spec["sampler"] = {**spec["sampler"], "ahead": 1}
    spec["curriculum"]["stage"]["steps"] = 3
    run(spec, home=tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        MOMENTS["once it is told"](patched)
        with pytest.raises(Killed):
            run(spec, ["name=cut"], home=tmp_path)
    resume("cut", home=tmp_path)
    assert ending(tmp_path, "cut") == ending(tmp_path, "ahead")


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        ({"type": "redoo"}, "curriculum.boundary.interventions.0: 'redoo' is not one of the interventions: average"),
        ({"type": "redo", "when": "often"}, "curriculum.boundary.interventions.0.when: 'often' is no condition"),
        ({"type": "redo", "row": 1}, "curriculum.boundary.interventions.0.row: unknown key. Did you mean 'rows'?"),
        ({"type": "redo", "when": "pass_l < 1"}, "interventions.0.when: 'pass_l' is no number of a boundary. Did you"),
        ({"type": "redo", "when": "greedy_accuracy < 1"}, "when: greedy_accuracy is not measured at boundaries: say"),
        ({"type": "redo", "when": "grad_norm < 1"}, "when: grad_norm is a number of steps, not of boundaries: say one"),
        ({"type": "redo", "when": "erank < 3"}, "when: erank is not measured: say `measure: {type: network}`"),
        (
            {"type": "redo", "when": "own_x < 3"},
            "when: own_x is of a measurement of your own, and `measure` names none",
        ),
        (
            {"type": "redo", "when": "pass_64 < 1"},
            "when: pass_64 is of 64 samples of a task, and evaluate.samples is 4",
        ),
        ({"type": "redo", "when": "pass_1 on two < 1"}, "when: 'two' is no environment of this spec (one)"),
    ],
)
def test_what_cannot_be_honoured_is_refused_when_the_spec_is_read(intervention: Any, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        orchestrator.load_spec(treated("bad", intervention, measure="samples"))
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["pass_1", "entropy_token", "pass_2"])
def test_a_mean_over_all_environments_decides_nothing_where_boundaries_leave_some_out(name: str) -> None:
    spec = treated("shared", {"type": "redo", "when": f"{name} < 1"}, measure="samples")
    orchestrator.load_spec(spec)
    spec["evaluate"]["share"] = 0.2
    with pytest.raises(SpecError, match=f"{name} is of all environments, and evaluate.share leaves some out"):
        orchestrator.load_spec(spec)
    spec["curriculum"]["boundary"]["interventions"][0]["when"] = f"{name} on one < 1"
    orchestrator.load_spec(spec)


def test_a_condition_may_ask_for_the_trainability(tmp_path: Path) -> None:
    probe = {"type": "probe", "steps": 2, "eval_every": 1, "batch": 2}
    spec = treated("asks", {"type": "reset_optimizer", "when": "probe_gain_ratio < .5"}, stages=2)
    spec["measure"] = {"share": 100, "of": [probe]}
    assert run(spec, home=tmp_path).status == "finished"


def test_a_condition_may_name_a_number_of_an_environment_with_a_hyphen() -> None:
    spec = treated("named", {**FUSION, "when": "cosine_my-env on my-env < 0"}, measure="gradients")
    spec["environments"] = {"my-env": spec["environments"].pop("one")}
    loaded = orchestrator.load_spec(spec)
    assert loaded.curriculum.boundary.interventions[0].when == "cosine_my-env on my-env < 0"


def test_short_forms_and_the_plan(tmp_path: Path, evergreen: Any) -> None:
    spec = treated("short", "redo", FUSION)
    loaded = orchestrator.load_spec(spec)
    assert orchestrator.load_spec(loaded.kept()) == loaded
    checked = evergreen("validate", written(tmp_path, spec), "--home", tmp_path)
    assert checked.exit_code == 0, checked.stderr
    plan = " ".join(checked.stdout.split())
    assert "changes: redo after every stage; base_fusion if pass_1 <= 1; never after the last stage" in plan
    assert "disk: 9 checkpoints" in plan, "4 of boundaries, 2 after interventions, 3 between"


def test_one_that_changes_weights_that_it_was_not_lent_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(self: BaseFusion, subject: Subject) -> Change:
        for master in subject.optimizer.masters.values():
            master.mul_(0.5)
        return Change("halved")

    monkeypatch.setattr(BaseFusion, "apply", apply)
    with pytest.raises(UserError, match=r"interventions\.0: base_fusion says that it changed weights, and did not ask"):
        run(treated("halved", "base_fusion"), home=tmp_path)
