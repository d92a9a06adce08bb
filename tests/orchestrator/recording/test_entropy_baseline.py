"""The entropy at the start is the evaluation's only where training reads the same thing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.curriculum import Curriculum
from orchestrator.measurements.contracts import Findings
from orchestrator.runs.assembly import entropy_source
from orchestrator.spec import load_spec
from policies.objectives import MixCorrectedEntropy
from tests.orchestrator.specs import small


@pytest.mark.parametrize(
    ("is_plain", "reads", "sampler", "is_taken"),
    [
        (True, "sampler", "exact", True),
        (True, "sampler", "top_20", True),
        (True, "surprisal", "sampled", True),
        (True, "surprisal", "exact", True),
        (True, "surprisal", "top_20", False),
        (False, "sampler", "exact", False),
    ],
)
def test_only_one_estimator_compares_with_itself(is_plain: bool, reads: str, sampler: str, is_taken: bool) -> None:
    entropy = MixCorrectedEntropy()
    parts = SimpleNamespace(
        entropy=entropy,
        sampler=SimpleNamespace(entropy=sampler),
        spec=SimpleNamespace(
            objective=SimpleNamespace(entropy=reads),
            sampler=SimpleNamespace(sampling=SimpleNamespace(is_plain=is_plain)),
        ),
    )
    curriculum = Curriculum(parts, recorder=None, progress=None)  # type: ignore[arg-type]
    curriculum._set_entropy_baseline(Findings({}, [], entropies={"env/a": 2.0}))
    found = entropy.observe({"env/a": (1.0, 1)})
    assert found is not None
    assert found.fraction == (0.5 if is_taken else 1.0)


@pytest.mark.parametrize(
    ("reads", "sampler", "estimate"),
    [
        ("sampler", "exact", "whole"),
        ("sampler", "sampled", "whole"),
        ("sampler", "top_20", "top_20"),
        ("surprisal", "top_20", "whole"),
    ],
)
def test_entropies_compare_where_their_means_estimate_the_same(reads: str, sampler: str, estimate: str) -> None:
    spec = load_spec(small(objective={"preset": "repo", "entropy": reads}, sampler={"temperature": 0.5}))
    distribution = {"temperature": 0.5, "top_p": 1.0, "top_k": 0, "greedy": False}
    assert entropy_source(spec, sampler) == {**distribution, "estimate": estimate}
