"""What `measure: gradients` records, of groups as the evaluation leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.measurements.contracts import Findings
from orchestrator.measurements.gradient_reading import Gradients
from orchestrator.measurements.gradients import Config
from orchestrator.played_group import Group
from orchestrator.progress import Progress
from orchestrator.stopwatch import Stopwatch
from policies.samplers.testing import random_policy
from tests.orchestrator.rollout.episodes import group

SPREAD: list[list[float | None]] = [[1.0, 0.0, 1.0, 0.0]] * 4


def measurement(**played: Sequence[Sequence[float | None]]) -> Gradients:
    """The measurement after an evaluation of environments with these values, of which all have 50 tasks."""
    groups: list[Group] = [group(values, name) for name, own in played.items() for values in own]
    held_out: Mapping[str, Any] = {"anchor": {name: {"3": [None] * 50} for name in played}}
    section = SimpleNamespace(samples=4)
    passes = SimpleNamespace(micro_tokens=256, recomputes=False)
    around: Any = SimpleNamespace(
        spec=SimpleNamespace(evaluate=section, objective=SimpleNamespace(reward="value")),
        environments={name: SimpleNamespace(closed=False) for name in played},
        held_out=held_out,
        evaluation=SimpleNamespace(played=groups, lengths=dict.fromkeys(played, 1.0)),
        learner=SimpleNamespace(policy=random_policy(), passes=passes),
    )
    return Gradients(Config(), around)


def looked(measured: Any) -> Findings:
    found: Findings = measured.run(None, Progress(1, 1), Stopwatch(), lambda *told: None)
    return found


def test_how_many_environments_have_a_gradient_stands_beside_what_their_number_bounds() -> None:
    found = looked(measurement(one=SPREAD, two=SPREAD, solved=[[1.0] * 4] * 4))
    assert {row.metric: row.value for row in found.network} == {
        "gradient_environments": 2,
        "gradient_diversity_erank": pytest.approx(1),
    }
    cosines = {(cell.environment, cell.metric): cell.value for cell in found.cells if cell.metric[:7] == "cosine_"}
    assert cosines["one", "cosine_two"] == cosines["two", "cosine_one"] == pytest.approx(1)
    assert cosines["one", "cosine_solved"] is cosines["solved", "cosine_two"] is None
    alone = looked(measurement(one=SPREAD, solved=[[1.0] * 4]))
    assert [(row.metric, row.value) for row in alone.network] == [("gradient_environments", 1)]


def test_environments_that_join_at_a_fork_say_nothing_of_all() -> None:
    """The boundary has its number of all environments from the run that was forked."""
    found = looked(measurement(one=SPREAD, two=SPREAD).of(["one", "two"]))
    assert not found.network
    assert {"cosine_two", "gradient_norm"} <= {cell.metric for cell in found.cells if cell.environment == "one"}


def test_passes_are_those_that_were_made() -> None:
    measured = measurement(one=SPREAD, two=[*SPREAD[:1], *[[1.0] * 4] * 3])
    assert measured.passes == 3 * 4 * 100, "planned, at most"
    looked(measured)
    assert measured.passes == 3 * 4 * 5
