"""`python -m benchmarks.scale`: updates of one process and of several ranks, at the same batch.

Ranks over gloo on CPU cores, one thread each; one process with one thread. For policies of several sizes and numbers of
replicas, 1 (all in shards) and as many as ranks: seconds of an update (median of the turns, side by side in one run),
the share of it that ranks save, and what it costs rank 0 to get the weights of the whole policy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.random_models import letters_tokenizer, random_qwen2
from policies.config import LearnerConfig, PolicyConfig
from policies.follower import MEETING, run_commands
from policies.learner import Learner
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch
from policies.objectives.objective import Objective
from policies.policy import Policy
from policies.ranks import Alone, Ranks

SHAPES = {"1M": (128, 384, 4), "7M": (256, 768, 8), "26M": (512, 1536, 8)}  # hidden, MLP, layers
VOCABULARY, ROWS, PROMPT, ANSWER, TURNS = 1024, 64, 32, 32, 5


def policy_of(shape: str) -> Policy:
    """Make a policy of random weights."""
    hidden, mlp, layers = SHAPES[shape]
    model = random_qwen2(
        seed=0,
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    return Policy(model, letters_tokenizer(VOCABULARY, VOCABULARY - 1), shape, "none")


def batch_of() -> Batch:
    """Make rows of one length with advantages of both signs."""
    generator = torch.Generator().manual_seed(0)
    width = PROMPT + ANSWER
    mask_BT = (torch.arange(width) >= PROMPT).expand(ROWS, width)
    reward_B = (torch.arange(ROWS) % 2).double()
    return Batch(
        ids_BT=torch.randint(0, VOCABULARY, (ROWS, width), generator=generator),
        mask_BT=mask_BT.clone(),
        lp_roll_BT=torch.zeros(ROWS, width),
        length_B=torch.full((ROWS,), width),
        group_B=torch.arange(ROWS) // 8,
        reward_B=reward_B,
        advantage_BT=((reward_B - 0.5)[:, None] * mask_BT).float(),
        arm_B=torch.zeros(ROWS, dtype=torch.int64),
        turn_BT=torch.zeros(ROWS, width, dtype=torch.int64),
    )


def learner_of(shape: str, work: Alone, replicas: int = 1) -> Learner:
    """Make a learner whose micro-batches are eight rows."""
    config = LearnerConfig(lr=1e-5, micro_tokens=8 * (PROMPT + ANSWER)).resolved(PolicyConfig())
    return Learner(policy_of(shape), config, work=work, replicas=replicas)


def timed(learner: Learner) -> tuple[float, float]:
    """Give the seconds of an update, and of them those that gathering the weights takes."""
    gather, spent = learner._gather, [0.0]

    def measured() -> None:
        start = perf_counter()
        gather()
        spent[0] += perf_counter() - start

    learner._gather = measured  # type: ignore[method-assign]
    objective, start = Objective(ObjectiveConfig.model_validate({"preset": "rloo"})), perf_counter()
    learner.update(batch_of(), objective)
    learner._gather = gather  # type: ignore[method-assign]
    return perf_counter() - start, spent[0]


def rank(number: int, layouts: list[int], size: int, folder: Path) -> None:
    """Be one of the ranks, with each number of replicas; the first prints what it found."""
    torch.set_num_threads(1)
    work = Ranks.join(folder / MEETING, number, size)
    for shape in SHAPES:
        found = [together(shape, work, replicas) for replicas in layouts]
        if number:
            continue
        learner = learner_of(shape, Alone())
        timed(learner)
        alone = statistics.median(timed(learner)[0] for _ in range(TURNS))
        for replicas, (seconds, gathering) in zip(layouts, found, strict=True):
            line = [shape, learner.policy.num_parameters, replicas, alone, seconds, gathering]
            print(json.dumps(line), flush=True)
    work.leave()


def together(shape: str, work: Ranks, replicas: int) -> tuple[float, float]:
    """Give rank 0's seconds of an update, and of gathering the weights; the other ranks follow."""
    learner = learner_of(shape, work, replicas)
    if work.rank:
        run_commands(work, learner, Objective(ObjectiveConfig.model_validate({"preset": "rloo"})))
        return 0.0, 0.0
    timed(learner)  # the first makes moments
    turns = [timed(learner) for _ in range(TURNS)]
    work.send("end")
    seconds, gathering = (statistics.median(values) for values in zip(*turns, strict=True))
    return seconds, gathering


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--replicas", type=int, nargs="+", help="numbers that divide the ranks; 1 and as many as ranks")
    given = parser.parse_args()
    size, layouts = given.ranks, given.replicas or sorted({1, given.ranks})
    print(f"| policy | weights | replicas | one process, s | {size} ranks, s | efficiency | weights to rank 0, s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.scale", "rank"]
        more = [json.dumps(layouts), str(size), folder]
        others = [subprocess.Popen([*words, str(number), *more]) for number in range(1, size)]
        first = subprocess.run([*words, "0", *more], check=True, capture_output=True, text=True)
        for other in others:
            other.wait()
    for line in first.stdout.splitlines():
        shape, num, replicas, alone, seconds, gathering = json.loads(line)
        told = f"{alone:.3f} | {seconds:.3f} | {alone / (size * seconds):.2f} | {gathering:.3f}"
        print(f"| {shape} | {num / 1e6:.1f}e6 | {replicas} | {told} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        rank(int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        main()
