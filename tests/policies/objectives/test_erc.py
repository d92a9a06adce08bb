from dataclasses import replace

import pytest

from policies.objectives import ObjectiveConfig, ObjectiveError, ShapedRows
from policies.objectives.shapers import erc
from tests.policies.objectives.worked import f64, rows, totals_of

OLD = [0.5, 1.0, 0.25, 2.0]


def shaped(new: list[float], old: list[float], **options: float) -> list[float]:
    part = erc.create(erc.Config.model_validate(options))
    some = tokens(new, old)
    return part.apply(some.advantage_BT, some, totals_of(some)).advantage_BT[0].tolist()


def tokens(new: list[float], old: list[float]) -> ShapedRows:
    some = rows([[1, -1, 2, -2]], [[0.5] * 4], entropy=[new])
    return replace(some, entropy_old_BT=f64([old]))


@pytest.mark.parametrize(
    ("ratios", "options", "expected"),
    [
        ([1.04, 0.90, 1.04, 1.2], {}, [1, 0, 2, 0]),
        ([1.04, 0.90, 1.04, 1.2], {"erc_low": 0.8, "erc_high": 1.21}, [1, -1, 2, -2]),
        ([1, 1, 1, 1], {}, [1, -1, 2, -2]),  # at the first update
        ([1e3, 1e-3, 1, 1], {"erc_low": 0.0, "erc_high": 1e9}, [1, -1, 2, -2]),  # no bounds
    ],
)
def test_kept_tokens(ratios: list[float], options: dict[str, float], expected: list[float]) -> None:
    """Reference: objectives.md 10.3."""
    assert shaped([h * r for h, r in zip(OLD, ratios, strict=True)], OLD, **options) == expected


def test_no_entropy_then_and_now_is_no_change() -> None:
    assert shaped([0.0] * 4, [0.0] * 4) == [1, -1, 2, -2]


@pytest.mark.parametrize("lost", ["entropy_BT", "entropy_old_BT"])
def test_rows_without_entropy_are_refused(lost: str) -> None:
    some = replace(tokens(OLD, OLD), **{lost: None})  # type: ignore[arg-type]
    with pytest.raises(ObjectiveError, match="`erc` reads the entropy"):
        erc.create(erc.Config()).apply(some.advantage_BT, some, totals_of(some))


def test_it_says_that_it_idles_at_one_update_and_its_preset_brings_more() -> None:
    config = ObjectiveConfig.model_validate("erc")
    assert any("`erc` does nothing with one update" in sentence for sentence in config.warnings(1))
    assert not config.warnings()
