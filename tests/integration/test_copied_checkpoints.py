"""A run whose checkpoints are copied elsewhere goes on from there, on a machine that has nothing of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.errors import SpecError, UserError
from orchestrator.spec import load_spec
from store import checkpoints
from store.checkpoint_copies import CopyPlace
from store.errors import HomeError
from store.ledger import Ledger
from tests.integration.runs import At, Killed, ending, kill, newest_checkpoint, told
from tests.orchestrator.specs import FAKE, small


def copied(to: Path) -> dict[str, Any]:
    given = small("words")
    return {**given, "checkpoint": {**given.get("checkpoint", {}), "every_steps": 2, "copy_to": f"file://{to}"}}


def test_a_machine_is_lost_and_the_run_ends_elsewhere_as_it_would_have(tmp_path: Path) -> None:
    whole, lost, new = tmp_path / "whole", tmp_path / "lost", tmp_path / "new"
    assert orchestrator.run(copied(tmp_path / "first"), home=whole).status == "finished"
    here = sorted(one.name for one in (whole / "words" / "checkpoints").iterdir())
    assert sorted(one.name for one in (tmp_path / "first" / "words" / "checkpoints").iterdir()) == here

    with pytest.raises(Killed):
        orchestrator.run(copied(tmp_path / "there"), home=lost, watcher=At(6, kill, ["step"]))
    shutil.rmtree(lost)
    copy = f"file://{tmp_path / 'there'}"
    assert orchestrator.resume("words", home=new, copy=copy).status == "finished"
    weights = [newest_checkpoint(home, "words") / "weights" / "model.safetensors" for home in (whole, new)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert any("lost" in event["text"] for event in told(new, "words")["events"]), "what the ledger lacks is told"


def test_where_a_folder_is_gone_resume_says_from_where_it_can_be_had(tmp_path: Path) -> None:
    copy = f"file://{tmp_path / 'there'}"
    assert orchestrator.run(copied(tmp_path / "there"), home=tmp_path / "home", until_step=4).status == "stopped"
    shutil.rmtree(tmp_path / "home" / "words")
    with pytest.raises(UserError, match=f"copied to {copy}: `evergreen resume words --from {copy}` fetches them"):
        orchestrator.resume("words", home=tmp_path / "home")
    with pytest.raises(UserError, match="there is no run 'others' in"):
        orchestrator.resume("others", home=tmp_path / "home")
    assert orchestrator.resume("words", home=tmp_path / "home", copy=copy).status == "finished"


def test_a_checkpoint_that_is_made_again_is_copied_again(tmp_path: Path) -> None:
    assert orchestrator.run(copied(tmp_path), home=tmp_path / "home", until_step=4).status == "stopped"
    newest = newest_checkpoint(tmp_path / "home", "words")
    copy = tmp_path / "words" / "checkpoints" / newest.name
    for one in (newest, copy):
        (one / "weights" / "model.safetensors").write_bytes(b"of another course")
    assert orchestrator.resume("words", home=tmp_path / "home", until_step=4).status == "stopped"
    assert newest_checkpoint(tmp_path / "home", "words") == newest
    checkpoints.verify(copy, checkpoints.describe(newest.parent.parent, newest.name).sha256)


@pytest.mark.parametrize("damage", ["weights", "all"])
def test_what_is_damaged_here_is_put_back_from_its_copy(tmp_path: Path, damage: str) -> None:
    """A run that went on behind it would have its copies deleted, the only good ones."""
    assert orchestrator.run(copied(tmp_path / "other"), home=tmp_path / "whole").status == "finished"
    home = tmp_path / "home"
    assert orchestrator.run(copied(tmp_path / "there"), home=home, until_step=5).status == "stopped"
    newest = newest_checkpoint(home, "words")
    if damage == "all":
        shutil.rmtree(newest.parent)
    else:
        for one in newest.parent.iterdir():
            (one / "weights" / "model.safetensors").write_bytes(b"damaged by a disk")
    assert orchestrator.resume("words", home=home).status == "finished"
    texts = [event["text"] for event in told(home, "words")["events"]]
    (text,) = [one for one in texts if "is back from its copy" in one]
    assert "of step 5" in text
    assert ending(home, "words") == ending(tmp_path / "whole", "words")


def test_a_copy_that_cannot_be_looked_at_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: CopyPlace, path: str) -> bool:
        raise PermissionError("403 Forbidden")

    home, there = tmp_path / "home", tmp_path / "there"
    assert orchestrator.run(copied(there), home=home, until_step=3).status == "stopped"
    newest = newest_checkpoint(home, "words")
    (newest / "weights" / "model.safetensors").write_bytes(b"damaged by a disk")
    with monkeypatch.context() as patched:
        patched.setattr(CopyPlace, "exists", refuse)
        with pytest.raises(UserError, match=r"step 3 is not whole .* 403 Forbidden. Make that place reachable"):
            orchestrator.resume("words", home=home)
    checkpoints.verify(there / "words" / "checkpoints" / newest.name)
    assert orchestrator.resume("words", home=home).status == "finished"


def test_an_empty_place_is_not_taken_for_one_without_a_copy(tmp_path: Path) -> None:
    """Its disk may be away: the run would go on behind the damage, and have the copy deleted once that is back."""
    home, there = tmp_path / "home", tmp_path / "there"
    assert orchestrator.run(copied(there), home=home, until_step=3).status == "stopped"
    newest = newest_checkpoint(home, "words")
    (newest / "weights" / "model.safetensors").write_bytes(b"damaged by a disk")
    there.rename(tmp_path / "away")
    there.mkdir()
    with pytest.raises(UserError, match=r"nothing of words is there. Make that place reachable"):
        orchestrator.resume("words", home=home)
    elsewhere = [f"checkpoint.copy_to=file://{tmp_path / 'new'}"]
    with pytest.raises(UserError, match="nothing of words is there"):
        orchestrator.resume("words", overrides=elsewhere, home=home)
    assert orchestrator.resume("words", overrides=["checkpoint.copy_to=null"], home=home, until_step=4).reason
    assert orchestrator.resume("words", overrides=elsewhere, home=home).status == "finished"
    checkpoints.verify(tmp_path / "away" / "words" / "checkpoints" / newest.name)


def test_a_fork_that_an_environment_joins_is_copied_with_it(finished: Path, tmp_path: Path) -> None:
    """Its first checkpoint is its parent's, and replaced under the same name."""
    joining = f"environments.maze={{type: {FAKE}, in_process: true, categories: [easy]}}"
    outcome = orchestrator.fork(
        "small",
        2,
        home=finished,
        overrides=["name=copied", joining, f"checkpoint.copy_to=file://{tmp_path}"],
    )
    here, there = (folder / "checkpoints" for folder in (outcome.folder, tmp_path / "copied"))
    for one in here.iterdir():
        checkpoints.verify(there / one.name, checkpoints.describe(outcome.folder, one.name).sha256)


def test_a_run_is_not_copied_onto_itself(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="is the run's own folder: name one on another disk"):
        orchestrator.run(copied(tmp_path), home=tmp_path)
    overrides = [f"checkpoint.copy_to=file://{tmp_path / 'there'}"]
    assert orchestrator.resume("words", overrides=overrides, home=tmp_path).status == "finished"


@pytest.mark.parametrize(("url", "said"), [("s3://bucket/runs", "Install s3fs"), ("dbfs://place/runs", ".*'token'")])
def test_a_driver_that_is_missing_is_told_before_there_is_a_run(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(HomeError, match=rf"checkpoint\.copy_to: {url}: {said}"):
        orchestrator.run(small("words", checkpoint={"copy_to": url}), home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_relative_place_is_refused_before_there_is_a_run_and_a_run_that_has_one_can_leave_it(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="file://backup is relative, and later commands run in other folders"):
        orchestrator.run(small("words", checkpoint={"copy_to": "file://backup"}), home=tmp_path / "home")
    assert not (tmp_path / "home").exists()
    home = tmp_path / "old"
    orchestrator.run(small("words"), home=home, until_step=2)
    spec = yaml.safe_load((home / "words" / "spec.yaml").read_text())
    spec["checkpoint"]["copy_to"] = "file://backup"  # as versions took it that did not ask
    with Ledger.open(f"sqlite:///{home / 'evergreen.db'}") as ledger:
        ledger.set_spec(ledger.open_run("words"), load_spec(spec).kept())
    with pytest.raises(HomeError, match="file://backup is relative"):
        orchestrator.resume("words", home=home)
    with pytest.raises(HomeError, match="file://backup is relative"):
        orchestrator.fork("words", 0, home=home)
    assert not (home / "words-fork").exists()
    assert (
        orchestrator.resume("words", overrides=["checkpoint.copy_to=null"], home=home, until_step=3).status == "stopped"
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/backup", "a URL is wanted"),
        ("memory://place", "what memory:// holds ends with the run"),
        ("nowhere://place", "fsspec knows no nowhere://"),
        ("ftp://me:secret@host/runs", "no login stands in this URL"),
        ("ftp://me:it's@host/runs", "no login stands in this URL"),
    ],
)
def test_a_place_that_is_none_is_refused_when_the_spec_is_loaded(url: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_spec(small("words", checkpoint={"copy_to": url}))
