"""What the head of a wide vocabulary costs in an update, with a backward of our own and with autograd's.

    taskset -c 1 python -m benchmarks.wide_head [--rounds 8] [--tokens 128]

32 rows of a policy of 31M weights and 32,000 tokens, prompts of 16 and answers of so many tokens, are scored and led
back: with the backward of `policies.forward`, which writes over the log-probs that it kept, and with that of
`torch.log_softmax`, in turns; then where the time of ours goes, by operation. One thread, CPU seconds. Both gradients
must be the same to rounding, or the command refuses to compare them.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.paired import with_interval
from benchmarks.random_models import random_qwen2
from benchmarks.work import WIDE
from policies import forward

ROWS, PROMPT = 32, 16
SHOWN = 8  # operations


def update(model: Any, ids_BT: Tensor, mask_BT: Tensor, w_BT: Tensor) -> float:
    """Score the rows and lead their weighted log-probs back; CPU seconds."""
    model.zero_grad()
    begun = time.process_time()
    scored = forward.score_rows(model, ids_BT, mask_BT)
    loss = -(w_BT * scored.lp_BT).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return time.process_time() - begun


def main() -> None:
    """Compare the two, and print where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128, help="of every answer")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = random_qwen2(seed=0, **WIDE)
    rng = torch.Generator().manual_seed(1)
    ids_BT = torch.randint(WIDE["vocab_size"], (ROWS, PROMPT + asked.tokens), generator=rng)
    mask_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    mask_BT[:, PROMPT:] = True
    w_BT = torch.randn(ids_BT.shape, generator=rng) * mask_BT
    work, own = (model, ids_BT, mask_BT, w_BT), forward.LARGE_VOCABULARY
    seconds: dict[str, list[float]] = {"ours": [], "autograd's": []}
    gradients = {}
    for number in range(asked.rounds + 1):  # the first is not counted
        for name, least in (("ours", own), ("autograd's", 10**9)):
            forward.LARGE_VOCABULARY = least
            took = update(*work)
            gradients[name] = model.lm_head.weight.grad.clone()
            if number:
                seconds[name].append(took)
        if number == 0 and not torch.allclose(gradients["ours"], gradients["autograd's"], rtol=1e-4, atol=1e-5):
            raise SystemExit("the gradients differ, so there is nothing to compare")
    forward.LARGE_VOCABULARY = own
    num = sum(weight.numel() for weight in model.parameters())
    print(f"{num / 1e6:.0f}M weights, {ROWS} answers of {asked.tokens} tokens, {asked.rounds} rounds")
    for name, each in seconds.items():
        print(f"{name:12} {np.median(each):.2f} s of CPU an update")
    less = 1 - np.array(seconds["ours"]) / np.array(seconds["autograd's"])
    print(f"ours takes {with_interval(100 * less, '.1f')} % less")
    with profile(activities=[ProfilerActivity.CPU]) as found:
        update(*work)
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:SHOWN]:
        print(f"{event.self_cpu_time_total / total:6.1%}  {event.key}, {event.count} times")


if __name__ == "__main__":
    main()
