"""Carrying out data plans: who is played again, what is left out, what is played beside (objectives.md 14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
import torch

from environments import PassedOver, Task
from orchestrator.bandits import ArmInfo
from orchestrator.bandits.contracts import Pick
from orchestrator.choosing.choice import by_pick, make_choice, mean_of
from orchestrator.played_group import THINK_END as TAG
from orchestrator.played_group import Group, Sample, Slot
from orchestrator.recording import step_metrics
from orchestrator.rollout import batch, data_plans
from orchestrator.rollout.batch import RolloutBatch, TemperedRows, ThinkTag
from orchestrator.rollout.data_plans import BatchInPlay
from orchestrator.spec.load import load_spec
from orchestrator.spec.sections import CurriculumSection
from orchestrator.stopwatch import Stopwatch
from policies.objectives.contracts import is_off_policy
from policies.objectives.plans.dynamic_sampling import DynamicSampling
from policies.objectives.plans.gvm import Gvm
from policies.objectives.plans.tempered import Tempered
from policies.policy import Policy
from policies.samplers.contracts import Sampling
from policies.samplers.transformers import Config, TransformersSampler
from store.metrics import METRICS
from tests.orchestrator.rollout import episodes
from tests.orchestrator.rollout.chats import chats, player_of, small_policy
from tests.orchestrator.specs import small

SLOTS = [
    Slot(i, "words", category, "main", "category", "words", Pick(f"0.{i}", category, 0.5, 0))
    for i, category in enumerate(["3", "4", "3"])
]

Values: TypeAlias = "Sequence[float | None]"
SPREAD: Values = [1.0, 0.0]
EQUAL: Values = [1.0, 1.0]
LOST: Values = [None, None]


class Told:
    """Stands for the player and for the drawing: gives groups as a script says, and notes what it is asked."""

    def __init__(self, script: Callable[[str, int, int], Values]) -> None:
        self.script = script  # from stream, number of the group, and how many samples, to values
        self.calls: list[dict[str, Any]] = []
        self.drawn: list[dict[str, Any]] = []
        self.sampler, self.num_rooms = self, 0  # of the player; how often it gave the learner room

    def make_room(self) -> None:
        self.num_rooms += 1

    def play(self, tasks: Sequence[Task], sizes: Any, sampling: Sampling, stream: str, *_: Any, **more: Any) -> Any:
        sizes = [sizes] * len(tasks) if isinstance(sizes, int) else sizes
        self.calls.append({"stream": stream, "sizes": sizes, "T": sampling.temperature, **more})
        return [
            Group(task, episodes.group(self.script(stream, number, size)).samples)
            for task, size, (number, _first) in zip(tasks, sizes, more["places"], strict=True)
        ]

    def draw(self, slots: Sequence[Slot], beside: Sequence[Task] = (), *, has_others: bool = False) -> list[Task]:
        self.drawn.append({"arms": [slot.category for slot in slots], "beside": [t.index for t in beside]})
        num = len(beside)
        return [task(slot.category, num + k) for k, slot in enumerate(slots)]

    def take_passed_over(self) -> dict[str, PassedOver]:
        return {"words": PassedOver(len(self.drawn), "the first")} if self.drawn else {}


def task(category: str, index: int) -> Task:
    return Task("words", category, index, ({"role": "user", "content": f"{index}?"},), "yes")


def play(told: Told, plans: dict[str, Any], size: int | None = None, **objective: Any) -> RolloutBatch:
    words = {"type": "codebook", "episodes": {"group_size": size}}
    others = {"environments": {"words": words}, "warm_start": None, "curriculum": {"stages": 1}}
    spec = load_spec(small(step={"groups": 3, "group_size": 4}, objective={"preset": "rloo", **objective}, **others))
    fake = cast("Any", told)
    tasks = [task(slot.category, slot.index) for slot in SLOTS]
    learner = cast("Any", SimpleNamespace(passes=None))
    return BatchInPlay(spec, fake, fake, learner, 5, {"": plans}, Stopwatch()).play(SLOTS, tasks)


def slots_of(played: RolloutBatch) -> list[Slot]:
    return [group.slot for group in played.groups]


# --- without plans


def test_without_plans_a_batch_is_played_once_as_it_always_was() -> None:
    told = Told(lambda stream, number, size: SPREAD)
    played = play(told, {})
    assert [(call["stream"], call["sizes"], call["places"]) for call in told.calls] == [
        ("train", [4, 4, 4], [(0, 0), (1, 0), (2, 0)])
    ]
    assert (played.step, slots_of(played), played.dropped, played.sides) == (5, SLOTS, frozenset(), [])
    assert step_metrics.of_plans(played) == []


def test_groups_have_the_size_of_their_environments_in_every_round_and_beside_it() -> None:
    told = Told(lambda stream, number, size: [1.0] * size if number == 1 else [0.0, *[1.0] * (size - 1)])
    plans = {"dynamic_sampling": DynamicSampling(2), "tempered": replace(TEMPERED, share=0.3)}
    played = play(told, plans, size=6)
    sizes = [(call["stream"], call["sizes"]) for call in told.calls]
    assert sizes == [("train", [6, 6, 6]), ("train/1", [6]), ("tempered", [6])]
    assert [len(group.samples) for group in played.groups] == [6] * 4


# --- dynamic sampling


def in_round(stream: str) -> int:
    return int(stream.partition("/")[2] or 0)


def test_places_without_spread_are_filled_from_their_own_arm_until_all_have_it() -> None:
    solved_in_round = {0: 0, 1: 2, 2: 1}  # by slot: when its group has spread
    told = Told(lambda stream, n, size: SPREAD if in_round(stream) >= solved_in_round[n] else EQUAL)
    played = play(told, {"dynamic_sampling": DynamicSampling(10)})
    assert [call["stream"] for call in told.calls] == ["train", "train/1", "train/2"]
    assert [call["places"] for call in told.calls[1:]] == [[(1, 0), (2, 0)], [(1, 0)]]
    assert told.drawn == [
        {"arms": ["4", "3"], "beside": [0, 1, 2]},
        {"arms": ["4"], "beside": [0, 1, 2, 3, 4]},
    ], "other tasks than the batch has"
    assert [slot.index for slot in slots_of(played)] == [0, 1, 2, 3, 4, 5]
    assert [slot.pick for slot in slots_of(played)] == [SLOTS[k].pick for k in (0, 1, 2, 1, 2, 1)]
    assert played.dropped == {1, 2, 3}
    kept = [slot.category for place, slot in enumerate(slots_of(played)) if place not in played.dropped]
    assert sorted(kept) == ["3", "3", "4"], "the mix that is learned from is the mix that was chosen"
    assert played.num_rounds == 3


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_after_the_last_round_the_update_is_made_of_what_there_is(rounds: int) -> None:
    told = Told(lambda stream, n, size: SPREAD if n == 0 else EQUAL)
    played = play(told, {"dynamic_sampling": DynamicSampling(rounds)})
    assert (len(told.calls), played.num_rounds) == (rounds, rounds)
    assert len(played.groups) == 3 + 2 * (rounds - 1)
    assert played.dropped == set(range(1, len(played.groups)))


def test_a_group_without_a_score_or_with_one_is_not_played_again() -> None:
    groups: list[Values] = [LOST, [1.0, None], SPREAD]
    told = Told(lambda stream, n, size: groups[n])
    played = play(told, {"dynamic_sampling": DynamicSampling(10)})
    assert (len(told.calls), played.dropped) == (1, frozenset())


def test_spread_is_that_of_what_the_objective_reads() -> None:
    values = [0.2, 0.6]  # both wrong
    told = Told(lambda stream, n, size: values)
    assert play(told, {"dynamic_sampling": DynamicSampling(2)}).dropped == frozenset()
    assert play(told, {"dynamic_sampling": DynamicSampling(2)}, reward="correct").dropped == {
        0,
        1,
        2,
        3,
        4,
        5,
    }


def test_the_bandit_hears_the_mean_over_all_groups_of_a_pick_and_how_many_they_are() -> None:
    choice = make_choice(
        CurriculumSection.model_validate({"bandit": {"type": "sec", "learning_rate": 1.0}}),
        {"words": {"3": ArmInfo(), "4": ArmInfo()}},
        seed=0,
    )
    slots = choice.slots(2, 1, "words", ["words"])
    again = [*slots, *(replace(slots[1], index=2 + k) for k in range(3))]
    signals = [0.5, 0.0, 0.0, None, 0.3]
    scores = [0.5, 1.0, 1.0, None, 0.4]
    groups = [
        episodes.in_slot(episodes.group([1.0]), slot, signal=signal, score=score)
        for slot, signal, score in zip(again, signals, scores, strict=True)
    ]
    assert [(own[0].slot, mean_of(group.signal for group in own)) for own in by_pick(groups)] == [
        (slots[0], 0.5),
        (slots[1], pytest.approx(0.1)),
    ]
    choice.learn(groups)
    told = choice.bandits["words"].values()
    arms = [slot.category for slot in slots]
    of_second = (0.0 + 0.0 + 0.0 + 0.3) / 4  # what could not be scored has no signal
    expected = {arms[0]: 0.5, arms[1]: of_second} if arms[0] != arms[1] else {arms[0]: 0.8 / 5}
    assert {arm: told[arm] for arm in expected} == pytest.approx(expected)


def test_a_pick_that_was_played_again_weighs_once_by_its_importance() -> None:
    """Else an arm that was tried again ten times for nothing would look ten times as good as it is."""
    choice = make_choice(
        CurriculumSection.model_validate({"bandit": {"type": "exp3", "rate": 1.0, "share": 0.0}}),
        {"words": {"3": ArmInfo(), "4": ArmInfo()}},
        seed=0,
    )
    (slot,) = choice.slots(1, 1, "words", ["words"])
    one = episodes.in_slot(episodes.group([1.0]), slot, signal=0.0, score=0.0)
    choice.learn([one, replace(one, slot=replace(slot, index=1), signal=0.5, score=0.5)])
    weights = dict(zip(choice.bandits["words"].arms, cast("Any", choice.bandits["words"]).log_weight, strict=True))
    other = next(arm for arm in weights if arm != slot.category)
    assert weights[slot.category] - weights[other] == pytest.approx(0.25 / slot.pick.probability)


def test_generated_and_kept_groups_are_counted_by_arm() -> None:
    told = Told(lambda stream, n, size: SPREAD if in_round(stream) or n != 1 else EQUAL)
    found = step_metrics.of_plans(play(told, {"dynamic_sampling": DynamicSampling(10)}))
    assert {record.name for record in found} <= METRICS.keys()
    counts = {(record.name, record.category): record.value for record in found if record.environment}
    assert counts == {
        **{("groups_generated", "3"): 2, ("groups_generated", "4"): 2, ("groups_generated", None): 4},
        **{("groups_kept", "3"): 2, ("groups_kept", "4"): 1, ("groups_kept", None): 3},
    }
    pooled = {record.name: record.value for record in found if record.environment is None}
    assert pooled == {"generation_rounds": 2, "groups_generated": 4, "groups_kept": 3}


# --- side rows


TEMPERED = Tempered(temperature=1.2, share=1.0, weight=0.25, only_better=False, most=None)


def test_tasks_of_the_batch_are_played_again_at_the_other_temperature() -> None:
    told = Told(lambda stream, n, size: [None, 0.0, 1.0, 1.0] if stream == "tempered" else SPREAD)
    played = play(told, {"tempered": replace(TEMPERED, share=0.3)})
    assert told.calls[1] == {
        **{"stream": "tempered", "sizes": [4], "T": 1.2, "sync": True, "places": [(2, 0)]},
    }
    (side,) = played.sides
    assert (side.group.task.index, side.advantage, side.temperature) == (2, 0.25, 1.2)
    assert [side.group.scored[k].score.value for k in side.taught] == [1.0, 1.0]
    assert len(played.groups) == 3, "they are no groups of the batch"


def test_side_rows_are_rows_of_the_update_and_of_no_group(policy: Policy) -> None:
    told = Told(lambda stream, n, size: [None, 0.0, 1.0] if stream == "tempered" else SPREAD)
    played = replace(play(told, {"tempered": TEMPERED}), dropped=frozenset({1}))
    rows = played.trajectories(reads_value=True, policy=policy)
    assert [(row.group, row.reward, row.advantage) for row in rows] == [
        *((group, reward, None) for group in (0, 2) for reward in (1.0, 0.0)),
        *((group, 1.0, 0.25) for group in (3, 4, 5)),
    ]
    assert {row.arm for row in rows} == {"words/3", "words/4"}
    assert is_off_policy(rows, version=4), "what another temperature wrote does not tell the mean log-prob"
    assert not is_off_policy(rows[:4], version=4)
    assert is_off_policy(rows[:4], version=5)
    found = {record.name: record.value for record in step_metrics.of_plans(played)}
    assert found == {"tempered_rows": 3, "tempered_temperature": 1.2}
    first, *others = played.sides
    elsewhere = replace(first.group, task=replace(first.group.task, environment="book"))
    two = replace(played, sides=[replace(first, group=elsewhere, temperature=0.9), *others])
    told = {(one.environment, one.value) for one in step_metrics.of_plans(two) if one.name == "tempered_temperature"}
    assert told == {("book", 0.9), ("words", 1.2)}, "of each environment, where its objective has its own"
    assert found.keys() <= METRICS.keys()


def test_what_has_no_gradient_is_not_learned_from() -> None:
    told = Told(lambda stream, n, size: [1.0, 1.0])
    masked = Group(task("3", 0), tuple(replace(s, has_gradient=False) for s in episodes.group([1.0, 1.0]).samples))
    real = told.play
    told.play = lambda *args, **more: [masked] if args[3] == "tempered" else real(*args, **more)  # type: ignore[method-assign]
    (side,) = play(told, {"tempered": replace(TEMPERED, share=0.3)}).sides
    assert side.taught == ()


# --- allocation


def test_the_rest_of_an_arms_samples_goes_where_the_pilot_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slots 0 and 2 are one arm; slot 1 is alone in the other, so it gets what is its own, solved or not."""
    pilots = {0: [1.0, 1.0], 1: [0.0, 0.0], 2: [0.0, 0.0]}
    monkeypatch.setattr(
        data_plans,
        "gradient_norms",
        lambda learner, batch: torch.ones(len(batch.group_B), dtype=torch.float64),
    )
    told = Told(lambda stream, n, size: pilots[n] if size == 2 and len(told.calls) == 1 else [1.0] * size)
    played = play(told, {"gvm": Gvm(pilot=2, floor=1, alpha=1e-3, beta=2.0)})
    assert [call["sizes"] for call in told.calls] == [[2, 2, 2], [3, 2, 1]]
    assert [call["places"] for call in told.calls] == [[(n, 0) for n in range(3)], [(n, 2) for n in range(3)]]
    assert [len(group.samples) for group in played.groups] == [5, 4, 3]
    found = {record.name: record.value for record in step_metrics.of_plans(played)}
    assert found == {"smallest_group": 3, "largest_group": 5}
    assert found.keys() <= METRICS.keys()


def test_what_is_divided_behind_a_pilot_is_what_the_environments_groups_have(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = lambda learner, batch: torch.ones(len(batch.group_B), dtype=torch.float64)  # noqa: E731
    monkeypatch.setattr(data_plans, "gradient_norms", norms)
    told = Told(lambda stream, number, size: [1.0, *[0.0] * (size - 1)])
    played = play(told, {"gvm": Gvm(pilot=2, floor=1, alpha=1e-3, beta=2.0)}, size=7)
    assert sum(len(group.samples) for group in played.groups) == 3 * 7


def test_gradient_norms_are_means_over_the_correct_samples_of_a_pilot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[int]] = []

    def norms(learner: Any, batch: Any) -> torch.Tensor:
        seen.append(batch.group_B.tolist())
        return torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)

    monkeypatch.setattr(data_plans, "gradient_norms", norms)
    pilots: dict[int, Values] = {0: [1.0, 1.0, 0.0], 1: [None, 0.0, 0.0], 2: [0.0, 0.0, 1.0]}
    told = Told(lambda stream, n, size: pilots[n] if len(told.calls) == 1 else [0.0] * size)
    asked: list[tuple[list[float], list[float], int]] = []

    class Noting(Gvm):
        def sizes(self, rates: Sequence[float], norms: Sequence[float], num: int) -> list[int]:
            asked.append((list(rates), list(norms), num))
            return super().sizes(rates, norms, num)

    play(told, {"gvm": Noting(pilot=3, floor=0, alpha=1e-3, beta=2.0)})
    assert seen == [[0, 0, 2]]
    assert asked == [([2 / 3, 1 / 3], [2.0, 2.0], 2), ([0.0], [0.0], 1)]


# --- the player


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


def test_a_group_played_in_two_parts_is_the_group_played_at_once(policy: Policy) -> None:
    environments = chats(1, 2)
    player = player_of(TransformersSampler(Config(), policy), environments, max_tokens=6)
    (chat,) = environments.values()
    tasks = [chat.task("1", 0), chat.task("2", 1), chat.task("1", 2)]

    def rows(groups: Sequence[Group]) -> list[list[list[int]]]:
        return [[sample.ids.tolist() for sample in group.samples] for group in groups]

    def parts(sizes: Any, places: Any = None) -> list[list[list[int]]]:
        return rows(player.play(tasks, sizes, Sampling(), "train", 3, Stopwatch(), places=places))

    whole, begun, rest = parts(4), parts([2, 1, 2]), parts([2, 3, 0], [(0, 2), (1, 1), (2, 2)])
    assert rest[2] == []
    assert [a + b for a, b in zip(begun, rest, strict=True)] == [whole[0], whole[1], whole[2][:2]]


# --- what the learner is told of an episode


def sample(policy: Policy, written: str, **changes: Any) -> Sample:
    ids = [*episodes.PROMPT, *policy.encode_answer(written)]
    mask = np.arange(len(ids)) >= len(episodes.PROMPT)
    zeros = np.zeros(len(ids), np.float32)
    (plain,) = episodes.group([1.0]).samples
    fields = {
        "ids": np.array(ids),
        "mask": mask,
        "logprobs": zeros,
        "entropies": zeros,
        "completion": written,
    }
    return replace(plain, **{**fields, **changes})


@pytest.mark.parametrize(
    ("written", "behind"),
    [("so</think> 7", " 7"), ("</think>", ""), (" so </think>7</think>8", "7</think>8")],
)
def test_thinking_ends_behind_the_first_closing_tag_that_was_written(policy: Policy, written: str, behind: str) -> None:
    one = sample(policy, written)
    end = ThinkTag(policy).end(one)
    assert end is not None
    assert policy.decode(one.ids[end:].tolist()) == behind
    assert TAG in policy.decode(one.ids[len(episodes.PROMPT) : end].tolist())
    assert TAG not in policy.decode(one.ids[len(episodes.PROMPT) : end - 1].tolist())


def test_without_a_tag_of_the_policys_own_thinking_has_no_end(policy: Policy) -> None:
    assert ThinkTag(policy).end(sample(policy, "7")) is None
    shown = ({"role": "user", "content": "?"}, {"role": "assistant", "content": f"so{TAG}"})
    assert ThinkTag(policy).end(sample(policy, "7", messages=shown)) is None, "the task's own example has it"


def test_a_tag_that_is_one_token_is_found_without_reading(policy: Policy) -> None:
    def unread(ids: Any) -> str:
        raise AssertionError("no need to decode")

    tokenizer = SimpleNamespace(get_added_vocab=lambda: {TAG: 77})
    knowing = ThinkTag(cast("Any", SimpleNamespace(tokenizer=tokenizer, decode=unread)))
    ids = np.array([77, 5, 6, 77, 9])
    one = sample(policy, "x", ids=ids, mask=np.array([False, True, True, True, True]))
    assert knowing.end(one) == 4
    assert knowing.end(replace(one, ids=ids % 77)) is None


@pytest.mark.parametrize(
    ("completion", "answer"), [(" 7\n", "7"), (f"so{TAG} 7", "7"), (f"a{TAG}b{TAG}\n c ", "c"), ("", "")]
)
def test_the_answer_is_what_stands_behind_all_thinking(completion: str, answer: str) -> None:
    (one,) = episodes.group([1.0]).samples
    assert replace(one, completion=completion).answer == answer


def test_a_trajectory_knows_arm_turns_answer_and_how_the_episode_ended() -> None:
    played = episodes.group([1.0, None, 0.5], finish="length")
    first = replace(played.samples[0], turn_starts=(3, 4), completion=" no ")
    rows = Group(played.task, (first, *played.samples[1:])).trajectories(6, True, lambda sample: 4)
    assert [(row.group, row.arm, row.reward, row.correct) for row in rows] == [
        (6, "words/3", 1.0, True),
        (6, "words/3", 0.5, False),
    ]
    assert rows[0].turns is not None
    assert rows[0].turns.tolist() == [0, 0, 0, 0, 1]
    assert rows[1].turns is None, "there is one"
    assert (rows[0].answer, rows[0].was_cut_off, rows[0].think_end) == ("no", True, 4)


# --- on disk


def test_a_batch_played_ahead_survives_with_all_that_plans_made_of_it(tmp_path: Path) -> None:
    environments = chats(1)
    (chat,) = environments.values()
    groups = [Group(chat.task("1", k), episodes.group([1.0, 0.0]).samples) for k in range(3)]
    slots = [replace(slot, environment="chat", category="1") for slot in SLOTS[:2]]
    side = TemperedRows(groups[2], (0,), 0.25, 1.2)
    turned = Group(groups[0].task, tuple(replace(s, turn_starts=(3, 4)) for s in groups[0].samples))
    passed_over = {"chat": PassedOver(2, "task 4: 90 tokens")}
    ours = [episodes.in_slot(one, slot) for one, slot in zip([turned, groups[1]], slots, strict=True)]
    played = RolloutBatch(7, ours, frozenset({1}), [side], 3, ("tempered",), passed_over=passed_over)
    batch.save(played, tmp_path)
    read = batch.load(tmp_path, environments)
    assert slots_of(read) == slots
    for name in ("step", "dropped", "num_rounds", "plans", "seconds", "passed_over"):
        assert getattr(read, name) == getattr(played, name), name
    assert [(s.taught, s.advantage, s.temperature) for s in read.sides] == [((0,), 0.25, 1.2)]
    assert read.sides[0].group.task == groups[2].task
    policy = small_policy()
    for a, b in zip(read.trajectories(True, policy), played.trajectories(True, policy), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert (a.advantage, a.group, a.reward, a.answer) == (b.advantage, b.group, b.reward, b.answer)
        assert (a.turns is None) == (b.turns is None)
