"""The work that TRL, Evergreen and plain torch are given: the same prompts, lengths and rewards, step by step.

`full`: prompts of 8 to 24 tokens, every answer of 32, every group with spread. `uneven`: prompts of 64 tokens, lengths
uniform from 1 to 32, four groups in ten without spread. `dense`: prompts of 16 tokens, lengths uniform from 1 to 64,
every group with spread: of uneven work that where least can be saved.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from benchmarks.random_models import letters

Case = Literal["full", "uneven", "dense"]
CASES: tuple[Case, ...] = ("full", "uneven", "dense")
NEW_TOKENS: dict[Case, int] = {"full": 32, "uneven": 32, "dense": 64}  # of an answer, at most
NUM_PROMPTS, GROUP_SIZE, VOCABULARY = 32, 8, 99
NUM_WITHOUT_SPREAD = 13  # of 32 groups, in `uneven`
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
WIDE: dict[str, Any] = {  # 31M weights, of a vocabulary as wide as those of real models
    **SHAPE,
    "vocab_size": 32_000,
    "hidden_size": 448,
    "num_hidden_layers": 7,
    "num_attention_heads": 7,
    "num_key_value_heads": 7,
    "intermediate_size": 1200,
}
LEARNER: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.99), "clip_norm": 1.0}
CLIP = 0.2
# Beyond the vocabulary of the model: no answer ever ends by itself. Where rows are uneven, TRL must be made to end
# them: its tokenizer's end is the last token of the vocabulary.
NEVER, FORCED_END = VOCABULARY, VOCABULARY - 1


def prompts(case: Case, step: int) -> list[list[int]]:
    """Draw the prompts of a step, as token ids; neither the padding nor the end is among them."""
    rng = np.random.default_rng([1, step, CASES.index(case)])
    lengths = rng.integers(8, 25, NUM_PROMPTS) if case == "full" else [64 if case == "uneven" else 16] * NUM_PROMPTS
    return [rng.integers(1, FORCED_END, length).tolist() for length in lengths]


def texts(case: Case, step: int) -> list[str]:
    """Write the prompts of a step."""
    return [letters(ids) for ids in prompts(case, step)]


def lengths(case: Case, step: int) -> list[int]:
    """Say how many tokens each row of a step writes, group by group."""
    num = NUM_PROMPTS * GROUP_SIZE
    if case == "full":
        return [NEW_TOKENS[case]] * num
    drawn: list[int] = np.random.default_rng([2, step]).integers(1, NEW_TOKENS[case] + 1, num).tolist()
    return drawn


def reward(case: Case, group: int, sample: int) -> float:
    """Score a sample by its place: half of a group earns 1, a group without spread all the same."""
    has_spread = case != "uneven" or (group * 7) % NUM_PROMPTS >= NUM_WITHOUT_SPREAD
    return float(sample % 2) if has_spread else 1.0


def num_tokens(case: Case, step: int) -> int:
    """Count the tokens that a step writes."""
    return sum(lengths(case, step))
