"""A server may have room for fewer episodes than are played: others begin as these end, and play the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from environments import Environment, RemoteEnvironment, RemoteEpisode, RemoteFault, Score, Scorer, Task, Turn
from orchestrator.rollout.player import Player
from orchestrator.scripted_play import play_category
from policies.samplers.contracts import Generation
from policies.samplers.random_numbers import sample_seed
from policies.samplers.transformers import Config, TransformersSampler
from tests.orchestrator.rollout.chats import WORTH, Chat, Scripted, Talk, player_of, small_policy
from tests.orchestrator.rollout.test_episode_stream import Stepping, Streaming, chance, play, require_same


class Served(Chat, RemoteEnvironment):
    """A chat in a server that has room for so many episodes, and says so or not."""

    def __init__(self, name: str, turns: Sequence[int], room: int, at_once: int | None) -> None:
        super().__init__(name, turns)
        self.room, self.episodes_at_once, self.live, self.most, self.refused = room, at_once, 0, 0, 0

    async def begin(self, task: Task) -> RemoteEpisode:
        if self.live >= self.room:
            self.refused += 1
            raise RemoteFault("no server: busy (429)")
        self.live += 1
        self.most = max(self.most, self.live)
        return ServedTalk(self, task)


class ServedTalk(RemoteEpisode):
    def __init__(self, server: Served, task: Task) -> None:
        self.server, self.talk, self.is_over = server, Talk(task), False

    async def step(self, completion: str) -> Turn:
        try:
            turn = self.talk.step(completion)
        except ValueError:
            turn = Turn(score=Score.unscorable("boom"))
        if turn.done:
            await self.close()
        return turn

    async def close(self) -> None:
        self.server.live -= not self.is_over
        self.is_over = True


def served(room: int, at_once: int | None) -> dict[str, Environment]:
    """Make one environment in a server of so much room beside one that is in none."""
    return {"served": Served("served", (1, 2, 3, 4), room, at_once), "chat": Chat("chat", (2, 3))}


def play_served(sampler: Any, environments: dict[str, Environment], **options: Any) -> Any:
    player = player_of(sampler, environments, **options)
    with player.scorer:
        return play(player)


@pytest.mark.parametrize("kind", [Scripted, Streaming, Stepping])
@pytest.mark.parametrize("room", [1, 5])
@pytest.mark.parametrize("options", [{}, {"max_turns": 2}, {"turn_tokens": 3}])
def test_no_more_are_played_at_once_than_there_is_room_for_and_they_play_the_same(
    kind: type[Scripted], room: int, options: dict[str, Any]
) -> None:
    policy = small_policy()
    environments = served(room, room)
    groups = play_served(kind(policy, chance), environments, **options)
    require_same(groups, play_served(Scripted(policy, chance), served(99, None), **options))
    server = environments["served"]
    assert isinstance(server, Served)
    assert (server.refused, server.live) == (0, 0)
    assert 0 < server.most <= room


def test_a_model_writes_the_same_tokens_beside_fewer_others() -> None:
    policy = small_policy()
    policy.stop_ids = tuple(range(0, len(policy.tokenizer), 5))  # it has learnt nothing, and yet ends its turns
    few, all_at_once = (
        play_served(TransformersSampler(Config(), policy), served(room, at_once), max_tokens=12, turn_tokens=4)
        for room, at_once in ((2, 2), (99, None))
    )
    for one, other in zip(few, all_at_once, strict=True):
        for a, b in zip(one.samples, other.samples, strict=True):
            assert (a.ids.tolist(), a.score, a.num_turns) == (b.ids.tolist(), b.score, b.num_turns)
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


@pytest.mark.parametrize("kind", [Scripted, Streaming, Stepping])
def test_an_episode_that_the_sampler_loses_leaves_its_place_to_another(kind: type[Scripted]) -> None:
    lost = {sample_seed(7, "train", "served", 4, 0, 1, 0), sample_seed(7, "train", "served", 4, 1, 1, 1)}
    environments = served(1, 1)
    sampler = kind(small_policy(), lambda request, call: Generation.lost() if request.seed in lost else "ok")
    groups = play_served(sampler, environments)
    finishes = [sample.finish for group in groups for sample in group.samples]
    assert (finishes.count("lost"), finishes.count("stop")) == (2, len(finishes) - 2)


@pytest.mark.parametrize("kind", [Streaming, Stepping])
def test_what_is_played_anew_waits_for_room_too(kind: type[Streaming]) -> None:
    policy, environments = small_policy(), served(2, 2)
    sampler = kind(policy, chance)
    sampler.doubts = [frozenset({0, 3, 5, 7}), frozenset({1})]
    groups = play_served(sampler, environments)
    require_same(groups, play_served(Scripted(policy, chance), served(99, None)))
    assert len(sampler.streams) == 3
    assert {rows.num_expected for rows in sampler.streams} == {sum(len(group.samples) for group in groups)}


def test_those_in_no_server_do_not_wait() -> None:
    sampler = Scripted(small_policy(), lambda request, call: "ok")
    play_served(sampler, served(1, 1))
    assert [len(call) for call in sampler.calls[:4]] == [1 + 6, 1 + 6, 1 + 3, 1]


def test_the_limit_is_asked_for_when_a_batch_begins() -> None:
    environments = served(12, 12)
    server = environments["served"]
    assert isinstance(server, Served)
    player: Player = player_of(Scripted(small_policy(), chance), environments)
    with Scorer([], environments) as scorer:
        player = replace(player, scorer=scorer)
        play(player)
        server.room = server.episodes_at_once = 3
        server.most = 0
        play(player)
    assert (server.most, server.refused) == (3, 0)


def test_a_policy_that_is_no_model_waits_for_room_too() -> None:
    server = Served("served", (3,), 2, 2)
    with Scorer([], {"served": server}) as scorer:
        played = play_category(server, "3", "reference", scorer, num_tasks=5, seed=0)
    assert [score.value for score in played.scored] == [WORTH] * 5
    assert (server.most, server.refused) == (2, 0)
