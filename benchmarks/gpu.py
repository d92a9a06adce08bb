"""What a GPU does with the weights of Qwen2.5-0.5B and 3B, drawn on the spot: nothing is downloaded. One command:

    python -m benchmarks.gpu [--section ceiling,play,update,sharing,step,adapters,sharded,sync,...]
                            [--shape 0.5B,3B]

Needs only torch, transformers, numpy, pydantic and SQLAlchemy; run it from the tree. What wants vLLM or peft besides
says so where they are missing. Every figure is printed as soon as it is known and, where the environment variable OUT
names a folder, kept in OUT/gpu.json. A section that takes longer than `--limit` seconds is left where it is, with the
figures it has.

The share of the ceiling is that of the FLOPs an update must compute (`gpu_work.update_flops` says the formula) in the
best rate of large square matrix products measured here. Goal: 40 % of it. Without a GPU the command says so;
`--device cpu --small` runs the same code on a toy.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import orchestrator
from benchmarks.gpu_work import (
    GROUP_SIZE,
    SHAPES,
    TOY,
    Figures,
    Settings,
    Work,
    free_gib,
    made_up,
    now,
    peak,
    planned_play,
    planned_update,
    requests,
    timed,
    trajectories,
    update_flops,
)
from benchmarks.one_server import MISSING, RANK, python, served
from benchmarks.random_models import letters_tokenizer, random_qwen2
from benchmarks.server_sync import to_a_server
from orchestrator.callbacks import Callback
from policies.adapters import require_installed
from policies.config import AdapterConfig, LearnerConfig
from policies.errors import PolicyError
from policies.learner import Learner
from policies.micro_batches import MicroBatch, MicroBatcher
from policies.objectives.config import ObjectiveConfig
from policies.objectives.objective import Objective
from policies.policy import Policy
from policies.ranks import Alone, Ranks
from policies.samplers import transformers, vllm, vllm_server
from policies.samplers.contracts import Sampler, Sampling
from store.lock import request_stop

OF_A_MODEL = (
    "play",
    "update",
    "sharing",
    "step",
    "sync",
    "colocated",
    "sleeping",
    "sharded",
    "adapters",
)  # adapters change the model: last
SECTIONS = ("ceiling", *OF_A_MODEL, "curriculum")
SLEEPERS_SHARE = "0.2"  # of the GPU's memory, while the server is awake
CURRICULUM_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", default=",".join(SECTIONS), help="only these, separated by commas")
    parser.add_argument("--shape", default=",".join(SHAPES), help="only these, separated by commas")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="a toy shape, to see whether everything runs")
    parser.add_argument("--limit", type=int, default=240, help="seconds of a section with one shape")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA device here, so there is nothing to measure: run this on a host with a GPU")
        return
    device = torch.device("cuda", 0) if options.device == "cuda" else torch.device("cpu")
    work = Work.small(device) if options.small else Work(device, torch.bfloat16)
    shapes = {"toy": TOY} if options.small else {name: SHAPES[name] for name in options.shape.split(",")}
    measure(work, shapes, options.section.split(","), options.limit)


def measure(work: Work, shapes: Mapping[str, dict[str, Any]], sections: Sequence[str], limit: int) -> Figures:
    """Measure every section, those of a model for every shape."""
    figures = Figures()
    name = torch.cuda.get_device_name(work.device) if work.device.type == "cuda" else "cpu"
    figures.add("host", name, torch=torch.__version__, dtype=str(work.dtype).removeprefix("torch."))
    if "ceiling" in sections:
        with limited(figures, "ceiling", "matrix products", limit):
            ceiling(work, figures)
    if set(OF_A_MODEL) & set(sections):
        for shape, fields in shapes.items():
            measure_model(work, shape, fields, sections, limit, figures)
    if "curriculum" in sections:
        with limited(figures, "curriculum", "codebook", limit):
            curriculum(work, figures)
            if work.device.type != "cpu":
                curriculum(replace(work, device=torch.device("cpu")), figures)
    return figures


def measure_model(
    work: Work, shape: str, fields: dict[str, Any], sections: Sequence[str], limit: int, figures: Figures
) -> None:
    """Measure what a model of one shape is needed for; its memory is free again afterwards."""
    policy = make_policy(work, fields)
    calls = (play, update, sharing, step, sync, colocated, sleeping, sharded, adapters)
    for section, call in zip(OF_A_MODEL, calls, strict=True):
        if section in sections:
            with limited(figures, section, shape, limit):
                call(work, policy, shape, figures)
            policy.model.zero_grad()


class OverTime(Exception):
    """A section has used its seconds up."""


@contextmanager
def limited(figures: Figures, section: str, about: str, limit: int) -> Iterator[None]:
    """Leave a section that takes too long, or that does not fit into the memory; the next one goes on."""

    def over(*_: Any) -> None:
        raise OverTime

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(limit)
    try:
        yield
    except OverTime:
        figures.add(section, about, ended=f"after {limit} s, its limit")
    except torch.cuda.OutOfMemoryError:
        figures.add(section, about, ended="out of memory")
    except PolicyError as error:
        figures.add(section, about, ended=str(error))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ceiling(work: Work, figures: Figures) -> None:
    """Measure how fast large square matrices are multiplied."""
    for width in work.widths:
        a = torch.randn(width, width, device=work.device, dtype=work.dtype)
        square = partial(torch.matmul, a, a)
        timed(work, square, 3)
        seconds = timed(work, square, 20)
        figures.add("ceiling", f"{width} x {width}", tflops=2 * width**3 / seconds / 1e12)


def play(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Play all groups with the `transformers` engine, each answer to its full length."""
    for rows in work.rows:
        sampler = make_sampler(work, policy, rows)
        few = [replace(request, budget=4) for request in requests(work)]
        sampler.generate(few, Sampling())  # kernels are chosen, memory is taken
        with peak(work) as memory:
            seconds = timed(work, partial(sampler.generate, requests(work), Sampling()), 1)
            rate = work.trained_tokens / seconds
            planned = planned_play(policy, rows, *cache_of(work, rows))
            figures.add(
                "play",
                f"{shape}, rows {rows}",
                tokens_s=rate,
                seconds=seconds,
                peak_gib=memory(),
                planned_gib=planned,
            )


def update(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Update with several settings."""
    work = replace(work, groups=work.update_groups)
    for settings in work.updates:
        try:
            update_once(work, policy, shape, settings, figures)
        except torch.cuda.OutOfMemoryError:
            figures.add("update", f"{shape}, {settings}", ended="out of memory")
        policy.model.zero_grad()


def update_once(
    work: Work,
    policy: Policy,
    shape: str,
    settings: Settings,
    figures: Figures,
    section: str = "update",
    ranks: Alone | None = None,
) -> None:
    """Measure an update with these settings."""
    objective, learner = make_objective(), make_learner(policy, settings, ranks)
    batch = objective.prepare(trajectories(work, made_up(work), shares=settings.shares))
    with kernels_of(settings), peak(work) as memory:
        learner.update(batch, objective)
        seconds = timed(work, lambda: learner.update(batch, objective), 2)
        rate = update_flops(work, policy, shares=settings.shares) / seconds / 1e12
        top = figures.best("ceiling", "tflops")
        figures.add(
            section,
            f"{shape}, {settings}",
            trained_tokens_s=work.trained_tokens / seconds,
            tflops=rate,
            **({} if top is None else {"share_of_ceiling": rate / top["tflops"]}),
            seconds=seconds,
            peak_gib=memory(),
            planned_gib=planned_update(policy, settings, is_rank=ranks is not None),
        )


def sharing(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Update with whole rows, and with prompts that are read once, whatever the learner would choose."""
    objective, learner = make_objective(), make_learner(policy, Settings(work.updates[0].micro_tokens))
    for prompt, new, groups in work.openings:
        now_work = replace(work, prompt=prompt, new=new, groups=groups)
        batch = objective.prepare(trajectories(now_work, made_up(now_work)))
        for way in ("whole", "shared"):
            cut = partial(_cut_one_way, way=way)
            with patch.object(MicroBatcher, "cut", lambda self, rows, cut=cut: cut(self, rows)):
                report = learner.update(batch, objective)
                seconds = timed(now_work, partial(learner.update, batch, objective), 2)
            about = f"{shape}, prompts of {prompt}, answers of {new}, {way}"
            figures.add("sharing", about, seconds=seconds, tokens_fed=report.num_tokens_fed)


def _cut_one_way(batcher: MicroBatcher, rows: torch.Tensor, way: str) -> list[MicroBatch]:
    return list(getattr(batcher, way)(rows.numpy()))


def step(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Play, prepare, update: a whole step, from weights in place to weights moved."""
    objective, learner = make_objective(), make_learner(policy, Settings(16_384, recomputes=True))
    sampler = make_sampler(work, policy, work.rows[-1])
    with peak(work) as memory:
        start = now(work)
        generations = sampler.generate(requests(work), Sampling())
        played = now(work)
        report = learner.update(objective.prepare(trajectories(work, generations)), objective)
        end = now(work)
        figures.add(
            "step",
            f"{shape}, {work.groups} groups x {GROUP_SIZE} x {work.new} tokens",
            seconds=end - start,
            play_s=played - start,
            update_s=end - played,
            sampler_gap_max=report.maxima["sampler_gap_max"],
            peak_gib=memory(),
        )


def sync(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Write the weights to files and hand them to a server."""
    write_files(work, policy, shape, figures)  # its learner is gone when a server takes the room
    to_a_server(work, policy, shape, figures, "sync", "files", "nccl")


def write_files(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Write the weights as a server is handed them, and as a checkpoint has them with the optimiser's state."""
    few, objective = replace(work, groups=1), make_objective()
    learner = make_learner(policy, Settings(16_384, recomputes=True))
    learner.update(objective.prepare(trajectories(few, made_up(few))), objective)  # so that there are moments
    num_bytes = sum(one.numel() * one.element_size() for one in policy.model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed(work, partial(policy.save_merged, Path(folder) / "weights", tokenizer=False), 2)
        figures.add("sync", f"{shape}, weights to files", seconds=seconds, gb_s=num_bytes / seconds / 1e9)
        seconds = timed(work, lambda: learner.optimizer.state().save(Path(folder) / "optimizer"), 1)
        figures.add("sync", f"{shape}, optimiser's state to files", seconds=seconds)


def colocated(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Do a step whose rows vLLM plays in this process, on the same device as the learner."""
    if find_spec("vllm") is None:
        figures.add("colocated", shape, ended="vLLM is not installed here")
        return
    objective, learner = make_objective(), make_learner(policy, Settings(16_384, recomputes=True))
    config = vllm.Config(rows=work.rows[-1], max_tokens=work.new, max_model_len=work.prompt + work.new)
    with closing(vllm.create(config, policy)) as sampler, peak(work) as memory:
        generations = sampler.generate(requests(work), Sampling())
        learner.update(objective.prepare(trajectories(work, generations)), objective)
        start = now(work)
        sampler.sync(policy.version)
        synced = now(work)
        generations = sampler.generate(requests(work), Sampling())
        played = now(work)
        learner.update(objective.prepare(trajectories(work, generations)), objective)
        end = now(work)
        times = {"sync_s": synced - start, "play_s": played - synced, "update_s": end - played}
        figures.add("colocated", shape, seconds=end - start, **times, peak_gib=memory())


def sleeping(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Do a step whose rows a server on the learner's GPU plays, which sleeps while the learner computes."""
    if work.device.type != "cuda":
        figures.add("sleeping", shape, ended="takes a GPU: vLLM for CPUs has no sleep mode")
        return
    if python() is None:
        figures.add("sleeping", shape, ended=MISSING)
        return
    more = ["--enable-sleep-mode", "--gpu-memory-utilization", SLEEPERS_SHARE]
    with served(policy, work.device, work.context, *more) as url:
        for level in (1, 2):
            step_beside_a_sleeper(work, policy, url, level, f"{shape}, level {level}", figures)


def step_beside_a_sleeper(work: Work, policy: Policy, url: str, level: int, about: str, figures: Figures) -> None:
    """Play on a server, put it to sleep, update, wake it with the new weights, and play and update once more."""
    options = {"urls": [url], "sleep_level": level, "in_flight": work.rows[-1], "max_tokens": work.new}
    objective = make_objective()
    with closing(vllm_server.create(vllm_server.Config.model_validate(options), policy)) as sampler:
        sampler.take_news()  # of what rows a server takes
        generations = sampler.generate(requests(work), Sampling())
        free, start = free_gib(work), now(work)
        sampler.make_room()
        slept = now(work)
        freed = free_gib(work) - free
        learner = make_learner(policy, Settings(16_384, recomputes=True))
        learner.update(objective.prepare(trajectories(work, generations)), objective)  # makes moments, takes memory
        updated = now(work)
        sampler.sync(policy.version)
        synced = now(work)
        generations = sampler.generate(requests(work), Sampling())
        played = now(work)
        sampler.make_room()
        with peak(work) as memory:
            begun = now(work)
            report = learner.update(objective.prepare(trajectories(work, generations)), objective)
            end = now(work)
            times = {"sleep_s": slept - start, "wake_and_sync_s": synced - updated, "play_s": played - synced}
            said = {"ended": "; ".join(news)} if (news := sampler.take_news()) else {}
            figures.add(
                "sleeping",
                about,
                **times,
                update_s=end - begun,
                freed_gib=freed,
                peak_gib=memory(),
                sampler_gap_max=report.maxima["sampler_gap_max"],
                **said,
            )


def sharded(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Update as one rank of one: what FSDP2, float32 shards and gathering the weights take on a single device."""
    work = replace(work, groups=work.update_groups)
    freed = policy.free_memory
    with tempfile.TemporaryDirectory() as folder:
        ranks = Ranks.join(Path(folder) / "meeting", 0, 1, work.device)
        try:
            settings = Settings(min(16_384, work.updates[0].micro_tokens), recomputes=True)
            update_once(work, policy, shape, settings, figures, "sharded", ranks)
        finally:
            ranks.leave()
            policy.free_memory = freed  # the learner's asked all ranks


def adapters(work: Work, policy: Policy, shape: str, figures: Figures) -> None:
    """Update adapters beside the frozen model."""
    require_installed()
    work = replace(work, groups=work.update_groups)
    policy.put_adapters(AdapterConfig(rank=RANK), seed=0, has_own_base=True)
    for settings in work.updates[:2]:
        update_once(work, policy, shape, settings, figures, "adapters")
    to_a_server(work, policy, shape, figures, "adapters", "adapter")


class Timed(Callback):
    """Counts the steps of a run, and asks it to stop after `CURRICULUM_S`."""

    def __init__(self) -> None:
        self.folder, self.ends = Path(), [time.perf_counter()]
        self.accuracy: list[float] = []

    def begin(self, name: str, folder: str) -> None:
        self.folder = Path(folder)

    def step(self, at: Any, record: Any) -> None:
        self.ends.append(time.perf_counter())
        correct = [c for group in record.groups for c in group.correct]
        self.accuracy.append(sum(map(bool, correct)) / len(correct))
        if self.ends[-1] - self.ends[0] > CURRICULUM_S:
            request_stop(self.folder)


def curriculum(work: Work, figures: Figures) -> None:
    """Run `examples/codebook.yaml` for `CURRICULUM_S`, its spec built here: ledger, checkpoints and report, no tracker.

    Of the accuracy of training, the mean of the last 20 steps is told; on a CPU it is about .8 at every stage's end.
    """
    shape = {"layers": 2, "hidden": 64, "mlp": 192, "heads": 4, "kv_heads": 2, "initial_std": 0.02}
    book = {"type": "codebook", "repeats": True, "order": "anew", "categories": {"16": 16}}
    spec = {
        "name": "codebook",
        "policy": {"model": "tiny", "vocabulary": "closed", **shape},
        "environments": {f"book{i}": book for i in range(1, 5)},
        "curriculum": {"stages": 4, "stage": {"steps": work.curriculum_steps, "replay": 0}},
        "objective": {"preset": "repo", "strength": 0.1, "controller": "none"},
        "learner": {"lr": 1e-3, "warmup": 0},
        "evaluate": {"items": 64, "samples": 4},
        "resources": {"device": work.device.type},
        "tracker": "none",
    }
    clock = Timed()
    with tempfile.TemporaryDirectory() as home:
        outcome = orchestrator.run(spec, home=home, watcher=clock)
    last = clock.accuracy[-20:]
    figures.add(
        "curriculum",
        f"codebook, {work.device.type}, {len(clock.accuracy)} steps, {outcome.status}",
        median_step_ms=1000 * float(np.median(np.diff(clock.ends[1:]))),
        seconds=clock.ends[-1] - clock.ends[0],
        train_accuracy=sum(last) / len(last),
    )


def make_policy(work: Work, fields: dict[str, Any], seed: int = 0) -> Policy:
    """Draw a policy of a shape whose answers nothing ends, so that each is as long as it may be."""
    model = random_qwen2(seed=seed, device=work.device, dtype=work.dtype, **fields)
    policy = Policy(model, letters_tokenizer(128, end_id=fields["vocab_size"]), name="random", template="none")
    policy.stop_ids = ()  # the tokenizer's end lies beyond the vocabulary, which vLLM's servers refuse
    return policy


def kernels_of(settings: Settings) -> AbstractContextManager[Any]:
    """Have the learner take the kernels of these settings while a block lasts."""
    if settings.deterministic:
        return nullcontext()
    return patch("policies.learner.deterministic_kernels", lambda *_, **__: nullcontext())


def make_objective() -> Objective:
    return Objective(ObjectiveConfig.model_validate("grpo"))


def cache_of(work: Work, rows: int) -> tuple[int, int]:
    """Tokens of a sampler's cache, and of prompts that it reads at once."""
    return rows * (work.prompt + work.new), transformers.Config().prefill_tokens


def make_sampler(work: Work, policy: Policy, rows: int) -> Sampler:
    config = transformers.Config(rows=rows, cache_tokens=cache_of(work, rows)[0], max_tokens=work.new)
    return transformers.create(config, policy)


def make_learner(policy: Policy, settings: Settings, ranks: Alone | None = None) -> Learner:
    config = LearnerConfig(
        lr=1e-6,
        betas=(0.9, 0.999),
        micro_tokens=settings.micro_tokens,
        activation_checkpointing=settings.recomputes,
    )
    return Learner(policy, config, work=ranks)


if __name__ == "__main__":
    main()
