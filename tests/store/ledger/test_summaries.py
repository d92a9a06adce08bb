"""What the database adds up is what adding up its rows gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from store.errors import UnknownMetric
from store.ledger import Ledger
from store.records import ArmRecord, EnvironmentRecord, RunRecord, StageRecord, StepRecord
from tests.store.ledger import example


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as made:
        example.write(made, "puzzles")
        example.write(made, "another")
        yield made


@pytest.mark.parametrize("width", [1, 2, 100])
def test_curves_are_means_over_bins_weighted_by_n(ledger: Ledger, width: int) -> None:
    read = ledger.reading
    expected = []
    for environment in ("words", "gcd"):
        bins = defaultdict(list)
        for point in read.series("puzzles", "accuracy", environment):
            bins[(point.step - 1) // width].append(point)
        expected += [
            (
                environment,
                sum(p.step for p in points) / len(points),
                sum((p.value or 0) * p.n for p in points) / sum(p.n for p in points),
                sum(p.n for p in points),
            )
            for points in bins.values()
        ]
    found = read.curves("puzzles", ["accuracy", "entropy_token"], width)
    assert [p.environment for p in found] == [environment for environment, *_ in expected]
    assert [(p.step, p.value, p.n) for p in found] == [pytest.approx(rest) for _, *rest in expected]


def test_a_curve_of_an_unknown_metric_is_refused(ledger: Ledger) -> None:
    with pytest.raises(UnknownMetric, match="acuracy"):
        ledger.reading.curves("puzzles", ["acuracy"])


@pytest.mark.parametrize("width", [1, 2])
def test_arm_curves_and_paths_are_those_of_the_arms(ledger: Ledger, width: int) -> None:
    read = ledger.reading
    arms = read.arms("puzzles")
    points = read.arm_curves("puzzles", width)
    assert {(p.bandit, p.arm) for p in points} == {(a.bandit, a.arm) for a in arms}
    assert len(points) == len({(a.bandit, a.arm, (a.step - 1) // width) for a in arms})
    for path in read.arm_paths("puzzles"):
        own = [a for a in arms if (a.bandit, a.arm) == (path.bandit, path.arm)]
        assert (path.probability_start, path.probability_end) == (own[0].probability, own[-1].probability)
        assert path.probability_min == min(a.probability for a in own)
        assert path.probability_max == max(a.probability for a in own)
        assert path.value_end == own[-1].value
        chosen = [("*" if p.level in ("scheduler", "flat") else p.environment, p.arm) for p in read.picks("puzzles")]
        assert path.num_picks == chosen.count((path.bandit, path.arm)), "whatever a bandit still knows of"


def test_an_arm_that_its_bandit_was_without_is_at_nothing_there(ledger: Ledger) -> None:
    arms = {"always": (0.5, 0.4, 0.3, 0.6), "gone": (0.5, 0.6, None, None), "between": (0.2, None, None, 0.4)}
    others = {"later": (None, None, 0.7, 0.3), "back and gone": (0.3, None, 0.4, None)}
    environments = [EnvironmentRecord("words", "made_up", "1", False, {}, [])]
    spec = {"curriculum": {"stages": 1, "stage": {"steps": 4}}}
    of_run = ("rloo", "round_robin", "sec", spec, environments, {})
    run = ledger.start_run(RunRecord("uid of gone", "gone", 7, "tiny", *of_run))
    ledger.start_stage(run, StageRecord(1, "words", 0, 4, 0.0))
    for step in range(1, 5):
        own = [
            ArmRecord("words", arm, shares[step - 1] or 0.0, None, 0)
            for arm, shares in {**arms, **others}.items()
            if shares[step - 1] is not None
        ]
        if step == 1:
            own.append(ArmRecord("not asked again", "only", 1.0, None, 0))
        ledger.record_step(run, StepRecord(step, 1, step, 0.5, 8, 8, arms=own))
    assert {path.arm: tuple(path)[2:6] for path in ledger.reading.arm_paths("gone")} == {
        "always": (0.5, 0.3, 0.6, 0.6),
        "gone": (0.5, 0.0, 0.6, 0.0),
        "between": (0.2, 0.0, 0.4, 0.4),
        "later": (0.7, 0.3, 0.7, 0.3),
        "back and gone": (0.3, 0.0, 0.4, 0.0),
        "only": (1.0, 1.0, 1.0, 1.0),
    }


def test_arms_are_told_in_the_order_in_which_they_appeared(ledger: Ledger) -> None:
    assert [(p.bandit, p.arm) for p in ledger.reading.arm_paths("puzzles")] == [
        ("words", "3"),
        ("words", "4"),
        ("gcd", "easy"),
    ]


def test_sums_are_over_the_whole_batch_and_skip_what_is_not_finite(ledger: Ledger) -> None:
    found = ledger.reading.sums("puzzles", ["loss", "tokens_per_s", "grad_norm"])
    assert found == {
        "loss": pytest.approx(sum(1 / s for s in (1, 3, 4, 5, 6))),  # not finite in step 2
        "tokens_per_s": pytest.approx(6 * 384),
    }


def test_a_schedulers_picks_are_told_by_stage(ledger: Ledger) -> None:
    picks = ledger.reading.stage_picks("puzzles")
    assert [(p.stage, p.arm, p.probability, p.signal) for p in picks] == [
        (1, "words", 1, 0.25),
        (2, "gcd", 1, 0.25),
    ]


def test_samples_of_boundaries_come_by_task_and_then_by_boundary(ledger: Ledger) -> None:
    read = ledger.reading
    assert [s.after_stage for s in read.boundary_samples("puzzles", [0, 2], 1)] == [0, 2]
    assert read.boundary_samples("puzzles", [0, 2], 0) == []


@pytest.mark.parametrize("last", [1, 2, 100])
def test_stage_means_are_of_the_trained_environment_over_the_stages_last_steps(ledger: Ledger, last: int) -> None:
    read = ledger.reading
    expected = []
    for stage in read.stages("puzzles"):
        own = [p for p in read.series("puzzles", "accuracy", stage.environment) if p.step > stage.start_step]
        late = [p for p in own if stage.end_step and stage.end_step - last < p.step <= stage.end_step]
        expected.append((stage.stage, pytest.approx(sum((p.value or 0) * p.n for p in late) / 8 / len(late))))
    assert [(mean.stage, mean.value) for mean in read.stage_means("puzzles", "accuracy", last)] == expected


@pytest.mark.parametrize(("width", "stage_steps"), [(1, [1, 2, 3]), (2, [1.5, 3]), (10, [2])])
def test_stage_curves_count_steps_from_the_stages_start(ledger: Ledger, width: int, stage_steps: list[float]) -> None:
    found = ledger.reading.stage_curves("puzzles", "accuracy", width)
    assert [(p.stage, p.stage_step) for p in found] == [(stage, s) for stage in (1, 2) for s in stage_steps]
    if width == 1:
        assert [p.value for p in found] == pytest.approx([1 / (2 + step) for step in range(1, 7)])


def test_holdouts_are_told_once_each(ledger: Ledger) -> None:
    found = ledger.reading.holdouts("puzzles")
    assert [(h.environment, h.category, h.purpose, h.num_items) for h in found] == [
        ("gcd", "easy", "anchor", 2),
        ("words", "3", "anchor", 2),
        ("words", "4", "anchor", 2),
    ]
    assert found[0].sha256 == "sha256 of gcd easy"
