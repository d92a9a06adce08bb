"""A short supervised start on reference answers, so that reinforcement has something to reinforce.

The caller decides what is drawn, and keeps the result under `cache_key`, the hash of everything it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from policies.config import WarmStartConfig
from policies.encoder import Example
from policies.errors import PolicyError
from policies.forward import evaluating, score_rows
from policies.optimizer import Optimizer
from policies.policy import Policy

CLIP_NORM = 1.0


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
    with evaluating(policy.model), policy.deterministic():
        for batch in range(num):
            ids_BT, mask_BT = _encode(policy, draw(config.batch_size))
            loss = -score_rows(policy.model, ids_BT, mask_BT).lp_BT.sum() / mask_BT.sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.gather_gradients()
            # the learning rate rises linearly, then falls linearly to 0
            rise, fall = (batch + 1) / max(1, config.warmup), (num - batch) / max(1, num - config.warmup)
            _, was_applied = optimizer.step(config.lr * min(1.0, rise, fall))
            if not was_applied:
                raise PolicyError(f"warm start: the gradient of batch {batch + 1} is not finite; lower `lr`")
            progress(batch + 1, float(loss.detach()))


def cache_key(**parts: Any) -> str:
    """Hash everything that a warm start depends on, JSON values by name; library versions are added."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    canonical = json.dumps({**parts, "versions": versions}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _encode(policy: Policy, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Pad prompts and answers on the right to the longest [B, T]; the mask holds the answers, cut to the context."""
    rows = [(policy.encode(one.messages), policy.encode_answer(one.answer, ends=one.ends)) for one in examples]
    if (context := policy.context) is not None:
        rows = [(prompt, answer[: max(0, context - len(prompt))]) for prompt, answer in rows]
    ids = [torch.tensor(prompt + answer) for prompt, answer in rows]
    is_answer = [torch.tensor([False] * len(prompt) + [True] * len(answer)) for prompt, answer in rows]
    ids_BT = pad_sequence(ids, batch_first=True, padding_value=policy.pad_id)
    return ids_BT.to(policy.device), pad_sequence(is_answer, batch_first=True).to(policy.device)
