"""Our own environments are the checker's first users."""

import sys
from pathlib import Path

import pytest

from environments import EnvironmentSource, ScoringOptions
from environments.checker import check
from environments.checker.findings import CheckLimits
from environments.reasoning_gym import HASH_ORDERED
from tests.environments.checker.here import findings_here
from tests.shares import share

reasoning_gym = pytest.importorskip("reasoning_gym")

EXAMPLES = str(Path(__file__).parents[3] / "examples")
ALL = CheckLimits()
QUICK = ScoringOptions(timeout_s=0.5)
DATASETS = (
    "spell_backward", "gcd", "chain_sum", "basic_arithmetic", "letter_counting", "word_sorting", "number_sorting",
    "caesar_cipher", "coin_flip", "complex_arithmetic", "prime_factorization", "boxnet", "tower_of_hanoi",
)  # fmt: skip


def errors(findings):
    return [str(finding) for finding in findings if finding.severity == "error"]


OURS = [
    ("codebook", {}),
    ("codebook", {"repeats": True, "order": "anew"}),
    ("codebook", {"keys": 200, "categories": {"2": 2, "64": 64}, "named": False}),
    ("custom_environment:create", {"lengths": [3, 4, 5]}),
    ("guess:create", {"numbers": [3, 4, 5], "tries": 2}),
    ("lake:create", {"steps": [1, 2, 3, 4]}),
    ("reasoning_gym", {"dataset": "gcd", "answer": "tag", "categories": {"90": {"max_value": 90}}}),
]


@pytest.mark.parametrize(("type_", "options"), OURS)
def test_nothing_is_found_in_ours(type_, options, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert [str(found) for found in findings_here(EnvironmentSource("ours", type_, options, EXAMPLES), ALL)] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [({"size": 3, "holes": 9}, "no walk of 2 steps: take fewer holes"), ({"size": 5000}, "32 at most")],
    ids=["nothing but holes", "a map without end"],
)
def test_a_lake_on_which_nobody_can_walk_is_refused_instead_of_searched_for_ever(options, said, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = findings_here(EnvironmentSource("ours", "lake:create", {"steps": [2], **options}, EXAMPLES), ALL)
    assert said in " ".join(map(str, found))


@pytest.mark.parametrize(("type_", "options"), share([OURS[0], OURS[-1]], 1))
def test_nothing_is_found_in_ours_in_processes_of_their_own(type_, options):
    assert [str(found) for found in check(EnvironmentSource("ours", type_, options))] == []


@pytest.mark.slow
def test_a_verifier_that_evaluates_text_is_cut_off_and_that_is_a_warning():
    findings = check(EnvironmentSource("numbers", "reasoning_gym", {"dataset": "countdown"}), tasks=4, scoring=QUICK)
    assert {(found.severity, found.rule) for found in findings} <= {
        ("warning", "score-hangs"),
        ("note", "scan-short"),
    }


@pytest.mark.parametrize("dataset", DATASETS)
def test_data_sets_that_people_use_have_no_errors(dataset):
    assert errors(findings_here(EnvironmentSource(dataset, "reasoning_gym", {"dataset": dataset}))) == []


@pytest.mark.slow
@pytest.mark.parametrize("dataset", sorted(set(reasoning_gym.factory.DATASETS) - {"composite"}))
def test_every_data_set_has_no_errors(dataset, monkeypatch):
    if dataset in HASH_ORDERED:
        monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert errors(check(EnvironmentSource(dataset, "reasoning_gym", {"dataset": dataset}))) == []
