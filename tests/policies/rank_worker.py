"""Ranks of a group over gloo: they do some steps together, and rank 0 does them alone as well.

    python -m tests.policies.rank_worker SIZE FOLDER CASES

Rank 0 is the process that is started; it forks the others, which have then imported what it has.

FOLDER is where the ranks find each other; CASES is JSON: a list of maps with `name` and what `case` takes. What was
found is written to FOLDER/RANK.json: by case, on rank 0 the largest differences from one process and a digest of the
weights, on all a digest of the share that the rank has of them. `replicas` may be a list, one for each step: what was
learnt is then saved and read before the next.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import math
import multiprocessing
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from policies.config import AdapterConfig, LearnerConfig, PolicyConfig
from policies.follower import run_commands
from policies.host_copies import HostCopies
from policies.interventions import average, base_fusion, merge_adapters, redo, reset_adapters, shrink_perturb
from policies.interventions.contracts import Intervention, Row, Subject
from policies.learner import Learner, UpdateReport
from policies.micro_batches import MicroBatcher
from policies.objectives.by_environment import make_objective
from policies.objectives.config import ObjectiveConfig
from policies.optimizer import OptimizerState
from policies.ranks import Alone, Ranks
from policies.samplers.testing import random_policy
from policies.tensor_files import SavedTensors
from tests.policies.fakes import random_trajectories
from tests.policies.families import made

ENVIRONMENTS = ("words", "book")
STEPS = 2
INTERVENTIONS: dict[str, list[Intervention]] = {
    "adapters are reset": [reset_adapters.create(reset_adapters.Config())],
    "adapters are merged": [merge_adapters.create(merge_adapters.Config())],
    "weights are moved": [
        shrink_perturb.create(shrink_perturb.Config(noise=0.01)),
        redo.create(redo.Config(tau=0.9, rows=4)),
        average.create(average.Config(share=0.7)),
        base_fusion.create(base_fusion.Config(alpha=0.9)),
    ],
}
THREADS = Path("/proc/self/task")  # Linux


def trained(
    work: Alone, case: dict[str, Any], folder: Path
) -> tuple[Learner, list[UpdateReport], OptimizerState | None]:
    """Do some steps, and save in the folder; rank 0 leads, the others follow."""
    if not isinstance(case.get("replicas"), list):
        return trained_at_once(work, case, folder)
    reports, before = [], None
    for step, replicas in enumerate(case["replicas"]):
        own = {**case, "replicas": replicas, "first": step, "steps": 1}
        learner, one, state = trained_at_once(work, own, folder / str(step), before)
        before, reports = folder / str(step), reports + one
    return learner, reports, state


def trained_at_once(
    work: Alone, case: dict[str, Any], folder: Path, before: Path | None = None
) -> tuple[Learner, list[UpdateReport], OptimizerState | None]:
    """Do some steps with one layout of ranks, from what was saved before, if anything, and save it in the folder."""
    policy = random_policy()
    if "layers" in case:
        policy.model.config.num_hidden_layers = case["layers"]
        del policy.model.model.layers[case["layers"] :]
    if "family" in case:
        policy.model = made(case["family"], len(policy.tokenizer), seed=1)
    policy.model.to(getattr(torch, case.get("dtype", "float64")))
    if "adapter" in case:
        policy.put_adapters(AdapterConfig.model_validate(case["adapter"]), 1, has_own_base=True)
    if before is not None:
        policy.model.load_state_dict(
            load_file(before / "weights.safetensors"), strict=False
        )  # a tied head is once there
    options: dict[str, Any] = {"lr": 0.01, "warmup": 0, "micro_tokens": 40, **case.get("learner", {})}
    objective = make_objective(ObjectiveConfig.model_validate(case["objective"]), ENVIRONMENTS)
    config = LearnerConfig(**options).resolved(PolicyConfig())
    keeps_reference = objective.may_need_reference and work.rank == 0
    is_on_host = case.get("on_host", False)
    learner = Learner(policy, config, 1.0, keeps_reference, work, is_on_host, case.get("replicas", 1))
    reports = noted(learner)
    if case.get("spoils") is not None and work.rank == (case["spoils_rank"] if work.size > 1 else 0):
        spoil(learner, case["spoils"])
    if work.rank:
        assert isinstance(work, Ranks)
        run_commands(work, learner, objective)
        return learner, reports, None
    if before is not None:
        learner.optimizer.load(before / "state" / "whole")
    first, start = case.get("first", 0), weights_of(learner)
    for seed in range(first, first + case.get("steps", STEPS)):
        if seed and (change := case.get("change")) is not None:
            change_weights(learner, change, torch.Generator().manual_seed(seed), start)
        spread = {"spread": 0.0} if seed == case.get("silent") else {}
        trajectories = [
            replace(
                one,
                arm=f"{ENVIRONMENTS[one.group % 2]}/{one.group // 2 % 2}",
                advantage=case.get("given") if one.group == 1 else None,
            )
            for one in random_trajectories(len(policy.tokenizer), seed=seed, **spread)
        ]
        learner.learn(trajectories, objective)
    state = saved(learner, folder / "state")
    save_file(weights_of(learner), folder / "weights.safetensors")
    if work.size > 1 and case.get("reads", True):
        require_same_after_loading(learner, folder)
    work.send("end")
    return learner, reports, state


@torch.no_grad()
def change_weights(learner: Learner, change: str, generator: torch.Generator, start: dict[str, torch.Tensor]) -> None:
    """Do to a policy between two steps what interventions do; `start`: its weights before the first."""
    policy, optimizer = learner.policy, learner.optimizer
    rows = [Row(one.ids, one.mask) for one in random_trajectories(len(policy.tokenizer), seed=9)]
    subject = Subject(policy, optimizer, lambda origin: start, lambda num: rows[:num], generator)
    if change in INTERVENTIONS:
        for one in INTERVENTIONS[change]:
            assert one.apply(subject).is_any
    elif change == "units are forgotten":
        with optimizer.whole_weights() as weights:
            for name, one in list(weights.items()):
                for dim in range(one.ndim):
                    places = torch.randperm(one.shape[dim], generator=generator)[: one.shape[dim] // 3]
                    one.index_fill_(dim, places, 0.0)
                    optimizer.forget(name, dim, places)
    else:
        raise ValueError(change)
    own = dict(policy.model.named_parameters())
    with optimizer.whole_weights() as weights:
        for name, one in weights.items():
            assert torch.equal(own[name], one.to(own[name].dtype)), "what plays follows"


def saved(learner: Learner, folder: Path, copies: HostCopies | None = None) -> OptimizerState:
    """Save what the optimiser knows, and read it whole."""
    save = learner.optimizer.snapshot(folder / "aside", copies)
    (folder / "whole").mkdir(parents=True, exist_ok=True)
    hashed = save(folder / "whole")
    for name, sha256 in hashed.items():
        assert hashlib.sha256((folder / "whole" / name).read_bytes()).hexdigest() == sha256
    with ExitStack() as stack:
        files = SavedTensors([folder / "whole" / name for name in hashed], stack)
        tensors = {name: files.read(name) for name in files.shapes}
    return OptimizerState(tensors, json.loads((folder / "whole" / "optimizer.json").read_text()))


def require_same_after_loading(learner: Learner, folder: Path) -> None:
    """Load what these ranks saved, and the same as one process saves it; saved again, it is the same bytes."""
    files = {path.name: path.read_bytes() for path in (folder / "state" / "whole").iterdir()}
    learner.optimizer.load(folder / "state" / "whole")
    again = saved(learner, folder / "again", HostCopies())
    assert files == {path.name: path.read_bytes() for path in (folder / "again" / "whole").iterdir()}
    again.save(folder / "one")
    assert len(list((folder / "one").iterdir())) == 2
    learner.optimizer.load(folder / "one")
    saved(learner, folder / "third")
    assert files == {path.name: path.read_bytes() for path in (folder / "third" / "whole").iterdir()}


def noted(learner: Learner) -> list[UpdateReport]:
    """Give what becomes the list of what this rank finds of each update."""
    reports: list[UpdateReport] = []
    update = learner.update

    def noting(*given: Any, **options: Any) -> UpdateReport:
        reports.append(update(*given, **options))
        return reports[-1]

    learner.update = noting  # type: ignore[method-assign]
    return reports


def spoil(learner: Learner, step: int) -> None:
    """Make the losses of one step, as this rank finds them, not a number."""
    done, backward, update = [0], learner._backward, learner.update

    def counted(*given: Any, **options: Any) -> UpdateReport:
        done[0] += 1
        return update(*given, **options)

    def spoilt(*given: Any) -> torch.Tensor:
        loss = backward(*given)
        return loss * float("nan") if done[0] == step + 1 else loss

    learner.update, learner._backward = counted, spoilt  # type: ignore[method-assign]


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in learner.policy.model.named_parameters()}


def digest_of(weights: Iterable[torch.Tensor]) -> str:
    every = (one.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() for one in weights)
    return hashlib.sha256(b"".join(every)).hexdigest()


def share_of(learner: Learner) -> Iterator[torch.Tensor]:
    """What this rank has of the weights that are updated."""
    for one in learner.optimizer.masters.values():
        yield (one.to_local() if isinstance(one, DTensor) else one).detach()


def compared(together: tuple[Any, ...], alone: tuple[Any, ...]) -> dict[str, float]:
    """Give the largest differences of weights, moments and metrics."""
    here, there = weights_of(together[0]), weights_of(alone[0])
    found = {"weights": max(float((here[name] - there[name]).abs().max()) for name in here)}
    state, others = together[2], alone[2]
    assert state.counters == others.counters
    assert state.tensors.keys() == others.tensors.keys()
    found["moments"] = max(float((one - others.tensors[name]).abs().max()) for name, one in state.tensors.items())
    gaps = [0.0]
    for report, one in zip(together[1], alone[1], strict=True):
        assert report.metrics.keys() == one.metrics.keys(), report.metrics.keys() ^ one.metrics.keys()
        assert (report.num_updates, report.num_skipped) == (one.num_updates, one.num_skipped)
        assert (report.num_rows_run, report.num_tokens_fed) == (one.num_rows_run, one.num_tokens_fed), (report, one)
        both = [(report.metrics[name], value) for name, value in one.metrics.items()]
        assert [math.isfinite(a) for a, _ in both] == [math.isfinite(b) for _, b in both]
        gaps += [abs(a - b) / max(1.0, abs(b)) for a, b in both if math.isfinite(b)]
    found["metrics"] = max(gaps)
    return found


def do_all(rank: int, size: int, folder: Path, cases: list[dict[str, Any]]) -> None:
    """Be one of the ranks, and do all cases."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    results: dict[str, dict[str, Any]] = {}
    work, cut = Ranks(), MicroBatcher.cut
    for case in cases:
        if case.get("shares"):  # however dear it seems for so small a batch
            MicroBatcher.cut = lambda self, rows: list(self.shared(rows.numpy()))  # type: ignore[method-assign]
        own = folder / case["name"].replace(" ", "-")
        together = trained(work, case, own / "together")
        counted = [(one.num_updates, one.num_skipped) for one in together[1]]
        version = together[0].policy.version
        results[case["name"]] = {"share": digest_of(share_of(together[0])), "counted": counted, "version": version}
        if rank == 0:
            found = compared(together, trained(Alone(), case, own / "alone"))
            found["num_files"] = len(list((own / "together" / "state" / "whole").glob("*.safetensors")))
            shutil.rmtree(own)
            results[case["name"]] |= {**found, "digest": digest_of(weights_of(together[0]).values())}
        MicroBatcher.cut = cut  # type: ignore[method-assign]
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def main(size: int, folder: Path, cases: list[dict[str, Any]]) -> None:
    if THREADS.is_dir():
        assert len(list(THREADS.iterdir())) == 1, "a process that is forked beside another thread may hang or crash"
    forked = multiprocessing.get_context("fork")
    others = [forked.Process(target=do_all, args=(rank, size, folder, cases), daemon=True) for rank in range(1, size)]
    for one in others:
        one.start()
    try:
        do_all(0, size, folder, cases)
    finally:  # rank 0 fails too where another has: what that one said, and how it ended, is the cause
        for one in others:
            one.join(10 if sys.exc_info()[0] else None)
        print("the other ranks ended with", [one.exitcode for one in others], file=sys.stderr)
    assert not any(one.exitcode for one in others)


if __name__ == "__main__":
    faulthandler.enable()
    main(int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
