"""Runs the TRL block of docs/in_your_trainer.md as it stands, in an environment that has TRL; prints what came of it.

    python -m tests.trl.block FOLDER

The policy is a random model of one layer. One category has an answer that it gives half of the time, the others have
answers that it never or always gives: only the first has a signal.
"""

from __future__ import annotations

import json
import sys
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.documents import code

STEPS = 12
ON_CPU = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no"}
TRUTHS = {"even": "a", "never": "never", "always": ""}  # as parts of the text


def main(folder: Path) -> None:
    """Train, then print the bandit's end and what every call of the reward saw."""
    names: dict[str, Any] = {
        "tasks": {name: repeat({"prompt": "q", "truth": truth}) for name, truth in TRUTHS.items()},
        "model": _model(),
        "tokenizer": _tokenizer(),
        "yours": {"output_dir": str(folder), "max_steps": STEPS, "max_completion_length": 4, **ON_CPU},
    }
    exec(code("in_your_trainer.md", "TRL's GRPOTrainer"), names)
    bandit = names["bandit"]
    print(
        json.dumps(
            {
                "probabilities": bandit.probabilities(),
                "values": bandit.values(),
                "num_picks": bandit.num_picks,
                "pending": len(bandit.state()["pending"]),
                "steps": names["trainer"].state.global_step,
            }
        )
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Eight letters, a token each."""
    words = {word: i for i, word in enumerate(["<pad>", "<eos>", *"qabcdefg"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def _model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=10, pad_token_id=0, eos_token_id=1, **shape))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
