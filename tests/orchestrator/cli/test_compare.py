"""`evergreen compare`: the same facts as text, as JSON and as a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import orchestrator
from store import comparison as comparisons
from store.home import Home
from store.ledger import Ledger
from tests.conftest import Evergreen
from tests.store.comparison.runs import eight, study

DIFFERENCES = [0.10, 0.20, 0.15, 0.12, 0.11, 0.30]
REGISTERED = {"metric": "train_accuracy", "last": 2, "by": None, "baseline": "rloo"}
SETTINGS = {"rloo": [0.1, 0.2, 0.15], "repo": [0.5, 0.6, 0.7], "bonus": [0.4, 0.5, 0.45]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with runs of two objectives and a study of three."""
    folder = tmp_path_factory.mktemp("compared")
    with Ledger.open(Home(folder).ledger_url) as ledger:
        eight(ledger, DIFFERENCES)
        study(ledger, "trio", SETTINGS, REGISTERED)
    return folder


NAMES = [f"{objective}-{seed}" for seed in range(6) for objective in ("rloo", "repo")]


def test_text_says_the_verdict_the_scores_and_the_tests(home: Path, evergreen: Evergreen) -> None:
    result = evergreen("compare", *NAMES, "--home", home)
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "repo is better than rloo: +.163 (+.100 to +.300), p = .031." in said
    assert "held-out accuracy after the last stage, 2 environments" in said
    assert "exploratory: nothing was registered beforehand" in said
    assert "repo 6 +.163 +.100 to +.300 .031 .031" in said
    assert "repo .99 2.15 6" in said
    assert "What carried over, mean of the seeds rloo repo" in said
    assert "Average accuracy .44 " in said
    assert "Forgetting -.16 " in said
    assert "Relative forgetting -1.00 " in said
    assert "exact sign-flip test, two-sided; the interval holds the differences that it does not reject" in said


def test_a_study_is_told_as_it_registered(home: Path, evergreen: Evergreen) -> None:
    said = " ".join(evergreen("compare", "trio", "--home", home).stdout.split())
    assert "trio training accuracy over the last 2 steps of each stage, 2 stages primary:" in said
    assert "repo and bonus against rloo: not enough to tell: 3 of 7 paired seeds; 4 more would allow p < .05" in said
    assert "corrected for 2 comparisons (Bonferroni), so that all 2 hold together" in said
    again = " ".join(evergreen("compare", "trio", "--metric", "accuracy", "--home", home).stdout.split())
    assert "exploratory: the study registered train_accuracy over the last 2 steps of each stage against rloo" in again


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        ([], [("repo", "rloo"), ("bonus", "rloo")]),
        (["--baseline", "bonus"], [("rloo", "bonus"), ("repo", "bonus")]),
        (["--pairs", "all"], [("repo", "rloo"), ("bonus", "rloo"), ("bonus", "repo")]),
        (["--by", "objective", "--by", "bandit"], [("repo sec", "rloo sec"), ("bonus sec", "rloo sec")]),
    ],
)
def test_json_has_the_pairs_that_are_asked_for(
    home: Path, evergreen: Evergreen, words: list[str], pairs: list[tuple[str, str]]
) -> None:
    given = [*words, "--baseline", "rloo sec"] if "--by" in words else words
    found = json.loads(evergreen("compare", "trio", *given, "--json", "--home", home).stdout)
    assert [(pair["setting"], pair["baseline"]) for pair in found["pairs"]] == pairs
    assert found["metric"] == "train_accuracy"
    assert all(len(setting["runs"]) == 3 for setting in found["settings"])


def test_the_page_goes_where_it_is_asked_for(home: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("compare", "trio", "--json", "-o", tmp_path / "page.html", "--home", home)
    assert json.loads(result.stdout)["name"] == "trio"
    assert str(tmp_path / "page.html") in result.stderr
    assert "Evergreen comparison" in (tmp_path / "page.html").read_text("utf-8")
    evergreen("compare", *NAMES, "-o", tmp_path, "--home", home)
    assert (tmp_path / "comparison-rloo-and-repo.html").is_file()


def test_a_page_by_another_metric_leaves_that_of_the_study_alone(
    home: Path, tmp_path: Path, evergreen: Evergreen
) -> None:
    for metric in ("train_accuracy", "entropy"):  # the first is the registered one
        evergreen("compare", "trio", "--metric", metric, "-o", tmp_path, "--home", home)
    assert {path.name for path in tmp_path.iterdir()} >= {"comparison-trio.html", "comparison-trio-entropy.html"}
    others = {comparisons.file_name(name) for name in ("日本", "日本語", 81 * "a", 82 * "a")}
    assert len(others) == 4


def test_nothing_is_written_unasked(home: Path, evergreen: Evergreen) -> None:
    before = sorted(path.name for path in home.iterdir())
    evergreen("compare", "trio", "--home", home)
    assert sorted(path.name for path in home.iterdir()) == before


Words = Callable[[Path], list[object]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tri"], "There is no run and no study 'tri'. Did you mean 'trio'"),
        (["rloo-0", "rloo-1"], "of one setting (all runs: 2 runs), so there is nothing to compare."),
        (["trio", "--metric", "acuracy"], "Runs cannot be compared on 'acuracy'. Did you mean 'accuracy'?"),
        (
            ["trio", "--baseline", "rlo"],
            "No setting with finished runs is called 'rlo'. Did you mean 'rloo'?",
        ),
        (["trio", "--baseline", "rlo", "--pairs", "all"], "`--baseline rlo` has no meaning with `--pairs all`"),
        (
            ["trio", "--metric", "accuracy", "--last", "5"],
            "`--last 5` is of metrics of training (train_accuracy, train_entropy), and accuracy is measured at "
            "boundaries",
        ),
        (["trio", "--by", "learner.lrr"], "have no field 'learner.lrr'. Did you mean 'learner.lr'"),
        (["trio", "rloo-0"], "have the same setting (rloo) and the same seed (0)"),
        (["trio", "-o", "/nowhere/page.html"], "there is no folder /nowhere to write the comparison into"),
        (["tri", "-o", "/proc"], "/proc/comparison.html cannot be written: No such file or directory; name another"),
    ],
)
def test_what_cannot_be_done_is_told(home: Path, evergreen: Evergreen, words: list[str], message: str) -> None:
    result = evergreen("compare", *words, "--home", home)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_from_python_it_is_the_same_in_tables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # lists of rows then
    found = orchestrator.compare(*NAMES, home=home)
    assert found.sentences() == [
        "repo is better than rloo: +.163 (+.100 to +.300), p = .031. "
        "Entropy left: no difference seen: x1.00 (1.00 to 1.00), p = 1.000."
    ]
    (row,) = found.differences()
    assert (row["setting"], row["baseline"], row["seeds"], row["verdict"]) == ("repo", "rloo", 6, "better")
    assert [row["difference"], row["low"], row["high"]] == pytest.approx([0.98 / 6, 0.1, 0.3])
    scores = found.scores()
    assert len(scores) == 2 * 6 * 2
    assert {(row["setting"], row["seed"], row["of"]): row["score"] for row in scores}["rloo", 0, "book"] == 0.3
    (few,) = orchestrator.compare("rloo-0", "repo-0", home=home).differences()
    assert (few["verdict"], few["low"], few["high"]) == ("not enough", None, None)
