"""Playing: tasks become scored groups. Turns, bridges, seeds and budgets live here; engines and scorers do not.

Turn by turn, all live episodes generate together, then the environments answer together. An episode is a list of
token ids that only grows: nothing already in it is ever encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from environments import Environment, EnvironmentFault, Job, Score, Scorer, Task
from orchestrator.errors import UserError
from orchestrator.stopwatch import Stopwatch
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampler, Sampling
from policies.samplers.sampling import sample_seed
from policies.trajectories import Trajectory


@dataclass(frozen=True)
class Sample:
    """One episode, played and scored. T = number of tokens the policy wrote."""

    prompt_ids: NDArray[np.int64]
    generation: Generation
    completion: str  # what the environment read
    score: Score

    def trajectory(self, group: int, reward: float) -> Trajectory:
        """Lay the episode out as the learner reads it."""
        ids = np.concatenate([self.prompt_ids, np.asarray(self.generation.ids, dtype=np.int64)])
        start = len(self.prompt_ids)
        mask = np.zeros(len(ids), dtype=np.bool_)
        logprobs, entropies = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
        mask[start:] = True
        logprobs[start:] = self.generation.logprobs
        if self.generation.entropies is not None:
            entropies[start:] = self.generation.entropies
        return Trajectory(ids, mask, logprobs, entropies, reward, group, self.generation.spans[0].version)


@dataclass(frozen=True)
class Group:
    """The G episodes played from one task. What is asked of it again and again is worked out once."""

    task: Task
    samples: tuple[Sample, ...]

    @cached_property
    def scored(self) -> list[Sample]:
        """The samples that could be scored; only these have anything to teach."""
        return [sample for sample in self.samples if sample.score.reason is None]

    @cached_property
    def values(self) -> list[float]:
        """Values of the scored samples."""
        return [float(s.score.value) for s in self.scored if s.score.value is not None]

    @cached_property
    def correct(self) -> list[bool]:
        """Whether each scored sample is correct."""
        return [bool(s.score.correct) for s in self.scored]

    @cached_property
    def entropy_sum(self) -> float:
        """Sum of the entropies of q over all tokens written, nats."""
        return float(
            sum(
                s.generation.entropies.sum(dtype=np.float64)
                for s in self.samples
                if s.generation.entropies is not None
            )
        )

    @cached_property
    def num_tokens(self) -> int:
        """Tokens the policy wrote."""
        return sum(len(s.generation.ids) for s in self.samples)

    @cached_property
    def num_truncated(self) -> int:
        """Samples that the token budget cut off."""
        return sum(sample.generation.finish == "length" for sample in self.samples)


class Player:
    """Plays tasks with the policy: sampler and scorer behind one function."""

    def __init__(
        self,
        seed: int,
        policy: Policy,
        sampler: Sampler,
        scorer: Scorer,
        environments: Mapping[str, Environment],
        max_tokens: int,
    ) -> None:
        self.seed, self.policy, self.sampler, self.scorer = seed, policy, sampler, scorer
        self.environments, self.max_tokens = environments, max_tokens

    def play(
        self,
        tasks: Sequence[Task],
        group_size: int,
        sampling: Sampling,
        stream: str,
        step: int,
        watch: Stopwatch,
    ) -> list[Group]:
        """Play a group of episodes from every task.

        A sample's random numbers depend on the run's seed and (stream, environment, step, group, sample), not on
        how the batch is cut.
        """
        with watch("play"):
            prompts = [self._encode(task) for task in tasks]
            generations = self.sampler.generate(
                self._requests(tasks, prompts, group_size, stream, step), sampling
            )
            completions = [self.policy.decode(generation.ids) for generation in generations]
        with watch("score"):
            owners = [task for task in tasks for _ in range(group_size)]
            scores = self._score(owners, completions)
        rows = [
            Sample(prompts[i // group_size], generation, completion, score)
            for i, (generation, completion, score) in enumerate(
                zip(generations, completions, scores, strict=True)
            )
        ]
        return [
            Group(task, tuple(rows[i * group_size : (i + 1) * group_size])) for i, task in enumerate(tasks)
        ]

    def _requests(
        self, tasks: Sequence[Task], prompts: Sequence[NDArray[np.int64]], size: int, stream: str, step: int
    ) -> list[Request]:
        requests = []
        for group, (task, prompt) in enumerate(zip(tasks, prompts, strict=True)):
            ids, budget = tuple(prompt.tolist()), self._budget(task, len(prompt))
            for sample in range(size):
                seed = sample_seed(self.seed, stream, task.environment, step, group, sample, 0)
                requests.append(Request(ids, seed, budget))
        return requests

    def _encode(self, task: Task) -> NDArray[np.int64]:
        return np.asarray(self.policy.encode(task.messages), dtype=np.int64)

    def _budget(self, task: Task, prompt_length: int) -> int:
        wanted = self.environments[task.environment].max_tokens or self.max_tokens
        if self.policy.context is None:
            return wanted
        budget = min(wanted, self.policy.context - prompt_length)
        if budget < 1:
            raise UserError(
                f"a prompt of {task.environment}.{task.category} has {prompt_length} tokens, the policy's context "
                f"is {self.policy.context}: choose easier options for it, or a model with a longer context"
            )
        return budget

    def _score(self, tasks: Sequence[Task], completions: Sequence[str]) -> list[Score]:
        jobs = [Job(task, (completion,)) for task, completion in zip(tasks, completions, strict=True)]
        scores = []
        for task, turn in zip(tasks, self.scorer.turns(jobs), strict=True):
            if turn.score is None:
                raise EnvironmentFault(
                    f"{task.environment}.{task.category} asks for a second turn: episodes of several turns cannot "
                    "be trained on yet; return Turn(score=..., done=True)"
                )
            scores.append(turn.score)
        return scores
