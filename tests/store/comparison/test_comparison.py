"""What is compared, against what, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sqlalchemy import delete

from store import carryover
from store.comparison import Comparison, facts, sentences
from store.comparison.page import render
from store.comparison.scores import MEASURES, Pair
from store.errors import ComparisonError
from store.ledger import Ledger, tables
from tests.shares import share
from tests.store.comparison.conftest import Compare
from tests.store.comparison.runs import Made, eight, study, written
from tests.store.report.pages import Page

CLEAR = [0.10, 0.20, 0.15, 0.12, 0.11, 0.30]
UNCLEAR = [0.10, -0.20, 0.15, -0.12, 0.11, 0.05]
Fresh = Callable[[], str]


@cache
def clear(ledger: Ledger) -> list[str]:
    """Six pairs with a clear difference, written once."""
    return eight(ledger, CLEAR, "clear.")


def only(comparison: Comparison) -> Pair:
    (pair,) = comparison.pairs
    return pair


def scores(comparison: Comparison) -> dict[str, list[float]]:
    return {s.label: [round(run.score, 6) for run in s.runs] for s in comparison.settings}


# --- scores ------------------------------------------------------------------------------------------------


def test_accuracy_is_that_of_the_last_boundary_in_every_environment(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    found = compare(*eight(ledger, [0.1, 0.2], fresh()))
    assert (found.strata, found.stratum) == (["book", "words"], "environment")
    assert scores(found) == {"rloo": [0.4, 0.415], "repo": [0.5, 0.615]}
    assert found.settings[1].strata == pytest.approx({"book": 0.455, "words": 0.66})


@pytest.mark.parametrize(("last", "share"), [(1, 1.0), (2, 7 / 8), (100, 5 / 8)])
def test_train_accuracy_is_of_the_environment_that_the_stage_trains_over_its_last_steps(
    ledger: Ledger, compare: Compare, fresh: Fresh, last: int, share: float
) -> None:
    found = compare(*eight(ledger, [0.2], fresh()), metric="train_accuracy", last=last)
    assert found.strata == ["stage 1", "stage 2"]
    assert scores(found) == {"rloo": [round(0.4 * share, 6)], "repo": [round(0.6 * share, 6)]}


@pytest.mark.parametrize("last", [0, -5])
def test_no_steps_at_the_end_are_none_to_compare(ledger: Ledger, compare: Compare, fresh: Fresh, last: int) -> None:
    runs = eight(ledger, [0.2], fresh())
    with pytest.raises(ComparisonError, match=rf"`--last {last}`: give the number of steps"):
        compare(*runs, metric="train_accuracy", last=last)


def test_a_stage_that_ended_early_gives_its_own_last_steps(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a", lengths=(4, 2)), Made(f"{x}b", 0, "repo", lengths=(2, 4), training=0.8))
    found = compare(f"{x}a", f"{x}b", metric="train_accuracy", last=1)
    assert scores(found) == {"rloo": [0.5], "repo": [0.8]}


def test_in_flat_mode_training_accuracy_is_of_the_whole_batch(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a", is_flat=True), Made(f"{x}b", 0, "repo", is_flat=True, training=0.8))
    assert scores(compare(f"{x}a", f"{x}b", metric="train_accuracy", last=1)) == {
        "rloo": [0.5],
        "repo": [0.8],
    }


@pytest.mark.parametrize(
    ("metric", "rloo", "repo"),
    [  # two stages, entropy 2 at the start: 2, 1.5, 1 and 2, 1.75, 1.5
        ("entropy", 1.0, 1.5),
        ("retained", np.sqrt(1.5 / 2 * 1 / 1.5), np.sqrt(1.75 / 2 * 1.5 / 1.75)),
        ("carried", 1.5 / 2, 1.75 / 2),
        ("forgetting", -0.2, -0.2),
        ("forward_transfer", 0.3, 0.3),
        ("train_entropy", 1.0, 1.5),
    ],
)
def test_other_measures(ledger: Ledger, compare: Compare, fresh: Fresh, metric: str, rloo: float, repo: float) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", entropy=1.5))
    found = scores(compare(f"{x}a", f"{x}b", metric=metric))
    assert found["rloo"] == pytest.approx([rloo], abs=1e-5)
    assert found["repo"] == pytest.approx([repo], abs=1e-5)


def test_an_unknown_measure_is_refused_with_the_nearest(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    with pytest.raises(ComparisonError, match=r"'train_acuracy'.*Did you mean 'train_accuracy'"):
        compare(*eight(ledger, [0.1], fresh()), metric="train_acuracy")


def test_what_only_some_runs_have_is_left_out_and_said(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(
        ledger,
        Made(f"{x}a"),
        Made(f"{x}b", 0, "repo", accuracy={"book": 0.5, "words": None}),
    )
    found = compare(f"{x}a", f"{x}b")
    assert found.strata == ["book"]
    assert found.warnings == [f"words left out: not measured in {x}b."]


def test_what_sums_runs_up_says_where_they_have_other_environments(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    """Beside accuracy, which is of what all have, stands the entropy of that, and not what sums the run up."""
    x = fresh()
    more = {"book": 0.4, "words": 0.6, "easy": 0.9}
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", accuracy=more))
    found = compare(f"{x}a", f"{x}b", metric="average")
    assert found.warnings[1] == (
        f"easy is not in {x}a, so average accuracy is not of the same environments in all runs: `--metric accuracy` "
        "compares on those that all runs have."
    )
    beside = compare(f"{x}a", f"{x}b").beside
    assert beside is not None
    assert beside.metric == "entropy"
    written(ledger, Made(f"{x}c", 0, "repo"))
    assert compare(f"{x}a", f"{x}c", metric="average").warnings == []
    beside = compare(f"{x}a", f"{x}c").beside
    assert beside is not None
    assert beside.metric == "left"


@pytest.mark.parametrize(
    ("metric", "other"), [("train_accuracy", "accuracy"), ("train_entropy", "entropy"), ("accuracy", None)]
)
def test_stages_of_other_environments_are_said_where_stages_are_compared(
    ledger: Ledger, compare: Compare, fresh: Fresh, metric: str, other: str | None
) -> None:
    x = fresh()
    later = {"words": 0.6, "book": 0.4, "easy": 0.9}
    runs = [Made(f"{x}a", accuracy=dict(sorted(later.items()))), Made(f"{x}b", 0, "repo", accuracy=later)]
    runs.append(Made(f"{x}c", 1, "repo", accuracy=later))
    written(ledger, *(replace(run, lengths=(4, 4, 4)) for run in runs))
    found = compare(f"{x}a", f"{x}b", metric=metric).warnings
    assert found == (
        [
            "The runs did not train the same environment in stage 1, stage 2 and stage 3: "
            f"`--metric {other}` compares on those that all runs have."
        ]
        if other
        else []
    )


@pytest.mark.parametrize(
    ("metric", "other", "is_said"),
    [("average", "accuracy", True), ("retained", "entropy", True), ("left", "entropy", False)],
)
def test_environments_that_had_a_stage_in_some_runs_only_are_said_with_what_is_of_those(
    ledger: Ledger, compare: Compare, fresh: Fresh, metric: str, other: str, is_said: bool
) -> None:
    x = fresh()
    twice = Made(f"{x}b", 0, "repo", trains=("words", "words"))
    written(ledger, Made(f"{x}a"), twice)
    found = compare(f"{x}a", f"{x}b", metric=metric)
    said = (
        f"book had a stage in some runs only, so {found.title} is not of the same environments in all runs: "
        f"`--metric {other}` compares on those that all runs have."
    )
    assert (said in found.warnings) == is_said


@pytest.mark.parametrize("metric", ["accuracy", "left", "train_accuracy"])
def test_what_carried_over_says_where_it_is_of_other_environments_whatever_is_compared(
    ledger: Ledger, compare: Compare, fresh: Fresh, metric: str
) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", trains=("book", "book")))
    said = (
        "words had a stage in some runs only, so what carried over is not of the same environments in all runs: the "
        "matrices of `--output` tell it by environment."
    )
    assert said in compare(f"{x}a", f"{x}b", metric=metric).warnings
    more = {"book": 0.4, "words": 0.6, "easy": 0.9}
    written(ledger, Made(f"{x}c", 0, "repo", accuracy=more), Made(f"{x}d", 0, "repo", accuracy=more, tasks="2"))
    what = "entropy left" if metric == "left" else "what carried over"
    said = f"easy is not in {x}a, so {what} is not of the same environments in all runs: "
    assert [said in text for text in compare(f"{x}a", f"{x}c", metric=metric).warnings].count(True) == 1
    other = compare(f"{x}a", f"{x}d", metric="train_accuracy")
    assert other.carry_over.outcomes == {}, "no table to speak of"
    assert not any("carried over" in text for text in other.warnings)


def test_an_environment_that_no_run_has_a_score_of_is_named(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    never = {"book": 0.5, "words": None}
    written(ledger, Made(f"{x}a", accuracy=never), Made(f"{x}b", 0, "repo", accuracy=never))
    found = compare(f"{x}a", f"{x}b")
    assert found.strata == ["book"]
    assert found.warnings == ["words left out: no run has a score of accuracy there."]
    assert compare(f"{x}a", f"{x}b", environments=["book"]).warnings == []
    with pytest.raises(ComparisonError, match="No run has a score of accuracy on words"):
        compare(f"{x}a", f"{x}b", environments=["words"])


def test_all_steps_count_where_no_stage_has_as_many_as_are_asked_for(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo"))  # stages of 4 steps
    titles = [compare(f"{x}a", f"{x}b", metric="train_accuracy", last=last).title for last in (20, 3)]
    assert titles == [f"training accuracy over {which} of each stage" for which in ("all steps", "the last 3 steps")]


def test_runs_without_a_number_in_common_are_refused(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a", is_flat=True), Made(f"{x}b", 0, "repo"))
    with pytest.raises(ComparisonError, match=f"no carried to compare: {x}a has none"):
        compare(f"{x}a", f"{x}b", metric="carried")


# --- pairs -------------------------------------------------------------------------------------------------


def test_a_clear_difference_of_six_seeds_is_claimed(ledger: Ledger, compare: Compare) -> None:
    pair = only(compare(*clear(ledger)))
    assert (pair.setting, pair.baseline, pair.verdict) == ("repo", "rloo", "better")
    assert pair.differences == pytest.approx(CLEAR)
    assert pair.mean == pytest.approx(np.mean(CLEAR))
    assert pair.p == pair.p_corrected == pytest.approx(2 / 2**6)
    assert pair.interval is not None
    assert (pair.interval.num_draws, pair.interval.is_exact) == (2**6, True)
    assert sentences.sentence(pair) == "repo is better than rloo: +.163 (+.100 to +.300), p = .031."


def test_the_other_way_round_it_is_worse(ledger: Ledger, compare: Compare) -> None:
    found = compare(*clear(ledger), baseline="repo")
    assert sentences.sentence(only(found)) == "rloo is worse than repo: -.163 (-.300 to -.100), p = .031."


def test_of_a_number_that_should_be_low_less_is_better(ledger: Ledger, compare: Compare) -> None:
    names = clear(ledger)
    less = only(compare(*names, metric="forgetting"))
    assert less.mean is not None
    assert (less.mean < 0, less.verdict) == (True, "better")
    assert less.improvement is not None
    assert less.improvement > 0.5, "to forget less is the improvement"


@pytest.mark.parametrize("metric", share([name for name, one in MEASURES.items() if one.metric == "entropy_token"], 2))
def test_more_entropy_is_neither_better_nor_worse(ledger: Ledger, compare: Compare, fresh: Fresh, metric: str) -> None:
    x = fresh()
    runs = [Made(f"{x}{o}{s}", s, o, entropy=e + 0.01 * s) for s in range(6) for o, e in (("a", 1), ("b", 1.2))]
    written(ledger, *runs)
    found = compare(*(run.name for run in runs), metric=metric)
    if metric in ("entropy", "left"):  # what these runs differ in
        (said,) = (sentence for _, sentence in sentences.sentences(found))
        assert said.startswith("b keeps more entropy than a: ")
        turned = compare(*(run.name for run in runs), metric=metric, baseline="b")
        assert sentences.sentence(only(turned)).startswith("a keeps less entropy than b: ")
    words = " ".join([*(s for _, s in sentences.sentences(found)), *sentences.method(found), sentences.chance(found)])
    assert not re.search(r"\b(better|worse|beats?|improve\w*|higher|lower)\b", words)


def test_everything_but_entropy_has_a_good_direction() -> None:
    for one in MEASURES.values():
        assert (one.direction == 0) == (one.metric in ("entropy_token", "entropy_fixed")), one.name


def test_an_unclear_difference_is_none_seen_and_says_what_it_would_take(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    pair = only(compare(*eight(ledger, UNCLEAR, fresh())))
    assert pair.verdict == "no difference"
    assert sentences.sentence(pair) == (
        "repo against rloo: no difference seen: +.015 (-.200 to +.150), p = .844; "
        "if real, an effect of this size would take 701 seeds to see with 80% power."
    )


def test_below_six_seeds_there_is_not_enough_to_tell_however_large_the_difference(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    pair = only(compare(*eight(ledger, [0.5, 0.51, 0.52, 0.53], fresh())))
    assert pair.verdict == "not enough"
    assert sentences.sentence(pair) == (
        "repo against rloo: not enough to tell: 4 of 6 paired seeds; 2 more would allow p < .05 (8 are recommended)."
    )


def test_with_more_comparisons_more_seeds_are_needed(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    runs = [Made(f"{x}{o}{s}", s, o, training=t + 0.01 * s) for s in range(7) for o, t in
            (("a", 0.2), ("b", 0.4), ("c", 0.6))]  # fmt: skip
    written(ledger, *runs)
    names = [run.name for run in runs]
    against_one = compare(*names, metric="train_accuracy")
    assert [pair.verdict for pair in against_one.pairs] == ["better", "better"]
    assert [pair.p_corrected for pair in against_one.pairs] == pytest.approx([2 * 2 / 2**7] * 2)
    seven = compare(*names, metric="train_accuracy", pairs="all")
    assert [(pair.setting, pair.baseline) for pair in seven.pairs] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert {pair.seeds_needed for pair in seven.pairs} == {7}
    six = compare(*(name for name in names if not name.endswith("6")), metric="train_accuracy")
    assert sentences.sentences(six) == [
        (
            ["b", "c"],
            "b and c against a: not enough to tell: 6 of 7 paired seeds; 1 more would allow p < .05 "
            "(9 are recommended).",
        )
    ]


def test_only_seeds_finished_in_both_are_paired(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    runs = [Made(f"{x}a{seed}", seed) for seed in (0, 1, 2)]
    runs += [Made(f"{x}b{seed}", seed, "repo", training=0.8) for seed in (1, 2, 3)]
    written(ledger, *runs, Made(f"{x}b0", 0, "repo", status="stopped"))
    found = compare(*(run.name for run in runs), f"{x}b0", metric="train_accuracy", last=1)
    assert only(found).seeds == [1, 2]
    assert [len(setting.runs) for setting in found.settings] == [3, 3]
    assert sentences.left_out(found) == f"1 run left out: {x}b0 (stopped at step 8)."


def test_a_killed_run_is_called_so(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo"), Made(f"{x}c", 1, "repo", status="running"))
    assert compare(f"{x}a", f"{x}b", f"{x}c").left_out[0].why == "killed at step 8"


def test_no_seed_in_common_says_so(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a", 0), Made(f"{x}b", 1, "repo"))
    pair = only(compare(f"{x}a", f"{x}b"))
    assert (pair.seeds, pair.mean, pair.p, pair.verdict) == ([], None, None, "not enough")
    assert "0 of 6 paired seeds; 6 more" in sentences.sentence(pair)


def test_a_difference_without_spread_is_no_division_by_zero(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    pair = only(compare(*eight(ledger, [0.1] * 6, fresh())))
    assert (pair.effect_size, pair.verdict) == (None, "better")
    assert sentences.sentence(pair) == "repo is better than rloo: +.100 (+.100 to +.100), p = .031."


def test_intervals_do_not_depend_on_what_else_is_compared(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    names = eight(ledger, CLEAR, x)
    alone = compare(*names)
    written(ledger, *(Made(f"{x}c{seed}", seed, "c") for seed in range(6)))
    among = compare(*names, *(f"{x}c{seed}" for seed in range(6)))
    assert alone.settings == among.settings[:2]
    assert alone.settings[0].iqm_interval is not None
    assert not alone.settings[0].iqm_interval.is_exact


# --- refusals and warnings ---------------------------------------------------------------------------------


def test_two_runs_of_one_setting_and_seed_are_refused_by_name(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}again"), Made(f"{x}b", 0, "repo"))
    with pytest.raises(ComparisonError, match=rf"{x}a and {x}again have the same setting \(rloo\) .* seed \(0\)"):
        compare(f"{x}a", f"{x}again", f"{x}b")


def test_runs_evaluated_in_different_ways_are_refused(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", items=16))
    with pytest.raises(ComparisonError, match=f"{x}a and {x}b were evaluated in different ways.*items 8 and 16"):
        compare(f"{x}a", f"{x}b")


def test_runs_evaluated_on_different_tasks_are_refused_for_held_out_numbers(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", tasks="2"))
    with pytest.raises(ComparisonError, match="different tasks of book and words"):
        compare(f"{x}a", f"{x}b")
    assert compare(f"{x}a", f"{x}b", metric="train_accuracy").pairs


def test_runs_whose_tasks_changed_at_different_boundaries_are_compared_on_their_ends_alone(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    early, late = Made(f"{x}a", other_from=1), Made(f"{x}b", 0, "repo", other_from=2)
    written(ledger, early, late, Made(f"{x}c", 0, "grpo", other_from=1), Made(f"{x}d", 0, "copo"))
    said = f"{x}a and {x}b were evaluated on the same tasks of book at their ends alone"
    with pytest.raises(ComparisonError, match=f"{said}.* so forgetting cannot be compared"):
        compare(f"{x}a", f"{x}b", metric="forgetting")
    found = compare(f"{x}a", f"{x}b", metric="accuracy")
    assert found.beside is None, "what is left of the entropy at the start is of other tasks"
    assert (found.carry_over.left_out, found.carry_over.outcomes) == (["book"], {})
    assert [text.partition(":")[0] for text in found.warnings] == [f"{x}a", f"{x}b"]
    assert "other held-out tasks than before were measured of book (first after stage 2)" in found.warnings[1]
    alike = compare(f"{x}a", f"{x}c", metric="forgetting")
    assert alike.carry_over.left_out == []
    assert [text.partition(":")[0] for text in alike.warnings] == [f"{x}a and {x}c"], "said where all changed alike too"
    with pytest.raises(ComparisonError, match="different tasks of book"):
        compare(f"{x}a", f"{x}d", metric="accuracy")
    assert compare(f"{x}d", f"{x}a", metric="train_accuracy").carry_over.left_out == ["book"]


def test_tasks_of_environments_that_the_first_run_lacks_are_compared_between_the_others(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    written(
        ledger,
        Made(f"{x}a", accuracy={"book": 0.4}),
        Made(f"{x}b", 0, "repo", accuracy={"words": 0.6}, tasks="1"),
        Made(f"{x}c", 0, "grpo", accuracy={"words": 0.6}, tasks="2"),
    )
    with pytest.raises(ComparisonError, match=f"{x}b and {x}c were evaluated on different tasks of words"):
        compare(f"{x}a", f"{x}b", f"{x}c")


def test_environments_with_other_budgets_are_refused_for_held_out_numbers(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    plain, own = {"type": "made_up"}, {"type": "made_up", "episodes": {"max_tokens": 9}}
    of_a, of_b = ({"environments": {"book": book, "words": plain}} for book in (plain, own))
    written(ledger, Made(f"{x}a", spec=of_a), Made(f"{x}b", 0, "repo", spec=of_b))
    said = r"different budgets.*environments\.book\.episodes\.max_tokens None and 9"
    with pytest.raises(ComparisonError, match=said):
        compare(f"{x}a", f"{x}b")
    assert compare(f"{x}a", f"{x}b", metric="train_accuracy").pairs


def test_samples_are_counted_as_played(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", spec={"step": {"groups": 4, "group_size": 7}}))
    assert not any("budgets" in text for text in compare(f"{x}a", f"{x}b", by=["objective"]).warnings)


def test_different_budgets_are_said(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", lengths=(4, 8)))
    found = compare(f"{x}a", f"{x}b", by=["objective"])
    assert found.warnings[1:] == ["The budgets differ (samples trained on): rloo 64 and repo 96."]


def test_of_budgets_nothing_is_said_where_steps_were_lost(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    """What was trained in them is not known."""
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo"))
    lost = (tables.step.c.run_id == ledger.reading.run_id(f"{x}b")) & (tables.step.c.step <= 2)
    with ledger.engine.begin() as connection:
        connection.execute(delete(tables.step).where(lost))
    warnings = compare(f"{x}a", f"{x}b", by=["objective"]).warnings
    assert any("the record lacks steps 1 to 2" in text for text in warnings)
    assert not any("budgets" in text for text in warnings)


def test_a_setting_whose_runs_differ_in_more_than_the_seed_is_said(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    other = Made(f"{x}a1", 1, spec={"learner": {"lr": 0.1}})
    written(ledger, Made(f"{x}a"), other, Made(f"{x}b", 0, "repo"), Made(f"{x}b1", 1, "repo"))
    names = [f"{x}a", f"{x}a1", f"{x}b", f"{x}b1"]
    assert compare(*names, by=["objective"]).warnings == [
        "The runs of rloo differ in more than their seed: learner.lr."
    ]
    assert [s.label for s in compare(*names).settings] == ["rloo lr=0.001", "rloo lr=0.1", "repo lr=0.001"]


@pytest.mark.parametrize("by", [[], ["objective"]])
def test_settings_that_differ_in_more_than_what_tells_them_apart_are_said(
    ledger: Ledger, compare: Compare, fresh: Fresh, by: list[str]
) -> None:
    x = fresh()
    more = {"learner": {"lr": 0.1, "clip": 1.0}, "step": {"groups": 4, "group_size": 8}}
    runs = [Made(f"{x}a"), Made(f"{x}b", 0, "repo"), Made(f"{x}c", 0, "repo", spec=more)]
    runs.append(Made(f"{x}d", 1, "repo", spec={**more, "learner": {"lr": 0.1, "clip": 0.5}}))
    written(ledger, *runs)
    assert compare(f"{x}a", f"{x}b", by=by).warnings == []
    found = compare(f"{x}a", f"{x}c", by=by)
    assert found.warnings == [
        "The settings also differ in learner.lr, step.group_size and learner.clip: a difference may come from that "
        "too; compare runs that differ in one field alone, or name all of them with --by."
    ]
    assert "differ in objective.preset" not in Page(render(ledger.reading, found)).text
    named = ["objective", "learner.lr", "learner.clip", "step.group_size"]
    assert compare(f"{x}a", f"{x}c", by=named).warnings == []
    mixed = compare(f"{x}a", f"{x}c", f"{x}d", by=["objective"]).warnings
    assert [text.partition(":")[0] for text in mixed] == [
        "The runs of repo differ in more than their seed",
        "The settings also differ in learner.lr and step.group_size",
    ], "each field once"


def test_a_study_s_own_settings_are_as_its_file_has_them(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    name = fresh()
    study(ledger, name, {"rloo": [0.4], "repo": [0.5]})
    assert compare(name).warnings == []


def test_runs_that_go_on_from_one_are_told_of_first(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    first, again = Made(f"{x}q"), Made(f"{x}a1", 1, parent=f"{x}q")
    forks = [again, Made(f"{x}b1", 1, "repo", parent=f"{x}a1"), Made(f"{x}b2", 2, "repo", parent=f"{x}q")]
    written(ledger, first, *forks, Made(f"{x}c2", 2, lengths=(4, 8)))
    found = compare(*(run.name for run in [*forks, Made(f"{x}c2")]), by=["objective"])
    assert found.warnings[0] == f"3 runs are forks of {x}q: what they find holds of that one policy."
    assert found.warnings[-1].startswith("The budgets differ")
    assert facts(found)["warnings"][0] == found.warnings[0]
    assert compare(f"{x}q", f"{x}b2").warnings == [f"{x}b2 is a fork of {x}q: what they find holds of that one policy."]


def test_pairs_that_each_begin_at_a_policy_of_their_own_are_not_forks_of_one(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    firsts = [Made(f"{x}{seed}", seed) for seed in range(2)]
    forks = [Made(f"{run.name}-repo", run.seed, "repo", parent=run.name) for run in firsts]
    written(ledger, *firsts, *forks)
    assert compare(*(run.name for run in [*firsts, *forks])).warnings == []


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        (
            ("finished", "finished"),
            r"of one setting \(all runs: 2 runs\), so there is nothing to compare\..*--by",
        ),
        (("finished", "stopped"), "nothing to compare yet. 1 run not finished: "),
        (("failed", "stopped"), "None of these runs is finished.*2 runs not finished"),
    ],
)
def test_one_setting_alone_is_refused(
    ledger: Ledger, compare: Compare, fresh: Fresh, statuses: tuple[str, str], message: str
) -> None:
    x = fresh()
    names = [f"{x}{i}" for i in range(2)]
    written(ledger, *(Made(name, i, status=s) for i, (name, s) in enumerate(zip(names, statuses, strict=True))))
    with pytest.raises(ComparisonError, match=message):
        compare(*names)


def test_an_unknown_run_or_baseline_is_refused_with_the_nearest(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    names = eight(ledger, [0.1], x)
    with pytest.raises(ComparisonError, match=f"no run and no study '{x}rlo-0'. Did you mean '{x}rloo-0'"):
        compare(f"{x}rlo-0")
    with pytest.raises(ComparisonError, match=r"called 'rlo'\. Did you mean 'rloo'"):
        compare(*names, baseline="rlo")


# --- environments ------------------------------------------------------------------------------------------


def test_one_environment_counts_where_it_is_asked_for(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    found = compare(*eight(ledger, [0.1, 0.2], fresh()), environments=["words"])
    assert (found.strata, found.title) == (["words"], "held-out accuracy after the last stage on words")
    assert scores(found) == {"rloo": [0.5, 0.52], "repo": [0.6, 0.72]}


@pytest.mark.parametrize(
    ("metric", "name", "says"),
    [
        ("accuracy", "word", "No run has an environment 'word'. Did you mean 'words'? There are: book and words."),
        ("train_accuracy", "words", "train_accuracy is not measured by environment, so none can be chosen for it."),
    ],
)
def test_an_environment_that_cannot_count_is_refused(
    ledger: Ledger, compare: Compare, metric: str, name: str, says: str
) -> None:
    with pytest.raises(ComparisonError, match=re.escape(says)):
        compare(*clear(ledger), metric=metric, environments=[name])


def test_a_study_registers_the_environments_that_count(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    name = fresh() + "study"
    registered = {"metric": "accuracy", "baseline": "rloo", "environments": ["words"]}
    study(ledger, name, {"rloo": [0.1, 0.2], "repo": [0.5, 0.4]}, registered)
    found, other = compare(name), compare(name, environments=["book"])
    assert (found.strata, found.is_primary) == (["words"], True)
    assert (other.strata, other.is_primary) == (["book"], False)
    assert sentences.how_registered(other) == "exploratory: the study registered accuracy on words against rloo"
    assert compare(name, metric="train_accuracy").strata == ["stage 1", "stage 2"], "it is of stages: all count"


# --- studies and twins -------------------------------------------------------------------------------------


def test_a_study_is_compared_as_it_registered(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    name = fresh() + "study"
    registered = {"metric": "train_accuracy", "last": 1, "by": None, "baseline": "repo"}
    study(ledger, name, {"rloo": [0.1, 0.2], "repo": [0.5, 0.4]}, registered)
    found = compare(name)
    assert (found.name, found.metric, found.last, found.baseline) == (name, "train_accuracy", 1, "repo")
    assert found.is_primary
    assert scores(found) == {"rloo": [0.1, 0.2], "repo": [0.5, 0.4]}
    assert sentences.how_registered(found) == "primary: what the study registered"


@pytest.mark.parametrize(
    "asked",
    [
        {"metric": "accuracy"},
        {"last": 2},
        {"baseline": "rloo"},
        {"pairs": "all"},
        {"by": ["learner.lr", "objective"]},
    ],
)
def test_anything_else_is_exploratory(ledger: Ledger, compare: Compare, fresh: Fresh, asked: dict[str, object]) -> None:
    name = fresh() + "study"
    registered = {"metric": "train_accuracy", "last": 1, "by": None, "baseline": "repo"}
    study(ledger, name, {"rloo": [0.1, 0.2], "repo": [0.5, 0.4]}, registered)
    found = compare(name, **asked)
    assert not found.is_primary
    assert sentences.how_registered(found) == (
        "exploratory: the study registered train_accuracy over the last 1 step of each stage against repo"
    )


def test_what_is_of_no_study_is_exploratory(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    assert sentences.how_registered(compare(*eight(ledger, [0.1], fresh()))).startswith("exploratory: nothing")


def test_a_study_keeps_the_order_of_its_settings_and_says_what_is_missing(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    name = fresh() + "study"
    study(ledger, name, {"c": [0.1, 0.2, 0.3], "a": [0.5, 0.4]}, {"metric": "accuracy", "baseline": "gone"})
    found = compare(name)
    assert [setting.label for setting in found.settings] == ["c", "a"]
    assert found.warnings == [
        "1 run of the study's 6 not started yet.",
        "The registered baseline gone has no finished run yet.",
    ]


SIX = [0.1, 0.2, 0.15, 0.12, 0.11, 0.3]


@pytest.mark.parametrize("by", [None, "objective"])
def test_another_baseline_than_the_plans_first_setting_is_said_and_exploratory(
    ledger: Ledger, compare: Compare, fresh: Fresh, by: str | None
) -> None:
    name = fresh() + "study"
    study(ledger, name, {"rloo": [], "grpo": SIX, "repo": [0.5 + one for one in SIX]}, {"metric": "accuracy", "by": by})
    found = compare(name)
    assert (found.baseline, found.is_primary, only(found).num_comparisons) == ("grpo", False, 1)
    assert found.warnings[-1] == (
        "rloo, the study's first setting and so its baseline, has no finished run to compare yet: "
        "the others are compared with grpo."
    )
    assert sentences.how_registered(found).endswith(" against rloo")
    for asked in ({"baseline": "grpo"}, {"pairs": "all"}):
        assert not [text for text in compare(name, **asked).warnings if "first setting" in text]


@pytest.mark.parametrize("by", [None, "objective"])
def test_a_study_whose_settings_are_in_another_order_since_keeps_its_baseline(
    ledger: Ledger, compare: Compare, fresh: Fresh, by: str | None
) -> None:
    name, better = fresh() + "study", [0.5 + one for one in SIX]
    settings, registered = {"grpo": better, "rloo": SIX}, {"metric": "accuracy", "by": by}
    study(ledger, name, settings, registered, first_setting_registered="rloo")
    found = compare(name)
    assert (found.baseline, found.is_primary, only(found).setting) == ("rloo", True, "grpo")
    assert not compare(name, baseline="grpo").is_primary


@pytest.mark.parametrize("by", [None, "objective"])
def test_what_a_study_set_out_to_compare_is_corrected_for_all_its_settings(
    ledger: Ledger, compare: Compare, fresh: Fresh, by: str | None
) -> None:
    name = fresh() + "study"
    study(ledger, name, {"rloo": SIX, "repo": [0.5 + one for one in SIX], "grpo": []}, {"metric": "accuracy", "by": by})
    found = compare(name)
    assert (found.baseline, found.is_primary, found.num_comparisons) == ("rloo", True, 2)
    assert only(found).p_corrected == 2 * (only(found).p or 0)
    assert only(found).verdict == "not enough"
    assert found.beside is not None
    assert [pair.num_comparisons for pair in found.beside.pairs] == [2]
    assert "corrected for 2 comparisons" in sentences.how_computed(found)[-1]
    assert only(compare(name, metric="train_accuracy")).verdict == "better"


def test_seeds_that_were_added_to_a_study_are_said(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    name, same = fresh() + "study", fresh() + "study"
    scored = {"rloo": [0.1, 0.2, 0.3], "repo": [0.5, 0.4, 0.4]}
    study(ledger, name, scored, {"metric": "accuracy"}, num_seeds_registered=2)
    study(ledger, same, scored, {"metric": "accuracy"}, num_seeds_registered=3)
    assert compare(name).warnings == [
        "3 seeds, 2 were registered: if a verdict was looked at before the others were added, p is too small."
    ]
    assert compare(same).warnings == []


def test_a_study_by_a_field(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    name = fresh() + "study"
    study(ledger, name, {"rloo": [0.1], "repo": [0.5]}, {"metric": "accuracy", "by": "objective"})
    found = compare(name)
    assert (found.by, found.is_primary) == (["objective.preset"], True)


def test_a_run_alone_is_compared_with_its_twin(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    run = Made(f"{x}run", 3)
    written(ledger, run, replace(run, name=f"{x}twin", bandit="uniform", baseline_of=f"{x}run", training=0.1))
    for name in (f"{x}run", f"{x}twin"):
        pair = only(compare(name, metric="train_accuracy", last=1))
        assert (pair.setting, pair.baseline, pair.seeds) == ("sec", "uniform", [3])
        assert pair.mean == pytest.approx(0.4)
        assert "not enough to tell: 1 of 6" in sentences.sentence(pair)


def test_facts_are_plain_data(ledger: Ledger, compare: Compare) -> None:
    found = facts(compare(*clear(ledger)))
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["pairs"][0]["in_words"].startswith("repo is better than rloo")
    assert again["settings"][0]["runs"][0]["seed"] == 0
    assert again["standing"].startswith("exploratory")


def test_entropy_along_the_training_of_samples_at_another_temperature_is_no_share_of_the_start(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    warm, cold = ({"sampler": {"temperature": one}} for one in (1.0, 0.5))
    names = [f"{x}a", f"{x}b", f"{x}of_cold", f"{x}back"]
    written(
        ledger,
        Made(names[0], spec=warm),
        Made(names[1], spec=cold),
        Made(names[2], spec=warm, parent=names[1]),  # after its first stage
        Made(names[3], spec=warm, parent=names[0]),
    )
    assert [ledger.reading.is_plainly_sampled(name) for name in names] == [True, False, False, True]
    begun_cold = [way["temperature"] for way in ledger.reading.samplings(names[2])]
    assert (begun_cold, len(ledger.reading.samplings(names[3]))) == ([0.5, 1.0], 1)
    numbers = [carryover.of_run(ledger.reading.carry_over(name)) for name in names]
    assert [one["entropy_cumulative"] is not None for one in numbers] == [True, False, False, True]
    assert all(one["entropy_left"] is not None for one in numbers)
    written(ledger, Made(f"{x}c", 0, "repo"), Made(f"{x}d", spec={"sampler": {"top_p": 0.9}}))
    found = compare(names[0], f"{x}c", f"{x}d", metric="cumulative")
    why = "no cumulative: not all of its training was sampled at temperature 1 with nothing cut off"
    assert [(one.run, one.why) for one in found.left_out] == [(f"{x}d", why)]
    with pytest.raises(ComparisonError, match=r"no cumulative to compare: \S+d has none \(not all of its training"):
        compare(names[0], f"{x}d", metric="cumulative")


def test_entropy_in_training_of_other_distributions_is_said_to_differ_by_that(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    written(
        ledger,
        Made(f"{x}a"),
        Made(f"{x}b", 0, "repo"),
        Made(f"{x}c", spec={"sampler": {"temperature": 0.5, "top_k": 0}}),
    )
    said = (
        "The runs differ in temperature, and entropy in training is that of what tokens were drawn from: "
        "`--metric entropy` compares the policies themselves."
    )
    assert said in compare(f"{x}a", f"{x}c", metric="train_entropy").warnings
    assert said not in compare(f"{x}a", f"{x}c", metric="train_accuracy").warnings
    assert compare(f"{x}a", f"{x}b", metric="train_entropy").warnings == []
