from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from orchestrator.measurements.probe_options import ProbeOptions
from orchestrator.measurements.trainability import PROTOCOL, Probe
from policies.plasticity.copy_fit import ordinary_tokens
from policies.samplers.testing import random_policy


def test_linear_probes_that_subtracted_another_chance_are_of_another_protocol() -> None:
    assert PROTOCOL == {"supervised": 1, "rl": 1, "random_labels": 1, "linear": 2}


def test_the_protocol_tells_how_many_classes_of_random_labels_there_are() -> None:
    """As many as asked for, and no more than tokens to name them."""
    player: Any = SimpleNamespace(policy=random_policy())
    num = len(ordinary_tokens(player.policy))
    learner = SimpleNamespace(passes=SimpleNamespace(micro_tokens=64))
    around: Any = SimpleNamespace(learner=learner, evaluation=SimpleNamespace(lengths={}))
    for asked, there in ((num - 1, num - 1), (num + 1, num)):
        options = ProbeOptions.model_validate({"kind": "random_labels", "lr": 1e-3, "classes": asked})
        protocol = Probe(options, around).protocol(player)
        assert (protocol["classes"], protocol["chance"]) == (there, math.log(there))
