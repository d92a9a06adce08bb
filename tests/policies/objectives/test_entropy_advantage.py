from dataclasses import replace

import pytest
import torch

from policies.objectives import ShapedRows
from policies.objectives.shapers import entropy_advantage
from tests.policies.objectives.worked import rows, surveyed


def responses(
    entropy: list[list[float]], advantage: list[float], mask: list[list[bool]], group: list[int]
) -> ShapedRows:
    width = len(entropy[0])
    some = rows([[a] * width for a in advantage], [[0.5] * width] * len(advantage), entropy=entropy, mask=mask)
    return replace(some, group_B=torch.tensor(group))


def weights(some: ShapedRows, clip: float | None = None) -> list[float]:
    """Of the first token of each response."""
    part = entropy_advantage.create(entropy_advantage.Config(entropy_advantage_clip=clip))
    return surveyed(part, some)[0].noted["entropy_advantage.weight"][:, 0].tolist()


THREE = responses([[0.2], [0.4], [0.6]], [1, -0.5, -0.5], [[True]] * 3, [0, 0, 0])


def test_weights_and_advantages() -> None:
    """Reference: objectives.md 10.4."""
    part = entropy_advantage.create(entropy_advantage.Config())
    seen, totals = surveyed(part, THREE)
    assert weights(THREE) == pytest.approx([1.5, 1, 0.5])
    shaped_BT = part.apply(THREE.advantage_BT, seen, totals).advantage_BT
    assert shaped_BT[:, 0].tolist() == pytest.approx([1.5, -0.5, -0.25])


def test_responses_weigh_the_same_whatever_their_length() -> None:
    """Means .3, .4 and .5 of three, two and one token, the rest is padding."""
    mask = [[True, True, True], [True, True, False], [True, False, False]]
    some = responses([[0.1, 0.3, 0.5], [0.3, 0.5, 9], [0.5, 9, 9]], [1, 1, 1], mask, [5, 5, 5])
    assert weights(some) == pytest.approx([1.25, 1, 0.75])


def test_groups_are_compared_with_themselves() -> None:
    some = responses([[0.2], [2.0], [0.6], [6.0]], [1] * 4, [[True]] * 4, [0, 1, 0, 1])
    assert weights(some) == pytest.approx([1.5, 1.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("entropy", "mask", "expected"),
    [
        ([[0.0], [0.0]], [[True], [True]], [1, 1]),  # no entropy in the group
        ([[0.4], [7.0]], [[True], [False]], [1, 0]),  # a response without tokens does not count
        ([[0.4], [0.4]], [[False], [False]], [0, 0]),
    ],
)
def test_empty_cases(entropy: list[list[float]], mask: list[list[bool]], expected: list[float]) -> None:
    assert weights(responses(entropy, [1, 1], mask, [0, 0])) == expected


def test_a_clip_holds_the_negative_side() -> None:
    entropy = [[0.0]] * 7 + [[0.8]]  # the last has 8 times the entropy of its group
    some = responses(entropy, [1] * 8, [[True]] * 8, [0] * 8)
    assert weights(some) == pytest.approx([2] * 7 + [-6])
    assert weights(some, clip=2) == pytest.approx([2] * 7 + [-2])
