"""Plays a class for `environment_factory` by TRL's GRPOTrainer and by the type `trl`, and prints what both made of it.

    python -m tests.trl.tools FOLDER

The policy's replies are given, so that both hear the same; TRL writes the prompt, reads calls and makes them itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import get_json_schema
from trl import GRPOConfig, GRPOTrainer

from environments import EnvironmentSource, ScoringJob, Task
from environments.scoring.jobs import play
from policies.encoder import Encoder
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.trl.vault import HEARD, Vault, opened

ROW = {"prompt": [{"role": "user", "content": "Open the vault."}], "code": "407"}


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


REPLIES = [
    f"{call('hint', place=0)}\n{call('hint', place=2, form='parity')}",
    f"I try what is short.\n{call('enter', code='40')}",
    f"<think>\nIt has three digits.\n</think>\n\nThen all.\n\n{call('enter', code='407')}\n",
    f"Once more: {call('enter', code='407')}\nIt should be.",
    "<think>It was.</think>\n\nIt is open. \n",
]


def main(folder: Path) -> None:
    tokenizer = _tokenizer()
    print(json.dumps({"trl": _by_trl(folder, tokenizer), "ours": _by_us(folder, tokenizer)}))


def _by_trl(folder: Path, tokenizer: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, **sizes))
    options = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "max_steps": 1}
    args = GRPOConfig(
        output_dir=str(folder), num_generations=2, per_device_train_batch_size=2, max_completion_length=4096, **options
    )
    prompts: list[list[int]] = []
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=opened,
        args=args,
        train_dataset=Dataset.from_list([ROW] * 4),
        processing_class=tokenizer,
        environment_factory=Vault,
    )

    def replies(prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        reply = REPLIES[len(prompts)]
        prompts.append(list(prompt_ids[0]))
        return [[*tokenizer(reply).input_ids, tokenizer.eos_token_id] for _ in prompt_ids], None

    trainer._generate_single_turn = replies
    trainer.train()
    conversation, worth = HEARD[-1]
    return {
        "tools": [get_json_schema(tool) for tool in trainer.tools],
        "prompt": tokenizer.decode(prompts[0]),
        "conversation": conversation,
        "reward": worth,
    }


def _by_us(folder: Path, tokenizer: Any) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    options = {
        "environment_factory": "tests.trl.vault:Vault",
        "train": "rows.jsonl",
        "reward": "tests.trl.vault:opened",
    }
    environment = EnvironmentSource("vault", "trl", options, str(folder)).create()
    task: Task = environment.task("all", 0)
    turn = play(environment, ScoringJob(task, tuple(REPLIES)))
    return {
        "tools": json.loads(task.messages[0]["content"]),
        "prompt": tokenizer.decode(Encoder(tokenizer, "chat").encode(task.messages)),
        "conversation": HEARD[-1][0],
        "reward": turn.score.value if turn.score else None,
    }


def _tokenizer() -> Any:
    """Single bytes, with Qwen2.5's chat template as TRL has it."""
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text()
    return tokenizer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
