"""Conversations for tests of playing: an environment of as many turns as asked, a sampler that writes a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from environments import Category, Environment, EnvironmentSource, Episode, Score, Scorer, Task, Turn
from orchestrator.episode_options import Budgets
from orchestrator.played_group import Group
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from policies.config import PolicyConfig
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampler, SamplerOptions, Sampling, Span

EXAMPLES = Path(__file__).parents[3] / "examples"
GUESS = EnvironmentSource("guess", "guess:create", {"numbers": [3, 5]}, str(EXAMPLES))
LAKE = EnvironmentSource("lake", "lake:create", {"steps": [3, 4]}, str(EXAMPLES))
WORTH, SO_FAR = 0.75, 0.25  # of an episode at its end, and of one that said "half" last


class Chat(Environment):
    """A category is a number of turns. `boom` makes a turn fail, `half` is worth something before the end."""

    version, scores_in_process = "1", True

    def __init__(self, name: str, turns: Sequence[int], max_tokens: int | None = None) -> None:
        self.name, self.turns, self.max_tokens = name, turns, max_tokens

    @property
    def categories(self) -> list[Category]:
        return [Category(str(n)) for n in self.turns]

    def size(self, category: str) -> None:
        return None

    def task(self, category: str, index: int) -> Task:
        return Task(self.name, category, index, ({"role": "user", "content": f"{category} {index}?"},), "ok")

    def start(self, task: Task) -> Episode:
        return Talk(task)


class Talk(Episode):
    def __init__(self, task: Task) -> None:
        self.messages, self.turns, self.heard = task.messages, int(task.category), []  # type: ignore[var-annotated]

    def step(self, completion: str) -> Turn:
        self.heard.append(completion)
        if completion == "boom":
            raise ValueError("boom")
        if len(self.heard) == self.turns:
            return Turn(score=Score.of(WORTH, correct=True))
        reply = {"role": "user", "content": f"heard {completion}"}
        return Turn((reply,), Score.of(SO_FAR) if completion == "half" else None, done=False)


def small_policy(seed: int = 0, context: int = 512) -> Policy:
    """Make a tiny policy that reads bytes."""
    config = PolicyConfig(layers=1, hidden=16, mlp=16, heads=2, kv_heads=1)
    policy = load_policy(config, torch.device("cpu"), seed=seed, sample=VocabularySample({}))
    policy.model.config.max_position_embeddings = context
    return policy


class Scripted(Sampler):
    """Writes what a function of the request and the call's number says: a text, which ends, or a generation."""

    def __init__(self, policy: Policy, script: Callable[[Request, int], str | Generation]) -> None:
        self.policy, self.script = policy, script
        self.calls: list[list[Request]] = []
        self.synced: list[int] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        self.calls.append(list(requests))
        return [self._written(request) for request in requests]

    def sync(self, version: int) -> None:
        self.version = version
        self.synced.append(version)

    def _written(self, request: Request) -> Generation:
        written = self.script(request, len(self.calls) - 1)
        if isinstance(written, Generation):
            return written
        return generation(self.policy.encode_answer(written)[: request.budget], self.policy, self.version)


def generation(ids: Sequence[int], policy: Policy, version: int = 0) -> Generation:
    """Make a generation of these tokens: log-probs -.5, entropies 1."""
    num = len(ids)
    return Generation(
        ids=tuple(ids),
        logprobs=np.full(num, -0.5, np.float32),
        entropies=np.ones(num, np.float32),
        finish="stop" if ids[-1] in policy.stop_ids else "length",
        spans=(Span(version, 0, num),),
    )


def player_of(sampler: Any, environments: Mapping[str, Environment], **options: Any) -> Player:
    """Make a player that scores in this process."""
    budgets = Budgets(SamplerOptions(**options))
    return Player(7, sampler.policy, sampler, Scorer([], environments), environments, budgets)


def chats(*turns: int, **options: Any) -> dict[str, Environment]:
    """Make the environments of one chat."""
    return {"chat": Chat("chat", turns, **options)}


def played(player: Player, categories: Sequence[int], size: int = 1, step: int = 0) -> list[Group]:
    """Play a group from the first task of each category of the chat."""
    (chat,) = player.environments.values()
    tasks = [chat.task(str(category), index) for index, category in enumerate(categories)]
    return player.play(tasks, size, Sampling(), "train", step, Stopwatch())
