"""The rates that a GPU's arithmetic allows a run, and how long a stage is at least.

Ceilings: 40 % of a GPU's bfloat16 operations for an update, 65 % of its memory's bandwidth for playing; engines reach
part of that. Of experts those count that tokens meet. What goes over the bus or a network is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from environments import Environment
from orchestrator.measurements.budget import LookingPlan, known_order, sample_lengths
from orchestrator.runs.environments import trainable
from orchestrator.runs.first_prompts import PromptLengths
from orchestrator.runs.gpu_memory import Case
from store.sentences import duration, num, percent, short

OF_OPERATIONS, OF_BANDWIDTH = 0.40, 0.65
FLOPS_PER_WEIGHT = {False: 6, True: 8}  # of an update's token; with layers run again
SMALL_POLICY = 100_000_000  # weights; below that a GPU waits for the host


@dataclass(frozen=True)
class StageTime:
    """A stage's seconds at least, part by part, where answers have full length and all are learnt from."""

    environment: str  # of those that have stages the one whose takes longest
    total_s: float  # of what is known
    update_s: float  # of its steps
    play_s: float | None  # of its steps; None: how fast it plays is not known
    boundary_s: float | None  # to evaluate at its boundary, the mean of all boundaries
    inside_s: float | None  # to evaluate inside it
    evaluated: float  # share of evaluation in the tokens that are written
    prompt_tokens: float | None  # of a prompt, which updates read beside its answers; None: not known, so not in it
    micro_batches: float  # of an update, all of them full
    plays_ahead: bool  # while it updates

    @property
    def in_words(self) -> str:
        """Say them."""
        read = "" if self.prompt_tokens is None else f" to prompts of {self.prompt_tokens:,.0f} tokens"
        update = f"{duration(self.update_s)} to update"
        said = f"a stage on {short(self.environment)}, with answers of full length{read}, all learnt from, takes"
        if self.play_s is None or self.boundary_s is None or self.inside_s is None:
            share = f"{percent(self.evaluated)} of the tokens that it plays are evaluation"
            return f"{said} at least {update}; how long it plays is not known: {share}"
        join = " beside " if self.plays_ahead else ", "
        steps = f"{duration(self.play_s)} to play{join}{update}"
        inside = f", {duration(self.inside_s)} to evaluate inside it" if self.inside_s else ""
        evaluation = f"{duration(self.boundary_s)} to evaluate at its boundary{inside}"
        return f"{said} at least {duration(self.total_s)}: {steps}, {evaluation}"


@dataclass(frozen=True)
class Rates:
    """Tokens a second at most, and a stage's seconds at least."""

    update_tokens_s: float | None = None  # of all ranks; None: the arithmetic of a GPU says nothing about it
    play_tokens_s: float | None = None  # of one engine; None: that, or it does not fit its GPU
    num_servers: int | None = None  # that were reckoned with, a GPU each; None: no servers play
    stage: StageTime | None = None
    unknown: str = ""  # why nothing is told

    @classmethod
    def of(
        cls,
        case: Case,
        environments: Mapping[str, Environment],
        looking: LookingPlan,
        prompts: Mapping[str, PromptLengths],
    ) -> Rates:
        """Work them out; `prompts`: how long they are, by environment, as far as that is known."""
        if case.memory.num_parameters < SMALL_POLICY:
            return cls(unknown="with so small a policy a GPU waits for the host")
        if not case.gpu.flops:
            return cls(unknown=f"what this GPU, {case.gpu.name}, computes a second is not known here")
        if case.memory.experts is not None and case.memory.experts.share is None:
            return cls(unknown="how many of its experts a token meets is not in the model's configuration")
        spec, names = case.spec, list(trainable(environments))
        stages = [
            _stage(case, environments, looking, name, prompts[name].mean if name in prompts else None)
            for name in dict.fromkeys(known_order(spec, names) or names)
        ]
        return cls(
            _update_tokens_s(case),
            _play_tokens_s(case, spec.step.groups * max(spec.group_sizes.values()), case.longest),
            _num_engines(case) if case.kind == "vllm_server" else None,
            max(stages, key=lambda one: one.total_s),
        )

    @property
    def in_words(self) -> str:
        """Say them."""
        if self.update_tokens_s is None:
            return f"not known: {self.unknown}"
        said = [f"an update reads at most {self.update_tokens_s:,.0f} tokens/s"]
        where = "" if self.num_servers is None else " on each server, with a GPU like this of its own"
        if self.play_tokens_s is not None:
            said.append(f"playing writes at most {self.play_tokens_s:,.0f}{where}")
        if self.stage is not None:
            is_timed = self.num_servers is not None and self.play_tokens_s is not None
            said.append(self.stage.in_words + (f", with {num(self.num_servers or 1, 'server')}" if is_timed else ""))
        return "; ".join(said)


def _stage(
    case: Case, environments: Mapping[str, Environment], looking: LookingPlan, name: str, prompt: float | None
) -> StageTime:
    """Time a stage on one environment."""
    spec, steps = case.spec, case.spec.curriculum.stage.steps
    answer, size, groups = spec.budgets.tokens(environments[name]), spec.group_sizes[name], spec.step.groups
    a_pass = answer / sample_lengths(spec, environments, list(trainable(environments)))[name]  # in tokens
    boundary, inside = a_pass * looking.a_boundary, a_pass * looking.inside_a_stage
    played = groups * size * answer
    times_read = size if case.recomputes_layers else 1  # else the answers of a group share one reading of their prompt
    num_read = played + groups * times_read * (prompt or 0)
    num_updates = min(spec.learner.updates or spec.objective.of(name).updates, groups)  # each has whole groups
    micro_batches = num_read / (num_updates * case.num_tokens)
    ranks = spec.resources.ranks
    whole, rest = divmod(micro_batches, ranks)  # in rounds: each rank runs a micro-batch, and some wait in the last
    update_s = num_updates * (whole + min(1.0, rest)) * case.num_tokens * ranks / _update_tokens_s(case)
    evaluated = (boundary + inside) / (steps * played + boundary + inside)
    play_rate = _play_tokens_s(case, groups * size, answer)
    mean_answer = fmean(map(spec.budgets.tokens, environments.values()))
    evaluation_rate = _play_tokens_s(case, spec.evaluate.items * spec.evaluate.samples, mean_answer)  # a category
    if play_rate is None or evaluation_rate is None:
        total_s = steps * update_s
        return StageTime(name, total_s, total_s, None, None, None, evaluated, prompt, micro_batches, False)
    play_s = played / (play_rate * _num_engines(case))
    # the first batch of a stage is played alone, and beside the last update nothing is; an engine in the
    # learner's own process has no GPU that would be idle meanwhile
    is_beside = bool(spec.sampler.ahead) and case.kind == "vllm_server"
    shorter, longer = sorted((play_s, update_s))
    steps_s = steps * longer + shorter if is_beside else steps * (play_s + update_s)
    boundary_s, inside_s = (num_tokens / (evaluation_rate * _num_engines(case)) for num_tokens in (boundary, inside))
    return StageTime(
        name,
        steps_s + boundary_s + inside_s,
        steps * update_s,
        steps * play_s,
        boundary_s,
        inside_s,
        evaluated,
        prompt,
        micro_batches,
        is_beside,
    )


def _update_tokens_s(case: Case) -> float:
    num_flops = FLOPS_PER_WEIGHT[case.recomputes_layers]
    if case.memory.num_adapted is not None:
        num_flops -= 2  # no gradient of what is frozen
    return case.spec.resources.ranks * OF_OPERATIONS * case.gpu.flops / (num_flops * case.memory.met(1))


def _num_engines(case: Case) -> int:
    """Count what plays beside each other: servers, or one engine."""
    return case.num_servers or 1


def _play_tokens_s(case: Case, num_rows: int, answer: float) -> float | None:
    """Give what one engine writes: for a token of each row it reads weights, and what the rows have written."""
    if case.kind not in {"vllm", "vllm_server"} or case.engine_bytes > case.gpu.usable:
        return None  # another engine waits for the host
    if case.kind == "vllm_server":
        num_rows = min(case.spec.sampler.in_flight, math.ceil(num_rows / _num_engines(case)))
    elif case.spec.sampler.rows is not None:
        num_rows = min(case.spec.sampler.rows, num_rows)
    weights = case.memory.met(num_rows) * case.memory.bytes_each
    read = weights + case.memory.cache(int(num_rows * answer / 2))  # half an answer, on average
    return num_rows * OF_BANDWIDTH * case.gpu.bandwidth / read
