"""How much padding an update feeds to the model: what packing rows without any could save at most. One command:

    python -m benchmarks.padding

64 groups of 8 answers, of several laws of lengths, are cut as the learner cuts them, on a CPU and for a GPU, whose
forward passes cost more apart from their tokens. Padding is what is fed beyond one pass over every token but a row's
last: prompts once where they are read apart, and once a row where they are not. No model is run.
"""

from __future__ import annotations

import numpy as np
import torch

from policies.micro_batches import MicroBatcher
from policies.objectives.contracts import Batch

GROUPS, GROUP_SIZE = 64, 8
MICRO_TOKENS = (4096, 16_384)


def laws() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw prompts' lengths [GROUPS] and answers' [GROUPS * GROUP_SIZE]."""
    rng, num = np.random.default_rng(0), GROUPS * GROUP_SIZE
    return {
        "prompts of 128, answers of 512": (np.full(GROUPS, 128), np.full(num, 512)),
        "prompts of 8..24, answers of 1..32": (rng.integers(8, 25, GROUPS), rng.integers(1, 33, num)),
        "prompts of 64..256, answers of 1..512": (rng.integers(64, 257, GROUPS), rng.integers(1, 513, num)),
        "prompts of 64..256, answers of about 300, at most 4096": (
            rng.integers(64, 257, GROUPS),
            np.minimum(rng.lognormal(np.log(300), 1.0, num), 4096).astype(np.int64) + 1,
        ),
        "prompts of 50..2000, answers of about 800, at most 4096": (
            rng.integers(50, 2001, GROUPS),
            np.minimum(rng.lognormal(np.log(800), 0.7, num), 4096).astype(np.int64) + 1,
        ),
    }


def made_up(prompt_G: np.ndarray, answer_B: np.ndarray) -> Batch:
    """Make a batch of such lengths; the prompts of two groups differ from their first token on."""
    group_B = np.repeat(np.arange(GROUPS), GROUP_SIZE)
    start_B, length_B = prompt_G[group_B], prompt_G[group_B] + answer_B
    place_T = np.arange(length_B.max())
    mask_BT = torch.from_numpy((place_T >= start_B[:, None]) & (place_T < length_B[:, None]))
    answers_BT = np.random.default_rng(1).integers(GROUPS, 2 * GROUPS, mask_BT.shape)
    ids_BT = np.where(place_T < start_B[:, None], group_B[:, None], answers_BT)
    zeros_BT = torch.zeros(mask_BT.shape)
    return Batch(
        ids_BT=torch.from_numpy(ids_BT),
        mask_BT=mask_BT,
        lp_roll_BT=zeros_BT,
        length_B=torch.from_numpy(length_B),
        group_B=torch.from_numpy(group_B),
        reward_B=torch.zeros(len(group_B)),
        advantage_BT=mask_BT.float(),
        arm_B=torch.zeros(len(group_B), dtype=torch.int64),
        turn_BT=torch.zeros_like(mask_BT, dtype=torch.int64),
    )


def main() -> None:
    """Print, for each law and cut, how many tokens are fed beyond those that are needed."""
    for law, (prompt_G, answer_B) in laws().items():
        batch, rows = made_up(prompt_G, answer_B), torch.arange(GROUPS * GROUP_SIZE)
        print(law)
        for micro_tokens in MICRO_TOKENS:
            for device in ("cpu", "cuda"):
                for may_share in (True, False):
                    cut = MicroBatcher.of(batch, micro_tokens, may_share, torch.device(device)).cut(rows)
                    fed = sum(one.num_tokens for one in cut)
                    is_shared = any(one.num_forwards > 1 for one in cut)
                    needed = int((answer_B - 1).sum() + (prompt_G.sum() if is_shared else prompt_G.sum() * GROUP_SIZE))
                    how = "prompts apart" if is_shared else "whole rows"
                    forwards = sum(one.num_forwards for one in cut)
                    print(f"  micro_tokens {micro_tokens}, {device}, {how}: ", end="")
                    print(f"{fed:,} fed in {forwards} forwards, {fed / needed - 1:.1%} padding")


if __name__ == "__main__":
    main()
