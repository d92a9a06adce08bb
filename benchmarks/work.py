"""The work that TRL, Evergreen and plain torch are given: the same prompts, lengths and rewards, step by step.

`full`: prompts of 8 to 24 tokens, every answer of 32, every group with spread. `uneven`: prompts of 64 tokens, lengths
uniform from 1 to 32, four groups in ten without spread. `dense`: prompts of 16 tokens, lengths uniform from 1 to 64,
every group with spread: of uneven work that where least can be saved. `wide`: a policy of 31M weights and
32,000 tokens, 4 prompts of 16 tokens, every answer of 128, every group with spread.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from benchmarks.random_models import letters

Case = Literal["full", "uneven", "dense", "wide"]
CASES: tuple[Case, ...] = ("full", "uneven", "dense", "wide")
NEW_TOKENS: dict[Case, int] = {"full": 32, "uneven": 32, "dense": 64, "wide": 128}  # of an answer, at most
NUM_PROMPTS, NUM_WIDE_PROMPTS, GROUP_SIZE, VOCABULARY = 32, 4, 8, 99
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
# Where rows are uneven, TRL must be made to end them: its tokenizer's end is the last token of the vocabulary.
FORCED_END = VOCABULARY - 1


def shape(case: Case) -> dict[str, Any]:
    """Give the fields of the model's `Qwen2Config`."""
    return WIDE if case == "wide" else SHAPE


def never(case: Case) -> int:
    """Give a token beyond the vocabulary of the model: as the end, no answer ever ends by itself."""
    num: int = shape(case)["vocab_size"]
    return num


def num_prompts(case: Case) -> int:
    """Count the prompts of a step."""
    return NUM_WIDE_PROMPTS if case == "wide" else NUM_PROMPTS


def prompts(case: Case, step: int) -> list[list[int]]:
    """Draw the prompts of a step, as token ids; neither the padding nor the end is among them."""
    rng = np.random.default_rng([1, step, CASES.index(case)])
    num = num_prompts(case)
    lengths = rng.integers(8, 25, num) if case == "full" else [64 if case == "uneven" else 16] * num
    return [rng.integers(1, FORCED_END, length).tolist() for length in lengths]


def texts(case: Case, step: int) -> list[str]:
    """Write the prompts of a step."""
    return [letters(ids) for ids in prompts(case, step)]


def lengths(case: Case, step: int) -> list[int]:
    """Say how many tokens each row of a step writes, group by group."""
    num = num_prompts(case) * GROUP_SIZE
    if case in ("full", "wide"):
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
