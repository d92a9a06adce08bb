"""Evergreen's own parts at the work of `benchmarks.versus_trl`: sampler, objective, learner, in the order of a step.

    python -m benchmarks.evergreen_side FOLDER CASE            takes turns
    python -m benchmarks.evergreen_side FOLDER CASE --profile  says where the time goes

No answer ends by itself: where lengths differ, a row ends by its budget, which takes the same path as a sampled stop,
and the sampler makes no other use of it.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2ForCausalLM

from benchmarks import work
from benchmarks.random_models import letters_tokenizer
from benchmarks.turns import Turns
from policies.config import LearnerConfig
from policies.learner import Learner
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Trajectory
from policies.objectives.objective import Objective
from policies.policy import Policy
from policies.samplers import transformers
from policies.samplers.contracts import Generation, Request, Sampler, Sampling
from policies.samplers.random_numbers import sample_seed

MICRO_TOKENS = 4096  # of padded rows: what suits the cache of a CPU at this width
PROFILED_STEPS = 6


@dataclass(frozen=True)
class Parts:
    """What a step needs."""

    case: work.Case
    policy: Policy
    sampler: Sampler
    sampling: Sampling
    objective: Objective
    learner: Learner


def make_policy(folder: str, case: work.Case) -> Policy:
    """Read the weights that all sides begin with."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Policy(model, letters_tokenizer(model.config.vocab_size, work.never(case)), name="versus", template="none")


def make_parts(folder: str, case: work.Case) -> Parts:
    policy = make_policy(folder, case)
    config = transformers.Config(max_tokens=work.NEW_TOKENS[case])
    learner = LearnerConfig(
        lr=work.LEARNER["lr"],
        betas=work.LEARNER["betas"],
        clip_norm=work.LEARNER["clip_norm"],
        warmup=0,
        micro_tokens=MICRO_TOKENS,
    )
    return Parts(
        case,
        policy,
        transformers.create(config, policy),
        config.sampling,
        Objective(ObjectiveConfig.model_validate("grpo")),
        Learner(policy, learner),
    )


def evergreen_step(parts: Parts, step: int, turns: Turns) -> int:
    """Play, score, update; the number of tokens written."""
    prompts = [parts.policy.encode([{"role": "user", "content": t}]) for t in work.texts(parts.case, step)]
    with turns.timing("generate"):
        if parts.sampler.version != parts.policy.version:
            parts.sampler.sync(parts.policy.version)
        generations = parts.sampler.generate(requests_of(parts.case, step, prompts), parts.sampling)
    with turns.timing("score"):
        for generation in generations:
            parts.policy.decode(generation.ids)  # what a verifier would read
        rewards = [work.reward(parts.case, *divmod(row, work.GROUP_SIZE)) for row in range(len(generations))]
    with turns.timing("update"):
        batch = parts.objective.prepare(trajectories_of(prompts, generations, rewards))
        parts.learner.update(batch, parts.objective)
    return sum(len(generation.ids) for generation in generations)


def requests_of(case: work.Case, step: int, prompts: Sequence[tuple[int, ...]]) -> list[Request]:
    """Ask for a group of every prompt; the budget is the row's length."""
    return [
        Request(
            prompts[row // work.GROUP_SIZE],
            sample_seed(0, "train", case, step, *divmod(row, work.GROUP_SIZE)),
            length,
        )
        for row, length in enumerate(work.lengths(case, step))
    ]


def trajectories_of(
    prompts: Sequence[tuple[int, ...]], generations: Sequence[Generation], rewards: Sequence[float]
) -> list[Trajectory]:
    """Lay rows out for the learner."""
    found = []
    for row, (played, reward) in enumerate(zip(generations, rewards, strict=True)):
        group = row // work.GROUP_SIZE
        start = len(prompts[group])
        ids = np.array([*prompts[group], *played.ids], np.int64)
        mask = np.arange(len(ids)) >= start
        logprobs, entropies = np.zeros(len(ids), np.float32), np.zeros(len(ids), np.float32)
        logprobs[start:] = played.logprobs
        if played.entropies is not None:
            entropies[start:] = played.entropies
        found.append(Trajectory(ids, mask, logprobs, entropies, reward, group, played.spans[0].version))
    return found


def profile(parts: Parts) -> None:
    """Print where the time of a step goes: by Python function, then by torch operation."""
    turns = Turns()
    for step in range(2):
        evergreen_step(parts, step, turns)
    profiler = cProfile.Profile()
    profiler.enable()
    for step in range(PROFILED_STEPS):
        evergreen_step(parts, step, turns)
    profiler.disable()
    statistics = pstats.Stats(profiler, stream=sys.stderr).strip_dirs()
    statistics.sort_stats("cumulative").print_stats(35)
    statistics.sort_stats("tottime").print_stats(25)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as operations:
        evergreen_step(parts, PROFILED_STEPS, turns)
    print(operations.key_averages().table(sort_by="self_cpu_time_total", row_limit=25), file=sys.stderr)


def main(folder: str, case: work.Case, *, profiles: bool) -> None:
    torch.set_num_threads(1)
    parts = make_parts(folder, case)
    if profiles:
        profile(parts)
        return
    turns, step = Turns(), 0
    turns.begin()
    while True:
        turns.step_done(evergreen_step(parts, step, turns))
        step += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], profiles="--profile" in sys.argv)  # type: ignore[arg-type]
