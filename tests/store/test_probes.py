"""The worked numbers of plasticity.md 3.1 and 3.2, and which probes compare."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from store.ledger.query_rows import ProbePointRow, ProbeRow
from store.plasticity import compared_probes, first_and_last
from store.probes import ProbeCurve, Trainability, compared, probes_of
from store.sentences import how_trainable, number

STEPS = (0, 5, 10, 15, 20)
NOW, BASE = (0.20, 0.30, 0.40, 0.45, 0.50), (0.10, 0.25, 0.40, 0.50, 0.55)


def test_the_numbers_of_two_curves() -> None:
    now, base = ProbeCurve(STEPS, NOW), ProbeCurve(STEPS, BASE)
    assert (now.auc, base.auc) == pytest.approx((0.375, 0.36875), abs=1e-5)
    assert (now.gain, base.gain) == pytest.approx((0.175, 0.26875), abs=1e-5)
    found = compared(now, base, 0.02)
    assert found is not None
    assert found.auc_ratio == pytest.approx(1.016949, abs=1e-5)
    assert found.gain_ratio == pytest.approx(0.651163, abs=1e-5)
    assert found.end_gain_ratio == pytest.approx(0.666667, abs=1e-5)
    assert found.end_level == pytest.approx(-0.05, abs=1e-5)
    assert found.ceiling_ratio == pytest.approx(0.732558, abs=1e-5)
    assert found.steps_ratio == pytest.approx(6.25 / 7.5), ".325, half of the base's way, is reached sooner"
    assert found.loss_change is None


def test_a_loss_is_better_where_it_is_lower_and_gains_from_chance() -> None:
    now, base = (ProbeCurve((0, 10), values, chance=3.0) for values in ((2.84, 2.44), (2.8, 2.2)))
    assert (now.auc, base.auc) == pytest.approx((2.64, 2.5))
    found = compared(now, base, 0.05)
    assert found is not None
    assert found.loss_change == pytest.approx(5.6, abs=1e-5)
    assert found.gain_ratio == pytest.approx(0.36 / 0.5)
    assert found.end_gain_ratio == pytest.approx(0.56 / 0.8)
    assert found.steps_ratio == pytest.approx((2.84 - 2.6) / 0.4 / ((2.8 - 2.6) / 0.6)), "to 2.6, half the base's way"
    assert found.ceiling_ratio is None


def test_who_begins_above_chance_has_not_learnt_more() -> None:
    """As measured after a stage on a book: surer of other things, and slower from the first look on."""
    base = ProbeCurve((0, 20, 40), (3.7, 3.2, 2.6), chance=3.66)
    now = ProbeCurve((0, 20, 40), (6.8, 3.5, 3.1), chance=3.66)
    found = compared(now, base, 0.05)
    assert found is not None
    assert now.start - now.auc > 4 * (base.start - base.auc), "what the own start would say"
    assert found.gain_ratio is not None
    assert found.gain_ratio < 1


def test_a_base_that_gains_nothing_makes_no_ratio_and_neither_do_other_looks() -> None:
    flat = ProbeCurve(STEPS, (0.3, 0.31, 0.3, 0.31, 0.3))
    found = compared(ProbeCurve(STEPS, NOW), flat, 0.02)
    assert found is not None
    assert (found.gain_ratio, found.end_gain_ratio, found.steps_ratio, found.ceiling_ratio) == (None,) * 4
    assert found.auc_ratio == pytest.approx(0.375 / flat.auc)
    assert compared(ProbeCurve(STEPS[:3], NOW[:3]), ProbeCurve(STEPS, BASE), 0.02) is None


def test_random_labels() -> None:
    now, base, idle = (ProbeCurve((0, 10), (2.4, end), math.log(10)) for end in (0.90, 0.60, 2.30))
    assert (found := compared(now, base, 0.05)) is not None
    assert found.end_gain_ratio == pytest.approx(0.823797, abs=1e-5)
    assert (none := compared(now, idle, 0.05)) is not None
    assert none.end_gain_ratio is None, "the base learns next to nothing by heart"


class Probed:
    """The questions of a ledger that has these probes: (kind, task, stage, seed, hash) -> curve."""

    def __init__(
        self, curves: dict[tuple[str, str, int, int, str], tuple[float, ...]], metric: str, chance: float | None
    ) -> None:
        self.curves, self.metric = curves, metric
        self.protocol = {} if chance is None else {"chance": chance}

    def probes(self, name: str) -> list[ProbeRow]:
        return [
            ProbeRow(stage, kind, task, seed, sha256, self.protocol, 2.0)
            for kind, task, stage, seed, sha256 in sorted(self.curves)
        ]

    def probe_points(self, name: str) -> list[ProbePointRow]:
        return [
            ProbePointRow(stage, kind, task, seed, step, metric, value if metric == self.metric else 9.0)
            for (kind, task, stage, seed, _), values in self.curves.items()
            for step, value in zip(STEPS, values, strict=False)
            for metric in (self.metric, "probe_entropy")
        ]


def probed(curves: dict[Any, tuple[float, ...]], chance: float | None = None) -> Any:
    metric = "probe_score" if chance is None else "probe_loss"
    return probes_of(Probed(curves, metric, chance), "run")  # type: ignore[arg-type]


def lower(values: tuple[float, ...], by: float) -> tuple[float, ...]:
    return tuple(value - by for value in values)


def test_curves_are_averaged_over_the_seeds_that_both_have() -> None:
    found = probed(
        {
            ("rl", "book", 0, 0, "p"): lower(BASE, 0.05),
            ("rl", "book", 0, 1, "p"): lower(BASE, -0.05),
            ("rl", "book", 2, 0, "p"): NOW,
            ("rl", "book", 2, 1, "p"): (0.2,) * 5,
            ("rl", "book", 2, 2, "p"): (0.9,) * 5,  # the base has no such seed
        }
    )
    (result,) = found.at(2)
    assert (result.num_seeds, result.seconds) == (2, 6.0)
    assert result.level == pytest.approx(0.2)
    assert result.base.start == pytest.approx(0.1)
    assert result.gain_ratio == pytest.approx(0.651163 / 2, abs=1e-5)
    assert (result.spread.least, result.spread.most) == pytest.approx((0, 0.651163), abs=1e-5)
    assert found.trainability(2) == Trainability(2, "rl", pytest.approx(result.gain_ratio))
    assert found.at(0)[0].gain_ratio == pytest.approx(1), "the base against itself"


def test_only_equal_protocols_compare_and_without_a_base_there_is_a_level_alone() -> None:
    found = probed({("rl", "book", 0, 0, "old"): BASE, ("rl", "book", 1, 0, "new"): NOW, ("rl", "b", 1, 0, "p"): NOW})
    for result in found.at(1):
        assert (result.base, result.against_base, result.gain_ratio, result.spread) == (None,) * 4
        assert (result.level, result.gain) == pytest.approx((0.2, 0.175))
    assert found.trainability(1) is None
    assert found.numbers(1) == pytest.approx({"probe/rl_level": 0.2})


def test_the_run_s_number_is_the_geometric_mean_of_its_rl_probes() -> None:
    other = tuple(0.1 + 0.25 * (value - 0.1) for value in BASE)
    curves = {("rl", task, 0, 0, "p"): BASE for task in ("a", "b")}
    found = probed({**curves, ("rl", "a", 1, 0, "p"): BASE, ("rl", "b", 1, 0, "p"): other})
    assert found.trainability(1).value == pytest.approx(0.5)
    numbers = found.numbers(1)
    assert numbers["probe/rl_gain_ratio"] == numbers["final/trainability"] == pytest.approx(0.5)
    assert numbers["probe/rl_end_level_diff"] == pytest.approx(0.5 * 0.75 * -0.45)


def test_kinds_are_judged_by_their_own_curves() -> None:
    labels = {("random_labels", "s", 0, 0, "p"): (2.3, 0.6), ("random_labels", "s", 1, 0, "p"): (2.3, 0.9)}
    assert probed(labels, math.log(10)).numbers(1) == pytest.approx({"probe/randlabel_ratio": 0.823797}, abs=1e-5)
    linear = probed({("linear", "e", 0, 0, "p"): (0.5,), ("linear", "e", 1, 0, "p"): (0.3,)})
    assert linear.numbers(1) == pytest.approx({"probe/linear_acc": 0.3})
    assert linear.at(1)[0].headline == pytest.approx(-0.2)
    texts = {("supervised", "l", 0, 0, "p"): (4.0, 2.0), ("supervised", "l", 1, 0, "p"): (4.0, 3.0)}
    assert probed(texts, 4.0).numbers(1) == pytest.approx(
        {
            "probe/sft_gain_ratio": 0.5,
            "probe/sft_level": 4.0,
            "probe/sft_loss_change": 100 * (3.5 / 3 - 1),
            "final/trainability": 0.5,
        }
    )


def test_a_copy_that_diverged_does_not_compare() -> None:
    (result,) = probed({("rl", "b", 0, 0, "p"): BASE, ("rl", "b", 1, 0, "p"): NOW[:3]}).at(1)
    assert (result.against_base, result.gain) == (None, None), "an area of other looks than the base's"
    assert (result.num_seeds, result.num_diverged) == (1, 1)
    assert replace(result, seconds=0).level == 0.2


def test_seeds_that_did_not_diverge_are_averaged_and_compared() -> None:
    base = {("rl", "b", 0, seed, "p"): lower(BASE, by) for seed, by in enumerate((0.0, 0.05, -0.05))}
    now = {("rl", "b", 2, seed, "p"): own for seed, own in enumerate((lower(NOW[:2], 9.0), NOW, NOW))}
    found = probed({**base, **now, **{("rl", "b", 3, seed, "p"): NOW[:2] for seed in range(3)}})
    (result,), (gone,) = found.at(2), found.at(3)
    assert (result.num_seeds, result.num_diverged, result.spread is None) == (2, 1, False)
    assert result.curve.values == pytest.approx(NOW)
    assert result.gain_ratio == pytest.approx(0.651163, abs=1e-5)
    assert (gone.num_seeds, gone.num_diverged, gone.gain_ratio) == (1, 3, None)
    rows = {row.after_stage: row for row in compared_probes(found.results)}
    assert (rows[2].num_diverged, rows[2].gain) == (1, pytest.approx(0.175))
    assert rows[2].interval == pytest.approx((0.651163, 0.651163), abs=1e-5)
    assert (rows[3].num_diverged, rows[3].gain, rows[3].base_gain) == (3, None, pytest.approx(0.26875))
    told = how_trainable([asdict(rows[2])])
    assert told is not None
    assert "2 seeds, 1 diverged" in told
    assert how_trainable([asdict(row) for row in rows.values()]) == (
        "After stage 3 a copy of the policy gains, where the base gains 1: not known on rl b, 3 diverged."
    ), "no number of an earlier stage stands for it"


def test_a_base_that_diverged_leaves_the_curve_without_comparison() -> None:
    (result,) = probed({("rl", "b", 0, 0, "p"): BASE[:2], ("rl", "b", 1, 0, "p"): NOW}).at(1)
    assert (result.num_diverged, result.curve.values, result.against_base) == (0, NOW, None)


def test_of_random_labels_the_gains_told_are_those_whose_ratio_is_told() -> None:
    """Its area may be below chance while its end is above: gain, base's gain and ratio then have different signs."""
    chance = math.log(10)
    curves = {
        ("random_labels", "b", stage, seed, "p"): tuple(value + 0.01 * seed for value in own)
        for stage, own in ((0, (2.4, 2.0, 1.3)), (6, (6.0, 4.0, 2.0)))
        for seed in (0, 1)
    }
    _, row = compared_probes(probed(curves, chance).results)
    assert (row.gain, row.base_gain) == (pytest.approx(chance - 2.005), pytest.approx(chance - 1.305))
    assert row.gain_ratio == pytest.approx(row.gain / row.base_gain)
    assert row.interval is not None
    assert row.interval[0] < row.gain_ratio < row.interval[1]
    nothing: dict[str, Any] = {"network": {}, "entropy_fixed": {}, "drift": {}, "answers": {}}
    assert [one.what for one in first_and_last({**nothing, "trainability": [asdict(row)]})] == [
        "loss at its start",
        "gain at the end",
    ]
    told = how_trainable([asdict(row)])
    assert told is not None
    assert f"{number(row.gain_ratio)} at the end on random labels b" in told


def test_without_its_first_look_a_curve_has_neither_level_nor_gain() -> None:
    class Late(Probed):
        def probe_points(self, name: str) -> list[ProbePointRow]:
            return [point for point in super().probe_points(name) if point.step]

    curves = {("rl", "b", 0, 0, "p"): BASE, ("rl", "b", 1, 0, "p"): NOW}
    (result,) = (found := probes_of(Late(curves, "probe_score", None), "run")).at(1)  # type: ignore[arg-type]
    assert (result.level, result.gain, result.against_base) == (None, None, None)
    assert found.numbers(1) == {}
    (row,) = [row for row in compared_probes(found.results) if row.after_stage == 1]
    assert (row.level, row.base_level, row.gain, row.base_gain, row.gain_ratio) == (None,) * 5
