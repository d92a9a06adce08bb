"""Baselines: a run's twin, the same in everything but the bandit, so that the bandit's part can be seen."""

from __future__ import annotations

from orchestrator.spec import Spec, load_spec


def twin_of(spec: Spec) -> Spec:
    """Write the spec of a run's twin: another bandit, which reads its signal the same way; no twin of its own."""
    assert spec.baseline is not None
    raw = spec.model_dump(mode="json", by_alias=True)
    bandit = raw["curriculum"]["bandit"]
    signal = {key: bandit[key] for key in ("signal", "signal_reward") if key in bandit}
    raw["curriculum"]["bandit"] = {"type": spec.baseline, **signal}
    return load_spec({**raw, "name": f"{spec.name}-{spec.baseline}", "baseline": None})
