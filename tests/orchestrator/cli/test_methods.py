from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cli import methods
from orchestrator.cli.tables import joined_paragraphs
from policies.objectives import registry
from policies.plugins import PARTS
from tests.conftest import Evergreen
from tests.orchestrator.spec_documents import SCHEMA


def test_all_methods_are_listed_by_kind_with_a_line_and_a_source(evergreen: Evergreen) -> None:
    listed = evergreen("methods").stdout
    for kind in ("bandits", "schedulers", "environments", "samplers", "objectives"):
        assert f"\n{kind}\n" in f"\n{listed}"
    assert "Self-Evolving Curriculum" in listed
    assert "(arXiv 2505.14970)" in listed


def test_a_kind_lists_its_own(evergreen: Evergreen) -> None:
    listed = json.loads(evergreen("methods", "objectives", "--json").stdout)
    assert {entry["kind"] for entry in listed} == {"objectives"}
    assert {"repo_r", "rloo"} <= {entry["name"] for entry in listed}
    assert set(listed[0]) == {"kind", "name", "summary", "source", "family"}


def test_the_parts_of_objectives_are_listed_by_kind(evergreen: Evergreen) -> None:
    assert tuple(PARTS) == registry.KINDS
    for kind in registry.KINDS:
        listed = json.loads(evergreen("methods", kind, "--json").stdout)
        assert [entry["name"] for entry in listed] == registry.names(kind)
        assert all(entry["summary"] and entry["source"] for entry in listed)


@pytest.mark.parametrize(
    ("kind", "name", "option", "default"),
    [
        ("bandits", "sec", "temperature", 0.1),
        ("schedulers", "sequence", "order", "required"),
        ("environments", "codebook", "keys", 64),
        ("samplers", "transformers", "max_tokens", 1024),
        ("objectives", "repo_r", "shapers", ["repo_r"]),
        ("objectives", "repo_r", "strength", 0.001),
        ("shapers", "clip_cov", "clip_cov_ratio", 0.0002),
        ("controllers", "geometric", "factor", 1.2),
    ],
)
def test_a_method_tells_its_story_and_every_option(
    evergreen: Evergreen, kind: str, name: str, option: str, default: object
) -> None:
    told = json.loads(evergreen("methods", kind, name, "--json").stdout)
    assert told["options"][option]["default"] == default
    assert all(entry["meaning"] for entry in told["options"].values())
    printed = " ".join(evergreen("methods", kind, name).stdout.split())
    assert told["source"] in printed
    assert option in printed


WRAPPED = """A line
that goes on.

    P = softmax(Q)
    Q <- r
with Q = 0, and
more.
Source: none,
or ours.
- one
  and more
- two

| a | b |
| 1 | 2 |"""
JOINED = """A line that goes on.

    P = softmax(Q)
    Q <- r
with Q = 0, and more.
Source: none, or ours.
- one and more
- two

| a | b |
| 1 | 2 |"""


def test_paragraphs_are_joined_and_what_is_laid_out_stays() -> None:
    assert joined_paragraphs(WRAPPED) == JOINED


def test_a_methods_prose_is_wrapped_once(evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = evergreen("methods", "bandits", "uniform").stdout
    widest = max(map(len, told.splitlines()))
    assert widest <= 80, told
    prose = next(part for part in told.split("\n\n") if part.startswith("Source:"))
    assert all(len(line) > 60 for line in prose.splitlines()[:-1]), told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["bandit"],
            "'bandit' is not a kind of method; there are: bandits, schedulers, selections, teachers, "
            "stop_rules, environments, rewards, samplers, interventions, measurements, objectives; and of parts of an "
            "objective: "
            "plans, reward_maps, estimators, shapers, mismatch_weights, ratio_rules, terms, controllers. "
            "Did you mean 'bandits'?",
        ),
        (["bandits", "sek"], "tscl, uniform. Did you mean 'sec'?"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(
    evergreen: Evergreen, words: list[str], message: str
) -> None:
    result = evergreen("methods", *words)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("name", ["network", "gradients"])
def test_the_tables_of_a_measurement_fit_a_terminal(
    evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert name in evergreen("methods", "measurements").stdout
    story = json.loads(evergreen("methods", "measurements", name, "--json").stdout)["text"]
    laid_out = [line for line in story.splitlines() if line.startswith("    ")]
    assert laid_out
    assert max(map(len, laid_out)) <= 80


def test_measurements_are_listed_when_asked_for(evergreen: Evergreen) -> None:
    listed = evergreen("methods", "measurements")
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in ("samples", "probe"))


def test_a_method_without_options_says_so(evergreen: Evergreen) -> None:
    assert "It takes no options." in evergreen("methods", "ratio_rules", "reinforce").stdout


def test_the_sections_of_a_spec_are_listed_a_line_each_that_fits_a_terminal(evergreen: Evergreen) -> None:
    listed = evergreen("methods", "spec").stdout.splitlines()
    assert listed[0] == "spec"
    assert [line.split()[0] for line in listed[1:]] == [one["name"] for one in as_json(evergreen, "spec")]
    assert {"seed", "curriculum.stage", "learner"} <= {line.split()[0] for line in listed[1:]}
    assert max(map(len, listed)) <= 80
    assert "evergreen methods spec" in evergreen("methods").stdout


def as_json(evergreen: Evergreen, *words: str) -> Any:
    return json.loads(evergreen("methods", *words, "--json").stdout)


def test_a_section_of_a_spec_tells_its_fields_and_an_example(evergreen: Evergreen) -> None:
    told = as_json(evergreen, "spec", "curriculum.stage")
    assert told["options"]["steps"] == {
        "type": "integer, 1 or more",
        "default": 40,
        "meaning": "Steps a stage; in flat mode only where the boundaries are.",
    }
    printed = evergreen("methods", "spec", "curriculum.stage").stdout
    assert max(map(len, printed.splitlines())) <= 80
    assert "steps       40" in printed
    assert "stage: {steps: 60, replay: 0.2, from: all, stop: [mastery, plateau]}" in printed


def test_the_place_of_a_method_tells_what_can_stand_there(evergreen: Evergreen) -> None:
    told = as_json(evergreen, "spec", "curriculum.bandit")
    assert "a map without `type` is about headroom" in told["text"]
    assert "gated_sec, graves" in told["text"]
    assert "evergreen methods bandits NAME" in told["text"]
    assert told["options"]["floor"]["default"] == 0.05, "headroom's own"


def test_one_field_is_told_alone(evergreen: Evergreen) -> None:
    assert [*as_json(evergreen, "spec", "learner.lr")["options"]] == ["lr"]
    assert [*as_json(evergreen, "spec", "seed")["options"]] == ["seed"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("stage", "no section or field 'stage' (`evergreen methods spec` lists all). Did you mean 'curriculum.stage'?"),
        ("lr", "Did you mean 'warm_start.lr' or 'learner.lr'?"),
        ("curriculum.bandits", "Did you mean 'curriculum.bandit'?"),
        ("learnr", "Did you mean 'learner'?"),
        ("environments.rows", "`evergreen methods environments rows` tells rows and its options"),
        ("curriculum.bandit.exp3.rate", "`evergreen methods bandits exp3` tells exp3 and its options"),
        ("nothing.like_it", "no section or field 'nothing.like_it' (`evergreen methods spec` lists all)"),
    ],
)
def test_a_section_that_is_not_there_is_told_with_the_nearest(evergreen: Evergreen, path: str, said: str) -> None:
    result = evergreen("methods", "spec", path)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_schema_for_editors_is_printed_as_it_is_kept(evergreen: Evergreen) -> None:
    assert json.loads(evergreen("methods", "spec", "--schema").stdout) == json.loads(SCHEMA.read_text())
    assert "evergreen methods spec --schema" in evergreen("methods", "bandits", "--schema").stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_packages_that_cannot_be_used_are_told_beside_json(
    evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(methods, "unusable", lambda kind: [f"a broken package of {kind}"])
    result = evergreen("methods", "rewards", *words)
    assert "a broken package of rewards" in (result.stderr if words else result.stdout)
    assert ("broken" in result.stdout) == (not words)
