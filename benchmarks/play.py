"""Play and update of the tiny policy on one core, beside the library's own `generate`. One command:

    taskset -c 1 python -m benchmarks.play

The work: 32 prompts of 14 tokens, 8 samples each, answers up to 8 tokens. Both samplers play the same prompts
with the same weights, alternating, and count the tokens up to each row's end. Goals: 1.2 times the tokens a
second of `generate`; a step of 32 groups of 8 (play and update) in at most .4 s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from policies.config import LearnerConfig, PolicyConfig
from policies.hardware import cpu_threads
from policies.learner import Learner
from policies.models.loading import load_policy
from policies.models.tokenizer import VocabularySample
from policies.objectives.contracts import Batch, Coefficients, Need, Rows, Totals
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.sampling import sample_seed
from policies.samplers.transformers import Config, TransformersSampler

NUM_PROMPTS, GROUP_SIZE, BUDGET = 32, 8, 8
ENDS = 0.15  # chance of the end token at each position, about that of the demo's answers


@dataclass(frozen=True)
class Plain:
    """On-policy RLOO with the mean over tokens: the least an objective can ask."""

    needs: frozenset[Need] = frozenset()
    updates: int = 1

    def coefficients(self, rows: Rows, totals: Totals) -> Coefficients:
        return Coefficients(rows.advantage_BT / totals.num_tokens, None, {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    policy, requests = make_work()
    with cpu_threads(1):
        print("answers of 8 tokens, all of them:")
        compare_with_generate(policy, requests, rounds)
        print("answers up to 8 tokens, as the demo's:")
        end_sometimes(policy)
        compare_with_generate(policy, requests, rounds)
        time_steps(policy, requests, rounds)


def make_work() -> tuple[Policy, list[Request]]:
    """Prompts of 14 tokens for a random policy, which hardly ever ends an answer by itself."""
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, 4)) for _ in range(NUM_PROMPTS)]
    prompts = [f"Spell this word backward (example: sun -> nus): {word}" for word in words]
    config, sample = PolicyConfig(), VocabularySample({"words": prompts})
    policy = load_policy(config, torch.device("cpu"), seed=0, sample=sample)
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    requests = [
        Request(policy.encode(conversation), sample_seed(0, "play", "words", 0, group, sample), BUDGET)
        for group, conversation in enumerate(conversations)
        for sample in range(GROUP_SIZE)
    ]
    print(f"{policy.num_parameters / 1e6:.2f}M parameters, prompts of {len(requests[0].ids)} tokens")
    return policy, requests


def end_sometimes(policy: Policy) -> None:
    """Give the head a bias for the end token, so that rows end at different times as real answers do."""
    head = policy.model.lm_head
    bias = torch.zeros(head.out_features)
    bias[policy.end_id] = float(np.log(ENDS / (1 - ENDS) * head.out_features))
    head.bias = torch.nn.Parameter(bias, requires_grad=False)


def compare_with_generate(policy: Policy, requests: list[Request], rounds: int) -> None:
    sampler = TransformersSampler(Config(), policy)

    def ours() -> int:
        return sum(len(generation.ids) for generation in sampler.generate(requests, Sampling()))

    mine, theirs = alternate(ours, lambda: generate(policy, requests), rounds)
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    print(f"    ours     {statistics.median(mine):8.0f} tokens/s")
    print(f"    generate {statistics.median(theirs):8.0f} tokens/s")
    print(f"    ratio    {ratio:8.2f} (goal 1.2)")


def generate(policy: Policy, requests: list[Request]) -> int:
    """The library's way: one row a sample, log-probs kept; gives the number of tokens up to each row's end."""
    ids = torch.tensor([request.ids for request in requests])
    output = policy.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        max_new_tokens=BUDGET,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answers = output.sequences[:, ids.shape[1] :]
    log_probs = torch.stack(output.logits, 1).log_softmax(-1).gather(-1, answers[..., None])
    ended_before = (answers == policy.end_id).int().cumsum(1) - (answers == policy.end_id).int()
    assert log_probs.isfinite().all()
    return int((ended_before == 0).sum())


def alternate(a: Callable[[], int], b: Callable[[], int], rounds: int) -> tuple[list[float], list[float]]:
    """Tokens a second of each, the two taking turns so that a busy neighbour slows both."""
    a(), b()
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for play, speed in zip((a, b), speeds, strict=True):
            start = time.perf_counter()
            num_tokens = play()
            speed.append(num_tokens / (time.perf_counter() - start))
    return speeds


def time_steps(policy: Policy, requests: list[Request], rounds: int) -> None:
    sampler = TransformersSampler(Config(), policy)
    learner = Learner(policy, LearnerConfig().resolved(PolicyConfig()))
    rng = np.random.default_rng(1)
    play_s, update_s = [], []
    for _ in range(rounds + 2):
        sampler.sync(policy.version)
        start = time.perf_counter()
        generations = sampler.generate(requests, Sampling())
        played = time.perf_counter()
        batch = make_batch(requests, generations, rng)
        began = time.perf_counter()
        learner.update(batch, Plain())
        play_s.append(played - start)
        update_s.append(time.perf_counter() - began)
    play, update = statistics.median(play_s[2:]), statistics.median(update_s[2:])
    print(
        f"a step of {NUM_PROMPTS} groups of {GROUP_SIZE}: play {play:.3f} s, update {update:.3f} s, ", end=""
    )
    print(f"together {play + update:.3f} s (goal .4)")


def make_batch(requests: list[Request], generations: list[Generation], rng: np.random.Generator) -> Batch:
    """Score at random, half of the groups without any spread."""
    rows = [request.ids + generation.ids for request, generation in zip(requests, generations, strict=True)]
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, lp = torch.zeros(ids.shape, dtype=torch.bool), torch.zeros(ids.shape)
    for index, (row, generation) in enumerate(zip(rows, generations, strict=True)):
        start = len(row) - len(generation.ids)
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, start : len(row)] = True
        lp[index, start : len(row)] = torch.from_numpy(generation.logprobs)
    reward = torch.from_numpy(rng.integers(0, 2, (NUM_PROMPTS, GROUP_SIZE))).float()
    reward[::2] = 1
    advantage = (reward - reward.mean(1, keepdim=True)) * GROUP_SIZE / (GROUP_SIZE - 1)
    lengths = torch.tensor([len(row) for row in rows])
    groups = torch.arange(len(rows)) // GROUP_SIZE
    return Batch(ids, mask, lp, lengths, groups, reward.flatten(), advantage.flatten())


if __name__ == "__main__":
    main()
