from dataclasses import replace

import pytest
import torch

from policies.objectives import ObjectiveError, ShapedRows
from policies.objectives.parts import Shaper
from policies.objectives.shapers import top_entropy
from policies.objectives.statistics import quantile
from tests.policies.objectives.worked import f64, rows, surveyed

ENTROPY = [0.05, 0.1, 0.2, 0.6, 0.9]


def tokens(entropy: list[float], mask: list[bool] | None = None) -> ShapedRows:
    num = len(entropy)
    some = rows([[1.0] * num], [[0.5] * num], entropy=[entropy], mask=None if mask is None else [mask])
    return replace(some, entropy_old_BT=some.entropy_BT)


def shaper(share: float) -> Shaper:
    made = top_entropy.create(top_entropy.Config(top_entropy_share=share))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("entropy", "share", "threshold", "kept"),
    [
        (ENTROPY, 0.2, 0.66, [0, 0, 0, 0, 1]),
        (ENTROPY, 0.5, 0.2, [0, 0, 1, 1, 1]),
        (ENTROPY, 1.0, 0.05, [1, 1, 1, 1, 1]),
        ([0.0, 0.0, 0.0, 0.0, 0.9], 0.3, 0.0, [1, 1, 1, 1, 1]),  # ties at the threshold are kept
        ([0.7], 0.2, 0.7, [1]),
    ],
)
def test_threshold_and_kept_tokens(entropy: list[float], share: float, threshold: float, kept: list[int]) -> None:
    """Reference: objectives.md 10.1."""
    some = tokens(entropy)
    assert top_entropy.threshold(f64([entropy]), some.mask_BT, share) == pytest.approx(threshold)
    if share < 1:
        seen, totals = surveyed(shaper(share), some)
        assert shaper(share).apply(some.advantage_BT, seen, totals).advantage_BT.tolist() == [kept]


def test_what_stands_off_the_mask_does_not_move_the_threshold() -> None:
    some = tokens([*ENTROPY, 50.0, -3.0], [True] * 5 + [False] * 2)
    seen, _ = surveyed(shaper(0.2), some)
    assert seen.noted["top_entropy.keep"].tolist() == [[0, 0, 0, 0, 1, 0, 0]]


def test_a_share_of_1_leaves_it_out() -> None:
    assert top_entropy.create(top_entropy.Config(top_entropy_share=1)) is None


def test_nothing_the_policy_wrote_keeps_nothing() -> None:
    seen, _ = surveyed(shaper(0.2), tokens([0.5, 0.6], [False, False]))
    assert not seen.noted["top_entropy.keep"].any()


def test_the_selection_holds_while_entropies_move() -> None:
    part, some = shaper(0.2), tokens(ENTROPY)
    seen, totals = surveyed(part, some)
    moved = replace(seen, entropy_BT=f64([ENTROPY[::-1]]))
    assert torch.equal(
        part.apply(some.advantage_BT, moved, totals).advantage_BT,
        part.apply(some.advantage_BT, seen, totals).advantage_BT,
    )


def test_rows_without_entropy_are_refused() -> None:
    with pytest.raises(ObjectiveError, match="`top_entropy` reads the entropy of every token at the start"):
        surveyed(shaper(0.2), rows([[1.0]], [[0.5]]))


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1, 2, 3, 4], 0.5, 3), ([1, 2], 0.5, 1), ([1, 2, 3, 4], 0.3, 2), ([4, 1, 3, 2], 1.0, 4), ([5], 0.3, 5)],
)
def test_the_nearest_value_of_a_quantile(values: list[float], share: float, expected: float) -> None:
    assert quantile(f64(values), share, "nearest") == expected
    assert float(torch.quantile(f64(values), share, interpolation="nearest")) == expected
