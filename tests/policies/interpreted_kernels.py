"""Compares models with and without Liger's kernels on a CPU, by Triton's interpreter; prints the gaps as JSON.

    TRITON_INTERPRET=1 python -m tests.policies.interpreted_kernels

Two things are lent to the interpreter that a GPU has: a float that a kernel is given is a float32 there and not
Python's own, and CUDA's `rsqrt` is a routine of the device.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import triton.language as tl
from liger_kernel.ops import rms_norm
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from triton.runtime import interpreter

from policies import kernels
from policies.config import AdapterConfig, LearnerConfig, PolicyConfig
from policies.gradients import gradient_products
from policies.learner import Learner
from policies.objectives.padding import pad
from policies.policy import Policy
from policies.samplers.contracts import Sampling
from policies.samplers.testing import random_policy, some_requests
from policies.samplers.transformers import Config, create
from tests.policies.fakes import random_trajectories

SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
}


def lend() -> None:
    plain = interpreter._implicit_cvt

    def converted(given: Any) -> Any:
        if not isinstance(given, float):
            return plain(given)
        return tl.tensor(interpreter.TensorHandle(np.array([given], dtype=np.float32), tl.float32), tl.float32)

    interpreter._implicit_cvt = converted
    rms_norm.rsqrt = lambda x: tl.rsqrt(x)


def largest(one: Any, other: Any) -> float:
    """The largest difference, over the largest value."""
    return float((one - other).detach().abs().max() / other.detach().abs().max())


def of_model(kind: Any, config: Any) -> dict[str, float]:
    torch.manual_seed(0)
    plain = kind(config(vocab_size=50, **SHAPE)).eval()
    fused = deepcopy(plain)
    kernels.put_into_checked(fused, "fused")
    copied = deepcopy(fused)
    ids = torch.randint(0, 50, (2, 7))
    logits = [model(input_ids=ids).logits for model in (plain, fused, copied)]
    for own in logits:
        own.logsumexp(-1).sum().backward()
    gradients = [torch.cat([one.grad.flatten() for one in m.parameters()]) for m in (plain, fused, copied)]
    gaps = {"logits": largest(logits[1], logits[0]), "gradient": largest(gradients[1], gradients[0])}
    gaps["gradient of a copy"] = largest(gradients[2], gradients[0])
    kernels.put_back()
    return gaps


def fused_policy(plain: Policy) -> Policy:
    fused = deepcopy(plain)
    kernels.put_into(fused.model, "fused")
    fused.kernels = "liger"
    return fused


def products(policy: Policy, **options: Any) -> torch.Tensor:
    """Gradients by component: prompts are shared unless layers are run again."""
    options = {"warmup": 0, "micro_tokens": 200, **options}
    learner = Learner(policy, LearnerConfig.model_validate(options).resolved(PolicyConfig()), 0.7)
    batch = pad(random_trajectories(len(policy.tokenizer), num_groups=3))
    for micro in learner.passes.batcher(batch).cut(torch.arange(len(batch.mask_BT))):
        assert (micro.sharing is None) == learner.passes.recomputes
    rng = torch.Generator().manual_seed(0)
    return gradient_products(learner.passes, batch, [torch.randn(batch.mask_BT.shape, generator=rng) for _ in range(2)])


def of_learner(adapter: bool, recomputes: bool) -> float:
    plain = random_policy(spread=2.0)
    fused = fused_policy(plain)
    if adapter:
        for one in (plain, fused):
            one.put_adapters(AdapterConfig(rank=2), seed=0, has_own_base=True)
    found = products(fused, activation_checkpointing=recomputes)
    kernels.put_back()
    return largest(found, products(plain, activation_checkpointing=recomputes))


def of_sampler() -> float:
    plain = random_policy(spread=2.0)
    requests = some_requests(plain, group_size=2, budget=4)
    fused = create(Config(), fused_policy(plain)).generate(requests, Sampling())
    kernels.put_back()
    expected = create(Config(), plain).generate(requests, Sampling())
    if [one.ids for one in fused] != [one.ids for one in expected]:
        return float("inf")
    pairs = zip(fused, expected, strict=True)
    return max(float(np.abs(one.logprobs - other.logprobs).max()) for one, other in pairs)


def main() -> None:
    lend()
    print(
        json.dumps(
            {
                "Llama": of_model(LlamaForCausalLM, LlamaConfig),
                "Qwen3": of_model(Qwen3ForCausalLM, Qwen3Config),
                "learner": {"gradients": of_learner(False, False), "recomputed": of_learner(False, True)},
                "adapters": {"gradients": of_learner(True, False)},
                "sampler": {"log-probs": of_sampler()},
            }
        )
    )


if __name__ == "__main__":
    main()
