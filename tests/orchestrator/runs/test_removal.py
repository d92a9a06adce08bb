"""rm: what goes, what stays, what is refused, and removals that are killed in between."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.errors import UserError
from orchestrator.runs import removal
from orchestrator.runs.catalog import opened
from orchestrator.runs.provenance import RunRelations
from orchestrator.runs.ranks import START
from store import identity
from store.errors import TrackerError
from store.ledger import Ledger, ledger
from store.lock import run_lock
from store.records import MemberRecord, StudyRecord
from store.tracker import outlets
from store.tracker.daemon import TrackerJob
from tests.conftest import Evergreen
from tests.integration.runs import ending
from tests.orchestrator.specs import alone
from tests.shares import share


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A home with the finished runs `small` and `flat` alone, to delete in."""
    copy = tmp_path / "home"
    copy.mkdir()
    for path in finished.glob("evergreen.db*"):
        shutil.copy(path, copy)
    for name in ("small", "flat"):
        shutil.copytree(finished / name, copy / name)
    with opened(copy) as (_, ledger):
        for run in reversed(ledger.reading.runs()):
            if run.name not in ("small", "flat"):
                ledger.remove_run(run.uid)
    return copy


def names(home: Path) -> list[str]:
    with opened(home) as (_, ledger):
        return [run.name for run in ledger.reading.runs()]


def rm(evergreen: Evergreen, home: Path, *words: str) -> str:
    result = evergreen("rm", *words, "--yes", "--home", home)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_run_goes_with_folder_and_rows_and_the_others_stay(home: Path, evergreen: Evergreen) -> None:
    before = ending(home, "flat")
    said = rm(evergreen, home, "small")
    assert said.splitlines()[-1] == "removed small"
    assert not (home / "small").exists()
    assert names(home) == ["flat"]
    assert ending(home, "flat") == before
    assert "there is no run and no study 'small'" in evergreen("rm", "small", "--home", home).stderr
    assert orchestrator.run(alone("small", stages=1), home=home).name == "small", "its name is free again"


def test_looking_and_not_being_asked_remove_nothing(home: Path, evergreen: Evergreen) -> None:
    looked = evergreen("rm", "small", "--dry-run", "--home", home)
    assert looked.exit_code == 0
    assert "small  " in looked.stdout
    assert " rows in the ledger" in looked.stdout
    asked = evergreen("rm", "small", "--home", home)
    assert asked.exit_code == 2
    assert "say --yes" in asked.stderr
    assert names(home) == ["small", "flat"]
    assert (home / "small" / "spec.yaml").is_file()


def test_what_evergreen_did_not_write_stays_and_is_named(home: Path, evergreen: Evergreen) -> None:
    folder = home / "small"
    checkpoint, other = sorted((folder / "checkpoints").iterdir())[:2]
    (other / "manifest.json").write_text("damaged")  # it is Evergreen's all the same, and goes
    (folder / "linked").symlink_to(home / "flat")
    (folder / outlets.LINK).write_text("{}")  # Evergreen's too
    left = folder / f"{START}abc" / "policy" / "model.safetensors"  # of a run of several ranks that was killed
    left.parent.mkdir(parents=True)
    left.touch()
    mine = [folder / "notes.txt", folder / "checkpoints" / "mine" / "a.bin", checkpoint / "weights" / "merged.bin"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    said = rm(evergreen, home, "small")
    assert "its folder stays, with what is not Evergreen's: checkpoints/mine/a.bin, " in said
    assert "linked" in said
    (folder / "linked").unlink()
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(mine)
    assert evergreen("ls", "--home", home).stderr == "", "it is no run any more"
    assert "there is no run" in evergreen("resume", "small", "--home", home).stderr


def test_a_folder_that_is_no_runs_is_none_and_one_that_never_began_goes(home: Path, evergreen: Evergreen) -> None:
    for name in ("mine", "begun"):
        (home / name).mkdir()
        (home / name / "lock").touch()
    (home / "mine" / "notes.txt").touch()
    result = evergreen("rm", "mine", "--yes", "--home", home)
    assert result.exit_code == 2
    assert "there is no run and no study 'mine'" in result.stderr
    rm(evergreen, home, "begun")
    assert {path.name for path in home.iterdir() if path.is_dir()} == {"small", "flat", "mine"}


@pytest.mark.parametrize("beside", [[], ["rewards.py"]])
def test_a_spec_of_the_users_is_no_run(home: Path, evergreen: Evergreen, beside: list[str]) -> None:
    """Where somebody's curricula and runs are in one folder."""
    for name in ("spec.yaml", *beside):
        (home / "mine").mkdir(exist_ok=True)
        (home / "mine" / name).write_text("name: mine")
    result = evergreen("rm", "mine", "--yes", "--home", home)
    assert result.exit_code == 2
    assert "there is no run and no study 'mine'" in result.stderr
    assert (home / "mine" / "spec.yaml").read_text() == "name: mine"


def test_a_record_that_cannot_be_reached_keeps_the_run_unless_it_is_left(
    home: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = home / "small" / "spec.yaml"
    spec.write_text(yaml.safe_dump({**yaml.safe_load(spec.read_text()), "tracker": {"type": "mlflow"}}))
    asked = []

    def forget(job: TrackerJob, uid: str | None) -> list[str]:
        asked.append((job.run, uid))
        if uid is not None:
            raise TrackerError("Nobody answers there.")
        return []

    monkeypatch.setattr(removal.daemon, "forget", forget)
    with opened(home) as (_, ledger):
        uid = ledger.reading.run("small").uid
    result = evergreen("rm", "small", "--yes", "--home", home)
    assert result.exit_code == 2
    assert "What the tracker has of small goes too." in result.stdout
    assert "Nobody answers there. small stays as it is. Say --keep-mlflow to leave" in result.stderr
    assert names(home) == ["small", "flat"]
    assert not identity.is_half_removed(home / "small")
    rm(evergreen, home, "small", "--keep-mlflow")
    assert asked == [("small", uid), ("small", None)]
    assert names(home) == ["flat"]


def test_a_run_in_use_is_refused(home: Path, evergreen: Evergreen) -> None:
    with run_lock(home / "small"):
        result = evergreen("rm", "flat", "small", "--yes", "--home", home)
    assert result.exit_code == 2
    assert "nothing was removed:\nsmall is in use by process" in result.stderr
    assert names(home) == ["small", "flat"]


@pytest.mark.parametrize("lost", ["rows", "folder"])
def test_a_run_of_which_only_half_is_there_goes(home: Path, evergreen: Evergreen, lost: str) -> None:
    if lost == "rows":
        for path in home.glob("evergreen.db*"):
            path.unlink()
    else:
        shutil.rmtree(home / "small")
    rm(evergreen, home, "small")
    assert not (home / "small").exists()
    assert (home / "flat").exists()
    if lost == "folder":
        assert names(home) == ["flat"]


def test_a_run_with_forks_or_a_baseline_is_refused_unless_they_go_too(tmp_path: Path, evergreen: Evergreen) -> None:
    """Also where a lost ledger leaves it to the folders to tell."""
    orchestrator.run(alone(stages=2), home=tmp_path)
    orchestrator.fork("alone", 1, home=tmp_path, overrides=["name=child"])
    orchestrator.run(alone("twin", stages=1), home=tmp_path, relations=RunRelations(baseline_of="alone"))
    parts = [removal.plan(tmp_path, [name]).num_bytes for name in ("twin", "child")]
    assert removal.plan(tmp_path, ["alone", "child", "twin"]).num_bytes > sum(parts), "what two share goes with both"
    for _ in ("known", "lost"):
        refused = evergreen("rm", "alone", "--yes", "--home", tmp_path).stderr
        assert "alone has forks, child: name them too, or keep it" in refused
        assert "alone has a baseline, twin: name it too, or keep both" in refused
        for path in tmp_path.glob("evergreen.db*"):
            path.unlink()
    rm(evergreen, tmp_path, "alone", "child", "twin")
    assert not [path.name for path in tmp_path.iterdir() if path.name in ("alone", "child", "twin")]


@pytest.mark.slow
def test_a_run_of_a_study_is_refused_and_the_study_goes_with_all_its_runs(tmp_path: Path, evergreen: Evergreen) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'evergreen.db'}") as ledger:
        ledger.start_study(StudyRecord("trial", {"settings": [], "seeds": []}))
    for name in ("trial.a.s0", "trial.b.s0"):
        relations = RunRelations(member=MemberRecord("trial", name, {}))
        orchestrator.run(alone(stages=1), home=tmp_path, relations=relations, name=name)
    orchestrator.run(alone("other", stages=1), home=tmp_path)
    logs = tmp_path / "studies" / "trial" / "logs"
    logs.mkdir(parents=True)
    (logs / "trial.a.s0.txt").write_text("printed")
    refused = evergreen("rm", "trial.a.s0", "--yes", "--home", tmp_path)
    assert refused.exit_code == 2
    assert f"study trial, which would be without it; `evergreen rm trial --home {tmp_path}` removes" in refused.stderr
    identity.begin_removal(tmp_path / "trial.a.s0", None)
    rm(evergreen, tmp_path, "trial.a.s0")  # what was begun is finished
    assert names(tmp_path) == ["trial.b.s0", "other"]
    assert "removed the study trial" in rm(evergreen, tmp_path, "trial")
    assert names(tmp_path) == ["other"]
    assert not (tmp_path / "studies" / "trial").exists()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"other", "studies"}


def test_a_study_with_runs_elsewhere_is_refused_and_says_which(tmp_path: Path, evergreen: Evergreen) -> None:
    """A ledger that several homes share knows runs whose folders are in another one."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with Ledger.open(url) as ledger:
        ledger.start_study(StudyRecord("trial", {"settings": [], "seeds": []}))
    for name in ("trial.a.s0", "trial.b.s0"):
        relations = RunRelations(member=MemberRecord("trial", name, {}))
        spec = {**alone(stages=1), "ledger": {"url": url}}
        orchestrator.run(spec, home=tmp_path / "home", relations=relations, name=name)
    (tmp_path / "home" / "trial.b.s0").rename(tmp_path / "trial.b.s0")
    refused = evergreen("rm", "trial", "--yes", "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "the study trial has runs whose folders are not here, trial.b.s0: remove it from" in refused.stderr
    assert "evergreen rm trial" not in refused.stderr
    with Ledger.open(url) as ledger:
        assert len(ledger.reading.runs()) == 2


def test_another_run_of_its_name_in_the_ledger_is_not_taken_for_it(home: Path, evergreen: Evergreen) -> None:
    shutil.copy(home / "flat" / "run.json", home / "small" / "run.json")
    result = evergreen("rm", "small", "--yes", "--home", home)
    assert result.exit_code == 2
    assert "has a run 'small', but another one than the folder" in result.stderr
    assert names(home) == ["small", "flat"]


def test_the_copy_of_a_folder_goes_alone(home: Path, evergreen: Evergreen) -> None:
    """Its run.json names the run that it is a copy of, whose rows and record are not the copy's."""
    shutil.copytree(home / "small", home / "small-copy")
    before = ending(home, "small")
    said = rm(evergreen, home, "small-copy")
    assert "no rows in the ledger" in said
    assert "MLflow" not in said
    assert not (home / "small-copy").exists()
    assert names(home) == ["small", "flat"]
    assert ending(home, "small") == before


def test_what_happened_since_it_was_planned_keeps_a_run(tmp_path: Path) -> None:
    """Somebody may think for a while before saying yes."""
    orchestrator.run(alone(stages=2), home=tmp_path)
    plan = removal.plan(tmp_path, ["alone"])
    orchestrator.fork("alone", 1, home=tmp_path, overrides=["name=child"])
    with pytest.raises(UserError, match="alone stays: child came from it meanwhile"):
        removal.remove(plan.home, plan.runs[0])
    both = removal.plan(tmp_path, ["alone", "child"])
    for run in both.runs:
        removal.remove(both.home, run)
    orchestrator.run(alone(stages=1), home=tmp_path)
    with pytest.raises(UserError, match="alone is another run by now, and stays"):
        removal.remove(plan.home, plan.runs[0])
    assert names(tmp_path) == ["alone"]
    assert (tmp_path / "alone" / "spec.yaml").is_file()


# --- killed in between ---


def _killing(call: Callable[..., Any], number: int = 1, before: bool = False) -> Callable[..., Any]:
    """Kill this process at a call, before or after it."""
    left = number

    def deadly(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        done = call(*args, **options)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return deadly


MOMENTS: dict[str, tuple[Any, str, dict[str, Any]]] = {  # (of what, which call, when); what is left then
    "marked": (identity, "begin_removal", {}),
    "inside the transaction": (ledger, "remove", {}),
    "without its rows": (Ledger, "remove_run", {}),
    "without some files": (Path, "unlink", {"number": 20}),
    "without its files": (removal, "_remove_if_empty", {"number": 1, "before": True}),
    "an empty folder": (removal, "_remove_if_empty", {"number": 10_000}),
}


@pytest.mark.parametrize("moment", share(MOMENTS, 3))
def test_a_removal_that_was_killed_is_named_by_ls_and_finished_by_the_next(
    home: Path, evergreen: Evergreen, moment: str
) -> None:
    place, name, when = MOMENTS[moment]
    num_folders = sum(1 for path in (home / "small").rglob("*") if path.is_dir())
    if (child := os.fork()) == 0:
        number = min(when.get("number", 1), num_folders + 1)
        setattr(place, name, _killing(getattr(place, name), number, when.get("before", moment == "an empty folder")))
        removal.remove(removal.Home(home), removal.plan(home, ["small"]).runs[0])
        os._exit(1)
    _, ended = os.waitpid(child, 0)
    assert os.WTERMSIG(ended) == signal.SIGKILL
    has_rows = moment in ("marked", "inside the transaction")
    assert names(home) == [*(["small"] if has_rows else []), "flat"]

    listed = evergreen("ls", "--home", home)
    if moment != "an empty folder":
        assert listed.stderr == f"Half removed: small; `evergreen rm RUN --home {home}` removes the rest.\n"
        refused = evergreen("resume", "small", "--home", home)
        assert refused.exit_code == 2
        assert f"small is half removed: `evergreen rm small --home {home}` removes the rest" in refused.stderr
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [
        ["flat", "finished"],
        *([["small", "removing"]] if has_rows else []),
    ]
    rm(evergreen, home, "small")
    assert not (home / "small").exists()
    assert names(home) == ["flat"]
