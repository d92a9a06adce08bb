from typing import Any

import pytest

from policies.objectives import ObjectiveConfig
from store.run_summary import composed

PLAIN = [("estimator", "rloo"), ("mismatch", "tis"), ("ratio", "ppo"), ("aggregation", "token_mean")]
NONE = ("controllers", "none: nothing moves the force on entropy")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("rloo", [*PLAIN, NONE]),
        ({"preset": "rloo", "kl": 0.1}, [*PLAIN[:3], ("terms", "kl"), PLAIN[3], NONE]),
        (
            {"preset": "dapo", "shapers": ["repo_r", "top_entropy"]},
            [
                ("plans", "dynamic_sampling"),
                ("reward_maps", "overlong"),
                ("estimator", "grpo"),
                ("shapers", "repo_r, top_entropy"),
                *PLAIN[1:],
                NONE,
            ],
        ),
    ],
)
def test_a_resolved_section_tells_its_parts_and_leaves_out_those_that_are_off(
    section: Any, expected: list[tuple[str, str]]
) -> None:
    resolved = ObjectiveConfig.model_validate(section).model_dump(mode="json")
    assert composed(resolved) == expected


def test_a_controller_tells_its_options() -> None:
    resolved = ObjectiveConfig.model_validate({"preset": "repo_r", "controller": {"target": 0.5}}).model_dump(
        mode="json"
    )
    told = dict(composed(resolved))["controllers"]
    assert told.startswith("geometric_signed (target 0.5, ")


def test_a_section_of_before_there_were_lists_is_told_alike() -> None:
    section = {
        "estimator": "rloo",
        "shaper": "repo_r",
        "terms": ["entropy_bonus"],
        "entropy_bonus": 0.0,
        "controller": None,
    }
    told = composed(section)
    assert told == [("estimator", "rloo"), ("shaper", "repo_r"), ("controller", NONE[1])]
