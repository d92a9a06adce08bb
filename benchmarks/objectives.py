"""What an objective costs beside the model: all between scores and backward, for every preset.

    python -m benchmarks.objectives                       256 rows of 1,024 tokens; exits 1 where a goal is missed
    python -m benchmarks.objectives --rows 64 --presets grpo siren

`prepare`, the survey of the step and the coefficients of all its micro-batches, as the learner cuts them for `tiny`;
not the forwards that a preset declares in `needs`. Median of three steps after one, CPU time of one thread, so that a
busy machine does not matter. Goal: at most 3 % of a forward and backward of the 0.34M policy over the same tokens,
measured on a slice of the rows and scaled, since rows of one length cost alike.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from policies.config import LearnerConfig, PolicyConfig
from policies.forward import Reduction
from policies.hardware import cpu_threads
from policies.learner import Learner
from policies.micro_batches import score_micro, totals_of
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch, ShapedRows, SurveyResult, Trajectory
from policies.objectives.objective import Objective
from policies.objectives.padding import pad
from policies.objectives.presets import PRESETS
from policies.policy import Policy

ROWS, TOKENS, GROUP_SIZE, PROMPT = 256, 1024, 8, 16
SLICE_ROWS, REPEATS = 8, 3
MOST_SHARE = 0.03


@dataclass(frozen=True)
class Scores:
    """What the passes of a step would have found, [B, T] each: drawn, of ordinary size."""

    now: Tensor
    old: Tensor
    ref: Tensor
    proxy: Tensor
    entropy: Tensor
    entropy_old: Tensor


def trajectories(num_rows: int, num_tokens: int) -> list[Trajectory]:
    """Groups of eight whose rewards differ, with all that a part may ask for: components, answers, turns, thinking."""
    rng, length = np.random.default_rng(0), PROMPT + num_tokens
    mask = np.arange(length) >= PROMPT
    turns = np.where(np.arange(length) > length // 2, 1, 0)
    return [
        Trajectory(
            ids=rng.integers(0, 90, length),
            mask=mask,
            logprobs=np.where(mask, -rng.exponential(0.5, length), 0).astype(np.float32),
            entropies=np.where(mask, rng.exponential(0.5, length), 0).astype(np.float32),
            reward=float(row % GROUP_SIZE < 1 + row // GROUP_SIZE % (GROUP_SIZE - 1)),
            group=row // GROUP_SIZE,
            arm=f"arm/{row // GROUP_SIZE % 4}",
            correct=row % GROUP_SIZE < 1 + row // GROUP_SIZE % (GROUP_SIZE - 1),
            components={"right": float(row % 3 == 0), "short": float(rng.random())},
            answer=str(row % 5),
            turns=turns,
            think_end=length - num_tokens // 4,
        )
        for row in range(num_rows)
    ]


def scores(batch: Batch) -> Scores:
    """Draw scores around those of the sampler."""
    rng = torch.Generator().manual_seed(0)

    def near(value_BT: Tensor, width: float) -> Tensor:
        return (value_BT + width * torch.randn(value_BT.shape, generator=rng)).clamp(max=-1e-4) * batch.mask_BT

    old, entropy = (
        near(batch.lp_roll_BT, 0.02),
        torch.rand(batch.mask_BT.shape, generator=rng) * batch.mask_BT,
    )
    return Scores(near(old, 0.1), old, near(old, 0.2), near(old, 0.01), entropy, 0.95 * entropy)


def rows_of(batch: Batch, found: Scores, at: Tensor, noted: SurveyResult, is_start: bool = False) -> ShapedRows:
    """Show some rows, as the learner does."""
    own, width = batch.take(at), int(batch.length_B[at].max())

    def here(value_BT: Tensor) -> Tensor:
        return value_BT[at, :width]

    return ShapedRows(
        mask_BT=own.mask_BT,
        advantage_BT=own.advantage_BT,
        lp_BT=here(found.old if is_start else found.now),
        lp_old_BT=here(found.old),
        lp_roll_BT=own.lp_roll_BT,
        entropy_BT=here(found.entropy_old if is_start else found.entropy),
        group_B=own.group_B,
        lp_ref_BT=here(found.ref),
        entropy_old_BT=here(found.entropy_old),
        lp_proxy_BT=here(found.proxy),
        arm_B=own.arm_B,
        turn_BT=own.turn_BT,
        noted={key: here(value) for key, value in noted.tokens.items()},
    )


def of_preset(name: str, learner: Learner, played: list[Trajectory]) -> float:
    """Time all that one preset does in a step: seconds."""
    config = ObjectiveConfig.model_validate({"preset": name, "max_length": len(played[0].ids)})
    objective, everything = Objective(config), torch.arange(len(played))
    padded = pad(played)
    found, cut = scores(padded), learner.passes.batcher(padded).cut(everything)

    def step() -> None:
        batch, noted = objective.prepare(played, lambda _: found.ref), SurveyResult()
        totals = replace(totals_of(batch, -0.5, {}), drift=0.01)
        if "step" in objective.needs:
            noted = objective.survey(rows_of(batch, found, everything, noted, is_start=True), totals)
        totals = replace(totals, noted=noted.numbers)
        for micro in cut:
            objective.coefficients(rows_of(batch, found, micro.rows, noted), totals)

    return seconds(step)


def of_policy(learner: Learner, played: list[Trajectory]) -> float:
    """Time a forward and backward over all rows: seconds, scaled from the first few."""
    batch = pad(played[:SLICE_ROWS])
    cut = learner.passes.batcher(batch).cut(torch.arange(len(batch.length_B)))

    def step() -> None:
        for micro in cut:
            rows = batch.take(micro.rows)
            scored = score_micro(learner.policy.model, rows, micro, Reduction())
            scored.lp_BT.sum().backward()  # type: ignore[no-untyped-call]

    return seconds(step) * len(played) / len(batch.length_B)


def tiny() -> Policy:
    """Make the policy: 0.34M weights, a vocabulary of letters."""
    sample = VocabularySample({"letters": [chr(code) for code in range(32, 127)]})
    return load_policy(PolicyConfig(vocabulary="closed"), torch.device("cpu"), seed=0, sample=sample)


def seconds(work: Callable[[], None]) -> float:
    """Time one call, median of a few after the first; CPU time."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="of a step, in groups of eight")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="that the policy wrote in each")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), metavar="NAME")
    options = parser.parse_args(arguments)
    played, missed = trajectories(options.rows, options.tokens), []
    with cpu_threads(1):
        policy = tiny()
        learner = Learner(policy, LearnerConfig().resolved(PolicyConfig()))
        model_s = of_policy(learner, played)
        print(f"{options.rows} x {options.tokens} tokens: forward and backward of {policy.num_parameters / 1e6:.2f}M")
        print(
            f"weights {model_s:.1f} s, scaled from {min(SLICE_ROWS, options.rows)} rows; milliseconds, and their share"
        )
        for name in options.presets:
            took = of_preset(name, learner, played)
            late = " <- over its goal" if took > MOST_SHARE * model_s else ""
            missed += [name] * bool(late)
            print(
                f"  {name:20} {1000 * took:7.0f}   {took / model_s:6.2%}   goal {MOST_SHARE:.0%}{late}",
                flush=True,
            )
    print("every goal is met" if not missed else f"over their goals: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
