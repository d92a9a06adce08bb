"""A short supervised start on reference answers, so that reinforcement has something to reinforce.

Who asks decides what is drawn: which environments and categories, from training tasks only. The result is cached
by the hash of everything it depends on, so the next run of the same start loads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from policies.config import WarmStartConfig
from policies.encoder import Message
from policies.errors import PolicyError
from policies.forward import evaluating, score_rows
from policies.optimizer import Optimizer
from policies.policy import Policy

CLIP_NORM = 1.0


@dataclass(frozen=True)
class Example:
    """One conversation and the answer to learn."""

    messages: Sequence[Message]
    answer: str
    ends: bool = True  # whether the end-of-turn token belongs to it; not where a reply is one token long


def warm_start(
    policy: Policy,
    draw: Callable[[int], Sequence[Example]],
    config: WarmStartConfig,
    *,
    progress: Callable[[int, float], None] = lambda batch, loss: None,
) -> None:
    """Train the policy on `config.num_batches` batches of examples, each one call of `draw(batch_size)`.

    The loss is the cross entropy of answer tokens, mean over the batch's tokens. `progress` is told the number of
    batches done and the loss of the last. Raises PolicyError when the loss is not finite.
    """
    optimizer = Optimizer(policy.model, config.betas, config.weight_decay, CLIP_NORM)
    num = config.num_batches
    with evaluating(policy.model):
        for batch in range(num):
            ids_BT, mask_BT = _pad([_encode(policy, example) for example in draw(config.batch_size)], policy)
            loss = -score_rows(policy.model, ids_BT, mask_BT).lp_BT.sum() / mask_BT.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.gather_gradients()
            _, was_applied = optimizer.step(_rate(config, batch, num))
            if not was_applied:
                raise PolicyError(f"warm start: the gradient of batch {batch + 1} is not finite; lower `lr`")
            progress(batch + 1, float(loss.detach()))


def cache_key(**parts: Any) -> str:
    """Hash everything that a warm start depends on, JSON values by name; library versions are added."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    canonical = json.dumps({**parts, "versions": versions}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def load_cached(policy: Policy, cache: Path, key: str) -> bool:
    """Load the weights of an earlier warm start of this key; False when there is none."""
    if not (cache / key).is_dir():
        return False
    policy.load_weights(cache / key)
    return True


def save_cached(policy: Policy, cache: Path, key: str) -> None:
    """Keep the weights for the next run: written aside, then renamed, so that no half of it is ever read."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".writing-") as aside:
        policy.save(Path(aside) / key)
        if not (cache / key).exists():
            os.rename(Path(aside) / key, cache / key)


def _rate(config: WarmStartConfig, batch: int, num: int) -> float:
    """Learning rate of a batch: a linear rise, then a linear fall to 0."""
    rise = (batch + 1) / max(1, config.warmup)
    fall = (num - batch) / max(1, num - config.warmup)
    return config.lr * min(1.0, rise, fall)


def _encode(policy: Policy, example: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give prompt and answer; of an answer that outgrows the context, what fits."""
    prompt = policy.encode(example.messages)
    answer = policy.encode_answer(example.answer, ends=example.ends)
    return prompt, answer if policy.context is None else answer[: max(0, policy.context - len(prompt))]


def _pad(
    examples: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], policy: Policy
) -> tuple[Tensor, Tensor]:
    """Pad prompt and answer on the right to the longest of the batch; the mask holds the answers."""
    width = max(len(prompt) + len(answer) for prompt, answer in examples)
    ids_BT = torch.full((len(examples), width), policy.pad_id)
    mask_BT = torch.zeros(len(examples), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(examples):
        end = len(prompt) + len(answer)
        ids_BT[row, :end] = torch.tensor(prompt + answer)
        mask_BT[row, len(prompt) : end] = True
    return ids_BT.to(policy.device), mask_BT.to(policy.device)
