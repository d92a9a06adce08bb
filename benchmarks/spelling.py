"""Runs of spelling backward in memory: the curriculum's own loop, with a recorder that only keeps numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from environments import Scorer
from orchestrator import registry
from orchestrator.callbacks import Callback
from orchestrator.curriculum import Curriculum
from orchestrator.progress import Progress
from orchestrator.rollout.warm_start_examples import WarmStartExamples
from orchestrator.runs.assembly import Foundation, lay_foundation, put_together
from orchestrator.runs.environments import find_held_out
from orchestrator.spec import load_spec
from policies.hardware import cpu_threads
from policies.warm_start import warm_start

Weights = Mapping[str, torch.Tensor]


@dataclass
class Numbers:
    """What is kept of a run; stands in for the recorder."""

    readings: list[float] = field(default_factory=list)  # entropy after each step, a fraction of the start
    accuracies: list[float] = field(default_factory=list)  # held out, at both boundaries
    watcher: Callback = field(default_factory=Callback)

    @property
    def accuracy(self) -> float:
        """Held-out accuracy at the end: the mean over the lengths."""
        return self.accuracies[-1]

    def record_step(self, parts: Any, at: Progress, done: Any, watch: Any) -> None:
        """Keep a step's reading."""
        self.readings.append(done.controlled["entropy_reading"])

    def record_boundary(self, at: Progress, found: Any, earned: Any, watch: Any) -> None:
        """Keep the accuracy of an evaluation."""
        cells = [cell for cell in found.cells if cell.category is not None]
        of_lengths = [cell.value for cell in cells if cell.metric == "pass_1"]
        self.accuracies.append(sum(of_lengths) / len(of_lengths))

    def record_stage(self, parts: Any, at: Progress, scheduled: Any) -> None:
        """There is one stage."""

    def save(self, kind: str, parts: Any, at: Progress) -> None:
        """Nothing is resumed."""

    def save_if_due(self, parts: Any, at: Progress) -> None:
        """Nothing is resumed."""


def warm_weights() -> Weights:
    """The weights that all runs begin with: 230 supervised batches, half of them words of three letters."""
    foundation = _foundation(0, "rloo", 1)
    config = foundation.spec.warm_start
    assert config is not None
    with cpu_threads(1):
        examples = WarmStartExamples(foundation.environments, config, 0, foundation.spec.budgets)
        warm_start(foundation.policy, examples, config)
    return {name: weight.clone() for name, weight in foundation.policy.model.state_dict().items()}


def spell(seed: int, objective: str | Mapping[str, Any], start: Weights, steps: int) -> Numbers:
    """Train one policy; gives what was kept."""
    foundation, numbers = _foundation(seed, objective, steps), Numbers()
    spec, policy = foundation.spec, foundation.policy
    policy.model.load_state_dict(start)
    with (
        cpu_threads(1),
        Scorer(list(foundation.sources.values()), foundation.environments, spec.scoring) as scorer,
    ):
        held_out = {"anchor": find_held_out(foundation.environments, "anchor", spec.evaluate.items)}
        sampler = registry.create("samplers", spec.sampler, policy=policy)
        parts = put_together(foundation, sampler, scorer, held_out)
        at = Progress(1, steps)
        Curriculum(parts, numbers, at).run(lambda _: None)  # type: ignore[arg-type]
        sampler.close()
    return numbers


def _foundation(seed: int, objective: str | Mapping[str, Any], steps: int) -> Foundation:
    lengths = {str(n): {"min_word_len": n, "max_word_len": n} for n in range(3, 8)}
    words = {
        "type": "reasoning_gym",
        "dataset": "spell_backward",
        "max_tokens": 8,
        "categories": lengths,
    }
    spec = {
        "name": "spelling",
        "seed": seed,
        "policy": "tiny",
        "warm_start": {"environments": ["words"], "batches": 230, "decay": 0.5},
        "environments": {"words": words},
        "curriculum": {"stages": 1, "stage": {"steps": steps}},
        "step": {"groups": 32, "group_size": 8},
        "objective": objective,
        "evaluate": {"items": 100, "samples": 4},
        "tracker": "none",
    }
    return lay_foundation(load_spec(spec))
