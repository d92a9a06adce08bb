"""Episodes that go on by themselves play what they play together, and none waits for another's environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from environments import EnvironmentFault, EnvironmentSource, Scorer, ScoringJob, ScoringOptions, Turn
from orchestrator.episode_options import Budgets
from orchestrator.played_group import Group
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from policies.errors import PolicyError
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, RowStream, SamplerOptions, Sampling
from policies.samplers.random_numbers import sample_seed
from tests.orchestrator.rollout.chats import Scripted, chats, player_of, small_policy

FAKES = "tests.environments.fakes:create"
WORDS = ["well", "half", "so", "boom"]


def chance(request: Request, call: int) -> str:
    """What is written depends on the row alone; one in four turns fails."""
    return WORDS[request.seed % 4] + "." * (request.seed % 3)


class Streaming(Scripted):
    """Writes the same row by row, in threads that end in any order."""

    def __init__(self, policy: Policy, script: Callable[[Request, int], str | Generation] = chance) -> None:
        super().__init__(policy, script)
        self.rows: list[tuple[int, Request]] = []  # with their episodes, as they were asked for
        self.streams: list[Rows] = []
        self.doubts: list[frozenset[int]] = []  # what the next streams say at their end

    def stream(self, sampling: Sampling) -> RowStream:
        self.streams.append(Rows(self))
        return self.streams[-1]


class Rows(RowStream):
    def __init__(self, sampler: Streaming) -> None:
        self.sampler, self.threads, self.is_abandoned = sampler, ThreadPoolExecutor(4), False
        self.num_expected: int | None = None

    def expect(self, num_episodes: int) -> None:
        self.num_expected = num_episodes

    def submit(self, request: Request, episode: int) -> Future[Generation]:
        self.sampler.rows.append((episode, request))
        return self.threads.submit(self.sampler._written, request)

    def finish(self) -> frozenset[int]:
        return self.sampler.doubts.pop(0) if self.sampler.doubts else frozenset()

    def abandon(self) -> None:
        self.is_abandoned = True


class Stepping(Streaming):
    """Writes the same a row at a time, when it is told to get on."""

    def stream(self, sampling: Sampling) -> RowStream:
        self.streams.append(SteppedRows(self))
        return self.streams[-1]


class SteppedRows(Rows):
    def __init__(self, sampler: Streaming) -> None:
        super().__init__(sampler)
        self.waiting: list[tuple[Request, Future[Generation]]] = []

    def submit(self, request: Request, episode: int) -> Future[Generation]:
        self.sampler.rows.append((episode, request))
        self.waiting.append((request, Future()))
        return self.waiting[-1][1]

    def advance(self) -> bool:
        request, future = self.waiting.pop()
        future.set_result(self.sampler._written(request))
        return True


@pytest.fixture(params=[Streaming, Stepping])
def engine(request: pytest.FixtureRequest) -> type[Streaming]:
    kind: type[Streaming] = request.param
    return kind


def play(player: Player, watch: Stopwatch | None = None) -> list[Group]:
    tasks = [
        one.task(category.name, index)
        for one in player.environments.values()
        for index, category in enumerate(one.categories)
    ]
    return player.play(tasks, 3, Sampling(), "train", 4, watch or Stopwatch())


def require_same(groups: list[Group], others: list[Group]) -> None:
    assert [group.task for group in groups] == [group.task for group in others]
    for one, other in zip(groups, others, strict=True):
        for a, b in zip(one.samples, other.samples, strict=True):
            for name, value in vars(a).items():
                np.testing.assert_equal(value, getattr(b, name), err_msg=name)


@pytest.mark.parametrize("options", [{}, {"max_turns": 2}, {"turn_tokens": 3}, {"max_tokens": 9}, {"cut_off": "zero"}])
def test_the_same_is_played_as_turn_by_turn(engine: type[Streaming], options: dict[str, Any]) -> None:
    policy = small_policy()
    streaming, together = engine(policy), Scripted(policy, chance)
    groups = play(player_of(streaming, chats(1, 2, 3, 4), **options))
    require_same(groups, play(player_of(together, chats(1, 2, 3, 4), **options)))
    assert len(streaming.rows) == sum(map(len, together.calls))
    assert {sample.num_turns for group in groups for sample in group.samples} > {1}
    assert streaming.calls == []


@pytest.mark.parametrize("kind", [Streaming, Stepping, Scripted])
@pytest.mark.parametrize(
    ("options", "lost_at", "num_turns"),
    [
        ({}, None, []),  # their environment ends them
        ({"max_turns": 2}, None, [2] * 3),
        ({"max_turns": 3}, None, []),  # the end and the limit together
        ({"turn_tokens": 2}, None, [1] * 3),
        ({"max_tokens": 6}, None, [2] * 3),  # nothing left for a third turn
        ({}, 0, []),  # nobody has begun it
        ({}, 1, [1]),
        ({}, 2, [2]),
    ],
)
def test_a_scorer_is_told_of_episodes_that_end_before_their_environments(
    kind: type[Scripted], options: dict[str, Any], lost_at: int | None, num_turns: list[int]
) -> None:
    class Told(Scorer):
        def end(self, jobs: Sequence[ScoringJob]) -> None:
            ended.extend(jobs)
            super().end(jobs)

    ended: list[ScoringJob] = []
    lost = None if lost_at is None else sample_seed(7, "train", "chat", 4, 0, 1, lost_at)
    sampler = kind(small_policy(), lambda request, call: Generation.lost() if request.seed == lost else "ok")
    player = player_of(sampler, chats(3), **options)
    play(replace(player, scorer=Told([], player.environments)))
    assert sorted(len(job.completions) for job in ended) == num_turns
    assert len({job.episode for job in ended}) == len(ended)


def test_one_slow_environment_holds_nobody(engine: type[Streaming]) -> None:
    sources = [
        EnvironmentSource("slow", FAKES, {"character": "slow_turns"}),
        EnvironmentSource("quick", FAKES, {"character": "many_turns"}),
    ]
    environments = {source.name: source.create() for source in sources}
    policy, watch = small_policy(), Stopwatch()
    sampler = engine(policy, lambda request, call: "a")
    with Scorer(sources, environments, ScoringOptions(workers=2, timeout_s=5)) as scorer:
        tasks = [environments[name].task("easy", 0) for name in ("slow", "quick", "quick")]
        scorer.turns([ScoringJob(tasks[0], ("a",))] * 2)  # the processes are there
        player = Player(7, policy, sampler, scorer, environments, Budgets(SamplerOptions()))
        groups = player.play(tasks, 1, Sampling(), "train", 0, watch)
    assert [group.samples[0].num_turns for group in groups] == [3, 3, 3]
    order = [episode for episode, _ in sampler.rows]
    assert order[:3] == [0, 1, 2]
    before = order[: order.index(0, 1)]  # the slow one's second turn
    assert max(before.count(1), before.count(2)) == 3, f"its second turn came before others were done: {order}"
    assert watch.seconds["score"] > watch.seconds["play"]


@pytest.mark.timeout(60)
def test_all_others_end_while_one_environment_has_not_answered(engine: type[Streaming]) -> None:
    class Held(Scorer):
        """Has the slow one's answer wait for the ends of all others."""

        def submit(self, job: ScoringJob) -> Future[Turn]:
            turn = super().submit(job)
            if job.task.environment == "quick":
                ended.extend([job.episode] * turn.result().done)
            elif len(job.completions) == 1:
                answers.append(turn.result())
                turn = held
            if answers and len(ended) == 3 and not held.done():
                held.set_result(answers[0])
            return turn

    ended, answers, held = list[str](), list[Turn](), Future[Turn]()
    sources = [EnvironmentSource(name, FAKES, {"character": "many_turns"}) for name in ("slow", "quick")]
    environments = {source.name: source.create() for source in sources}
    sampler = engine(small_policy(), lambda request, call: "a")
    tasks = [environments[name].task("easy", 0) for name in ("slow", "quick", "quick", "quick")]
    with Held(sources, environments, ScoringOptions(isolation="none")) as scorer:
        player = Player(7, sampler.policy, sampler, scorer, environments, Budgets(SamplerOptions()))
        groups = player.play(tasks, 1, Sampling(), "train", 0, Stopwatch())
    assert [group.samples[0].num_turns for group in groups] == [3] * 4


def test_what_was_not_played_as_it_should_is_played_anew(engine: type[Streaming]) -> None:
    policy = small_policy()
    streaming, together = engine(policy), Scripted(policy, chance)
    streaming.doubts = [frozenset({1, 5}), frozenset({0})]
    groups = play(player_of(streaming, chats(1, 3)))
    require_same(groups, play(player_of(together, chats(1, 3))))
    assert len(streaming.streams) == 3
    assert not any(stream.is_abandoned for stream in streaming.streams)


@pytest.mark.parametrize("error", [PolicyError("no server is there"), KeyboardInterrupt()])
def test_what_the_sampler_raises_ends_all(engine: type[Streaming], error: BaseException) -> None:
    num = [0]

    def script(request: Request, call: int) -> str:
        num[0] += 1
        if num[0] == 5:
            raise error
        return "well"

    streaming = engine(small_policy(), script)
    with pytest.raises(type(error)):
        play(player_of(streaming, chats(2, 3)))
    assert [stream.is_abandoned for stream in streaming.streams] == [True]


def test_a_fault_of_an_environment_ends_all(engine: type[Streaming]) -> None:
    class Broken(Scorer):
        def submit(self, job: ScoringJob) -> Future[Turn]:
            found = Future[Turn]()
            found.set_exception(EnvironmentFault("chat: it is none"))
            return found

    streaming = engine(small_policy())
    player = player_of(streaming, chats(2))
    player = replace(player, scorer=Broken([], player.environments))
    with pytest.raises(EnvironmentFault, match="it is none"):
        play(player)
    assert streaming.streams[0].is_abandoned
