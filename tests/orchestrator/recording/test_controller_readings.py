from __future__ import annotations

import math
from dataclasses import replace

import pytest

from orchestrator.recording import step_metrics
from policies.learner import UpdateReport
from tests.orchestrator.rollout.episodes import group

GROUPS = [
    group([1.0, None], "words", "3"),
    group([0.0, 0.0], "words", "3", entropies=[2.0, 3.0, 4.0]),
    group([1.0], "book", "2", entropies=[0.25]),
]
REPORT = UpdateReport(
    sums={"kl_ref": (3.0, 4.0), "clip_frac": (0.0, 0.0)},
    maxima={"tis_weight_max": 1.5},
    loss=0.5,
    grad_norm=math.nan,
    lr=0.01,
    num_updates=0,
    num_skipped=1,
    seconds={},
    num_rows=8,
    num_rows_run=6,
    surprisal={"words/3": (4.0, 5)},
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sampler", {"words/3": (2 * 2.0 + 2 * 9.0, 10), "book/2": (0.25, 1)}),
        ("surprisal", {"words/3": (0.5 * 10, 10), "book/2": (0.5, 1)}),
        ("surprisal_iw", {"words/3": (4.0, 5)}),
    ],
)
def test_the_entropies_of_a_step_are_summed_by_category_from_the_source_of_the_objective(
    source: str, expected: dict[str, tuple[float, float]]
) -> None:
    assert step_metrics.entropies(GROUPS, REPORT, source) == expected


def test_without_an_update_only_what_the_learner_would_have_told_is_missing() -> None:
    assert step_metrics.entropies(GROUPS, None, "surprisal_iw") == {}
    assert step_metrics.entropies(GROUPS, None, "sampler")
    assert step_metrics.readable(step_metrics.of_update(None)) == {}


def test_controllers_may_read_every_finite_number_of_the_update_by_its_name() -> None:
    found = step_metrics.readable(step_metrics.of_update(REPORT))
    assert found["kl_ref"] == 0.75
    assert found["tis_weight_max"] == 1.5
    assert found["loss"] == 0.5
    assert "clip_frac" not in found, "nothing was counted"
    assert "grad_norm" not in found


def test_what_is_known_of_parts_too_is_read_of_the_whole_and_by_environment() -> None:
    told = replace(
        REPORT,
        sums={"kl_ref": (3.0, 4.0), "kl_ref/words": (1.0, 2.0)},
        covariance={"": (6.0, 3.0), "words/3": (2.0, 2.0), "book/2": (4.0, 1.0)},
    )
    found = step_metrics.readable(step_metrics.of_update(told))
    assert found["covariance"] == 2.0
    assert (found["kl_ref"], found["kl_ref/words"]) == (0.75, 0.5)
    assert found.keys().isdisjoint({"covariance/words", "covariance/book"}), "those are of categories"
