"""A study grows; one whose plan changed is refused, and what keeps it from going on is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.studies.history import History, looking, refuse_changes
from orchestrator.studies.study import Study, StudyRun
from store.ledger import Ledger
from store.records import MemberRecord, RunRecord
from store.sentences import num
from tests.orchestrator.specs import alone
from tests.orchestrator.studies.studies import made_study

TWO = {"grid": {"objective": ["rloo", "repo"]}}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path / 'evergreen.db'}") as opened:
        yield opened


def enter(ledger: Ledger, run: StudyRun, member: MemberRecord | None, status: str, of: str | None = None) -> None:
    """Enter a run without training it."""
    name = run.name if of is None else f"{run.name}-uniform"
    record = RunRecord(
        uid=name,
        name=name,
        seed=run.seed,
        model="tiny",
        objective="rloo",
        scheduler=None,
        bandit="sec",
        spec=run.spec.model_dump(mode="json", by_alias=True),
        environments=[],
        member=member,
        baseline_of=of,
    )
    ledger.set_status(ledger.start_run(record), status)  # type: ignore[arg-type]


def begun(ledger: Ledger, study: Study, *statuses: str) -> None:
    """Enter a study and its first runs."""
    ledger.start_study(study.record())
    for run, status in zip(study.runs, statuses, strict=False):
        enter(ledger, run, study.member(run), status)


def refused(ledger: Ledger, study: Study) -> str:
    with pytest.raises(UserError) as error:
        refuse_changes(History(study, ledger.reading))
    return str(error.value)


def test_runs_are_finished_begun_or_missing(tmp_path: Path, ledger: Ledger) -> None:
    study = made_study(tmp_path, **TWO)
    begun(ledger, study, "finished", "stopped", "running")
    states = History(study, ledger.reading).states()
    assert list(states.values()) == ["finished", "begun", "begun", "missing"]


def test_a_run_is_finished_when_its_twin_is(tmp_path: Path, ledger: Ledger) -> None:
    study = made_study(tmp_path, spec=alone("base") | {"baseline": "uniform"}, seeds=2)
    begun(ledger, study, "finished", "finished")
    enter(ledger, study.runs[1], None, "finished", of=study.runs[1].name)
    assert list(History(study, ledger.reading).states().values()) == ["begun", "finished"]


GROWN: dict[str, dict[str, Any]] = {
    "the same": TWO,
    "more seeds": TWO | {"seeds": [0, 1, 7]},
    "more settings": {"grid": {"objective": ["rloo", "rloo_on_policy", "repo"]}},
    "more workers": TWO | {"workers": 7},
    "another tracker": TWO | {"spec": alone("base") | {"tracker": {"experiment": "x"}}},
    "the order": {"grid": {"objective": ["repo", "rloo"]}},
}


@pytest.mark.parametrize("case", GROWN)
def test_a_study_may_grow(tmp_path: Path, ledger: Ledger, case: str) -> None:
    begun(ledger, made_study(tmp_path, **TWO), "finished", "finished")
    refuse_changes(History(made_study(tmp_path, **GROWN[case]), ledger.reading))


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "the base": (
        TWO | {"spec": alone("base", steps=4)},
        "curriculum.stage.steps was 3 and is 4 (all settings)",
    ),
    "one setting": (
        {
            "list": [
                {"objective": "rloo"},
                {"label": "repo", "objective": {"preset": "repo", "strength": 0.05}},
            ]
        },
        "objective.strength was 0.001 and is 0.05 (setting repo)",
    ),
    "a setting gone": ({"grid": {"objective": ["rloo"]}}, "setting 'repo' is gone"),
    "a seed gone": (TWO | {"seeds": [0, 2]}, "seed 1 is gone"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_study_is_refused_with_what_changed(tmp_path: Path, ledger: Ledger, case: str) -> None:
    begun(ledger, made_study(tmp_path, **TWO), "finished", "running")
    content, message = CHANGED[case]
    said = refused(ledger, made_study(tmp_path, **content))
    assert message in said
    assert len(said.splitlines()) == 3, "nothing else has changed"
    assert "`name: trial-2`" in said


def test_a_setting_that_others_would_give_another_name_may_keep_its_own(tmp_path: Path, ledger: Ledger) -> None:
    two: list[dict[str, Any]] = [{"curriculum.bandit": "sec"}, {"curriculum.bandit": "uniform"}]
    more = {"curriculum.scheduler": "uniform"}
    begun(ledger, made_study(tmp_path, list=two), "finished", "finished")
    said = refused(ledger, made_study(tmp_path, list=[*two, more]))
    assert "setting 'sec' is gone: it would be called 'bandit=sec' now; keep its name by `label: sec`" in said
    named = [{"label": one["curriculum.bandit"], **one} for one in two]
    refuse_changes(History(made_study(tmp_path, list=[*named, more]), ledger.reading))


@pytest.mark.parametrize(("stages", "remedy"), [(5, ""), (1, "; `evergreen resume {} --stages 2` plays the rest")])
def test_a_study_one_of_whose_runs_has_another_number_of_stages_goes_on(
    tmp_path: Path, ledger: Ledger, stages: int, remedy: str
) -> None:
    study = made_study(tmp_path, **TWO)
    begun(ledger, study, "finished", "finished")
    spec = study.runs[1].spec
    changed = spec.model_copy(update={"curriculum": spec.curriculum.model_copy(update={"stages": stages})})
    ledger.set_spec(ledger.open_run(study.runs[1].name), changed.model_dump(mode="json", by_alias=True))
    for content in (TWO, GROWN["more seeds"], GROWN["more settings"]):
        history = History(made_study(tmp_path, **content), ledger.reading)
        refuse_changes(history)
        ((name, said),) = history.changed_stages().items()
        assert name == study.runs[1].name
        assert said.startswith(f"{name} has {num(stages, 'stage')} since a `resume --stages`, where 2 were planned")
        assert said.endswith("compares what it is now" + remedy.format(name))
    other = made_study(tmp_path, **TWO | {"spec": alone("base", steps=4)})
    assert "curriculum.stages" not in refused(ledger, other), "only the steps have changed"
    planned_otherwise = made_study(tmp_path, **TWO | {"spec": alone("base", stages=1)})
    assert "curriculum.stages was 2 and is 1" in refused(ledger, planned_otherwise)


@pytest.mark.parametrize("case", CHANGED)
def test_a_study_of_which_nothing_ran_may_change(tmp_path: Path, ledger: Ledger, case: str) -> None:
    ledger.start_study(made_study(tmp_path, **TWO).record())
    refuse_changes(History(made_study(tmp_path, **CHANGED[case][0]), ledger.reading))


def test_a_run_of_the_same_name_that_is_not_the_studys_is_in_the_way(tmp_path: Path, ledger: Ledger) -> None:
    study = made_study(tmp_path, **TWO)
    enter(ledger, study.runs[1], None, "finished")
    assert "there is a run trial.repo.s0 already, which is not of this study" in refused(ledger, study)


def test_what_was_registered_before_the_first_run_stays(tmp_path: Path, ledger: Ledger) -> None:
    first = made_study(tmp_path, **TWO, compare={"last": 20})
    ledger.start_study(first.record())
    changed = History(made_study(tmp_path, **TWO, compare={"last": 5}), ledger.reading)
    assert changed.record().plan["compare"]["last"] == 5, "nothing ran yet"
    begun(ledger, first, "finished")
    assert changed.record().plan["compare"]["last"] == 20


def test_how_many_seeds_there_were_before_the_first_run_stays(tmp_path: Path, ledger: Ledger) -> None:
    few, more, most = (History(made_study(tmp_path, **TWO, seeds=n), ledger.reading) for n in (2, 3, 4))
    ledger.start_study(few.record())
    ledger.start_study(more.record())  # nothing ran yet
    enter(ledger, more.study.runs[0], more.study.member(more.study.runs[0]), "finished")
    for history in (more, most, most):
        ledger.start_study(history.record())
    plan = most.plan() or {}
    assert (plan["seeds"], plan["num_seeds_registered"]) == ([0, 1, 2, 3], 3)


def test_the_setting_that_was_first_before_the_first_run_stays(tmp_path: Path, ledger: Ledger) -> None:
    """It is what the others are compared with, where no baseline is named."""
    orders = (["repo", "rloo"], ["rloo", "repo"], ["grpo", "repo", "rloo"])
    before, first, grown = (
        History(made_study(tmp_path, grid={"objective": order}), ledger.reading) for order in orders
    )
    ledger.start_study(before.record())
    ledger.start_study(first.record())  # nothing ran yet
    enter(ledger, first.study.runs[0], first.study.member(first.study.runs[0]), "finished")
    for history in (before, grown, grown):
        ledger.start_study(history.record())
    plan = grown.plan() or {}
    assert [one["label"] for one in plan["settings"]] == orders[2]
    assert plan["first_setting_registered"] == "rloo"


def test_another_comparison_is_allowed_and_told(tmp_path: Path, ledger: Ledger) -> None:
    begun(ledger, made_study(tmp_path, **TWO, compare={"last": 20}), "finished")
    other = History(made_study(tmp_path, **TWO, compare={"last": 5}), ledger.reading)
    refuse_changes(other)
    assert "`compare` has changed after the first runs (last was 20)" in (other.changed_comparison() or "")
    assert History(made_study(tmp_path, **TWO), ledger.reading).changed_comparison() is None


def test_a_comparison_registered_before_it_had_so_many_keys_is_unchanged(tmp_path: Path, ledger: Ledger) -> None:
    study = made_study(tmp_path, **TWO)
    record = study.record()
    plan = {key: value for key, value in record.plan["compare"].items() if key != "environments"}
    begun(ledger, study, "finished")
    ledger.start_study(replace(record, plan={**record.plan, "compare": plan}))
    assert "environments" not in History(study, ledger.reading).plan()["compare"]
    assert History(study, ledger.reading).changed_comparison() is None


def test_looking_makes_nothing(tmp_path: Path) -> None:
    study = made_study(tmp_path, **TWO)
    home = tmp_path / "home"
    with looking(study, home) as (history, reading):
        assert reading is None
        assert set(history.states().values()) == {"missing"}
    assert not home.exists()
