"""Our sampler beside the library's own `generate`, the tiny policy on one core. One command:

    taskset -c 1 python -m benchmarks.play

The work: 32 prompts of 14 tokens, 8 samples each, answers up to 8 tokens. Both samplers play the same prompts
with the same weights, alternating, and count the tokens up to each row's end. Goal: 1.2 times the tokens a
second of `generate`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from policies.config import PolicyConfig
from policies.hardware import cpu_threads
from policies.models.loading import load_policy
from policies.models.tokenizer import VocabularySample
from policies.policy import Policy
from policies.samplers.contracts import Request, Sampling
from policies.samplers.sampling import sample_seed
from policies.samplers.transformers import Config, TransformersSampler

NUM_PROMPTS, GROUP_SIZE, BUDGET = 32, 8, 8
ENDS = 0.15  # chance of the end token at each position, about that of the demo's answers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    compare(parser.parse_args().rounds)


def compare(rounds: int) -> None:
    policy, requests = make_work()
    with cpu_threads(1):
        print("answers of 8 tokens, all of them:")
        compare_with_generate(policy, requests, rounds)
        print("answers up to 8 tokens, as the demo's:")
        end_sometimes(policy)
        compare_with_generate(policy, requests, rounds)


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


if __name__ == "__main__":
    main()
