"""A policy whose logits are not finite any more: named at its step, never saved, never met by `resume` twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.measurements.aftermath import Aftermath
from orchestrator.measurements.contracts import Findings
from orchestrator.recording import recorder
from orchestrator.rollout.player import Player
from orchestrator.runs.catalog import opened
from orchestrator.runs.removal import plan, remove
from policies.errors import NonFiniteLogits
from policies.optimizer import Optimizer
from policies.samplers.testing import random_policy
from store.records import DIVERGENCE, EventRecord
from tests.conftest import Evergreen
from tests.integration.runs import ending, series, told
from tests.orchestrator.specs import alone

EVERY_STEP = ["checkpoint.every_steps=1", "learner.updates=1"]  # six steps, two stages


class Heard(Callback):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def event(self, texts: Sequence[str]) -> None:
        """Note them."""
        self.texts += texts


def poison(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    """Let this update of a run break a weight, in every process that comes to it."""
    real = Optimizer.step

    def step(self: Optimizer, *args: Any) -> tuple[float, bool]:
        done = real(self, *args)
        if self.num_updates == update:
            with torch.no_grad():
                next(iter(self.weights.values())).view(-1)[0] = float("nan")
        return done

    monkeypatch.setattr(Optimizer, "step", step)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without a fault."""
    home = tmp_path_factory.mktemp("healthy")
    orchestrator.run(alone(), EVERY_STEP, home=home)
    return home


def saved(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "alone" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("update", "step", "stage", "newest", "more"),
    [
        (4, 4, 1, 3, []),  # found when the checkpoint of step 4 is to be made
        (4, 5, 1, 3, ["checkpoint.every_steps=0"]),  # found when step 5 is played
        (4, 5, 1, 3, ["checkpoint.every_steps=0", "sampler.ahead=1"]),  # found by the update, which reads entropies
        # played by a copy, one step later
        (4, 6, 1, 3, ["checkpoint.every_steps=0", "sampler.ahead=1", "objective=rloo"]),
        (3, 3, 0, 2, []),  # found by the evaluation after stage 1
        (1, 1, 0, 0, []),
    ],
)
def test_it_stops_resumable_and_names_the_way_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    update: int,
    step: int,
    stage: int,
    newest: int,
    more: list[str],
) -> None:
    poison(monkeypatch, update)
    heard = Heard()
    outcome = orchestrator.run(alone(), [*EVERY_STEP, *more], home=tmp_path, watcher=heard)
    assert (outcome.status, outcome.exit_code) == ("stopped", 75)
    assert outcome.reason == f"the policy diverged at step {step}"
    (text,) = [text for text in heard.texts if "diverged" in text]
    assert text.startswith(f"the policy diverged at step {step}: ")
    assert f"`evergreen fork alone --stage {stage} --set learner.lr=0.0003`" in text
    assert f"takes the checkpoint of step {newest}," in text
    (event,) = [event for event in told(tmp_path, "alone")["events"] if event["kind"] == "diverged"]
    assert (event["text"], event["data"]) == (text, {"version": update})


def test_what_was_found_and_where_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 4)
    heard = Heard()
    orchestrator.run(alone(), [*EVERY_STEP, "checkpoint.every_steps=0"], home=tmp_path, watcher=heard)
    assert "non-finite logits in 4 of 4 rows that were played, first at token 1 of an answer" in heard.texts[-1]


def test_resume_says_that_the_same_is_to_be_expected_and_ends_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 4)
    for resumed in (False, True, True):
        heard = Heard()
        begin: Any = orchestrator.resume if resumed else orchestrator.run
        outcome = begin("alone", home=tmp_path, watcher=heard) if resumed else begin(alone(), EVERY_STEP, tmp_path)
        assert (outcome.exit_code, outcome.reason) == (75, "the policy diverged at step 4")
        assert any("diverged at step 4 the last time" in text for text in heard.texts) == resumed
        assert saved(tmp_path)[-1] == "step-000003-boundary-002", "no checkpoint of broken weights"


def test_a_run_whose_cause_is_gone_goes_on_as_if_nothing_had_been(tmp_path: Path, healthy: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        poison(monkeypatch, 5)
        assert orchestrator.run(alone(), EVERY_STEP, home=tmp_path).status == "stopped"
    assert orchestrator.resume("alone", home=tmp_path).status == "finished"
    assert ending(tmp_path, "alone") == ending(healthy, "alone")


def test_a_checkpoint_of_broken_weights_is_passed_over_once_they_are_known(tmp_path: Path, healthy: Path) -> None:
    """As an earlier version may have written it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        poison(monkeypatch, 5)
        monkeypatch.setattr(recorder, "require_healthy", lambda policy: None)
        orchestrator.run(alone(), EVERY_STEP, home=tmp_path, until_step=5)
    assert saved(tmp_path)[-1] == "step-000005-boundary-002"
    assert orchestrator.resume("alone", home=tmp_path).reason == "the policy diverged at step 6"
    heard = Heard()
    assert orchestrator.resume("alone", home=tmp_path, watcher=heard).status == "finished"
    assert any("step 5 is not used: the logits of its weights are not finite" in text for text in heard.texts)
    assert any("resumed from the checkpoint of step 4" in text for text in heard.texts)
    assert ending(tmp_path, "alone") == ending(healthy, "alone")


def test_nothing_else_takes_weights_that_diverged(tmp_path: Path, evergreen: Evergreen) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        poison(monkeypatch, 5)
        monkeypatch.setattr(recorder, "require_healthy", lambda policy: None)
        orchestrator.run(alone(), EVERY_STEP, home=tmp_path, until_step=5)
    assert orchestrator.resume("alone", home=tmp_path).reason == "the policy diverged at step 6"
    evergreen("weights", "alone", tmp_path / "copy", "--home", tmp_path)
    (good,) = (tmp_path / "alone/checkpoints/step-000004-boundary-002").rglob("model.safetensors")
    assert (tmp_path / "copy/model.safetensors").read_bytes() == good.read_bytes()
    listed = json.loads(evergreen("doctor", "alone", "--home", tmp_path, "--json").stdout)
    incident, checkpoint = (one for one in listed if one["severity"] == "error")
    assert "`evergreen fork alone --stage 1 --set learner.lr=0.0003`" in incident["text"]
    assert checkpoint["text"] == "the checkpoint of step 5: the logits of its weights are not finite"
    assert checkpoint["remedy"] == "`evergreen resume alone` passes it over and takes that of step 4"


def test_no_fork_begins_with_weights_that_diverged(tmp_path: Path, healthy: Path) -> None:
    home = shutil.copytree(healthy, tmp_path / "home")
    with opened(home, "alone") as (_, ledger):
        ledger.record_event(ledger.open_run("alone"), 4, EventRecord(DIVERGENCE, "it diverged", {"version": 2}))
    with pytest.raises(UserError, match=r"after stage 1 alone had diverged \(.* not finite\): take an earlier"):
        orchestrator.fork("alone", 1, home=home, overrides=["name=other"])
    assert orchestrator.fork("alone", 0, home=home, overrides=["name=other"], until_step=1).status == "stopped"


def test_a_checkpoint_that_the_run_went_back_behind_does_not_come_back(tmp_path: Path, healthy: Path) -> None:
    """Its row goes, and the event that says why: only its place still tells that no run is to go on from it."""
    aside = "step-000005-boundary-002.diverged"
    begin: Any = partial(orchestrator.run, alone(), EVERY_STEP)
    for _ in range(2):
        with pytest.MonkeyPatch.context() as monkeypatch:
            poison(monkeypatch, 5)
            monkeypatch.setattr(recorder, "require_healthy", lambda policy: None)
            begin(home=tmp_path, until_step=5)
        begin = partial(orchestrator.resume, "alone")
        assert begin(home=tmp_path).reason == "the policy diverged at step 6"
        heard = Heard()
        assert begin(home=tmp_path, until_step=4, watcher=heard).reason == "--until-step 4"
        assert f"what diverged is kept aside, and no resume takes it: {aside}" in heard.texts
        assert saved(tmp_path)[-2:] == ["step-000004-boundary-002", aside], "the same again is kept once"
    heard = Heard()
    assert begin(home=tmp_path, watcher=heard).status == "finished"
    assert any("resumed from the checkpoint of step 4" in text for text in heard.texts)
    assert len(series(tmp_path, "alone", "lr")) == 6
    assert ending(tmp_path, "alone") == ending(healthy, "alone")
    removed = plan(tmp_path, ["alone"])
    remove(removed.home, removed.runs[0])
    assert not (tmp_path / "alone").exists(), "what was put aside is ours"


def test_what_an_intervention_broke_is_told_of_once_and_costs_no_fork_its_progress(tmp_path: Path) -> None:
    """The evaluation that finds it is at the step of the boundary, whose checkpoint is healthy."""
    broken = {"type": "shrink_perturb", "keep": 1.0, "noise": 1e38, "when": {"after": [1]}}
    spec = alone(character="noisy")
    spec["curriculum"]["boundary"] = {"interventions": [broken]}
    heard = Heard()
    assert orchestrator.run(spec, EVERY_STEP, tmp_path, watcher=heard).reason == "the policy diverged at step 3"
    command = "evergreen fork alone --stage 1 --set 'curriculum.boundary.interventions=[]'"
    assert f"`{command}` goes on without interventions" in heard.texts[-1]
    assert "takes the checkpoint of step 3, the newest" in heard.texts[-1]
    assert "through the same interventions again" in heard.texts[-1]
    changes = ["name=mended", "curriculum.boundary.interventions=[]"]
    orchestrator.fork("alone", 1, home=tmp_path, overrides=changes, until_step=4)
    assert orchestrator.resume("alone", home=tmp_path, watcher=heard).reason == "the policy diverged at step 3"
    assert any("the same interventions follow" in text and "interventions=[]" in text for text in heard.texts)
    heard = Heard()
    orchestrator.resume("mended", home=tmp_path, watcher=heard)
    assert any("resumed from the checkpoint of step 4" in text for text in heard.texts)
    assert not any("diverged" in text for text in heard.texts)


def test_a_run_forgets_what_was_wrong_after_an_intervention_once_it_has_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Aftermath, player: Player, *args: Any) -> Findings:
        raise NonFiniteLogits("a fault of the machine", player.policy.version)

    spec = alone(character="noisy")
    spec["curriculum"]["boundary"] = {"interventions": [{"type": "shrink_perturb", "noise": 1e-3}]}
    with monkeypatch.context() as patched:
        patched.setattr(Aftermath, "run", fails)
        assert orchestrator.run(spec, EVERY_STEP, tmp_path).reason == "the policy diverged at step 3"
    orchestrator.resume("alone", home=tmp_path, until_step=4)
    heard = Heard()
    assert orchestrator.resume("alone", home=tmp_path, watcher=heard).status == "finished"
    assert any("resumed from the checkpoint of step 4" in text for text in heard.texts)
    assert not any(name.endswith(".diverged") for name in saved(tmp_path))


def test_where_no_healthy_checkpoint_is_left_the_run_does_not_begin_anew(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        poison(monkeypatch, 5)
        monkeypatch.setattr(recorder, "require_healthy", lambda policy: None)
        orchestrator.run(alone(), EVERY_STEP, home=tmp_path, until_step=5)
    orchestrator.resume("alone", home=tmp_path)
    with opened(tmp_path, "alone") as (_, ledger):
        for record in ledger.reading.checkpoints("alone")[1:]:
            (tmp_path / "alone" / record.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="no checkpoint left from before its policy diverged: begin a new run"):
        orchestrator.resume("alone", home=tmp_path)
    assert told(tmp_path, "alone")["num_steps"] == 5


def test_a_policy_that_never_gave_finite_logits_is_the_users_mistake(tmp_path: Path) -> None:
    policy = random_policy()
    with torch.no_grad():
        policy.model.lm_head.weight[0] = float("inf")
    policy.save(tmp_path / "model")
    with pytest.raises(UserError, match=r"diverged at step 0: non-finite logits .* before its first step"):
        orchestrator.run({**alone(), "policy": str(tmp_path / "model")}, home=tmp_path)
    assert told(tmp_path, "alone")["status"] == "failed"
