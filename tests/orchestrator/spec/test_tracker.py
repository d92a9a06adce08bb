"""The section `tracker`: who keeps a record of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.errors import SpecError, UserError
from orchestrator.runs import tracker_process
from orchestrator.runs.tracker_process import job_of
from orchestrator.spec import load_spec
from store.home import Home
from store.tracker.daemon import TrackerJob
from store.tracker.sinks import Destination
from tests.orchestrator.specs import alone


def job(tracker: Any, home: Path) -> TrackerJob | None:
    return job_of(load_spec({**alone(), "tracker": tracker}).model_dump(mode="json"), Home(home), "a")


def test_each_alone_or_several_beside_each_other(tmp_path: Path) -> None:
    both = job({"type": "mlflow", "also": ["wandb", "tensorboard"], "experiment": "words"}, tmp_path)
    assert both is not None
    assert both.target is not None
    assert both.also == tuple(Destination(kind, str(tmp_path), "words") for kind in ("wandb", "tensorboard"))
    assert TrackerJob.from_json(both.as_json()) == both
    only = job("tensorboard", tmp_path)
    assert only is not None
    assert only.target is None
    assert [to.kind for to in only.also] == ["tensorboard"]
    assert TrackerJob.from_json(only.as_json()) == only
    last = job({"type": "wandb", "also": ["mlflow"]}, tmp_path)
    assert last is not None
    assert last.target is not None
    plain = job("mlflow", tmp_path)
    assert plain is not None
    assert plain.also == ()
    assert job("none", tmp_path) is None


@pytest.mark.parametrize(
    ("tracker", "said"),
    [
        ({"type": "none", "also": ["wandb"]}, "nothing is tracked beside `none`: say `type: wandb`"),
        ({"also": ["mlflow"]}, "mlflow is named twice"),
        ({"type": "wandb", "uri": "http://h:1"}, "uri: this is MLflow's, and wandb does not read it"),
        ({"also": ["comet"]}, "not 'comet'"),
        (
            {"also": ["wandb"], "experiment": "team/puzzles"},
            r"tracker: experiment: the name of a W&B project .* 'team/puzzles' has /; the team is WANDB_ENTITY's: name",
        ),
        ({"type": "wandb", "experiment": "a:b?"}, r"'a:b\?' has \? :: name another"),
        ({"type": "wandb", "experiment": "a" * 129}, "has 128 characters at most, not 129"),
        *(
            ({"uri": uri}, f"not '{uri[:7]}")
            for uri in ("http://[::1:5000", "http://h:99999", "https://", "http://h:x")
        ),
    ],
)
def test_what_cannot_be_is_refused(tracker: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_spec({**alone(), "tracker": tracker})


def test_a_name_that_only_a_project_of_wandb_cannot_have_is_an_experiment_of_mlflow(tmp_path: Path) -> None:
    found = job({"experiment": "team/puzzles"}, tmp_path)
    assert found is not None
    assert found.target is not None
    assert found.target.experiment == "team/puzzles"
    with pytest.raises(SpecError, match=r"tracker: experiment: the name of a W&B project"):
        load_spec({**alone(), "tracker": {"also": ["wandb"]}}, ["tracker.experiment=team/puzzles"])


@pytest.mark.parametrize("uri", ["http://[::1]:5000", "https://me:a%2Fb@host/path", "databricks", "http://me:***@h"])
def test_servers_are_named_by_host_and_port(uri: str) -> None:
    assert load_spec({**alone(), "tracker": {"uri": uri}}).tracker.uri == uri


def test_a_run_whose_tracker_is_not_installed_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_process, "missing", lambda kind: f"the package {kind} is not here")
    with pytest.raises(UserError, match="tracker: the package wandb is not here"):
        orchestrator.run({**alone(), "tracker": {"also": ["wandb"]}}, home=tmp_path)
    assert not (tmp_path / "alone").exists()
