"""Whatever becomes of the ledger or of spec.yaml: no checkpoint is lost, and the run ends as it would have."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.runs import api, forks
from orchestrator.runs.catalog import opened
from orchestrator.runs.session import RunSession
from store import identity
from store.comparison.result import ComparisonRequest, compare
from store.comparison.scores import measure, scores
from store.courses import courses
from store.errors import ComparisonError, HomeError
from store.ledger import Ledger
from store.records import MemberRecord
from tests.conftest import Evergreen
from tests.integration.runs import At, Killed, kill, newest_checkpoint, told
from tests.orchestrator.specs import alone, small
from tests.shares import share

LOST = "which were lost with a ledger"
HERE: dict[str, Any] = {
    "objective": "repo_r",
    "scoring": {"isolation": "none"},
}  # as fast, and the same run


class Listening(Callback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def event(self, texts: Sequence[str]) -> None:
        self.texts += texts


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with `small`, stopped in its second stage: step 5 of 9, the newest checkpoint of step 5."""
    home = tmp_path_factory.mktemp("stopped")
    orchestrator.run(small(**HERE), home=home, until_step=5)
    return home


@pytest.fixture
def home(stopped: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(stopped, copy)
    return copy


def weights(home: Path, name: str = "small") -> dict[str, bytes]:
    newest = newest_checkpoint(home, name)
    return {path.name: path.read_bytes() for path in sorted((newest / "weights").iterdir())}


def checkpoints(home: Path, name: str = "small") -> set[str]:
    return {path.name for path in (home / name / "checkpoints").iterdir()}


def delete(home: Path) -> None:
    for path in home.glob("evergreen.db*"):
        path.unlink()


def empty(home: Path) -> None:
    delete(home)
    (home / "evergreen.db").touch()


def replace_by_another_homes(home: Path) -> None:
    orchestrator.run(alone(steps=1, stages=1), home=home.parent / "other")
    delete(home)
    shutil.copy(home.parent / "other" / "evergreen.db", home)


def forget_the_identity(home: Path) -> None:
    """As runs of earlier versions are: nothing but spec.yaml tells of them."""
    delete(home)
    (home / "small" / "run.json").unlink()


@pytest.mark.parametrize("lose", share([delete, empty, replace_by_another_homes, forget_the_identity], 1))
def test_without_the_ledger_a_run_goes_on_from_its_checkpoint_and_says_what_is_lost(
    finished: Path, home: Path, lose: Callable[[Path], None]
) -> None:
    before = checkpoints(home)
    report = (home / "small" / "report.html").read_text()
    lose(home)
    heard = Listening()
    outcome = orchestrator.resume("small", home=home, watcher=heard)
    assert outcome.status == "finished"
    assert weights(home) == weights(finished)
    assert before <= checkpoints(home)
    (text,) = [text for text in heard.texts if "entered again from its folder" in text]
    assert f"the record lacks steps 1 to 5 and boundaries 0 to 1, {LOST}" in text
    assert "resumed from the checkpoint of step 5, with the spec the run began with" in heard.texts
    story = told(home, "small")
    assert (story["num_steps"], story["num_boundaries"]) == (9, 4)
    assert (story["digest"], story["digest_all"]) == (None, None), "it would be that of another run"
    assert "the record lacks steps 1 to 5" in story["missing"]
    assert [stage["stage"] for stage in story["stages"]] == [2, 3]
    assert {of["accuracy_start"] for of in story["environments"].values()} == {None}, "boundary 0 was lost"
    assert story["carry_over"]["entropy_left"] is None
    with opened(home, "small") as (_, ledger):
        (course,) = courses(ledger.reading, {"small"})
    assert course.entropy == {2: None, 3: None}
    assert "The same held-out tasks after stage 2 and after stage 3" in (home / "small" / "report.html").read_text()
    assert (home / "small" / "report.earlier.html").read_text() == report


def older_copy(home: Path, copied_at: int) -> Path:
    """Stop a run at a step, and give back a copy of its ledger as it was then."""
    orchestrator.run(small(**HERE), home=home, until_step=copied_at)
    with sqlite3.connect(home / "evergreen.db") as ledger:
        ledger.execute("VACUUM INTO ?", [str(home.parent / "older.db")])
    return home.parent / "older.db"


def test_an_older_copy_of_the_ledger_is_behind_and_the_newest_checkpoint_counts(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    older = older_copy(home, copied_at=4)
    orchestrator.resume("small", home=home, until_step=8)
    delete(home)
    older.rename(home / "evergreen.db")
    heard = Listening()
    orchestrator.resume("small", home=home, until_step=8, watcher=heard)
    assert "resumed from the checkpoint of step 8, with the spec the run began with" in heard.texts
    assert any(f"lacks steps 5 to 8 and boundary 2, {LOST}" in text for text in heard.texts)
    orchestrator.resume("small", home=home)
    assert weights(home) == weights(finished)
    with opened(home) as (_, ledger):
        assert [step.step for step in ledger.reading.steps("small")] == [1, 2, 3, 4, 9]
        assert checkpoints(home) == {record.folder.partition("/")[2] for record in ledger.reading.checkpoints("small")}


@pytest.mark.slow
def test_an_older_copy_that_says_finished_lets_a_lengthened_run_go_on_from_its_checkpoints(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    orchestrator.run(alone(), home=home)
    shutil.copy(home / "evergreen.db", tmp_path / "older.db")
    orchestrator.resume("alone", home=home, stages=3)
    before = weights(home, "alone")
    delete(home)
    shutil.copy(tmp_path / "older.db", home / "evergreen.db")
    heard = Listening()
    assert orchestrator.resume("alone", home=home, watcher=heard).status == "finished"
    assert any("`evergreen resume alone --stages 3` changes what may change" in text for text in heard.texts)
    assert orchestrator.resume("alone", home=home, stages=3).status == "finished"
    assert weights(home, "alone") == before


def test_a_finished_run_is_entered_again_as_finished_and_can_be_lengthened(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    before = weights(home)
    delete(home)
    with pytest.raises(UserError, match="has begun stage 3 already: --stages 2 is too few"):
        orchestrator.resume("small", home=home, stages=2)
    assert orchestrator.resume("small", home=home).status == "finished"
    assert weights(home) == before
    assert orchestrator.resume("small", home=home, stages=4).status == "finished"
    assert told(home, "small")["num_steps"] == 12


def test_what_was_lost_of_a_finished_run_is_why_it_cannot_be_compared(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    orchestrator.run(small("other", **HERE), ["learner.lr=0.001"], home=home)
    delete(home)
    for name in ("small", "other"):
        orchestrator.resume(name, home=home)
    lost = f"the record lacks steps 1 to 9 and boundaries 0 to 3, {LOST}"
    with opened(home) as (place, ledger):
        for metric, why in (
            ("accuracy", f"small has no accuracy to compare: {lost}"),
            ("train_accuracy", f"small has no train_accuracy to compare: {lost}"),
            (
                "left",
                "There is no left to compare: small and other have none (its record has gaps, as a ledger was lost)",
            ),
        ):
            with pytest.raises(ComparisonError) as refused:
                compare(ledger.reading, place, ComparisonRequest(["small", "other"], metric=metric))
            assert str(refused.value).startswith(why)
    orchestrator.run(small("whole", **HERE), ["learner.lr=0.002"], home=home)
    with opened(home) as (place, ledger), pytest.raises(ComparisonError, match=f"small has no accuracy .*{LOST}"):
        compare(ledger.reading, place, ComparisonRequest(["whole", "small"], metric="accuracy"))


def test_the_end_of_a_run_is_not_an_earlier_boundary_where_the_last_was_lost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    older = older_copy(home, copied_at=4)
    orchestrator.resume("small", home=home)
    delete(home)
    older.rename(home / "evergreen.db")
    assert orchestrator.resume("small", home=home).status == "finished"
    with opened(home) as (_, ledger), pytest.raises(ComparisonError, match=f"boundaries 2 to 3, {LOST}"):
        scores(ledger.reading, "small", measure("accuracy"))


def test_a_ledger_with_another_run_of_this_name_is_refused_and_nothing_is_touched(home: Path) -> None:
    orchestrator.run(small(objective="rloo"), home=home.parent / "other", until_step=1)
    delete(home)
    shutil.copy(home.parent / "other" / "evergreen.db", home)
    before = checkpoints(home)
    for verb in (orchestrator.resume, lambda name, home: orchestrator.fork(name, 0, home=home)):
        with pytest.raises(UserError, match=r"has a run 'small', but another one than the folder .*small"):
            verb("small", home=home)
    (home / "small" / "run.json").unlink()  # as earlier versions left it
    with pytest.raises(UserError, match=r"whole checkpoint, but not the one that the ledger recorded"):
        orchestrator.resume("small", home=home)
    assert checkpoints(home) == before


def test_what_lies_in_checkpoints_and_is_not_ours_stays(finished: Path, home: Path) -> None:
    folder = home / "small" / "checkpoints"
    (folder / ".DS_Store").touch()
    (folder / "step-000005-boundary-002" / ".DS_Store").touch()
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").touch()
    (folder / "link").symlink_to(home)
    (folder / "dangling").symlink_to(home / "nowhere")
    (folder / ".aside-1-step-000006").mkdir()
    orchestrator.resume("small", home=home)
    assert weights(home) == weights(finished)
    assert checkpoints(home) >= {".DS_Store", "mine", "link", "dangling"}
    assert (folder / "mine" / "notes.txt").exists()
    assert ".aside-1-step-000006" not in checkpoints(home)


@pytest.mark.slow
def test_a_checkpoint_that_lies_elsewhere_is_followed_by_its_link(finished: Path, home: Path) -> None:
    folder = home / "small" / "checkpoints"
    elsewhere = (folder / "step-000005-boundary-002").rename(home.parent / "elsewhere")
    (folder / "step-000005-boundary-002").symlink_to(elsewhere)
    delete(home)
    orchestrator.resume("small", home=home)
    assert weights(home) == weights(finished)
    assert (elsewhere / "manifest.json").exists()


def test_a_checkpoint_that_its_ledger_row_never_reached_is_gone_on_from(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    real = Ledger.record_checkpoint

    def third_time_killed(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "record_checkpoint", third_time_killed)
        with pytest.raises(Killed):
            orchestrator.run(small(**HERE), home=tmp_path)
    newest = max(checkpoints(tmp_path))
    with opened(tmp_path) as (_, ledger):
        assert newest not in {record.folder for record in ledger.reading.checkpoints("small")}
    heard = Listening()
    orchestrator.resume("small", home=tmp_path, watcher=heard)
    assert "1 checkpoint entered that the ledger did not have" in heard.texts
    assert told(tmp_path, "small")["digest"] == told(finished, "small")["digest"]
    assert told(tmp_path, "small")["missing"] is None


def test_damaged_checkpoints_are_passed_over_also_without_a_ledger(finished: Path, home: Path) -> None:
    delete(home)
    newest = home / "small" / "checkpoints" / "step-000005-boundary-002"
    (newest / "optimizer" / "optimizer.json").write_text("{}")
    heard = Listening()
    orchestrator.resume("small", home=home, watcher=heard)
    assert any("step-000005-boundary-002 is not used" in text for text in heard.texts)
    assert "resumed from the checkpoint of step 3, with the spec the run began with" in heard.texts
    assert weights(home) == weights(finished)


# --- relatives -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fork_is_linked_to_its_parent_again(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    orchestrator.fork("small", 1, home=home, overrides=["name=child"], until_step=5)
    delete(home)
    assert orchestrator.resume("child", home=home).status == "finished"
    assert weights(home, "child") == weights(finished)
    with opened(home) as (_, ledger):
        runs = {run.name: run for run in ledger.reading.runs()}
    assert (runs["child"].parent, runs["child"].parent_stage) == ("small", 1)
    assert runs["small"].status == "finished"


@pytest.mark.slow
def test_a_fork_that_only_the_older_ledger_lacks_gets_its_parents_history(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    shutil.copy(home / "evergreen.db", tmp_path / "older.db")
    orchestrator.fork("small", 1, home=home, overrides=["name=child"], until_step=4)
    delete(home)
    shutil.copy(tmp_path / "older.db", home / "evergreen.db")
    orchestrator.resume("child", home=home)
    assert weights(home, "child") == weights(finished)
    with opened(home) as (_, ledger):
        assert ledger.reading.gaps("child").steps == ((4, 4),)


def home_of_a_fork_killed_at(
    owner: Any, method: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the home in which a fork of `small`, `child`, was killed where it calls this."""

    def killed(*args: Any) -> None:
        raise Killed

    home = tmp_path / "home"
    shutil.copytree(finished, home)
    with monkeypatch.context() as patched:
        patched.setattr(owner, method, killed)
        with pytest.raises(Killed):
            orchestrator.fork("small", 2, home=home, overrides=["name=child"])
    return home


@pytest.mark.parametrize(("owner", "method"), [(Ledger, "fork_run"), (forks, "adopt_checkpoint")])
def test_a_fork_killed_before_its_row_is_a_fork_still(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, method: str
) -> None:
    home = home_of_a_fork_killed_at(owner, method, finished, tmp_path, monkeypatch)
    heard = Listening()
    orchestrator.resume("child", home=home, watcher=heard)
    assert told(home, "child")["digest"] == told(home, "small")["digest"]
    assert told(home, "child")["parent"] == {"name": "small", "after_stage": 2}
    assert any("it has the checkpoint of small" in text for text in heard.texts) == (method != "fork_run")


@pytest.mark.parametrize(
    ("owner", "method", "why"),
    [
        (forks, "adopt_checkpoint", "cannot get it any more: .* has changed since it was written"),
        (api, "write_spec", "killed before it had anything"),
    ],
)
def test_a_fork_that_cannot_go_on_before_its_first_checkpoint_says_what_to_do(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evergreen: Evergreen,
    owner: Any,
    method: str,
    why: str,
) -> None:
    home = home_of_a_fork_killed_at(owner, method, finished, tmp_path, monkeypatch)
    boundary = home / "small" / "checkpoints" / "step-000006-boundary-003"
    (boundary / "progress" / "state.json").write_text("{}")
    with pytest.raises(UserError, match=rf"{why}.*`evergreen rm child` removes it"):
        orchestrator.resume("child", home=home)
    assert evergreen("rm", "child", "--yes", "--home", home).exit_code == 0
    assert not (home / "child").exists()


def test_a_fork_killed_after_its_row_still_says_in_what_it_is_not_its_parent(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> None:
        raise Killed

    home = tmp_path / "home"
    shutil.copytree(finished, home)
    monkeypatch.setattr(forks, "changed_environments", lambda before, now: ["book"])
    heard = Listening()
    orchestrator.fork("small", 2, home=home, overrides=["name=whole"], until_step=7, watcher=heard)
    with monkeypatch.context() as patched:
        patched.setattr(RunSession, "go_on", killed)
        with pytest.raises(Killed):
            orchestrator.fork("small", 2, home=home, overrides=["name=cut"])
    orchestrator.resume("cut", home=home, until_step=7)
    whole, cut = (
        [event["text"] for event in told(home, name)["events"] if event["kind"] == "not bitwise"]
        for name in ("whole", "cut")
    )
    assert cut == whole == [text for text in heard.texts if text.startswith("environment book is not what it was")]
    assert len(cut) == 1


@pytest.mark.slow
def test_a_fork_whose_parent_is_gone_goes_on_without_the_link(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    orchestrator.fork("small", 1, home=home, overrides=["name=child"], until_step=4)
    delete(home)
    shutil.rmtree(home / "small")
    heard = Listening()
    orchestrator.resume("child", home=home, watcher=heard)
    assert any("it is not linked to small, which is not here any more" in text for text in heard.texts)
    assert weights(home, "child") == weights(finished)


@pytest.mark.slow
def test_a_run_and_its_baseline_find_each_other_again(tmp_path: Path) -> None:
    spec = alone(steps=2) | {"baseline": "uniform"}
    orchestrator.run(spec, home=tmp_path / "whole")
    with pytest.raises(Killed):  # in the twin's first stage
        orchestrator.run(spec, home=tmp_path / "cut", watcher=At(10, kill))
    delete(tmp_path / "cut")
    assert orchestrator.resume("alone", home=tmp_path / "cut").status == "finished"
    names = {path.parent.name for path in (tmp_path / "cut").glob("*/spec.yaml")}
    assert names == {"alone", "alone-uniform"}
    with opened(tmp_path / "cut") as (_, ledger):
        assert ledger.reading.baseline("alone") == "alone-uniform"
    for name in sorted(names):
        assert weights(tmp_path / "cut", name) == weights(tmp_path / "whole", name)


# --- spec.yaml -------------------------------------------------------------------------------------------


def edit(home: Path, **sections: Any) -> None:
    path = home / "small" / "spec.yaml"
    spec = yaml.safe_load(path.read_text())
    for section, changes in sections.items():
        spec[section] = {**spec[section], **changes}
    path.write_text(yaml.safe_dump(spec))


@pytest.mark.parametrize("lose", share([lambda home: None, delete], 1))
def test_an_edited_spec_is_not_believed_and_each_edit_is_named_with_what_to_do(
    finished: Path, home: Path, lose: Callable[[Path], None]
) -> None:
    lose(home)
    edit(home, learner={"lr": 0.5}, resources={"threads": 2}, policy={"layers": 2})
    heard = Listening()
    orchestrator.resume("small", home=home, watcher=heard)
    (text,) = [text for text in heard.texts if text.startswith("spec.yaml was edited")]
    assert "policy.layers is 1, not 2" in text
    assert "learner.lr is 0.003, not 0.5" in text
    assert "`evergreen resume small --set resources.threads=2`" in text
    assert "`evergreen fork small --stage N --set learner.lr=0.5`" in text
    assert "for another policy.layers begin a new run" in text
    assert weights(home) == weights(finished)
    spec = yaml.safe_load((home / "small" / "spec.yaml").read_text())
    assert (spec["learner"]["lr"], spec["resources"]["threads"]) == (0.003, 1)
    assert yaml.safe_load((home / "small" / "spec.edited.yaml").read_text())["learner"]["lr"] == 0.5
    again = Listening()
    orchestrator.resume("small", home=home, watcher=again)
    assert again.texts == []


def test_an_edit_that_is_also_asked_for_is_none(home: Path) -> None:
    edit(home, checkpoint={"keep": 2}, curriculum={"stages": 2})
    heard = Listening()
    orchestrator.resume("small", ["checkpoint.keep=2"], home=home, stages=2, watcher=heard)
    assert not [text for text in heard.texts if "edited" in text]
    assert told(home, "small")["planned_stages"] == 2


@pytest.mark.parametrize(
    "spoil",
    share([Path.unlink, lambda path: path.write_text("seed: [\n"), lambda path: path.write_text("seed: x")], 1),
)
def test_a_spec_that_is_lost_or_spoilt_is_written_again_from_the_ledger(
    finished: Path, home: Path, evergreen: Evergreen, spoil: Callable[[Path], object]
) -> None:
    path = home / "small" / "spec.yaml"
    before = path.read_text()
    spoil(path)
    assert evergreen("show", "small", "--home", home).exit_code == 0
    heard = Listening()
    orchestrator.resume("small", home=home, watcher=heard)
    assert any("written again from what the ledger keeps" in text for text in heard.texts)
    assert path.read_text() == before
    assert weights(home) == weights(finished)


def test_the_order_of_environments_is_that_of_the_run_whatever_the_file_says(home: Path) -> None:
    path = home / "small" / "spec.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["environments"] = dict(reversed(spec["environments"].items()))
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    orchestrator.resume("small", home=home, until_step=5)
    kept = json.loads((home / "small" / "run.json").read_text())
    assert list(kept["spec"]["environments"]) == ["numbers", "book", "noise"]
    path.unlink()
    (home / "small" / "run.json").unlink()
    heard = Listening()
    orchestrator.resume("small", home=home, until_step=5, watcher=heard)
    assert any("now it is that of the alphabet" in text for text in heard.texts)


def test_with_spec_and_ledger_lost_resume_says_what_to_do(home: Path, evergreen: Evergreen) -> None:
    delete(home)
    (home / "small" / "spec.yaml").unlink()
    before = checkpoints(home)
    result = evergreen("resume", "small", "--home", home)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "spec.yaml is gone, and the ledger" in said
    assert "put the file back, or the ledger" in said
    assert checkpoints(home) == before


def test_a_fork_begins_with_the_spec_that_its_parent_has(finished: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    edit(home, learner={"lr": 0.5})
    heard = Listening()
    orchestrator.fork("small", 1, home=home, overrides=["name=child"], watcher=heard)
    assert any(text.startswith("spec.yaml was edited") for text in heard.texts)
    assert weights(home, "child") == weights(finished)


def test_a_renamed_folder_is_named(home: Path) -> None:
    (home / "small").rename(home / "large")
    with pytest.raises(UserError, match="large is of the run 'small': give it that name again"):
        orchestrator.resume("large", home=home)


def test_what_the_folder_says_of_its_run_is_that_of_the_ledger(home: Path) -> None:
    kept = json.loads((home / "small" / "run.json").read_text())
    with opened(home) as (_, ledger):
        spec = ledger.reading.spec("small")
        assert kept["uid"] == ledger.reading.run("small").uid
    assert kept["spec"] == {key: value for key, value in spec.items() if key not in ("ledger", "tracker")}
    (home / "small" / "run.json").write_text("{")
    with pytest.raises(HomeError, match=r"run.json is damaged .* Remove it"):
        orchestrator.resume("small", home=home)


# --- what reads a record with gaps -----------------------------------------------------------------------


def test_what_the_ledger_lacks_is_named_with_what_enters_it_again(home: Path, evergreen: Evergreen) -> None:
    delete(home)
    result = evergreen("ls", "--home", home)
    assert "Not in the ledger, though the folder is here: small" in " ".join(result.stderr.split())
    replace_by_another_homes(home)
    listed = evergreen("ls", "--home", home)
    assert "Not in the ledger, though the folder is here: small" in " ".join(listed.stderr.split())
    shown = evergreen("show", "small", "--home", home)
    assert shown.exit_code == 2
    assert f"`evergreen resume small --home {home}` enters it again" in " ".join(shown.stderr.split())


def test_a_run_of_a_study_that_the_ledger_lacks_too_is_entered_again_by_its_study(
    home: Path, evergreen: Evergreen
) -> None:
    own = identity.read(home / "small")
    assert own is not None
    identity.write(home / "small", dataclasses.replace(own, member=MemberRecord("puzzles", "plain", {})))
    replace_by_another_homes(home)
    advice = f"`evergreen study FILE --home {home}` enters it again, with its study puzzles"
    for words in (["ls"], ["show", "small"], ["doctor"], ["fork", "small", "--stage", "1"]):
        result = evergreen(*words, "--home", home)
        assert advice in " ".join(f"{result.stdout} {result.stderr}".split()), words
    assert "`evergreen study FILE" in evergreen("resume", "small", "--home", home).stderr


@pytest.mark.slow
def test_every_verb_reads_a_record_with_gaps_and_says_so(
    finished: Path, home: Path, evergreen: Evergreen, tmp_path: Path
) -> None:
    delete(home)
    orchestrator.resume("small", home=home)
    orchestrator.run(small("other"), ["learner.lr=0.001"], home=home)
    lost = f"lacks steps 1 to 5 and boundaries 0 to 1, {LOST}"

    def said(*words: object) -> str:
        result = evergreen(*words, "--home", home)
        assert result.exit_code == 0, result.output
        return " ".join(result.stdout.split())

    assert lost in said("show", "small")
    assert not re.search("digest [0-9a-f]{64}", said("show", "small"))
    said("show", "small", "--events")
    said("ls")
    said("report", "small", "-o", tmp_path / "report.html")
    assert lost in (tmp_path / "report.html").read_text()
    assert lost in said("compare", "small", "other")
    assert lost in said("diff", "small", "other")
    assert "which is not all that was done" in said("diff", "small", "small"), "and no word of a digest"
    assert f"small: the record {lost}" in said("export", "small", "other", tmp_path / "export")
    assert f"Run small: the record {lost}" in (tmp_path / "export" / "DICTIONARY.md").read_text()
    assert list(json.loads((tmp_path / "export" / "dictionary.json").read_text())["missing"]) == ["small"]
    said("weights", "small", tmp_path / "weights")
