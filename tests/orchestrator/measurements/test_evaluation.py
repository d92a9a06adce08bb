from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from environments import Pool, Task
from environments.codebook import Codebook, Config
from orchestrator.episode_options import Budgets
from orchestrator.measurements import evaluation
from orchestrator.measurements.contracts import Findings
from orchestrator.measurements.evaluation import Evaluation, means
from orchestrator.played_group import Group
from orchestrator.progress import Progress
from orchestrator.rollout.player import Place
from orchestrator.runs.environments import find_held_out
from orchestrator.spec.sections import Evaluate
from orchestrator.stopwatch import Stopwatch
from policies.samplers.contracts import SamplerOptions, Sampling
from store.records import CellRecord
from tests.environments.fakes import create
from tests.orchestrator.rollout.chats import Scripted as ChatSampler
from tests.orchestrator.rollout.chats import chats, player_of, small_policy
from tests.orchestrator.rollout.episodes import group


class Scripted:
    """Plays what was written for it, and notes what it was asked for."""

    policy, sampler = SimpleNamespace(template="chat"), SimpleNamespace(entropy="exact")

    def __init__(
        self, limits: Mapping[str, Any] = MappingProxyType({}), **values: Sequence[Sequence[float | None]]
    ) -> None:
        self.budgets = Budgets(SamplerOptions(max_tokens=16, **limits))
        self.values, self.asked, self.batches = values, list[tuple[Any, ...]](), list[int]()

    def play(
        self,
        tasks: Sequence[Task],
        sizes: Sequence[int],
        sampling: Sampling,
        streams: Sequence[str],
        step: int,
        watch: Stopwatch,
        places: Sequence[Place],
    ) -> list[Group]:
        self.batches.append(sum(sizes))
        groups, by_category = [], list[tuple[Any, ...]]()
        for task, size, stream, (place, first) in zip(tasks, sizes, streams, places, strict=True):
            if place == 0:
                by_category.append((stream, step, size, sampling, ()))
            assert (by_category[-1][:4], first) == ((stream, step, size, sampling), 0)
            assert len(by_category[-1][4]) == place, "counted from 0 in each category, whoever plays beside it"
            by_category[-1] = (*by_category[-1][:4], (*by_category[-1][4], task.key))
            script = self.values.get(f"{task.environment}_{task.category}")
            values = [0.0] * size if script is None else script[place]
            groups.append(group(values[:size], task.environment, task.category))
        self.asked += by_category
        return groups


def evaluated(player: Any, pools: Sequence[Pool] = ("anchor",), **section: Any) -> Findings:
    environments = {
        "fake": create("fake", categories=["easy", "hard", "kept"], held_out=["kept"]),
        "book": Codebook("book", Config(categories={"two": 2}, keys=5)),
    }
    held_out = {pool: find_held_out(environments, pool, 2) for pool in pools}
    own = Evaluation(Evaluate(items=2, samples=4, **section), environments, held_out)
    return own.run(player, Progress(1, 1), Stopwatch(), lambda *told: None)


def cells(findings: Findings) -> dict[tuple[str, str | None, str], Any]:
    return {(cell.environment, cell.category, cell.metric): cell for cell in findings.cells}


EASY: list[list[float | None]] = [[1.0, 1.0, 0.5, 0.0], [1.0, None, None, 0.0]]


def test_a_cell_is_the_mean_over_tasks_with_the_standard_error_of_that_mean() -> None:
    found = cells(evaluated(Scripted(fake_easy=EASY)))
    accuracy = found["fake", "easy", "pass_1"]
    assert (accuracy.value, accuracy.num_items, accuracy.samples_per_item) == (0.5, 2, 4)
    assert accuracy.stderr == 0.0
    assert found["fake", "easy", "value"].value == pytest.approx((0.625 + 0.5) / 2)
    assert found["fake", "easy", "value"].stderr == pytest.approx(0.125 / math.sqrt(2) / math.sqrt(2))
    assert found["fake", "easy", "entropy_token"].value == pytest.approx(1.0)


def test_a_task_with_too_few_scored_samples_has_no_pass_at_4() -> None:
    cell = cells(evaluated(Scripted(fake_easy=EASY)))["fake", "easy", "pass_4"]
    assert (cell.value, cell.num_items) == (1.0, 1)


def test_what_could_not_be_scored_at_all_has_no_accuracy_and_is_never_zero() -> None:
    found = cells(evaluated(Scripted(fake_easy=[[None] * 4] * 2, fake_hard=[[1.0] * 4] * 2)))
    assert (found["fake", "easy", "pass_1"].value, found["fake", "easy", "pass_1"].num_items) == (None, 0)


def test_an_environment_has_no_value_where_one_of_its_trainable_categories_has_none() -> None:
    """At .9 and .1 it has .5: at a boundary that could not score the second .9 would be a gain of .4."""
    right: list[list[float | None]] = [[1.0] * 4] * 2
    nothing: list[list[float | None]] = [[None] * 4] * 2
    found = evaluated(Scripted(fake_easy=right, fake_hard=nothing), pools=("anchor", "select"))
    whole = {(c.split, c.metric): c for c in found.cells if c.environment == "fake" and c.category is None}
    assert (whole["anchor", "pass_1"].value, whole["anchor", "pass_1"].stderr) == (None, None)
    assert (whole["anchor", "value"].value, whole["select", "pass_1"].value) == (None, None)
    assert whole["anchor", "truncated_frac"].value is not None
    assert found.scores == {"book": 0.0}, "a scheduler is told nothing of it"
    assert cells(evaluated(Scripted(fake_kept=nothing)))["fake", None, "pass_1"].value == 0.0, "it is no part of it"


def test_a_category_without_a_held_out_task_is_no_part_of_its_environment() -> None:
    """It is so at every boundary: the mean over the others is the same thing at all of them."""
    environment = create("fake", categories=["easy", "rare"])
    held_out = find_held_out({"fake": environment}, "anchor", 2)["fake"]
    pool = {"fake": {"easy": held_out["easy"], "rare": []}}
    own = Evaluation(Evaluate(items=2, samples=4), {"fake": environment}, {"anchor": pool})
    found = cells(
        own.run(Scripted(fake_easy=[[1.0] * 4] * 2), Progress(1, 1), Stopwatch(), lambda *told: None)  # type: ignore[arg-type]
    )
    assert found["fake", None, "pass_1"].value == 1.0
    assert ("fake", "rare", "pass_1") not in found


def test_what_not_every_task_has_is_a_mean_over_the_categories_that_have_it() -> None:
    environment = create("fake", categories=["easy", "hard"])
    own = [CellRecord("fake", name, "some", value, None, 1, 1) for name, value in (("easy", 0.9), ("hard", None))]
    assert [cell.value for cell in means(environment, own)] == [None]
    assert [cell.value for cell in means(environment, own, {"some"})] == [0.9]


def test_an_environment_is_the_equal_weight_mean_of_its_trainable_categories() -> None:
    """The held-out category is evaluated, but the bandit can do nothing about it."""
    hard, kept = [[1.0, 1.0, 1.0, 0.0]] * 2, [[1.0] * 4] * 2
    found = cells(evaluated(Scripted(fake_easy=[[0.5, 0.5, 0.5, 0.5]] * 2, fake_hard=hard, fake_kept=kept)))
    assert found["fake", "kept", "value"].value == 1.0
    assert found["fake", None, "value"].value == pytest.approx((0.5 + 0.75) / 2)
    assert found["fake", None, "value"].num_items == 4
    assert found["fake", None, "pass_1"].stderr == 0.0


def test_a_closed_environment_is_evaluated_on_its_own_tasks_and_labelled_so() -> None:
    found = cells(evaluated(Scripted()))
    assert {cell.split for key, cell in found.items() if key[0] == "book"} == {"own"}
    assert {cell.split for key, cell in found.items() if key[0] == "fake"} == {"anchor"}


def test_greedy_accuracy_has_its_own_name_and_only_if_asked_for() -> None:
    assert "greedy_accuracy" not in {metric for *_, metric in cells(evaluated(Scripted()))}
    player = Scripted(fake_easy=EASY)
    cell = cells(evaluated(player, greedy=True))["fake", "easy", "greedy_accuracy"]
    assert (cell.value, cell.samples_per_item) == (1.0, 1)
    assert [(size, sampling.greedy) for stream, _, size, sampling, _ in player.asked if stream == "greedy/easy"] == [
        (1, True)
    ]


def test_every_boundary_asks_for_the_same_tasks_with_the_same_random_numbers_at_temperature_1() -> None:
    first, second = Scripted(), Scripted()
    evaluated(first)
    evaluated(second)
    assert first.asked == second.asked
    assert {step for _, step, *_ in first.asked} == {0}
    assert all(sampling.is_plain for *_, sampling, _ in first.asked)
    assert len({stream for stream, *_ in first.asked}) == 4, "a stream for each category"


def test_small_categories_are_played_together_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch for each of five hundred categories took longer than the training between them."""
    together = Scripted(fake_easy=EASY)
    found = evaluated(together, pools=("anchor", "select"), greedy=True)
    assert together.batches == [6 * 2 * 4, 4 * 2], "at temperature 1 and greedily"
    monkeypatch.setattr(evaluation, "BATCH", 8)
    alone = Scripted(fake_easy=EASY)
    assert evaluated(alone, pools=("anchor", "select"), greedy=True) == found
    assert sorted(alone.asked) == sorted(together.asked)
    assert alone.batches[0] == 8


def test_who_is_evaluated_beside_it_changes_nothing_of_a_category(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real player: what an episode writes here depends on its seed alone."""
    environments = chats(1, 2, 3)
    (tasks,) = find_held_out(environments, "anchor", 2).values()
    looked_at = {"anchor": {"chat": tasks}}

    def found(batch: int) -> tuple[Findings, list[int]]:
        monkeypatch.setattr(evaluation, "BATCH", batch)
        sampler = ChatSampler(small_policy(), lambda request, call: ["half", "so"][request.seed % 2])
        own = Evaluation(Evaluate(items=2, samples=4), environments, looked_at)
        told = own.run(player_of(sampler, environments, max_tokens=16), Progress(1, 1), Stopwatch(), lambda *told: None)
        return told, [len(call) for call in sampler.calls]

    (alone, calls), (together, fewer) = found(1), found(512)
    assert (calls, fewer) == ([8, 8, 8, 8, 8, 8], [24, 16, 8])
    assert alone == together
    assert len({sample.completion for sample in alone.samples}) == 2, "chance decides"


def test_the_entropies_at_the_start_are_by_category() -> None:
    assert evaluated(Scripted()).entropies == {
        "fake/easy": 1.0,
        "fake/hard": 1.0,
        "fake/kept": 1.0,
        "book/two": 1.0,
    }


def test_the_settings_name_all_that_a_value_depends_on() -> None:
    assert evaluated(Scripted()).config == {
        **{"items": 2, "samples": 4, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "template": "chat"},
        "max_tokens": 16,
    }


def test_limits_of_turns_are_settings_once_somebody_sets_them() -> None:
    limits = {"turn_tokens": 4, "max_turns": 3, "cut_off": "zero"}
    assert limits.items() <= evaluated(Scripted(limits)).config.items()
    assert not limits.keys() & evaluated(Scripted({"max_turns": 16})).config.keys()


def test_each_task_leaves_an_item_and_the_first_ones_a_sample() -> None:
    findings = evaluated(Scripted(fake_easy=EASY))
    items = [item for item in findings.items if item.category == "easy"]
    assert [(item.num_scored, item.num_correct, item.value_sum) for item in items] == [
        (4, 2, 2.5),
        (2, 1, 1.0),
    ]
    assert len([sample for sample in findings.samples if sample.category == "easy"]) == 2


def test_a_scheduler_that_asks_sees_the_select_pool_and_reports_never_do() -> None:
    player = Scripted(fake_easy=EASY)
    findings = evaluated(player, pools=("anchor", "select"))
    assert findings.scores.keys() == {"fake", "book"}
    own = {(c.environment, c.category): c.value for c in findings.cells if c.split == "select"}
    assert own == {("fake", "easy"): 0.5, ("fake", "hard"): 0.0, ("fake", None): 0.25}
    assert findings.scores == {"fake": 0.25, "book": 0.0}
    looked = {keys for stream, *_, keys in player.asked if stream == "select/easy"}
    reported = {keys for stream, *_, keys in player.asked if stream == "evaluate/easy"}
    assert len(looked) == len(reported) == 1
    assert not looked & reported
    assert "select/kept" not in {stream for stream, *_ in player.asked}, "held out only: no scheduler trains it"


def test_nobody_looks_at_the_select_pool_unasked() -> None:
    player = Scripted()
    assert evaluated(player).scores == {}
    assert not [stream for stream, *_ in player.asked if stream.startswith("select")]


def test_what_was_played_is_there_for_others_until_it_is_let_go() -> None:
    environments = {"fake": create("fake", categories=["easy"])}
    held_out = {"anchor": find_held_out(environments, "anchor", 2)}
    whole = Evaluation(Evaluate(items=2, samples=4), environments, held_out, keeps_answers=True)
    part = whole.of(["fake"])
    found = part.run(Scripted(fake_easy=EASY), Progress(1, 1), Stopwatch(), lambda *told: None)  # type: ignore[arg-type]
    assert [group.correct for group in whole.played] == [[True, True, False, False], [True, False]]
    assert [item.answers for item in found.items] == [(("no", 4, 2),), (("no", 2, 1),)], "of the scored samples"
    part.forget()
    assert whole.played == []
