"""However often and wherever a run is interrupted: what it does and what it becomes stay the same, bit for bit."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.progress import Progress
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from orchestrator.spec import load_spec
from policies.policy import Policy
from policies.samplers.testing import random_policy
from store import checkpoints, identity
from store.ledger import Ledger
from store.lock import request_stop
from tests.integration.runs import At, Killed, component, ending, kill, series, told
from tests.orchestrator.specs import alone, flat, small
from tests.shares import share

# Of the 16 moments of a life (4 boundaries, 3 stages, 9 steps): before the first checkpoint, on both sides of periodic
# ones (after a stage's second step) and of those at boundaries, in every stage, and before the last.
MOMENTS = [1, 2, 3, 5, 6, 9, 14, 16]
# Where a score is found, in this process or another, makes no difference to a run either, only to its time.
HERE = "scoring.isolation=none"
SPECS = {"small": small(objective="repo_r"), "flat": flat(objective="repo")}


def test_every_kind_of_state_moves_in_the_runs_compared_here(finished: Path) -> None:
    """Otherwise the other tests of this file would prove little."""
    for name in SPECS:
        story = told(finished, name)
        assert len(set(series(finished, name, "coefficient"))) > 2, "the controller moved"
        assert len(set(series(finished, name, "entropy_reading"))) == 9
        moved = [arm["probability_max"] - arm["probability_min"] for arm in story["arms"]]
        assert sum(change > 0.02 for change in moved) >= 3, "the bandits moved"
        assert story["matrices"]["entropy_token"]["0"] != story["matrices"]["entropy_token"]["3"]
        assert component(finished, name, "policy") == {"version": 9}
        assert component(finished, name, "optimizer", "optimizer.json") == {"num_updates": 18}
        tasks = component(finished, name, "tasks")
        assert tasks["noise/hard"]["position"] > 0
    story = told(finished, "small")
    assert {stage["environment"] for stage in story["stages"]} == {"numbers", "book", "noise"}
    assert any(row["role"] == "replay" for row in story["allocation"])
    assert component(finished, "small", "tasks")["book/2"]["epoch"] > 0, "a finite category began again"


@pytest.mark.parametrize(("name", "overrides"), share([("small", []), ("flat", [HERE])], 1))
def test_a_run_stopped_after_every_step_equals_the_uninterrupted_one(
    finished: Path, name: str, overrides: list[str]
) -> None:
    outcome = run(SPECS[name], overrides, home=finished, until_step=1)
    for step in range(2, 10):
        assert (outcome.status, outcome.exit_code) == ("stopped", 75)
        outcome = resume(outcome.name, home=finished, until_step=step)
    assert resume(outcome.name, home=finished).status == "finished"
    assert ending(finished, outcome.name) == ending(finished, name)


@pytest.mark.slow
def test_a_run_stopped_at_every_boundary_equals_the_uninterrupted_one(finished: Path) -> None:
    def stop() -> At:
        return At(1, lambda: request_stop(finished / "bounded"), ["boundary"])

    outcome = run(SPECS["small"], ["name=bounded", HERE], home=finished, watcher=stop())
    for _ in range(3):
        assert outcome.reason == "asked to stop"
        outcome = resume("bounded", home=finished, watcher=stop())
    assert outcome.status == "finished", "after the last boundary there is nothing to stop"
    assert ending(finished, "bounded") == ending(finished, "small")


@pytest.mark.parametrize("moment", share(MOMENTS, 1))
def test_a_run_killed_at_any_moment_equals_the_uninterrupted_one(finished: Path, moment: int) -> None:
    name = f"killed-{moment}"
    with pytest.raises(Killed):
        run(SPECS["small"], [f"name={name}", HERE], home=finished, watcher=At(moment, kill))
    assert told(finished, name)["status"] == "killed"
    assert resume(name, home=finished).status == "finished"
    assert ending(finished, name) == ending(finished, "small")


# The second has a test of its own in test_recovery.py.
@pytest.mark.parametrize(("owner", "method"), share([(Policy, "save"), (Ledger, "record_checkpoint")], 1))
def test_a_run_killed_while_a_checkpoint_is_written_equals_the_uninterrupted_one(
    finished: Path, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    real, calls = getattr(owner, method), []

    def third_time_killed(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        real(*args, **kwargs)

    name = f"torn-{method}".replace("_", "-")
    with monkeypatch.context() as patched:
        patched.setattr(owner, method, third_time_killed)
        with pytest.raises(Killed):
            run(SPECS["small"], [f"name={name}", HERE], home=finished)
    assert resume(name, home=finished).status == "finished"
    assert ending(finished, name) == ending(finished, "small")
    assert not [path for path in (finished / name / "checkpoints").iterdir() if not path.name.startswith("step-")]


@pytest.mark.slow
def test_a_checkpoint_written_beside_the_run_holds_the_moment_it_was_begun_at(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, steps, moved = checkpoints.save, list[int](), list[str]()

    class Counting(Callback):
        def step(self, at: Progress, record: object) -> None:
            steps.append(at.step)

    def late(folder: Path, name: str, components: Any) -> Any:
        """Write once the next step is over, unless the run waits for this."""
        begun, deadline = int(name.split("-")[1]), time.monotonic() + 1
        while max(steps, default=0) == begun and time.monotonic() < deadline:
            time.sleep(0.01)
        if max(steps, default=0) > begun:
            moved.append(name)
        return save(folder, name, components)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", late)
        run(SPECS["small"], ["name=late", HERE], home=finished, watcher=Counting())
    assert moved
    run(SPECS["small"], ["name=waiting", "checkpoint.background=false", HERE], home=finished)
    assert ending(finished, "late") == ending(finished, "small") == ending(finished, "waiting")
    assert manifests(finished / "late") == manifests(finished / "small") == manifests(finished / "waiting")


def manifests(folder: Path) -> dict[str, bytes]:
    found = sorted(folder.glob(f"{checkpoints.FOLDER}/*/{checkpoints.MANIFEST}"))
    assert len(found) >= 3
    return {path.parent.name: path.read_bytes() for path in found}


def test_what_keeps_a_checkpoint_from_being_written_beside_the_run_ends_the_run(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, threads = checkpoints.save, []

    def refused(folder: Path, name: str, components: Any) -> Any:
        if "boundary-002" not in name:
            return save(folder, name, components)
        threads.append(threading.current_thread())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", refused)
        outcome = run(SPECS["small"], ["name=no-room", HERE], home=finished)
    assert outcome.exit_code == 75
    assert "No space left" in str(outcome.reason)
    assert threads
    assert threads[0] is not threading.main_thread()
    assert resume("no-room", home=finished).status == "finished"
    assert ending(finished, "no-room") == ending(finished, "small")


def test_whoever_kills_a_run_does_not_wait_for_its_checkpoint_and_who_resumes_it_here_does(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, killed_at, waited = checkpoints.save, list[float](), list[bool]()
    may_end = threading.Event()

    class Killing(Callback):
        def step(self, at: Progress, record: object) -> None:
            if at.step == 1:
                killed_at.append(time.monotonic())
                raise KeyboardInterrupt

    def slow(folder: Path, name: str, components: Any) -> Any:
        assert may_end.wait(60)
        return save(folder, name, components)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", slow)
        with pytest.raises(KeyboardInterrupt):
            run(SPECS["small"], ["name=in-a-hurry", HERE], home=finished, watcher=Killing())
    assert time.monotonic() - killed_at[0] < 5
    threading.Timer(1, may_end.set).start()
    watcher = At(1, lambda: waited.append(may_end.is_set()))
    assert resume("in-a-hurry", home=finished, watcher=watcher).status == "finished"
    assert waited == [True], "two write into one folder"
    assert ending(finished, "in-a-hurry") == ending(finished, "small")


@pytest.mark.slow
def test_older_boundaries_may_keep_weights_only(finished: Path) -> None:
    outcome = run(SPECS["small"], ["name=thin", "checkpoint.boundaries=weights", HERE], home=finished)
    assert ending(finished, "thin") == ending(finished, "small")
    boundaries = sorted(path for path in (outcome.folder / checkpoints.FOLDER).iterdir() if is_boundary(path))
    assert [checkpoints.is_thin(path) for path in boundaries] == [False, True, False, False], "none at the start"
    heard = Listening()
    assert fork("thin", 1, overrides=["name=thin-fork"], home=finished, watcher=heard).status == "finished"
    assert any(text.startswith("begins anew: the optimiser, whose state") for text in heard.texts)
    assert ending(finished, "thin-fork") != ending(finished, "small")
    assert fork("thin", 2, overrides=["name=whole-fork"], home=finished).status == "finished"
    with pytest.raises(UserError, match="it was forked after stage 2: `evergreen fork thin --stage 1`"):
        fork("whole-fork", 1, home=finished)
    assert ending(finished, "whole-fork") == ending(finished, "small")


@pytest.mark.parametrize("interventions", [[], ["reset_optimizer"]])
def test_older_boundaries_may_go(finished: Path, interventions: list[str]) -> None:
    name = f"few-{len(interventions)}"
    changed = [f"name={name}", "checkpoint.boundaries=none", f"curriculum.boundary.interventions={interventions}", HERE]
    folder = run(SPECS["small"], changed, home=finished).folder / checkpoints.FOLDER
    places = sorted({int(path.name.split("-")[3]) for path in folder.iterdir() if is_boundary(path)})
    assert places == ([1] if interventions else []) + [3, 4], "the first may be read by interventions"
    with pytest.raises(UserError, match=r"no checkpoint of the boundary after stage 1; there are: (0, )?2, 3$"):
        fork(name, 1, home=finished)
    if not interventions:
        assert ending(finished, name) == ending(finished, "small")


def is_boundary(folder: Path) -> bool:
    at = json.loads((folder / "progress" / checkpoints.STATE).read_text())
    return bool(at["num_boundaries"] > at["stage"])


def test_a_run_with_nothing_else_left_goes_on_from_weights_only_and_says_so(finished: Path) -> None:
    outcome = run(SPECS["small"], ["name=bare", HERE], home=finished, until_step=5)
    for path in (outcome.folder / checkpoints.FOLDER).iterdir():
        checkpoints.thin(path)
    heard = Listening()
    assert resume("bare", home=finished, watcher=heard).status == "finished"
    assert any("so this is not bit for bit what went on from there" in text for text in heard.texts)


def test_without_the_newest_checkpoints_files_resume_says_so_and_takes_the_one_before(finished: Path) -> None:
    outcome = run(SPECS["small"], ["name=damaged", HERE], home=finished, until_step=5)
    newest = outcome.folder / "checkpoints" / "step-000005-boundary-002"
    (newest / "optimizer" / "optimizer.safetensors").unlink()
    heard = Listening()
    resume("damaged", home=finished, watcher=heard)
    assert any("step 5 is not used" in text and "optimizer.safetensors is missing" in text for text in heard.texts)
    assert "resumed from the checkpoint of step 3, with the spec the run began with" in heard.texts
    assert ending(finished, "damaged") == ending(finished, "small")


class Listening(Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def event(self, texts: Any) -> None:
        self.texts += texts


def test_a_stop_during_the_warm_start_is_heeded_and_the_run_begins_at_step_0(finished: Path, tmp_path: Path) -> None:
    class Impatient(Callback):
        def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
            request_stop(tmp_path / "small")

    stopped = run(small(objective="repo_r"), home=tmp_path, watcher=Impatient())
    assert (stopped.status, stopped.reason) == ("stopped", "asked to stop")
    assert resume("small", home=tmp_path).status == "finished"
    assert ending(tmp_path, "small") == ending(finished, "small")


def test_a_resumed_run_says_what_is_another_now_of_the_model_that_its_spec_names(tmp_path: Path) -> None:
    """A checkpoint has the weights; configuration and tokenizer are read where they were."""
    place = tmp_path / "model"
    random_policy().save(place)
    policy = {"model": str(place), "adapter": {"rank": 2}}
    run({**alone(), "policy": policy}, home=tmp_path / "home", until_step=1)

    def said() -> list[str]:
        resume("alone", home=tmp_path / "home", until_step=2)
        return [one["text"] for one in told(tmp_path / "home", "alone")["events"] if one["kind"] == "not bitwise"]

    assert said() == []
    template = place / "chat_template.jinja"
    template.write_text("Be brief. " + template.read_text())
    (text,) = said()
    assert text.startswith("the policy's tokenizer was ")
    assert text.endswith(": the run goes on, but not bit for bit as it would have")
    fork("alone", 0, overrides=["name=forked"], home=tmp_path / "home", until_step=1)
    (text,) = [one["text"] for one in told(tmp_path / "home", "forked")["events"] if one["kind"] == "not bitwise"]
    assert text.startswith("the policy's tokenizer was ")


def test_resuming_a_finished_run_changes_nothing(finished: Path) -> None:
    before, files = told(finished, "small"), _files(finished / "small")
    outcome = resume("small", home=finished)
    assert (outcome.status, outcome.exit_code) == ("finished", 0)
    assert (told(finished, "small"), _files(finished / "small")) == (before, files)


def test_what_is_set_of_a_finished_run_stays_and_is_nobodys_edit(finished: Path) -> None:
    folder = run(alone(), [HERE], home=finished).folder
    heard = Listening()
    for more in ({"overrides": ["checkpoint.keep=5"]}, {}, {"stages": 3}):
        assert resume("alone", home=finished, watcher=heard, **more).status == "finished"
        assert load_spec(folder / "spec.yaml").checkpoint.keep == 5
        with opened(finished) as (_, ledger):
            assert ledger.reading.spec("alone")["checkpoint"]["keep"] == 5
        kept = identity.read(folder)
        assert kept is not None
        assert kept.spec["checkpoint"]["keep"] == 5
    assert not [text for text in heard.texts if "edited" in text]
    assert not (folder / "spec.edited.yaml").exists()


def test_a_stop_while_a_run_is_begun_taken_up_or_forked_is_heeded_and_an_earlier_one_is_not(tmp_path: Path) -> None:
    class Asking(Callback):
        def begin(self, name: str, folder: str) -> None:
            request_stop(Path(folder))

    asked = [run(alone(), home=tmp_path, watcher=Asking())]
    assert resume("alone", home=tmp_path, until_step=4).reason == "--until-step 4"
    request_stop(tmp_path / "alone")  # as of a process that was killed before it heard
    assert resume("alone", home=tmp_path, until_step=5).reason == "--until-step 5"
    asked += [resume("alone", home=tmp_path, watcher=Asking()), fork("alone", 1, home=tmp_path, watcher=Asking())]
    assert [outcome.reason for outcome in asked] == ["asked to stop"] * 3
    assert [told(tmp_path, outcome.name)["num_steps"] for outcome in asked[1:]] == [5, 3]


def _files(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}


def test_the_checkpoint_of_a_boundary_stays_one_when_a_resumed_run_stops_at_once(tmp_path: Path) -> None:
    outcome = run(alone(), home=tmp_path, watcher=At(2, lambda: request_stop(tmp_path / "alone"), ["boundary"]))
    assert outcome.reason == "asked to stop"
    again = resume("alone", home=tmp_path, until_step=3)
    assert again.status == "stopped"
    with opened(tmp_path) as (_, ledger):
        newest = ledger.reading.checkpoints("alone")[0]
    assert (newest.step, newest.num_boundaries, newest.kind) == (3, 2, "boundary")


def test_only_as_many_periodic_checkpoints_are_kept_as_the_spec_says(tmp_path: Path) -> None:
    spec = alone(steps=6, stages=1, size=20) | {"checkpoint": {"every_steps": 1, "keep": 2}}
    outcome = run(spec, home=tmp_path)
    kept = sorted(path.name[:11] for path in (outcome.folder / "checkpoints").iterdir())
    assert kept == ["step-000000", "step-000004", "step-000005", "step-000006"]
    with opened(tmp_path) as (_, ledger):
        assert sorted(r.step for r in ledger.reading.checkpoints("alone")) == [0, 4, 5, 6]


@pytest.mark.parametrize(("part", "stay"), share([("controllers", "keep"), ("optimizer", "carry")], 1))
def test_what_the_spec_resets_at_a_boundary_begins_anew(tmp_path: Path, part: str, stay: str) -> None:
    numbers: dict[str, tuple[float | None, ...]] = {}
    for choice in (stay, "reset"):
        spec = alone(choice, character="noisy", steps=2)
        spec["curriculum"]["boundary"] = {part: choice}
        spec["learner"] = {"lr": 0.003, "warmup": 2}
        spec["objective"] = {
            "preset": "repo_r",
            "controller": {"target": 3.0},
        }  # far off: it moves every step
        run(spec, home=tmp_path)
        third = (series(tmp_path, choice, metric)[2] for metric in ("lr", "coefficient"))
        numbers[choice] = tuple(third)
    assert numbers[stay][0] == 0.003
    assert numbers[stay][1] != 0.001
    assert numbers["reset"] == ((0.003, 0.001) if part == "controllers" else (0.0015, numbers[stay][1]))


def test_rescaled_controllers_keep_their_coefficient_and_read_fractions_of_the_entropy_at_the_boundary(
    tmp_path: Path,
) -> None:
    for choice in ("keep", "rescale"):
        spec = alone(choice, character="noisy", steps=2)
        spec["curriculum"]["boundary"] = {"controllers": choice}
        spec["learner"] = {"lr": 0.03, "warmup": 2}
        spec["objective"] = {"preset": "repo_r", "controller": {"target": 3.0}}
        run(spec, home=tmp_path)
    kept, rescaled = (series(tmp_path, choice, "coefficient") for choice in ("keep", "rescale"))
    assert rescaled == kept, "the target is far off on both scales"
    at_boundary = told(tmp_path, "rescale")["matrices"]["entropy_token"]["1"]["one"]
    entropy, reading = (series(tmp_path, "rescale", name)[2] for name in ("entropy_token", "entropy_reading"))
    assert entropy is not None
    assert reading == pytest.approx(entropy / at_boundary)
    assert reading != pytest.approx(series(tmp_path, "keep", "entropy_reading")[2])


def test_what_earlier_versions_called_carried_controllers_is_kept() -> None:
    spec = alone()
    spec["curriculum"]["boundary"] = {"controllers": "carry"}
    assert load_spec(spec).curriculum.boundary.controllers == "keep"


@pytest.mark.parametrize("entropy", share(["surprisal_iw", "surprisal"], 1))
def test_entropy_read_from_the_tokens_drawn_is_controlled_and_resumed(tmp_path: Path, entropy: str) -> None:
    spec = alone("whole", character="noisy", steps=3) | {
        "objective": {
            "preset": "repo_r",
            "entropy": entropy,
            "controller": {"target_in": "initial", "target_readings": 2},
        },
    }
    run(spec, home=tmp_path)
    found, exact = (series(tmp_path, "whole", name) for name in ("entropy_reading_nats", "entropy_token"))
    assert found[0] == pytest.approx(exact[0], rel=0.5)
    assert found[0] != exact[0]
    outcome = run(spec | {"name": "parted"}, home=tmp_path, until_step=3)
    assert resume(outcome.name, home=tmp_path).status == "finished"
    assert ending(tmp_path, "parted") == ending(tmp_path, "whole")
