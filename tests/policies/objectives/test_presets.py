import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from policies.objectives import Objective, ObjectiveConfig
from policies.objectives.methods import every, load
from policies.objectives.presets import PRESETS
from tests.policies.objectives.worked import P_NEW, P_OLD, P_ROLL, f64, rows, totals_of, two_by_two

STD = math.sqrt(0.5) + 1e-6  # of the rewards [1, 0], n - 1 form


@dataclass(frozen=True)
class Expected:
    """What a preset is, and what it makes of the fixture of 17.1 with an entropy of 1 nat everywhere."""

    parts: list[str]
    aggregation: str
    controller: dict[str, Any] | str
    needs: set[str]
    w: list[float]
    loss: float
    k: float | None = None


ANCHORED = {"lp_old", "lp_roll"}
GEOMETRIC = {"type": "geometric", "target": 1.0, "factor": 1.2, "low": 1e-4, "high": 0.1}
SIGNED = {"type": "geometric_signed", "target": 1.0, "factor": 2.0, "low": 1e-4, "high": 0.05}

EXPECTED = {
    "rloo": Expected(
        ["rloo", "tis", "ppo", "entropy_bonus"],
        "token_mean",
        "none",
        ANCHORED,
        [0, 0.125, -0.25, -1.5],
        (-1.28 / 0.9 - 0.5 + 1 + 6) / 4,
    ),
    "rloo_on_policy": Expected(
        ["rloo", "tis", "reinforce", "entropy_bonus"],
        "token_mean",
        "none",
        ANCHORED,
        [0.25 / 0.9, 0.25, -0.25 * 0.9 / 0.95, -0.5],
        -(math.log(0.7) / 0.9 + math.log(0.1) - math.log(0.95) * 0.9 / 0.95 - 2 * math.log(0.3)) / 4,
    ),
    "grpo": Expected(
        ["grpo", "tis", "ppo", "entropy_bonus"],
        "seq_mean_token_mean",
        "none",
        ANCHORED,
        [w * 0.5 / STD for w in (0, 0.125, -0.25, -1.5)],
        (-1.2 / 0.9 - 0.5 + 1 + 6) / 4 * 0.5 / STD,
    ),
    "dr_grpo": Expected(
        ["dr_grpo", "tis", "ppo", "entropy_bonus"],
        "constant",
        "none",
        ANCHORED,
        [w * 0.5 / 2048 for w in (0, 0.5, -1, -6)],
        (-1.2 / 0.9 - 0.5 + 1 + 6) * 0.5 / 2048,
    ),
    "repo": Expected(
        ["rloo", "repo", "tis", "ppo", "entropy_bonus"],
        "token_mean",
        GEOMETRIC | {"knob": "strength"},
        ANCHORED | {"entropy"},
        [
            0,
            0.125 * (1 - 1e-3 * (math.log(0.1) + 1)),
            0.25 * (-1 - 1e-3 * (math.log(0.95) + 1)),
            1.5 * (-1 - 1e-3 * (math.log(0.3) + 1)),
        ],
        1.269728,
    ),
    "repo_r": Expected(
        ["rloo", "repo_r", "tis", "ppo", "entropy_bonus"],
        "token_mean",
        SIGNED | {"knob": "strength"},
        ANCHORED,
        [
            0,
            0.125 * (1 - 1e-3 * math.log(0.1)),
            -0.25 * (1 + 1e-3 * math.log(0.95)),
            -1.5 * (1 + 1e-3 * math.log(0.3)),
        ],
        1.267210,
    ),
    "entropy_bonus": Expected(
        ["grpo", "tis", "ppo", "entropy_bonus"],
        "token_mean",
        GEOMETRIC | {"knob": "entropy_bonus"},
        ANCHORED | {"entropy", "entropy_grad"},
        [w * 0.5 / STD for w in (0, 0.125, -0.25, -1.5)],
        (-1.2 / 0.9 - 0.5 + 1 + 6) / 4 * 0.5 / STD - 1e-3,
        1e-3 / 4,
    ),
}


def test_the_table_covers_every_preset() -> None:
    assert set(EXPECTED) == set(PRESETS)


@pytest.mark.parametrize("name", EXPECTED)
def test_section_16_parts_and_controller(name: str) -> None:
    described = Objective.from_config(ObjectiveConfig.model_validate(name)).describe()
    expected = EXPECTED[name]
    assert [part["name"] for part in described["parts"]] == expected.parts
    assert described["aggregation"] == expected.aggregation
    assert set(described["needs"]) == expected.needs
    assert described["updates"] == 1
    if isinstance(expected.controller, dict):
        found = {key: described["controller"][key] for key in expected.controller}
        assert found == expected.controller
    else:
        assert described["controller"] == expected.controller


@pytest.mark.parametrize("name", EXPECTED)
def test_section_16_coefficients_and_loss_on_the_fixture(name: str) -> None:
    expected = EXPECTED[name]
    objective = Objective.from_config(ObjectiveConfig.model_validate(name))
    a = {"grpo": 0.5 / STD, "dr_grpo": 0.5}.get(objective.config.estimator, 1.0)
    some = rows(
        [[a, a], [-a, -a]],
        two_by_two(P_NEW),
        two_by_two(P_OLD),
        two_by_two(P_ROLL),
        entropy=[[1, 1], [1, 1]],
    )
    found = objective.coefficients(some, totals_of(some))
    torch.testing.assert_close(found.w_BT.flatten(), f64(expected.w), atol=1e-7, rtol=1e-6)
    assert found.sums["loss"] == pytest.approx((expected.loss, 1.0), abs=1e-6)
    if expected.k is None:
        assert found.k_BT is None
    else:
        assert found.k_BT is not None
        assert found.k_BT.flatten().tolist() == pytest.approx([expected.k] * 4)


@pytest.mark.parametrize("name", PRESETS)
def test_no_two_parts_of_a_preset_share_an_option(name: str) -> None:
    config = ObjectiveConfig.model_validate(name)
    options = [option for part in config.parts() for option in load(*part).Config.model_fields]
    assert len(options) == len(set(options)) == len(config.options)


@pytest.mark.parametrize(("kind", "name"), every())
def test_every_part_names_its_source_and_documents_its_options(kind: Any, name: str) -> None:
    part = load(kind, name)
    assert part.SOURCE
    assert "Empty cases" in (part.__doc__ or "")
    assert "Source" in (part.__doc__ or "")
    assert all(field.description for field in part.Config.model_fields.values())
