"""A whole run of Evergreen at the work of `benchmarks.versus_trl`: bandit, ledger and checkpoints included.

    python -m benchmarks.run_side FOLDER CASE NUM_STEPS AHEAD

With AHEAD 1 the next batch is played while the learner updates: two threads, so give it two cores. Two seams are moved:
the policy is the one that all sides have, and the sampler's budgets are the lengths of the work.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import torch

import orchestrator
from benchmarks import work
from benchmarks.evergreen_side import MICRO_TOKENS, make_policy
from benchmarks.turns import Turns
from environments import Category, Environment, Score, Task
from orchestrator.callbacks import Callback
from orchestrator.runs import assembly
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.transformers import TransformersSampler
from store.records import StepRecord

SETTLE_S = 2.0  # the batch that is under way when a turn ends must not disturb the others


class Given(Environment):
    """The prompts of the work; rewards by a coin that half of a group's answers win."""

    name, version, scores_in_process = "given", "1", True

    def __init__(self, case: work.Case) -> None:
        self.case, self.num_scored = case, count()

    @property
    def categories(self) -> Sequence[Category]:
        return [Category("all")]

    def size(self, category: str) -> None:
        return None

    def task(self, category: str, index: int) -> Task:
        step, group = divmod(index, work.num_prompts(self.case))
        content = work.texts(self.case, step)[group]
        return Task(self.name, category, index, ({"role": "user", "content": content},), "a")

    def score(self, task: Task, completion: str) -> Score:
        row = next(self.num_scored) % (work.num_prompts(self.case) * work.GROUP_SIZE)
        return Score.of(work.reward(self.case, *divmod(row, work.GROUP_SIZE)))


def create(name: str, case: work.Case) -> Given:
    return Given(case)


def with_lengths(case: work.Case) -> None:
    """Let the rows of a training batch be as long as the work says; an evaluation's may be as they are."""
    generate, steps = TransformersSampler.generate, count()

    def run(sampler: Any, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        if len(requests) == work.num_prompts(case) * work.GROUP_SIZE:
            lengths = work.lengths(case, next(steps))
            requests = [replace(request, budget=n) for request, n in zip(requests, lengths, strict=True)]
        return generate(sampler, requests, sampling)

    TransformersSampler.generate = run  # type: ignore[method-assign, assignment]


class Turn(Callback):
    """Waits for the turn between steps; the split is what the run itself notes."""

    def __init__(self, turns: Turns, settle_s: float) -> None:
        self.turns, self.settle_s = turns, settle_s

    def stage(self, at: Any) -> None:
        self.turns.begin()

    def step(self, at: Any, record: StepRecord) -> None:
        noted = {metric.name: metric.value for metric in record.metrics}
        for part, name in (("generate", "play"), ("score", "score"), ("update", "update"), ("wait", "wait")):
            self.turns.book(part, noted.get(f"seconds_{name}") or 0.0)
        self.turns.step_done(record.num_tokens, before_next=lambda: time.sleep(self.settle_s))


def main(folder: str, case: work.Case, num_steps: int, ahead: int) -> None:
    torch.set_num_threads(1)
    assembly.load_policy = lambda *args, **kwargs: make_policy(folder, case)  # type: ignore[attr-defined]
    with_lengths(case)
    learner = {
        **work.LEARNER,
        "betas": list(work.LEARNER["betas"]),
        "warmup": 0,
        "micro_tokens": MICRO_TOKENS,
    }
    spec = {
        "name": "versus",
        "environments": {"given": {"type": "benchmarks.run_side:create", "case": case}},
        "curriculum": {"stages": 1, "stage": {"steps": num_steps}},
        "step": {"groups": work.num_prompts(case), "group_size": work.GROUP_SIZE},
        "objective": "grpo",
        "learner": learner,
        "sampler": {"type": "transformers", "max_tokens": work.NEW_TOKENS[case], "ahead": ahead},
        "evaluate": {"items": 1, "samples": work.GROUP_SIZE},  # a whole group: the coin counts rows
        "resources": {"threads": 1, "device": "cpu"},
        "tracker": "none",
    }
    turns = Turns()
    with tempfile.TemporaryDirectory() as home:
        orchestrator.run(spec, home=home, watcher=Turn(turns, SETTLE_S if ahead else 0.0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))  # type: ignore[arg-type]
