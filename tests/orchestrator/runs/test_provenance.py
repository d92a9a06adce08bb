from __future__ import annotations

from orchestrator.runs.provenance import LIGER, describe_host, differences
from orchestrator.spec import load_spec
from tests.orchestrator.specs import small


def test_versions_of_kernels_count_where_a_policy_computes_with_them() -> None:
    spec = small()
    plain = describe_host(load_spec(spec))
    spec["policy"]["kernels"] = "liger"
    fused = describe_host(load_spec(spec))
    assert fused.keys() - plain.keys() == set(LIGER)
    said = differences({**fused, "liger-kernel": "0.1"}, {**fused, "liger-kernel": "0.2"})
    assert said == ["liger-kernel was 0.1, is 0.2"]
