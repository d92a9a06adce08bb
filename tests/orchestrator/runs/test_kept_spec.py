"""The spec a run began with, and those that go on from it."""

from __future__ import annotations

from orchestrator.runs.kept_spec import outside_study
from orchestrator.spec import load_spec
from tests.orchestrator.specs import alone


def test_a_fork_of_a_run_of_a_study_is_in_no_experiment_of_it() -> None:
    member = load_spec(alone() | {"tracker": {"type": "mlflow", "experiment": "two_objectives"}})
    assert outside_study(member, "two_objectives").tracker.experiment == "evergreen"
    assert outside_study(member, None).tracker.experiment == "two_objectives", "its own name for it"
    own = load_spec(alone() | {"tracker": {"type": "mlflow", "experiment": "mine"}})
    assert outside_study(own, "two_objectives") == own
