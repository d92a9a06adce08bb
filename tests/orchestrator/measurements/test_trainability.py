from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.measurements.probe_options import ProbeOptions
from orchestrator.measurements.trainability import PROTOCOL, Probe
from policies.plasticity.copy_fit import ordinary_tokens
from policies.samplers.testing import random_policy


def test_linear_probes_that_subtracted_another_chance_are_of_another_protocol() -> None:
    assert PROTOCOL == {"supervised": 1, "rl": 1, "random_labels": 1, "linear": 2}


def around_a_probe() -> Any:
    learner = SimpleNamespace(passes=SimpleNamespace(micro_tokens=64))
    return SimpleNamespace(learner=learner, evaluation=SimpleNamespace(lengths={}))


@pytest.mark.parametrize(
    ("kind", "steps", "looks"),
    [
        ("random_labels", 22, [0, 2, 12, 22]),
        ("random_labels", 20, [0, 10, 20]),
        ("supervised", 22, [0, 10, 20, 22]),
    ],
)
def test_the_last_look_of_random_labels_is_of_as_many_steps_as_are_between_looks(
    kind: str, steps: int, looks: list[int]
) -> None:
    options = ProbeOptions.model_validate({"kind": kind, "lr": 1e-3, "steps": steps, "eval_every": 10})
    assert options.looks == looks
    protocol = Probe(options, around_a_probe()).protocol(SimpleNamespace(policy=random_policy()))  # type: ignore[arg-type]
    assert ("looks" in protocol) == (looks == [0, 2, 12, 22]), "those of earlier versions were others"


def test_the_protocol_tells_how_many_classes_of_random_labels_there_are() -> None:
    """As many as asked for, and no more than tokens to name them."""
    player: Any = SimpleNamespace(policy=random_policy())
    num = len(ordinary_tokens(player.policy))
    for asked, there in ((num - 1, num - 1), (num + 1, num)):
        options = ProbeOptions.model_validate({"kind": "random_labels", "lr": 1e-3, "classes": asked})
        protocol = Probe(options, around_a_probe()).protocol(player)
        assert (protocol["classes"], protocol["chance"]) == (there, math.log(there))
