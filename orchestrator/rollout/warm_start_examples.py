"""The examples of a warm start, drawn from the training tasks of environments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from environments import ALL, Admission, Environment, TaskStream
from orchestrator import random_streams
from orchestrator.episode_options import Budgets
from orchestrator.errors import UserError
from policies.config import WarmStartConfig
from policies.encoder import Example


class WarmStartExamples:
    """Draws examples for the warm start: environments by their batches, category i of one by decay^i.

    Tasks come from the training pool only. A closed environment gives a random legal answer: its format is
    learnt, its answers are not.
    """

    def __init__(
        self,
        environments: Mapping[str, Environment],
        config: WarmStartConfig,
        seed: int,
        budgets: Budgets,
        admission: Admission = ALL,
    ) -> None:
        self.environments, self._budgets = environments, budgets
        self._rng = random_streams.generator(seed, "warm_start")
        arms = [
            (name, category.name, batches * decay**place / sum(decay**k for k in range(len(trainable))))
            for name, (batches, decay) in config.shares().items()
            if (trainable := [c for c in environments[name].categories if c.trainable])
            for place, category in enumerate(trainable)
        ]
        weights = np.array([weight for *_, weight in arms])
        self._arms, self._edges = [arm[:2] for arm in arms], np.cumsum(weights / weights.sum())
        self._streams = {
            (name, category): TaskStream(
                environments[name],
                category,
                random_streams.integer(seed, "warm_start", name, category),
                admission,
            )
            for name, category in self._arms
        }

    def __call__(self, n: int) -> list[Example]:
        """Draw a batch of n examples."""
        places = np.searchsorted(self._edges, self._rng.random(n) * self._edges[-1], side="right")
        examples = []
        for name, category in (self._arms[place] for place in places):
            environment = self.environments[name]
            (task,) = self._streams[name, category].draw(1)
            answer = environment.legal_answer(task, self._rng) if environment.closed else task.answer
            if answer is None:
                raise UserError(
                    f"warm_start.environments names {name}, but its task {category}/{task.index} has no reference "
                    "answer; leave it out of the warm start"
                )
            examples.append(Example(task.messages, answer, ends=self._budgets.own_tokens(environment) != 1))
        return examples
