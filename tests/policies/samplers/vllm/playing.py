"""What the tests on real vLLM share: policies it can play, updates of their weights, and the library's own answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from policies.config import PolicyConfig
from policies.forward import evaluating
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.random_numbers import sample_seed
from policies.samplers.testing import PROMPTS, fresh_logprobs
from policies.samplers.token_distribution import log_distribution


def wide_policy(seed: int = 0, spread: float = 2.0, tied: bool = True) -> Policy:
    """Make a small random policy with heads of 32 numbers; one token in ten ends an answer."""
    config = PolicyConfig(layers=2, hidden=128, mlp=64)
    sample = VocabularySample({"questions": PROMPTS})
    policy = load_policy(config, torch.device("cpu"), seed=seed, sample=sample)
    if not tied:
        policy = Policy(_untied(policy.model), policy.tokenizer, "tiny")
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    policy.stop_ids = tuple(range(1, len(policy.tokenizer), 10))
    return policy


def _untied(model: LlamaForCausalLM) -> LlamaForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = type(model.config)(**{**model.config.to_dict(), "tie_word_embeddings": False})
        other = LlamaForCausalLM(config).eval()
    missing, _ = other.load_state_dict(dict(model.named_parameters()), strict=False)
    assert missing == ["lm_head.weight"]
    return other


def update(policy: Policy, seed: int, share: float = 0.05) -> None:
    """Move every matrix by a share of its own standard deviation, as a new version."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.std() * share)
    policy.version += 1


def long_requests(policy: Policy, num: int = 4, width: int = 200, budget: int = 16) -> list[Request]:
    """Make rows whose prompt is longer than a block of the prefix cache."""
    generator = np.random.default_rng(0)
    prompt = tuple(generator.integers(0, len(policy.tokenizer), width).tolist())
    return [Request(prompt, sample_seed(0, "long", "questions", 0, 0, sample), budget) for sample in range(num)]


ROUNDING = 3e-5  # nats: log-probs of two engines in float32 differ by about 1e-5, by the processor


def gap(policy: Policy, requests: Sequence[Request], played: Sequence[Generation]) -> float:
    """Largest difference to the library's log-probs at temperature 1, in nats."""
    gaps = [np.abs(g.logprobs - fresh_logprobs(policy, r, g, 1.0)).max() for r, g in zip(requests, played, strict=True)]
    return float(max(gaps))


def logprobs_under(policy: Policy, request: Request, generation: Generation, sampling: Sampling) -> NDArray[np.float32]:
    """Score the tokens of a generation under a sampling distribution, with the library's forward."""
    lp_TV = distribution_under(policy, request, generation, sampling)
    scores: NDArray[np.float32] = lp_TV.gather(-1, torch.tensor(generation.ids)[:, None])[:, 0].numpy()
    return scores


def distribution_under(policy: Policy, request: Request, generation: Generation, sampling: Sampling) -> torch.Tensor:
    """Log-probs [T, V] of all tokens at each position of a generation, with the library's forward."""
    ids = request.ids + generation.ids
    with torch.no_grad(), evaluating(policy.model):
        logits_TV = policy.model(torch.tensor([ids])).logits[0, len(request.ids) - 1 : -1]
    return log_distribution(logits_TV, sampling)


def greedy(policy: Policy, request: Request) -> tuple[int, ...]:
    """Continue a prompt greedily with the library's forward alone."""
    ids = list(request.ids)
    with torch.no_grad(), evaluating(policy.model):
        for _ in range(request.budget):
            ids.append(int(policy.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in policy.stop_ids:
                break
    return tuple(ids[len(request.ids) :])
