"""`baseline`: a twin from the same warm start and seed, and what is told of the two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.callbacks import Callback
from orchestrator.errors import RESUMABLE, SpecError, UserError
from orchestrator.progress import Progress
from orchestrator.runs.api import fork, resume, run
from store.comparison import ComparisonRequest, compare
from store.home import Home
from store.ledger import Ledger
from store.lock import request_stop
from store.records import StepRecord
from store.report import REPORT_FILE
from store.run_summary import facts
from store.sentences import beside_the_baseline, in_words, number
from tests.orchestrator.specs import Raw, alone, small


def paired(**sections: object) -> Raw:
    return small("pair", baseline="uniform", **sections)


CHEAP = {**alone("pair", categories=["easy", "hard"]), "baseline": "uniform"}


def ledger(home: Path) -> Ledger:
    return Ledger.open(Home(home).ledger_url)


WITHOUT = {"objective": "grpo", "curriculum.stage.replay": 0}
ORDER = {"type": "sequence", "order": ["one", "two"]}


def twice(name: str) -> Raw:
    """A run of two environments whose twin has another objective and no replay."""
    one = CHEAP["environments"]["one"]
    curriculum = {"stages": 2, "scheduler": ORDER, "stage": {"steps": 3, "replay": 0.5}}
    sections = {"environments": {"one": one, "two": one}, "curriculum": curriculum, "baseline": WITHOUT}
    return {**CHEAP, "name": name, **sections}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paired")
    assert run(paired(), home=path).status == "finished"
    assert run(twice("two"), home=path).status == "finished"
    return path


def test_a_twin_differs_in_nothing_but_the_bandit_and_begins_alike(home: Path) -> None:
    with ledger(home) as opened:
        read = opened.reading
        assert read.baseline("pair") == "pair-uniform"
        own, twin = read.spec("pair"), read.spec("pair-uniform")
        assert (twin["curriculum"].pop("bandit")["type"], own["curriculum"].pop("bandit")["type"]) == (
            "uniform",
            "headroom",
        )
        assert {key for key in own if own[key] != twin[key]} == {"name", "baseline"}
        first = [cell for cell in read.matrix("pair", "pass_1") if cell.after_stage == 0]
        assert first == [cell for cell in read.matrix("pair-uniform", "pass_1") if cell.after_stage == 0]
        assert {arm.probability for arm in read.arms("pair-uniform") if arm.bandit == "book"} == {0.5}


def test_the_run_is_told_beside_its_twin(home: Path) -> None:
    with ledger(home) as opened:
        told = facts(opened, home / "pair", "pair")
        other = facts(opened, home / "pair-uniform", "pair-uniform")
    assert (other["baseline_of"], other["baseline"], told["baseline_of"]) == ("pair", None, None)
    for name, change in told["baseline"]["accuracy_change"].items():
        ends = told["environments"][name]["accuracy_end"], other["environments"][name]["accuracy_end"]
        assert change == pytest.approx(ends[0] - ends[1])
    assert "the same run with the uniform bandit" in str(beside_the_baseline(told))
    assert told["baseline"]["settings"] == {"curriculum.bandit": "uniform"}
    assert beside_the_baseline(other) is None


def test_a_twin_with_other_settings_differs_in_them_alone_and_is_told_by_them(home: Path) -> None:
    with ledger(home) as opened:
        read = opened.reading
        assert read.baseline("two") == "two-grpo-replay-0"
        own, twin = read.spec("two"), read.spec("two-grpo-replay-0")
        told = facts(opened, home / "two", "two")
    assert (own["baseline"], twin["baseline"]) == (WITHOUT, None)
    assert (twin["objective"]["preset"], twin["curriculum"]["stage"]["replay"]) == ("grpo", 0)
    assert twin["curriculum"] == own["curriculum"] | {"stage": own["curriculum"]["stage"] | {"replay": 0}}
    assert {key for key in own if own[key] != twin[key]} == {"name", "baseline", "objective", "curriculum"}
    assert told["baseline"]["settings"] == WITHOUT
    who = "two-grpo-replay-0, the same run with objective grpo and replay 0"
    assert who in str(beside_the_baseline(told))
    kept, twins = told["kept"], told["kept"]["twin"]
    assert (kept["environment"], kept["stage"], kept["num_environments"]) == ("two", 2, 2)
    assert kept["accuracy"] == told["matrices"]["pass_1"]["2"]["two"]
    first = next(iter(in_words(told).values()))
    assert first.startswith("After 2 environments")
    assert first.endswith(
        f"accuracy on two after its stage (2) is {number(kept['accuracy'])}, {number(twins['accuracy'])} in {who}."
    )
    page = (home / "two" / REPORT_FILE).read_text()
    assert first.replace("'", "&#39;") in page
    assert "Dotted, in the same colours: two-grpo-replay-0" in page


def test_a_run_is_compared_with_its_twin_by_what_that_is_made_with(home: Path) -> None:
    with ledger(home) as opened:
        found = compare(opened.reading, Home(home), ComparisonRequest(["two"]))
    assert (found.baseline, {setting.label for setting in found.settings}) == ("grpo", {"repo_adaptive", "grpo"})


def test_the_report_draws_the_twins_lines(home: Path) -> None:
    page = (home / "pair" / REPORT_FILE).read_text()
    assert page.count(" twin") >= 2 * len(paired()["environments"])
    assert "Dotted, in the same colours: pair-uniform" in page
    assert " twin" not in (home / "pair-uniform" / REPORT_FILE).read_text()


class StopsTheTwin(Callback):
    """Asks a twin to stop in its first step, as `evergreen stop` would."""

    def begin(self, name: str, folder: str) -> None:
        self.folder = Path(folder) if name.endswith("-uniform") else None

    def step(self, at: Progress, record: StepRecord) -> None:
        if self.folder is not None:
            request_stop(self.folder)


@pytest.mark.slow
def test_an_interrupted_twin_is_taken_up_with_its_run(tmp_path: Path) -> None:
    assert run(CHEAP, home=tmp_path / "straight").status == "finished"
    stopped = run(CHEAP, home=tmp_path, watcher=StopsTheTwin())
    assert (stopped.status, stopped.exit_code) == ("stopped", RESUMABLE)
    assert stopped.reason == "its baseline pair-uniform stopped: asked to stop"
    assert resume("pair", home=tmp_path).status == "finished"
    with ledger(tmp_path) as resumed, ledger(tmp_path / "straight") as straight:
        for name in ("pair", "pair-uniform"):
            assert resumed.reading.digest_all(name, "") == straight.reading.digest_all(name, "")


def test_a_stopped_run_has_no_twin_yet(tmp_path: Path) -> None:
    assert run(CHEAP, home=tmp_path, until_step=1).status == "stopped"
    with ledger(tmp_path) as opened:
        assert opened.reading.baseline("pair") is None


@pytest.mark.slow
def test_a_lengthened_run_lengthens_its_twin(home: Path) -> None:
    assert resume("pair", home=home, stages=4).status == "finished"
    with ledger(home) as opened:
        assert opened.reading.run("pair-uniform").num_boundaries == 5
        assert [r.name for r in opened.reading.runs() if r.name.startswith("pair")] == ["pair", "pair-uniform"]


@pytest.mark.slow
def test_the_twin_of_a_fork_begins_at_the_same_boundary(finished: Path, tmp_path: Path) -> None:
    home = shutil.copytree(finished, tmp_path / "home")
    done = fork("small", 2, overrides=["baseline=uniform", "name=branch"], home=home)
    with ledger(home) as opened:
        twin = opened.reading.run(str(opened.reading.baseline(done.name)))
        assert (twin.parent, twin.parent_stage, twin.bandit) == ("small", 2, "uniform")


def test_a_run_whose_twin_cannot_begin_does_not_begin_either(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nobody\.py"):
        run({**CHEAP, "baseline": {"curriculum.bandit": "./nobody.py:create"}}, home=tmp_path)
    assert not (tmp_path / "pair").exists()


def test_a_run_that_is_uniform_already_has_no_baseline(tmp_path: Path) -> None:
    spec = paired()
    spec["curriculum"]["bandit"] = "uniform"
    with pytest.raises(SpecError, match="baseline: uniform is the run's own bandit"):
        run(spec, home=tmp_path)
