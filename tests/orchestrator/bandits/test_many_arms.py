"""The state of very many arms: arrays from the bandit to the file and back, and nothing by arm in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback
from orchestrator.choosing import choice as choosing
from orchestrator.choosing.choice import make_choice
from orchestrator.spec.sections import CurriculumSection
from store import checkpoints, long_values
from store.checkpoints import json_component

NUM_ARMS = 120
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "fixed": [{"others": 1.0}],
    "tscl": [{}, {"slope": "window"}],
    "change_point": [{"detector": "cusum"}, {"detector": "m_ucb"}, {"detector": "glr", "rule": "sliding_window_ucb"}],
    "sec": [{"gate": "progress", "stale_after": 3, "warm_step": True}],
}
EVERY = [(one.name, options) for one in registry.listing("bandits") for options in OPTIONS.get(one.name, [{}])]


def played(name: str, options: dict[str, Any], seed: int = 0, num_steps: int = 6) -> Bandit:
    """A bandit after some steps in which about every arm was seen."""
    arms = [f"node {k % 7}/arm {k:03}" for k in range(NUM_ARMS)]
    config = registry.config_class("bandits", name)(**options)
    made: Bandit = registry.create("bandits", config, arms=arms, rng=np.random.default_rng(seed))
    made.introduce({arm: ArmInfo(10, {"node_0": k % 3, "level": k % 5}) for k, arm in enumerate(arms)}, num_steps=100)
    rng = np.random.default_rng(1)
    for _ in range(num_steps):
        places = np.arange(NUM_ARMS)
        picks = made.enter(places, np.full(NUM_ARMS, 1 / NUM_ARMS))
        made.learn(
            [Feedback(pick, float(r) / 2, 1, float(r)) for pick, r in zip(picks, rng.random(NUM_ARMS), strict=True)]
        )
    return made


def by_arm(data: Any, at: str = "") -> list[str]:
    """Where a state has a dict or a list of numbers with an entry for each arm, or for most.

    The last thousand rewards of `graves` are as many with few arms.
    """
    if at.startswith("/rewards/"):
        return []
    if isinstance(data, dict | list):
        if len(data) > NUM_ARMS // 2 and not (isinstance(data, list) and set(map(type, data)) == {str}):
            return [at]
        pairs = data.items() if isinstance(data, dict) else enumerate(data)
        return [found for key, one in pairs for found in by_arm(one, f"{at}/{key}")]
    return []


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_the_state_of_many_arms_has_arrays_and_no_numbers_by_arm(name: str, options: dict[str, Any]) -> None:
    bandit, copy = played(name, options), played(name, options, seed=5, num_steps=0)
    expected = bandit.state()
    bandit.as_arrays = True
    state = bandit.state()
    assert by_arm(expected)
    assert by_arm(state) == []
    copy.load_state(state)
    assert json.dumps(copy.state()) == json.dumps(expected), "to the last bit"
    assert copy.pick(8) == bandit.pick(8)


@pytest.mark.parametrize("mode", ["flat", "staged"])
def test_a_checkpoint_of_many_arms_is_written_and_read_as_arrays(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MANY_ARMS", 2 * NUM_ARMS - 1)  # of both environments together
    monkeypatch.setattr(long_values, "LEAST", 10 * NUM_ARMS)
    categories = {name: {f"arm {k}": ArmInfo() for k in range(NUM_ARMS)} for name in ("one", "two")}
    section = CurriculumSection.model_validate({"mode": mode})
    choice, copy = (make_choice(section, categories, seed) for seed in (0, 1))
    for step in range(3):
        picks = [slot.pick for slot in choice.slots(16, step, "one", [])]
        next(iter(choice.bandits.values())).learn([Feedback(pick, 0.3, score=0.7) for pick in picks])
    state = choice.state()
    assert by_arm(state) == []
    saved = checkpoints.save(tmp_path, "step-1", [json_component("choice", 1, state)])
    opened = checkpoints.open_checkpoint(tmp_path / saved.folder, {"choice": 1})
    assert np.load(opened.components["choice"] / "long-float.npy").any()
    read = opened.read_json("choice")
    assert all(isinstance(one["earned"], np.ndarray) for one in read["bandits"].values())
    assert copy.load_state(read) == []
    for one, other in zip(choice.bandits.values(), copy.bandits.values(), strict=True):
        one.as_arrays = other.as_arrays = False
        assert json.dumps(other.state()) == json.dumps(one.state())


def test_fewer_arms_are_json_by_arm() -> None:
    categories = {"one": {f"arm {k}": ArmInfo() for k in range(NUM_ARMS)}}
    state = make_choice(CurriculumSection(), categories, 0).state()
    assert state["bandits"]["one"]["earned"]["arm 0"] == 0.0
    json.dumps(state, allow_nan=False)
