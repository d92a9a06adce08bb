"""What the last new environment says of a run beside its twin: its stage, when a policy still learns, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from store.comparison import scores
from store.kept import kept_beside
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.plasticity import carried
from store.report.report_data import ReportData
from store.run_summary import facts, settings_in_words
from store.sentences import beside_the_baseline, in_words, what_carried, what_was_kept
from tests.store.comparison.runs import Made, written
from tests.store.plasticity_runs import plastic

STEPS = 40
LONG = (STEPS, STEPS)


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as made:
        yield made


@dataclass(frozen=True)
class Told:
    """Stages: environment, its accuracy before and after."""

    stages_: Sequence[tuple[str | None, float | None, float | None]]
    parent_stage: int | None = None


class Stub:
    """What `kept_beside` asks a ledger, of runs that nobody wrote down."""

    def __init__(self, **runs: Told) -> None:
        self.runs = runs

    def run(self, name: str) -> Told:
        return self.runs[name]

    def stages(self, name: str) -> list[Any]:
        return [
            SimpleNamespace(stage=i, environment=of[0], end_step=STEPS * i)
            for i, of in enumerate(self.runs[name].stages_, start=1)
        ]

    def task_sets(self, name: str) -> list[Any]:
        return []

    def matrix(self, name: str, metric: str, by_category: bool = True) -> list[Any]:
        assert metric == "pass_1"
        return [
            SimpleNamespace(environment=of[0], category=category, after_stage=after, value=value)
            for i, of in enumerate(self.runs[name].stages_, start=1)
            for after, environments in ((i - 1, of[1]), (i, of[2]))
            for category, value in ((None, environments), ("easy", 1.0))
            if by_category or category is None
        ]


def kept(ours: Told, theirs: Told) -> dict[str, Any] | None:
    return kept_beside(cast(Reading, Stub(a=ours, b=theirs)), "a", "b")


def pair(end: float | None, begin: float | None = 0.1, first: float = 0.8) -> Told:
    return Told([("x", 0.1, first), ("y", begin, end)])


def test_it_is_the_last_stage_on_an_environment_that_was_new() -> None:
    found = kept(
        Told([("x", 0, 0.8), ("y", 0, 0.6), ("x", 0, 0.9)]), Told([("x", 0, 0.7), ("x", 0, 0.8), ("z", 0, 0.2)])
    )
    assert found is not None
    assert (found["environment"], found["stage"], found["accuracy"], found["num_environments"]) == ("y", 2, 0.6, 2)
    assert (found["accuracy_first_stage"], found["rise"]) == (0.8, 0.6)
    twin = found["twin"]
    assert (twin["name"], twin["environment"], twin["stage"], twin["accuracy"]) == ("b", "z", 3, 0.2)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Told([("x", 0, 0.8), ("x", 0, 0.9)]), pair(0.5)),  # no second environment
        (pair(0.5), Told([("x", 0, 0.8)])),  # the twin is in its second stage
        (Told([(None, 0, 0.8), (None, 0, 0.9)]), Told([(None, 0, 0.8), (None, 0, 0.9)])),  # flat mode
        (pair(None), pair(0.5)),  # nothing could be scored after it
        (replace(pair(0.5), parent_stage=2), replace(pair(0.4), parent_stage=2)),  # what a fork has of its parent
    ],
)
def test_it_is_not_known_before_both_have_trained_two_environments(ours: Told, theirs: Told) -> None:
    assert kept(ours, theirs) is None


def test_a_run_is_told_as_far_as_its_twin_is() -> None:
    found = kept(Told([*pair(0.6).stages_, ("z", 0, 0.9)]), pair(0.3))
    assert found is not None
    assert (found["environment"], found["num_environments"]) == ("y", 2)


@pytest.mark.parametrize(
    ("end", "begin", "learns"),
    [
        (0.4, 0.3, True),  # half of the first stage's .8, and a rise
        (0.4, 0.36, None),  # it came with what it has
        (0.39, 0.1, None),  # it rose, to less than half
        (0.2, 0.16, False),
        (0.2, None, None),  # nothing could be scored before it
    ],
)
def test_a_policy_still_learns_where_it_rises_to_half_of_what_it_first_reached(
    end: float, begin: float | None, learns: bool | None
) -> None:
    found = kept(pair(end, begin), pair(0.5))
    assert found is not None
    assert found["learns"] is learns


def test_accuracy_is_that_by_which_runs_are_compared(ledger: Ledger) -> None:
    made = Made("demo", accuracy={"book": 0.8, "words": 0.7}, spec={"baseline": {"objective": "grpo"}})
    poor = {"book": 0.8, "words": 0.05}
    twin = replace(made, name="demo-grpo", objective="grpo", accuracy=poor, baseline_of="demo", spec={})
    written(ledger, made, twin)
    found = facts(ledger, Path("runs/demo"), "demo")
    for one, run in ((found["kept"], "demo"), (found["kept"]["twin"], "demo-grpo")):
        assert one["accuracy"] == scores.scores(ledger.reading, run, scores.measure("accuracy"))["words"]
        assert one["accuracy_first_stage"] == 0.4
    assert (found["kept"]["learns"], found["kept"]["twin"]["learns"]) == (True, False)
    assert found["kept"]["rise"] == pytest.approx(0.35)
    assert next(iter(in_words(found).items())) == (
        "Kept",
        "After 2 environments the policy still learns: accuracy on words after its stage (2) is .70, .05 in demo-grpo, "
        "the same run with objective grpo.",
    )
    assert facts(ledger, Path("runs/demo-grpo"), "demo-grpo")["kept"] is None


def test_nothing_is_said_across_a_change_of_held_out_tasks(ledger: Ledger) -> None:
    made = Made("changed", accuracy={"words": 0.8, "book": 0.7}, spec={"baseline": {"objective": "grpo"}})
    twin = replace(made, name="changed-grpo", objective="grpo", baseline_of="changed", spec={})
    own = replace(made, name="changed-too", other_from=2)  # from the end of the stage on book
    written(ledger, made, twin, own, replace(twin, name="too-grpo", baseline_of="changed-too", other_from=2))
    written(ledger, replace(made, name="alone", other_from=2), replace(twin, name="alone-grpo", baseline_of="alone"))
    read = ledger.reading
    whole, both = kept_beside(read, "changed", "changed-grpo"), kept_beside(read, "changed-too", "too-grpo")
    assert whole is not None
    assert both is not None
    assert (whole["rise"], whole["learns"]) == (pytest.approx(0.35), True)
    assert (both["rise"], both["learns"]) == (None, None)
    assert kept_beside(read, "alone", "alone-grpo") is None


@pytest.mark.parametrize("is_twin", [True, False])  # whose tasks changed
def test_a_run_is_not_subtracted_from_a_twin_on_other_held_out_tasks(
    ledger: Ledger, tmp_path: Path, is_twin: bool
) -> None:
    who = f"edited-{is_twin}"
    made = Made(who, accuracy={"words": 0.8, "book": 0.7}, spec={"baseline": {"objective": "grpo"}})
    twin = replace(made, name=f"{who}-grpo", baseline_of=who, accuracy={"words": 0.6, "book": 0.1}, spec={})
    edited = replace(twin if is_twin else made, other_from=2)
    written(ledger, *((made, edited) if is_twin else (edited, twin)))
    found = facts(ledger, tmp_path, who)
    beside = found["baseline"]
    assert beside["accuracy_change"] == {"words": pytest.approx(0.2), "book": None}
    assert (beside["other_tasks"], beside["entropy_carried"]) == (["book"], None)
    assert beside_the_baseline(found) == (
        f"After 2 stages, accuracy beside {who}-grpo, the same run with objective grpo: words +.20; not of book, where "
        "other held-out tasks were measured. One pair of runs proves nothing."
    )
    shown = ReportData(ledger, tmp_path, who).twin
    assert shown is not None
    of_wholes = [(cell.environment, cell.after_stage) for cell in shown.accuracy if cell.category is None]
    assert sorted(of_wholes) == [("book", 0), ("book", 1), ("words", 0), ("words", 1), ("words", 2)]


def test_where_all_held_out_tasks_are_others_nothing_is_compared(ledger: Ledger, tmp_path: Path) -> None:
    made = Made("one", accuracy={"book": 0.7}, spec={"baseline": {"objective": "grpo"}})
    written(ledger, made, replace(made, name="one-grpo", tasks="2", baseline_of="one", spec={}))
    assert beside_the_baseline(facts(ledger, tmp_path, "one")) == (
        "After 2 stages, accuracy cannot be compared with one-grpo, the same run with objective grpo: other held-out "
        "tasks were measured of book."
    )


def said(ours: float, theirs: float, learns: bool | None, **twin: Any) -> str:
    one = {"environment": "black", "stage": 5, "accuracy": ours, "num_environments": 5, "learns": learns}
    beside = {"settings_in_words": "objective grpo"}
    sentence = what_was_kept(
        {"kept": {**one, "twin": {**one, "accuracy": theirs, "name": "demo-grpo", **twin}}, "baseline": beside}
    )
    assert sentence is not None
    assert len(sentence) <= 200
    assert sentence.endswith(" demo-grpo, the same run with objective grpo.")
    return sentence


@pytest.mark.parametrize(
    ("ours", "theirs", "learns", "begins"),
    [
        (
            0.84,
            0.35,
            True,
            "After 5 environments the policy still learns: accuracy on black after its stage (5) is",
        ),
        (0.45, 0.9, True, "After 5 environments the policy still learns, less than its twin: accuracy on"),
        (0.05, 0.8, False, "After 5 environments the policy no longer learns: accuracy on"),
        (0.3, 0.8, None, "After 5 environments, accuracy on black after its stage (5) is .30, .80 in demo-grpo"),
        (0.84, 0.75, True, "After 5 environments the policy does as its twin does: accuracy on"),
        (0.844, 0.746, True, "After 5 environments the policy does as its twin does: accuracy on"),  # prints .09
        (0.84, 0.744, True, "After 5 environments the policy still learns: accuracy on"),  # prints .10
        (0.02, 0.03, False, "After 5 environments the policy does as its twin does: accuracy on"),
    ],
)
def test_what_was_kept(ours: float, theirs: float, learns: bool | None, begins: str) -> None:
    assert said(ours, theirs, learns).startswith(begins)


def test_two_places_are_both_named() -> None:
    both = "accuracy on black after its stage (5) is .84, .35 on white after its stage (4) in demo-grpo"
    assert both in said(0.84, 0.35, True, environment="white", stage=4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"curriculum.bandit": "uniform"}, "the uniform bandit"),
        ({"curriculum.bandit": {"type": "sec", "floor": 0.1}}, "bandit sec and floor 0.1"),
        ({"curriculum.stage.replay": 0, "objective": "grpo"}, "objective grpo and replay 0"),
        ({"objective": {"preset": "rloo", "entropy_bonus": 0.05}}, "objective rloo and entropy_bonus 0.05"),
        ({"a.share": 1, "b.share": 2}, "a.share 1 and b.share 2"),
    ],
)
def test_settings_of_a_twin_are_told_in_few_words(settings: dict[str, Any], words: str) -> None:
    assert settings_in_words(settings) == words


def test_the_entropy_that_the_twin_carried_stands_beside(ledger: Ledger) -> None:
    run = plastic(ledger, "plastic").name
    found = facts(ledger, Path("runs") / run, run)
    assert carried(ledger.reading, run) == found["plasticity"]["entropy_carried"]
    own = {**found["plasticity"]["entropy_carried"], "mean": 0.09}
    alone = what_carried(found)["Carried"]
    paired = what_carried({**found, "baseline": {"name": "demo-grpo", "entropy_carried": own}})["Carried"]
    assert paired == f"{alone.removesuffix('.')}; 9% in demo-grpo."
    for other in (None, {**own, "metric": "something else"}):
        assert what_carried({**found, "baseline": {"name": "demo-grpo", "entropy_carried": other}})["Carried"] == alone
