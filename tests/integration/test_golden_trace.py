"""The algorithm is what it was; `golden_trace.py` tells how to change it on purpose."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.golden_trace import FILE, FLOATS, trace

DISCRETE = ("picks", "tasks", "num_tokens")


def test_ten_steps_are_those_of_the_golden_trace() -> None:
    """Exactly on the same versions, threads and kind of processor; elsewhere closely, until a sample differs."""
    golden, now = json.loads(FILE.read_text()), trace()
    if golden["host"] == now["host"]:
        assert now["steps"] == golden["steps"]
        return
    assert len(now["steps"]) == len(golden["steps"])
    num_alike = next((i for i, pair in enumerate(_pairs(golden, now)) if not _are_alike(*pair)), 10)
    assert num_alike >= 1, "already the first step picks other arms, draws other tasks or writes other answers"
    for before, after in _pairs(golden, now)[:num_alike]:
        for name in ("scores", "probabilities", "signals", *FLOATS):
            assert _flat(after[name]) == pytest.approx(_flat(before[name]), rel=1e-3, abs=1e-5), name


def test_the_trace_holds_what_it_is_for() -> None:
    """Ten steps, replay and several arms among them, with losses, entropies and signals that differ."""
    steps = json.loads(FILE.read_text())["steps"]
    assert len(steps) == 10
    assert len({pick for step in steps for pick in step["picks"]}) >= 4
    assert any(pick.startswith("replay") for step in steps for pick in step["picks"])
    assert all(len({step[name] for step in steps}) > 3 for name in ("loss", "entropy_token", "advantage_abs"))


def _pairs(golden: Any, now: Any) -> list[tuple[Any, Any]]:
    return list(zip(golden["steps"], now["steps"], strict=True))


def _are_alike(before: Any, after: Any) -> bool:
    return all(before[name] == after[name] for name in DISCRETE)


def _flat(value: Any) -> list[float]:
    return [number for part in value for number in _flat(part)] if isinstance(value, list) else [value]
