"""The rates that a GPU's arithmetic allows a run, and how long a stage is at least.

Ceilings: 40 % of a GPU's bfloat16 operations for an update, 65 % of its memory's bandwidth for playing; engines reach
part of that. What goes over the bus or a network is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from environments import Environment
from orchestrator.runs.gpu_memory import Case
from store.sentences import duration, num

OF_OPERATIONS, OF_BANDWIDTH = 0.40, 0.65
FLOPS_PER_WEIGHT = {False: 6, True: 8}  # of an update's token; with layers run again
SMALL_POLICY = 100_000_000  # weights; below that a GPU waits for the host


@dataclass(frozen=True)
class Rates:
    """Tokens a second at most, and a stage's seconds at least."""

    update_tokens_s: float | None = None  # of all ranks; None: the arithmetic of a GPU says nothing about it
    play_tokens_s: float | None = None  # of one engine; None: that, or it does not fit its GPU
    num_servers: int | None = None  # that were reckoned with, a GPU each; None: no servers play
    stage_s: float | None = None  # of its steps, with answers of full length

    @classmethod
    def of(cls, case: Case, environments: Mapping[str, Environment]) -> Rates:
        """Work them out."""
        if case.memory.num_parameters < SMALL_POLICY:
            return cls()
        update_s, play_s = _update_tokens_s(case), _play_tokens_s(case)
        num_servers = (case.num_servers or 1) if case.kind == "vllm_server" else None
        if play_s is None:
            return cls(update_s, None, num_servers)
        sizes, budgets, steps = case.spec.group_sizes, case.spec.budgets, case.spec.curriculum.stage.steps
        a_group = max(sizes[name] * budgets.tokens(one) for name, one in environments.items())
        num_tokens = case.spec.step.groups * a_group
        parts_s = num_tokens / (play_s * (num_servers or 1)), num_tokens / update_s
        stage_s = steps * sum(parts_s)
        if case.spec.sampler.ahead and num_servers is not None:
            # the first batch of a stage is played alone, and beside the last update nothing is; an engine in the
            # learner's own process has no GPU that would be idle meanwhile
            stage_s = steps * max(parts_s) + min(parts_s)
        return cls(update_s, play_s, num_servers, stage_s)

    @property
    def in_words(self) -> str:
        """Say them."""
        if self.update_tokens_s is None:
            return "not known: with so small a policy a GPU waits for the host"
        said = [f"an update reads at most {self.update_tokens_s:,.0f} tokens/s"]
        where = "" if self.num_servers is None else " on each server, with a GPU like this of its own"
        if self.play_tokens_s is not None:
            said.append(f"playing writes at most {self.play_tokens_s:,.0f}{where}")
        if self.stage_s is not None:
            servers = "" if self.num_servers is None else f", with {num(self.num_servers, 'server')}"
            said.append(f"a stage's steps with answers of full length take at least {duration(self.stage_s)}{servers}")
        return "; ".join(said)


def _update_tokens_s(case: Case) -> float:
    num_flops = FLOPS_PER_WEIGHT[case.recomputes_layers]
    if case.memory.num_adapted is not None:
        num_flops -= 2  # no gradient of what is frozen
    return case.spec.resources.ranks * OF_OPERATIONS * case.gpu.flops / (num_flops * case.memory.num_parameters)


def _play_tokens_s(case: Case) -> float | None:
    """Give what one engine writes: for a token of each row it reads all weights, and what the rows have written."""
    num_rows = case.spec.step.groups * max(case.spec.group_sizes.values())
    if case.kind not in {"vllm", "vllm_server"} or case.engine_bytes > case.gpu.usable:
        return None  # another engine waits for the host
    if case.kind == "vllm_server":
        num_rows = min(case.spec.sampler.in_flight, math.ceil(num_rows / (case.num_servers or 1)))
    read = case.engine_weights + case.memory.cache(num_rows * case.longest // 2)  # half an answer, on average
    return num_rows * OF_BANDWIDTH * case.gpu.bandwidth / read
