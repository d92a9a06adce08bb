"""TRL's GRPOTrainer at the work of `benchmarks.versus_trl`, in TRL's own environment.

    python -m benchmarks.trl_side FOLDER CASE NUM_STEPS MICRO_ROWS

Everything that costs TRL time for nothing here is off: bfloat16 and gradient checkpointing (its defaults), logging,
saving. Where rows are uneven a logits processor forces the end token at a row's length, two small operations a
token; TRL itself pads what has ended and goes on until the last row ends.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import LogitsProcessor, LogitsProcessorList, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks import work
from benchmarks.random_models import letters_tokenizer
from benchmarks.turns import Turns


def main(folder: str, case: work.Case, num_steps: int, micro_rows: int) -> None:
    torch.set_num_threads(1)
    turns = Turns()
    trainer = make_trainer(folder, case, num_steps, micro_rows)
    watch(trainer, case, turns)
    trainer.train()


def make_trainer(folder: str, case: work.Case, num_steps: int, micro_rows: int) -> GRPOTrainer:
    rows = [
        {"prompt": text, "group": group}
        for step in range(num_steps)
        for group, text in enumerate(work.texts(case, step))
    ]

    def reward(completions: list[str], group: list[int], **columns: Any) -> list[float]:
        return [work.reward(case, g, i % work.GROUP_SIZE) for i, g in enumerate(group)]

    num_rows = work.num_prompts(case) * work.GROUP_SIZE
    micro_rows = min(micro_rows, num_rows)
    args = GRPOConfig(
        output_dir=f"{folder}/trl-{case}",
        max_steps=num_steps,
        per_device_train_batch_size=micro_rows,
        gradient_accumulation_steps=num_rows // micro_rows,
        num_generations=work.GROUP_SIZE,
        max_completion_length=work.NEW_TOKENS[case],
        shuffle_dataset=False,
        beta=0.0,
        epsilon=work.CLIP,
        loss_type="grpo",
        scale_rewards="group",
        learning_rate=work.LEARNER["lr"],
        adam_beta1=work.LEARNER["betas"][0],
        adam_beta2=work.LEARNER["betas"][1],
        max_grad_norm=work.LEARNER["clip_norm"],
        weight_decay=0.0,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    end = work.never(case) if case in ("full", "wide") else work.FORCED_END
    tokenizer = letters_tokenizer(work.shape(case)["vocab_size"], end)
    return GRPOTrainer(model, reward, args, Dataset.from_list(rows), processing_class=tokenizer)


class EndAt(LogitsProcessor):
    """Ends every row at its own length, and none before."""

    def __init__(self, lengths: list[int], prompt_width: int) -> None:
        self.length_R, self.prompt_width = torch.tensor(lengths), prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ends_R = self.length_R == input_ids.shape[1] - self.prompt_width + 1
        scores[:, work.FORCED_END] = -torch.inf
        scores[ends_R] = -torch.inf
        scores[ends_R, work.FORCED_END] = 0.0
        return scores


def watch(trainer: GRPOTrainer, case: work.Case, turns: Turns) -> None:
    """Take times at the trainer's own seams, and stop it where its turn ends."""
    if case in ("uneven", "dense"):
        _end_rows(trainer, case)
    trainer._generate_single_turn = turns.timed("generate", _counting(trainer))
    trainer._calculate_rewards = turns.timed("score", trainer._calculate_rewards)
    trainer._prepare_inputs = turns.timed("prepare", trainer._prepare_inputs)
    trainer.training_step = turns.timed("training_step", trainer.training_step)
    trainer.add_callback(Turn(turns, trainer))


def _counting(trainer: GRPOTrainer) -> Any:
    generate = trainer._generate_single_turn

    def run(*args: Any, **kwargs: Any) -> Any:
        answers, logprobs = generate(*args, **kwargs)
        trainer.num_written = sum(len(answer) for answer in answers)
        return answers, logprobs

    return run


def _end_rows(trainer: GRPOTrainer, case: work.Case) -> None:
    model = trainer.model
    generate = model.generate

    def run(*, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        ends = EndAt(work.lengths(case, trainer.state.global_step), input_ids.shape[1])
        return generate(input_ids=input_ids, logits_processor=LogitsProcessorList([ends]), **kwargs)

    model.generate = run


class Turn(TrainerCallback):
    """Waits for the turn between steps. An update is all of `training_step` but what it prepares, and the optimiser."""

    def __init__(self, turns: Turns, trainer: GRPOTrainer) -> None:
        self.turns, self.trainer, self.clipped = turns, trainer, 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.turns.begin()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.clipped = time.perf_counter()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.turns.book("update", time.perf_counter() - self.clipped)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        spent = self.turns.spent
        prepared = spent.pop("prepare", 0.0)
        spent["update"] += spent.pop("training_step", 0.0) - prepared
        self.turns.step_done(self.trainer.num_written)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))  # type: ignore[arg-type]
