"""However often and wherever a run is interrupted: what it does and what it becomes stay the same, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.callbacks import Callback
from orchestrator.runs.api import resume, run
from orchestrator.runs.catalog import opened
from orchestrator.spec import load_spec
from policies.policy import Policy
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

    def third_time_killed(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        real(*args)

    name = f"torn-{method}".replace("_", "-")
    with monkeypatch.context() as patched:
        patched.setattr(owner, method, third_time_killed)
        with pytest.raises(Killed):
            run(SPECS["small"], [f"name={name}", HERE], home=finished)
    assert resume(name, home=finished).status == "finished"
    assert ending(finished, name) == ending(finished, "small")
    assert not [path for path in (finished / name / "checkpoints").iterdir() if not path.name.startswith("step-")]


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


def test_resuming_a_finished_run_changes_nothing(finished: Path) -> None:
    before, files = told(finished, "small"), _files(finished / "small")
    outcome = resume("small", home=finished)
    assert (outcome.status, outcome.exit_code) == ("finished", 0)
    assert (told(finished, "small"), _files(finished / "small")) == (before, files)


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
