"""Sentences are true: they say what the numbers print."""

from __future__ import annotations

from typing import Any

import pytest

from store import sentences
from store.sentences import duration

Change = tuple[float, float]  # before and after


def story(
    accuracy: dict[str, Change] | None = None, entropy: dict[str, Change] | None = None, **facts: Any
) -> dict[str, Any]:
    names = list(accuracy or entropy or {})
    return {
        "num_boundaries": 3,
        "num_steps": 10,
        "scheduler": "sequence",
        "warm_start": None,
        "matrices": {"pass_1": {}},
        "environments": {
            name: {
                "accuracy_start": accuracy[name][0] if accuracy else None,
                "accuracy_change": accuracy[name][1] - accuracy[name][0] if accuracy else None,
                "accuracy_change_stderr": None,
                "accuracy_since_best": None,
                "accuracy_since_best_stderr": None,
                "entropy_start": entropy[name][0] if entropy else None,
                "entropy_end": entropy[name][1] if entropy else None,
            }
            for name in names
        },
        "stages": [{"environment": name} for name in names],
        "changed_tasks": {},
        "kept": None,
        "arms": [],
        "allocation": [],
        "taught": [],
        "events": [],
        **facts,
    }


def arm(bandit: str, name: str, least: float, most: float, is_scheduler: bool = False) -> dict[str, Any]:
    return {
        "bandit": bandit,
        "arm": name,
        "probability_min": least,
        "probability_max": most,
        "is_scheduler": is_scheduler,
    }


@pytest.mark.parametrize(
    ("accuracy", "sentence"),
    [
        (
            {"a": (0.15, 0.40), "b": (0.37, 0.54), "c": (0.2, 0.21)},
            "2 of 3 environments gained .10 of accuracy or more (a +.25 and b +.17); "
            "none lost more than .03 since before training.",
        ),
        (
            {"a": (0.5, 0.4), "b": (0.4, 0.35)},
            "0 of 2 environments gained .10 of accuracy or more; "
            "a -.10 and b -.05 lost more than .03 since before training.",
        ),
        (  # what prints as +.10 counts, what prints as -.03 does not
            {"a": (0.1, 0.196), "b": (0.4, 0.366)},
            "1 of 2 environments gained .10 of accuracy or more (a +.10); "
            "none lost more than .03 since before training.",
        ),
        (
            dict.fromkeys("abcdef", (0.0, 0.5)),
            "6 of 6 environments gained .10 of accuracy or more (a +.50, b +.50, c +.50, d +.50 and 2 more); "
            "none lost more than .03 since before training.",
        ),
        (
            {"a": (0.1, 0.3)},
            "1 of 1 environment gained .10 of accuracy or more (a +.20); "
            "none lost more than .03 since before training.",
        ),
    ],
)
def test_what_was_learnt(accuracy: dict[str, Change], sentence: str) -> None:
    assert sentences.what_was_learnt(story(accuracy)) == sentence


def test_a_change_within_two_standard_errors_is_told_as_perhaps_chance() -> None:
    facts = story({"a": (0.5, 0.44), "b": (0.5, 0.44), "c": (0.1, 0.3), "d": (0.1, 0.3), "e": (0.5, 0.51)})
    for name, stderr in {"a": 0.04, "b": 0.02, "c": 0.12, "d": 0.05, "e": 0.2}.items():
        facts["environments"][name]["accuracy_change_stderr"] = stderr
    assert sentences.what_was_learnt(facts) == (
        "1 of 5 environments gained .10 of accuracy or more (d +.20); b -.06 lost more than .03 since before "
        "training; within two standard errors, so perhaps chance: a -.06 and c +.20."
    )


def test_an_environment_that_was_not_measured_since_is_not_counted_as_kept() -> None:
    facts = story({"a": (0.1, 0.4), "b": (0.2, 0.2)}, {"a": (1.0, 0.04), "b": (1.0, 1.0)})
    facts["environments"]["b"] |= {"accuracy_change": None, "entropy_end": None}
    assert sentences.what_was_learnt(facts) == (
        "1 of 1 environment gained .10 of accuracy or more (a +.30); none lost more than .03 since before training; "
        "not known of b."
    )
    assert sentences.what_it_cost(facts) == (
        "Entropy fell to 4% of its start on a (1.00 to .04 nats a token); it has collapsed on a (below .05)."
    )


def test_what_was_lost_since_its_best_is_told_where_it_is_more() -> None:
    facts = story({"a": (0.01, 0.63), "b": (0.02, 0.53), "c": (0.5, 0.3), "d": (0.1, 0.3), "e": (0.1, 0.3)})
    falls = {"a": (-0.22, 0.02), "b": (-0.18, None), "c": (-0.2, 0.02), "d": (-0.06, 0.04), "e": (-0.034, 0.01)}
    for name, (fall, stderr) in falls.items():
        facts["environments"][name] |= {"accuracy_since_best": fall, "accuracy_since_best_stderr": stderr}
    assert sentences.what_was_learnt(facts) == (
        "4 of 5 environments gained .10 of accuracy or more (a +.62, b +.51, d +.20 and e +.20); c -.20 lost more "
        "than .03 since before training; since their best a -.22 and b -.18."
    )


def test_of_a_run_whose_record_was_lost_nothing_is_told_as_not_begun() -> None:
    lost = {"num_boundaries": 0, "stages": [], "taught": [], "environments": {}, "missing": "the record lacks all"}
    assert sentences.what_was_learnt(lost) == "No finished stage is on record."
    assert sentences.what_it_cost(lost) == "What it cost in entropy is not on record."
    assert sentences.what_was_chosen(lost) == "No stage is on record."
    assert sentences.what_taught(lost) == "No group is on record."


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"num_boundaries": 1}, "No stage is finished yet."),
        ({"environments": {}}, "Nothing has a held-out accuracy from before training and from after a stage."),
    ],
)
def test_nothing_is_claimed_of_what_was_not_measured(facts: dict[str, Any], said: str) -> None:
    told = sentences.in_words(story({"a": (0.1, 0.1)}, {"a": (1, 1)}, **facts))
    assert told["Learnt"] == said


@pytest.mark.parametrize(
    ("entropy", "sentence"),
    [
        (
            {"a": (2.0, 1.0), "b": (1.0, 0.125)},
            "Entropy fell to 25% of its start (geometric mean of 2 environments): least is left on b, 12% "
            "(1.00 to .12 nats a token), most on a, 50% (2.00 to 1.00 nats a token).",
        ),
        (
            {"a": (1.0, 0.02), "b": (1.0, 4.5)},
            "Entropy fell to 30% of its start (geometric mean of 2 environments): least is left on a, 2% "
            "(1.00 to .02 nats a token), most on b, 450% (1.00 to 4.50 nats a token); "
            "it has collapsed on a (below .05).",
        ),
        ({"a": (1.0, 1.02)}, "Entropy stayed at 102% of its start on a (1.00 to 1.02 nats a token)."),
        ({"a": (1.0, 2.0)}, "Entropy rose to 200% of its start on a (1.00 to 2.00 nats a token)."),
        (
            {"a": (1.0, 0.5), "b": (2.0, 1.0)},
            "Entropy fell to 50% of its start (geometric mean of 2 environments), alike on all of them.",
        ),
        (  # a ratio to nothing says nothing: plasticity.md 0, floor .05
            {"a": (0.01, 0.5), "b": (1.0, 0.5)},
            "Entropy fell to 50% of its start on b (1.00 to .50 nats a token).",
        ),
        (
            {"a": (0.01, 0.5)},
            "Entropy cannot be compared: at the start it is not on record, or next to nothing.",
        ),
    ],
)
def test_what_it_cost(entropy: dict[str, Change], sentence: str) -> None:
    assert sentences.what_it_cost(story(entropy=entropy)) == sentence


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"arms": [arm("a", "x", 0.1, 0.9), arm("b", "y", 0.4, 0.5), arm("*", "a", 0, 1, True)]},
            "Of 3 stages the sequence scheduler gave a 2 and b 1; the bandits moved most on a.x, whose "
            "probability went between .10 and .90.",
        ),
        (
            {"stages": [{"environment": "a"}, {"environment": "b"}], "arms": [arm("a", "x", 0.5, 0.5)]},
            "Each of 2 environments had one stage, so that none was chosen again; the bandits' probabilities did not "
            "move.",
        ),
        (
            {"arms": [arm("a", "x", 0.5, 0.5)]},
            "Of 3 stages the sequence scheduler gave a 2 and b 1; the bandits' probabilities did not move.",
        ),
        (
            {"stages": [{"environment": None}], "arms": [arm("*", "a/x", 0.1, 0.3)]},
            "One bandit chose among all categories; it moved most on a/x, whose probability went between .10 and .30.",
        ),
        (
            {},
            "Of 3 stages the sequence scheduler gave a 2 and b 1; how the bandits' probabilities moved was not kept.",
        ),
        ({"num_steps": 0, "stages": []}, "No stage has begun."),
    ],
)
def test_what_was_chosen(facts: dict[str, Any], sentence: str) -> None:
    stages = [{"environment": name} for name in "aba"]
    assert sentences.what_was_chosen(story(**{"stages": stages, **facts})) == sentence


@pytest.mark.parametrize(
    ("num_scored", "steps", "sentence"),
    [
        (2000, [], "All 2,000 training samples were scored; every update was applied."),
        (
            1990,
            [3, 17],
            "10 of 2,000 training samples (0.5%) could not be scored; "
            "updates were skipped in 2 steps, last in step 17.",
        ),
    ],
)
def test_what_went_wrong(num_scored: int, steps: list[int], sentence: str) -> None:
    events = [{"kind": "skipped update", "step": step} for step in steps]
    allocation = [
        {"num_samples": 1000, "num_scored": 1000},
        {"num_samples": 1000, "num_scored": num_scored - 1000},
    ]
    assert sentences.what_went_wrong(story(allocation=allocation, events=events)) == sentence


def test_alarms_are_counted_beside_what_went_wrong() -> None:
    events = [{"kind": "alarm", "step": 3}, {"kind": "alarm", "step": 1017}]
    told = sentences.what_went_wrong(story(allocation=[{"num_samples": 9, "num_scored": 9}], events=events))
    assert told == "All 9 training samples were scored; every update was applied. Alarms raised: 2, last in step 1,017."


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (0.371, ".37", "+.37"),
        (-0.05, "-.05", "-.05"),
        (1.066, "1.07", "+1.07"),
        (-0.004, ".00", ".00"),
        (0.0, ".00", ".00"),
        (10.5, "10.50", "+10.50"),
        (None, "-", "-"),
    ],
)
def test_numbers(value: float | None, plain: str, with_sign: str) -> None:
    assert (sentences.number(value), sentences.signed(value)) == (plain, with_sign)


@pytest.mark.parametrize(
    ("seconds", "text"), [(47.6, "48 s"), (170, "2 min 50 s"), (3605, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcd", "a, b, c and d"), ("abcde", "a, b, c and 2 more")],
)
def test_what_is_beyond_the_named_is_counted_unless_it_is_a_single_one(names: str, text: str) -> None:
    assert sentences.listed(list(names), 3) == text


@pytest.mark.parametrize(
    ("name", "limit", "text"),
    [("words", 8, "words"), ("category 12", 8, "categ…12"), ("x" * 100, 40, "x" * 26 + "…" + "x" * 13)],
)
def test_long_names_keep_their_ends(name: str, limit: int, text: str) -> None:
    assert sentences.short(name, limit) == text
    assert len(text) <= limit


@pytest.mark.parametrize(
    ("status", "num_boundaries", "standing"),
    [
        ("running", 4, "finished"),
        ("running", 3, "running"),
        ("stopped", 3, "stopped"),
        ("failed", 4, "failed"),
    ],
)
def test_a_run_that_is_still_held_after_its_last_boundary_is_finished(
    status: str, num_boundaries: int, standing: str
) -> None:
    facts = {"status": status, "num_boundaries": num_boundaries, "planned_stages": 3}
    assert sentences.how_it_stands(story(**facts)) == standing


def taught(*rows: tuple[str, str, int, int]) -> list[dict[str, Any]]:
    keys = ("environment", "category", "num_groups", "num_taught")
    return [dict(zip(keys, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "No group was played yet."),
        ([("a", "x", 40, 40)], "Of 40 groups 100% had a signal."),
        ([("a", "x", 40, 0)], "Of 40 groups 0% had a signal; in the others all samples earned the same."),
        (
            [("a", "x", 30, 27), ("b", "x", 60, 3), ("a", "y", 10, 9)],
            "Of 100 groups 39% had a signal (b 5% and a 90%); in the others all samples earned the same.",
        ),
    ],
)
def test_what_taught(rows: list[tuple[str, str, int, int]], sentence: str) -> None:
    assert sentences.what_taught(story(taught=taught(*rows))) == sentence


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ({"play": 15.0, "wait": 0.0, "update": 5.0}, "20 s in steps (play 75%, update 25%), 1 min 12 s in evaluation"),
        ({"play": 0.0}, "0 s in steps, 1 min 12 s in evaluation"),
    ],
)
def test_time_is_that_of_steps_and_evaluation_and_says_so(steps: dict[str, float], sentence: str) -> None:
    told = sentences.where_time_went(story(seconds={**steps, "evaluate": 72.0}))
    assert told == f"{sentence}; start-up and warm start are not counted"


@pytest.mark.parametrize(
    ("num_scored", "sentence"),
    [
        (0, "No sample of 40 groups could be scored, so none had a signal."),
        (
            300,
            "Of 40 groups 10% had a signal; in the others all samples that were scored earned the same, or none was.",
        ),
        (320, "Of 40 groups 10% had a signal; in the others all samples earned the same."),
    ],
)
def test_what_was_not_scored_did_not_earn_the_same(num_scored: int, sentence: str) -> None:
    allocation = [{"num_samples": 320, "num_scored": num_scored}]
    rows = taught(("a", "x", 40, 4 if num_scored else 0))
    assert sentences.what_taught(story(taught=rows, allocation=allocation)) == sentence


def test_the_share_of_an_environment_is_over_its_categories() -> None:
    rows = taught(("a", "x", 30, 27), ("b", "x", 60, 3), ("a", "y", 10, 0))
    shares = [sentences.share_taught(rows, *key) for key in (("a",), ("a", "y"), ("b",), ("c",))]
    assert shares == [27 / 40, 0.0, 0.05, None]


@pytest.mark.parametrize(
    ("share", "text"), [(None, "-"), (0, "0%"), (0.004, "<1%"), (0.5, "50%"), (0.996, ">99%"), (1.0, "100%")]
)
def test_a_share_is_nothing_or_all_only_if_it_is(share: float | None, text: str) -> None:
    assert sentences.percent(share) == text


# --- the warm start ---


def test_a_warm_start_is_told_by_what_it_taught_before_the_first_step() -> None:
    warm = {"num_batches": 1_200, "environments": ["book", "words"]}
    measured = {"pass_1": {"0": {"book": 0.301, "words": 0.0, "gcd": None}, "1": {"book": 0.9}}}
    facts = story(warm_start=warm, matrices=measured)
    assert sentences.how_it_began(facts) == (
        "After the warm start (1,200 supervised batches on book and words), before the first step, held-out accuracy "
        "was .30 on book and .00 on words."
    )
    assert "Start" in sentences.in_words(facts)
    assert sentences.how_it_began(story(warm_start=warm)) is None, "it goes on"
    unscored = {"pass_1": {"0": {"gcd": None}}}
    assert sentences.how_it_began(story(warm_start=warm, matrices=unscored)) is None
    assert sentences.how_it_began(story(matrices=measured)) is None


def test_environments_whose_held_out_tasks_changed_are_named_first() -> None:
    facts = story({"a": (0.1, 0.9)}, changed_tasks={"a": [2, 5], "b": [3]})
    title, sentence = next(iter(sentences.in_words(facts).items()))
    assert title == "Tasks"
    assert sentence.startswith(
        "Other held-out tasks than before were measured of a (first after stage 2 and 5) and b ("
    )
    assert "Tasks" not in sentences.in_words(story({"a": (0.1, 0.9)}))
