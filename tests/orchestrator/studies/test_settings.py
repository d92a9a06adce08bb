"""What varies becomes settings with short labels, the resolved changes, and names for their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.spec.setting_labels import label_of, slug, text_of
from orchestrator.studies.study import Study
from store.run_summary import leaves
from tests.orchestrator.studies.studies import made_study

LR, LOW = "learner.lr", "warm_start.lr"


def labels(study: Study) -> list[str]:
    return [setting.label for setting in study.settings]


@pytest.mark.parametrize(
    ("given", "also", "label"),
    [
        ({}, [], "base"),
        ({"objective": "rloo"}, [], "rloo"),
        ({"objective": {"preset": "rloo", "entropy_bonus": 0.05}}, [], "rloo entropy_bonus=0.05"),
        ({LR: 0.0003, "curriculum.bandit.temperature": 0.1}, [], "lr=0.0003 temperature=0.1"),
        ({LR: "3e-4"}, [], "lr=0.0003"),  # YAML reads this as a text
        ({LR: 0.1}, [LOW], "learner.lr=0.1"),
        ({"curriculum.bandit": "uniform"}, [], "uniform"),
        ({"curriculum.bandit": "uniform"}, ["curriculum.scheduler"], "bandit=uniform"),
        ({"curriculum.bandit.type": "uniform"}, ["curriculum.scheduler.type"], "bandit=uniform"),
        ({"objective": "rloo", "curriculum.bandit": "sec"}, [], "rloo bandit=sec"),
        ({"policy": {"model": "tiny", "layers": 2}}, [], "tiny layers=2"),
        ({"evaluate.greedy": True, "baseline": None}, [], "greedy=true baseline=none"),
        ({"curriculum.scheduler.order": ["a", "b"]}, [], "order=a+b"),
    ],
)
def test_a_label_is_short_and_clear(given: dict[str, Any], also: list[str], label: str) -> None:
    assert label_of(given, {*dict(leaves(given)), *also}) == label


@pytest.mark.parametrize(
    ("label", "part"),
    [
        ("rloo", "rloo"),
        ("lr=0.0003 temperature=0.1", "lr-0.0003-temperature-0.1"),
        ("t=-1", "t--1"),
        ("Qwen/Qwen2.5", "qwen-qwen2.5"),
    ],
)
def test_a_label_is_part_of_a_runs_name(label: str, part: str) -> None:
    assert slug(label) == part


def test_long_labels_and_those_without_a_letter_keep_distinct_names() -> None:
    first, second = slug("x" * 70 + "1"), slug("x" * 70 + "2")
    assert first != second
    assert max(len(first), len(second)) <= 60
    assert slug("\u00e4") != slug("\u00f6")
    assert slug("\u00e4")


def test_numbers_that_differ_have_different_texts() -> None:
    assert text_of(0.1234567) != text_of(0.1234568)
    assert (text_of(16), text_of(1e-05), text_of("1e-5")) == ("16", "1e-05", "1e-05")


def test_a_url_among_the_values_is_told_without_its_login() -> None:
    assert text_of("postgresql://me:it's-me@h/db") == "postgresql://***@h/db"


def test_a_grid_is_every_combination_and_runs_go_seed_by_seed(tmp_path: Path) -> None:
    study = made_study(tmp_path, grid={"objective": ["rloo", "repo"], LR: [0.1, 0.2]})
    assert labels(study) == ["rloo lr=0.1", "rloo lr=0.2", "repo lr=0.1", "repo lr=0.2"]
    assert [run.name for run in study.runs][2:6] == [
        "trial.repo-lr-0.1.s0",
        "trial.repo-lr-0.2.s0",
        "trial.rloo-lr-0.1.s1",
        "trial.rloo-lr-0.2.s1",
    ]


def test_a_run_is_the_base_with_the_changes_its_seed_and_one_thread(tmp_path: Path) -> None:
    run = made_study(tmp_path, seeds=[5], grid={"objective": ["repo"], LR: ["2e-4"], "step.groups": [3]}).runs[0]
    spec = run.spec
    assert (spec.name, spec.seed, spec.resources.threads) == (run.name, 5, 1)
    assert (spec.objective.preset, spec.learner.lr, spec.step.groups) == ("repo", 2e-4, 3)
    assert run.setting.changes == {"objective.preset": "repo", LR: 2e-4, "step.groups": 3}


@pytest.mark.parametrize(
    ("tracker", "experiment"),
    [("none", "trial"), ("mlflow", "trial"), ({"experiment": "mine"}, "mine"), ({"uri": None}, "trial")],
)
def test_a_study_is_an_experiment_of_the_tracker_unless_its_spec_names_one(
    tmp_path: Path, tracker: Any, experiment: str
) -> None:
    base = {"environments": {"book": "codebook"}, "tracker": tracker}
    assert made_study(tmp_path, spec=base).settings[0].spec.tracker.experiment == experiment


def test_a_map_takes_the_place_of_a_section_and_a_dotted_field_keeps_the_rest(tmp_path: Path) -> None:
    base = {"environments": {"book": "codebook"}, "objective": {"preset": "repo", "controller": "none"}}
    settings = [{"objective": {"preset": "repo"}}, {"objective.strength": 0.2}]
    replaced, kept = (one.spec.objective.controllers for one in made_study(tmp_path, spec=base, list=settings).settings)
    assert (len(replaced), len(kept)) == (1, 0)


def test_a_listed_setting_may_have_a_label(tmp_path: Path) -> None:
    settings = [
        {"label": "bonus", "objective": {"preset": "rloo", "entropy_bonus": 0.05}},
        {"objective": "rloo"},
        {},
    ]
    study = made_study(tmp_path, list=settings)
    assert labels(study) == ["bonus", "rloo", "base"]
    assert study.settings[0].changes == {"objective.preset": "rloo", "objective.entropy_bonus": 0.05}


SPACE = {
    LR: {"log_uniform": ["1e-5", 1e-3]},
    "step.groups": {"integer": [2, 4]},
    "curriculum.bandit.rest": {"uniform": [0.05, 0.5]},
    "objective": {"choice": ["rloo", "repo"]},
}


def test_draws_are_within_their_space_and_more_samples_keep_the_first(tmp_path: Path) -> None:
    few, many = (made_study(tmp_path, random={"samples": n, "space": SPACE}) for n in (5, 40))
    assert labels(many)[:5] == labels(few)
    specs = [setting.spec for setting in many.settings]
    assert all(1e-5 <= spec.learner.lr <= 1e-3 for spec in specs)
    assert sum(spec.learner.lr < 1e-4 for spec in specs) in range(10, 31), "half of a logarithmic scale"
    assert {spec.step.groups for spec in specs} == {2, 3, 4}
    assert {spec.objective.preset for spec in specs} == {"rloo", "repo"}
    assert all(f"lr={spec.learner.lr:g} " in label for spec, label in zip(specs, labels(many), strict=True))


def test_another_seed_draws_others(tmp_path: Path) -> None:
    one, other = (made_study(tmp_path, random={"samples": 3, "seed": n, "space": SPACE}) for n in (0, 1))
    assert not set(labels(one)) & set(labels(other))


def test_no_setting_is_drawn_twice(tmp_path: Path) -> None:
    study = made_study(tmp_path, random={"samples": 3, "space": {"step.groups": {"integer": [2, 4]}}})
    assert sorted(labels(study)) == ["groups=2", "groups=3", "groups=4"]


def test_the_plan_is_what_the_ledger_and_the_comparison_agreed_on(tmp_path: Path) -> None:
    compare = {"metric": "train_accuracy", "last": 3, "baseline": "rloo"}
    plan = made_study(tmp_path, grid={"objective": ["rloo", "repo"]}, compare=compare).record().plan
    assert plan["settings"] == [
        {"label": "rloo", "changes": {"objective.preset": "rloo"}},
        {"label": "repo", "changes": {"objective.preset": "repo"}},
    ]
    assert plan["seeds"] == [0, 1]
    assert plan["compare"] == {
        "metric": "train_accuracy",
        "last": 3,
        "by": None,
        "baseline": "rloo",
        "environments": None,
    }
    assert plan["spec"]["name"] == "base"
