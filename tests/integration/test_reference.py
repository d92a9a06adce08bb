"""Runs that compare with a frozen reference policy: it is in the checkpoint, and a resumed run goes on bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.runs.api import resume, run
from tests.integration.runs import ending, newest_checkpoint, series
from tests.orchestrator.specs import alone


def anchored(name: str, reference: str) -> dict[str, object]:
    """A run whose policy is held to a reference, two updates a step so that it leaves it."""
    objective = {"preset": "rloo", "kl": 0.3, "reference": reference}
    return {**alone(name, steps=2, stages=2, character="noisy"), "objective": objective}


def weights(home: Path, name: str, component: str) -> bytes:
    """The newest checkpoint's weights, or those of its reference."""
    newest = newest_checkpoint(home, name)
    return (newest / component / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["stage", "start"])
def test_a_run_with_a_reference_stopped_after_every_step_equals_the_uninterrupted_one(
    tmp_path: Path, reference: str
) -> None:
    run(anchored("whole", reference), home=tmp_path)
    run(anchored("cut", reference), home=tmp_path, until_step=1)
    for step in range(2, 5):
        resume("cut", home=tmp_path, until_step=step)
    assert resume("cut", home=tmp_path).status == "finished"
    assert ending(tmp_path, "cut") == ending(tmp_path, "whole")
    assert weights(tmp_path, "cut", "reference") == weights(tmp_path, "whole", "reference")
    assert len(set(series(tmp_path, "whole", "kl_ref"))) > 1


def test_the_reference_is_that_of_the_stage_or_of_the_run(tmp_path: Path) -> None:
    """After the last boundary a stage's reference is the policy itself; the run's is where both runs began."""
    for reference in ("start", "stage"):
        run(anchored(reference, reference), home=tmp_path)
    assert weights(tmp_path, "stage", "reference") == weights(tmp_path, "stage", "weights")
    run(anchored("begun", "start"), home=tmp_path, until_step=1)
    assert weights(tmp_path, "start", "reference") == weights(tmp_path, "begun", "reference")
    assert weights(tmp_path, "start", "reference") != weights(tmp_path, "start", "weights")


def test_a_run_without_a_reference_has_no_such_component(tmp_path: Path) -> None:
    run({**alone("free"), "objective": "rloo"}, home=tmp_path)
    with pytest.raises(FileNotFoundError):
        weights(tmp_path, "free", "reference")
