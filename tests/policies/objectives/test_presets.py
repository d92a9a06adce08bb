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


def clipped_w(a: list[float]) -> list[float]:
    """a * c * w / 4 of shaped advantages: token 1 (ratio 1.4) is clipped, the others have c * w of .5, 1, 6."""
    return [0, 0.5 * a[1] / 4, a[2] / 4, 6 * a[3] / 4]


def clipped_loss(a: list[float], high: float) -> float:
    """The conventional value of the same, token 1 held at 1 + high and weighed by 1 / .9."""
    return -((1 + high) * a[0] / 0.9 + 0.5 * a[1] + a[2] + 6 * a[3]) / 4


SIGN = [1.0, 1.0, -1.0, -1.0]
GRPO = [0.5 / STD * sign for sign in SIGN]
DR_GRPO = [0.5 * sign for sign in SIGN]
REPO = [sign - 1e-3 * (math.log(p) + 1) for sign, p in zip(SIGN, P_NEW, strict=True)]
REPO_R = [sign * (1 - 1e-3 * sign * math.log(p)) for sign, p in zip(SIGN, P_NEW, strict=True)]
WEIGHED = [1 / 0.9, 1.0, -0.9 / 0.95, -2.0]  # rloo's advantages by the mismatch weight

ANCHORED = {"lp_old", "lp_roll"}
GEOMETRIC = {"type": "geometric", "target": 1.0, "factor": 1.2, "low": 1e-4, "high": 0.1}
SIGNED = {"type": "geometric_signed", "target": 1.0, "factor": 2.0, "low": 1e-4, "high": 0.05}

EXPECTED = {
    "rloo": Expected(
        parts=["rloo", "tis", "ppo", "entropy_bonus"],
        aggregation="token_mean",
        controller="none",
        needs=ANCHORED,
        w=clipped_w(SIGN),
        loss=clipped_loss(SIGN, 0.28),
    ),
    "rloo_on_policy": Expected(
        parts=["rloo", "tis", "reinforce", "entropy_bonus"],
        aggregation="token_mean",
        controller="none",
        needs=ANCHORED,
        w=[a / 4 for a in WEIGHED],
        loss=-sum(a * math.log(p) for a, p in zip(WEIGHED, P_NEW, strict=True)) / 4,
    ),
    "grpo": Expected(
        parts=["grpo", "tis", "ppo", "entropy_bonus"],
        aggregation="seq_mean_token_mean",
        controller="none",
        needs=ANCHORED,
        w=clipped_w(GRPO),
        loss=clipped_loss(GRPO, 0.2),
    ),
    "dr_grpo": Expected(
        parts=["dr_grpo", "tis", "ppo", "entropy_bonus"],
        aggregation="constant",
        controller="none",
        needs=ANCHORED,
        w=[4 * w / 2048 for w in clipped_w(DR_GRPO)],
        loss=4 * clipped_loss(DR_GRPO, 0.2) / 2048,
    ),
    "repo": Expected(
        parts=["rloo", "repo", "tis", "ppo", "entropy_bonus"],
        aggregation="token_mean",
        controller=GEOMETRIC | {"knob": "strength"},
        needs=ANCHORED | {"entropy"},
        w=clipped_w(REPO),
        loss=clipped_loss(REPO, 0.28),
    ),
    "repo_r": Expected(
        parts=["rloo", "repo_r", "tis", "ppo", "entropy_bonus"],
        aggregation="token_mean",
        controller=SIGNED | {"knob": "strength"},
        needs=ANCHORED,
        w=clipped_w(REPO_R),
        loss=clipped_loss(REPO_R, 0.28),
    ),
    "entropy_bonus": Expected(
        parts=["grpo", "tis", "ppo", "entropy_bonus"],
        aggregation="token_mean",
        controller=GEOMETRIC | {"knob": "entropy_bonus"},
        needs=ANCHORED | {"entropy", "entropy_grad"},
        w=clipped_w(GRPO),
        loss=clipped_loss(GRPO, 0.2) - 1e-3,
        k=1e-3 / 4,
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
    torch.testing.assert_close(found.w_BT.flatten(), f64(expected.w), atol=1e-9, rtol=1e-9)
    assert found.sums["loss"] == pytest.approx((expected.loss, 1.0))
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
